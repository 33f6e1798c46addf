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
    let colours = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter(&config.filter)).with_writer(std::io::stderr);
    let format = if config.format == LogFormat::Auto { otherwise } else { config.format };
    let _ = match format {
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
        LogFormat::Text | LogFormat::Auto => logs.with_ansi(colours).compact().try_init(),
    };
}

/// async-nats says without a limit what `nats::client` says with one; it speaks when it is asked by name.
fn filter(directives: &str) -> EnvFilter {
    let quiet = if directives.contains("async_nats") { "" } else { ",async_nats=off" };
    let filter = EnvFilter::try_new(format!("{directives}{quiet}"));
    filter.unwrap_or_else(|_| EnvFilter::new("info,async_nats=off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_of_nats_is_heard_only_when_it_is_named() {
        for directives in ["info", "debug,tidegate::lane=trace", "=nonsense="] {
            let filter = filter(directives).to_string();
            assert!(filter.contains("async_nats=off"), "{directives}: {filter}");
        }
        let asked = filter("info,async_nats=trace").to_string();
        assert!(asked.contains("async_nats=trace") && !asked.contains("off"), "{asked}");
    }
}
