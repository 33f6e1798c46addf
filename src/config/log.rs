//! `[log]`: what is logged, and how.

use crate::config::mistake::Wrong;
use crate::config::table::Table;
use tracing_subscriber::EnvFilter;

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
    pub(super) fn read(table: &Table<'_>) -> Self {
        let default = Self::default();
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json), ("auto", LogFormat::Auto)];
        Self {
            filter: table.parsed("filter", default.filter, filter),
            format: table.choice("format", default.format, &formats),
        }
    }
}

fn filter(text: &str) -> Result<String, Wrong> {
    let cure = "write a level (error, warn, info, debug, trace), or targets with levels such as \
                \"info,tidegate::lane=debug\"";
    match EnvFilter::try_new(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(Wrong::new("is not a log filter", cure)),
    }
}
