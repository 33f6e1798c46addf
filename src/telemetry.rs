//! Logging: the output, its format, and limits on the number of lines. Also the spans of traces.

pub mod limit;
pub mod panics;
pub mod spans;
mod text_fields;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload;

use crate::config::log::LogConfig;
use crate::config::log::LogFormat;
use crate::telemetry::text_fields::text_fields;

/// Sends logs to standard error, one event a line, as JSON or as text. `default` is the format if the configuration
/// says `auto`. Does nothing if logging is initialized already.
pub fn init(config: &LogConfig, default: LogFormat) {
    let is_terminal = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter(&config.filter)).with_writer(std::io::stderr);
    let format = if config.format == LogFormat::Auto { default } else { config.format };
    let _ = match format {
        LogFormat::Json => {
            let logs = logs.json().flatten_event(true).with_filter_reloading();
            keep(logs.reload_handle());
            logs.try_init()
        }
        LogFormat::Text | LogFormat::Auto => {
            let logs =
                logs.with_ansi(is_terminal).compact().fmt_fields(text_fields()).with_filter_reloading();
            keep(logs.reload_handle());
            logs.try_init()
        }
    };
}

/// Replaces the filter of the process's log.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

fn keep<S: 'static>(handle: reload::Handle<EnvFilter, S>) {
    let _ = SET_FILTER.set(Box::new(move |filter| handle.reload(filter)));
}

/// Uses the filter of this configuration from now on. Does nothing if [`init`] has not been called.
pub fn set_filter(config: &LogConfig) -> Result<(), reload::Error> {
    SET_FILTER.get().map_or(Ok(()), |set| set(filter(&config.filter)))
}

/// Silences async-nats unless the directives name it: it logs without a limit what `nats::client` logs with one.
fn filter(directives: &str) -> EnvFilter {
    let quiet = if directives.contains("async_nats") { "" } else { ",async_nats=off" };
    let filter = EnvFilter::try_new(format!("{directives}{quiet}"));
    filter.unwrap_or_else(|_| EnvFilter::new("info,async_nats=off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn async_nats_is_silent_unless_it_is_named() {
        for directives in ["info", "debug,tidegate::lane=trace", "=nonsense="] {
            let filter = filter(directives).to_string();
            assert!(filter.contains("async_nats=off"), "{directives}: {filter}");
        }
        let requested = filter("info,async_nats=trace").to_string();
        assert!(requested.contains("async_nats=trace") && !requested.contains("off"), "{requested}");
    }
}
