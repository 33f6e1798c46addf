//! `[log]`: what is logged, and how.

use tidegate_document::diagnostic::Wrong;
use tidegate_document::quote::quoted;
use tidegate_document::suggest::did_you_mean;
use tracing_subscriber::EnvFilter;

use crate::config::table::ConfigTable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
    /// Text on a terminal, JSON elsewhere.
    Auto,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Auto }
    }
}

impl LogConfig {
    pub(super) fn read(table: &ConfigTable<'_>) -> Self {
        let default = Self::default();
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json), ("auto", LogFormat::Auto)];
        let filter = table.parsed("filter", default.filter, filter);
        if let Some(text) = silence(&filter) {
            table.warning("filter", text);
        }
        Self { filter, format: table.choice("format", default.format, &formats) }
    }
}

const CURE: &str = "write a level (error, warn, info, debug, trace), or targets with levels such as \
                    \"info,tidegate::lane=debug\"";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The modules that log something, and all others.
const MODULES: [&str; 13] = [
    "cli",
    "app",
    "http",
    "shard",
    "connection",
    "node",
    "lane",
    "auth",
    "nats",
    "hub",
    "net",
    "telemetry",
    "config",
];

/// Crates whose events can be asked for.
const CRATES: [&str; 8] =
    ["tidegate", "async_nats", "hyper", "hyper_util", "warp", "rustls", "tokio", "tokio_rustls"];

fn filter(text: &str) -> Result<String, Wrong> {
    // The filter's own parser takes any word for the name of a module, and then logs nothing else.
    for directive in directives(text) {
        if let Directive::Of(target, _) = directive {
            known(target)?;
        }
    }
    match EnvFilter::try_new(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(Wrong::new("is not a log filter", CURE)),
    }
}

enum Directive<'f> {
    /// A level for all that no other one is for.
    All(&'f str),
    /// A target; all of it where there is no level.
    Of(&'f str, Option<&'f str>),
    /// One with a span in it.
    Span,
}

fn directives(text: &str) -> impl Iterator<Item = Directive<'_>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| match part.split_once('=') {
        _ if part.contains(['[', ']', '{', '}']) => Directive::Span,
        Some((target, level)) => Directive::Of(target.trim(), Some(level.trim())),
        None if is_level(part) => Directive::All(part),
        None => Directive::Of(part, None),
    })
}

fn is_level(text: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text)) || matches!(text.parse(), Ok(0..=5_u8))
}

fn known(target: &str) -> Result<(), Wrong> {
    let mut path = target.split("::");
    let (first, second) = (path.next().unwrap_or_default(), path.next());
    let unknown = |word: &str, known: &[&str]| {
        let problem =
            format!("is not a log filter: {} is neither a level nor a module that logs", quoted(word));
        Wrong::new(problem, format!("{}{CURE}", did_you_mean(word, known)))
    };
    if !CRATES.contains(&first) {
        return Err(unknown(target, &[&LEVELS[..], &CRATES[..]].concat()));
    }
    match second {
        Some(module) if first == "tidegate" && !MODULES.contains(&module) => Err(unknown(module, &MODULES)),
        Some(_) | None => Ok(()),
    }
}

/// What a filter keeps silent that it probably should not.
fn silence(filter: &str) -> Option<String> {
    let mut level = None;
    for directive in directives(filter) {
        match directive {
            Directive::All(all) => level = Some(all),
            Directive::Of("tidegate", of) => level = Some(of.unwrap_or("trace")),
            Directive::Of(..) | Directive::Span => {}
        }
    }
    match level {
        Some(level) if level.eq_ignore_ascii_case("off") || level == "0" => {
            Some("nothing is logged, errors neither; write \"error\" to hear of those".to_owned())
        }
        Some(_) => None,
        None => Some(format!(
            "what these targets do not cover is not logged, errors neither; begin with a level: \"info,{filter}\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_can_be_asked_for() {
        let map = include_str!("../lib.rs");
        let modules = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let modules: Vec<&str> = modules.filter(|module| *module != "hooks").collect();
        assert_eq!(modules, MODULES);
    }
}
