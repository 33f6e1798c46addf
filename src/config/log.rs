//! `[log]`: what is logged, and in which format.

use tidegate_document::diagnostic::ValueError;
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
    /// Text for `tidegate dev`, JSON for `tidegate serve`.
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
        if let Some(message) = hidden_errors(&filter) {
            table.warning("filter", message);
        }
        Self { filter, format: table.choice("format", default.format, &formats) }
    }
}

const HELP: &str = "write a level (error, warn, info, debug, trace), or levels for targets, such as \
                    \"info,tidegate::lane=debug\"";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The modules of this crate.
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

/// Crates that log.
const CRATES: [&str; 8] =
    ["tidegate", "async_nats", "hyper", "hyper_util", "warp", "rustls", "tokio", "tokio_rustls"];

fn filter(text: &str) -> Result<String, ValueError> {
    // `EnvFilter` accepts any word as the name of a module, and would then log nothing else.
    for directive in directives(text) {
        if let Directive::Target(target, _) = directive {
            check_target(target)?;
        }
    }
    match EnvFilter::try_new(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(ValueError::new("is not a log filter", HELP)),
    }
}

enum Directive<'f> {
    /// The level of all targets without their own directive.
    Level(&'f str),
    /// A target and its level. Without a level, everything of the target is logged.
    Target(&'f str, Option<&'f str>),
    /// A directive with a span.
    Span,
}

fn directives(text: &str) -> impl Iterator<Item = Directive<'_>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| match part.split_once('=') {
        _ if part.contains(['[', ']', '{', '}']) => Directive::Span,
        Some((target, level)) => Directive::Target(target.trim(), Some(level.trim())),
        None if is_level(part) => Directive::Level(part),
        None => Directive::Target(part, None),
    })
}

fn is_level(text: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text)) || matches!(text.parse(), Ok(0..=5_u8))
}

fn check_target(target: &str) -> Result<(), ValueError> {
    let mut path = target.split("::");
    let (first, second) = (path.next().unwrap_or_default(), path.next());
    let unknown = |word: &str, known: &[&str]| {
        let message = format!("is not a log filter: {} is neither a level nor a known target", quoted(word));
        ValueError::new(message, format!("{}{HELP}", did_you_mean(word, known)))
    };
    if !CRATES.contains(&first) {
        return Err(unknown(target, &[&LEVELS[..], &CRATES[..]].concat()));
    }
    match second {
        Some(module) if first == "tidegate" && !MODULES.contains(&module) => Err(unknown(module, &MODULES)),
        Some(_) | None => Ok(()),
    }
}

/// A warning about a filter that hides errors.
fn hidden_errors(filter: &str) -> Option<String> {
    let mut level = None;
    for directive in directives(filter) {
        match directive {
            Directive::Level(of_all) => level = Some(of_all),
            Directive::Target("tidegate", of) => level = Some(of.unwrap_or("trace")),
            Directive::Target(..) | Directive::Span => {}
        }
    }
    match level {
        Some(level) if level.eq_ignore_ascii_case("off") || level == "0" => {
            Some("nothing is logged, not even errors; write \"error\" to log those".to_owned())
        }
        Some(_) => None,
        None => Some(format!(
            "nothing is logged for other targets, not even errors; begin with a level: \"info,{filter}\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_that_logs_is_a_known_target() {
        let map = include_str!("../lib.rs");
        let modules = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let modules: Vec<&str> = modules.filter(|module| !["hooks", "metrics"].contains(module)).collect();
        assert_eq!(modules, MODULES);
    }
}
