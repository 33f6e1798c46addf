//! Logs: where they go, in which shape, and how much of them.

pub mod limit;
pub mod panics;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::log::LogConfig;
use crate::config::log::LogFormat;

/// Sends logs to standard error: one event a line, as JSON or as text for people. `auto` is `otherwise`.
/// Does nothing if logs go somewhere already.
pub fn init(config: &LogConfig, otherwise: LogFormat) {
    let filter = EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let format = if config.format == LogFormat::Auto { otherwise } else { config.format };
    let _ = match format {
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
        LogFormat::Text | LogFormat::Auto => logs.with_ansi(colours).compact().try_init(),
    };
}
