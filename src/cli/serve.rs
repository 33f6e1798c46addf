//! `tidegate serve`: runs a node until it gets a signal to end.

use std::process::ExitCode;

use tracing::error;
use tracing::warn;

use crate::app;
use crate::app::App;
use crate::app::options::AppOptions;
use crate::cli::common::Common;
use crate::cli::common::block_on_logged;
use crate::cli::signals::Signals;
use crate::config::Config;
use crate::config::log::LogFormat;
use crate::net::listener::Listener;
use crate::telemetry;

/// Runs the command.
pub fn run(common: &Common) -> ExitCode {
    let loaded = match common.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    telemetry::init(&loaded.config.log, LogFormat::Json);
    telemetry::panics::install_hook();
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    block_on_logged(serve(loaded.config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let listener = app::listen(&config.http.listen, "http.listen").await?;
    match signals.unless_ended(App::start(options(config, listener))).await? {
        Some(app) => until_end(app, signals).await,
        None => Ok(()),
    }
}

/// The options of a node without faults for tests.
pub(super) fn options(config: Config, listener: Listener) -> AppOptions {
    AppOptions { config, listener, hooks: Default::default() }
}

/// Waits until the process gets a signal or the node fails; then drains it. A second signal skips the remaining waits.
pub(super) async fn until_end(app: App, mut signals: Signals) -> anyhow::Result<()> {
    let failed = tokio::select! {
        () = signals.end_or_reload(|| app.reload_certificates()) => false,
        () = app.failed() => true,
    };
    if failed {
        error!("a shard has ended unexpectedly: shutting down");
    }
    app.drain_with_shortcut(signals.end()).await;
    anyhow::ensure!(!failed, "a shard ended unexpectedly; this is a bug in Tidegate, please report it");
    Ok(())
}
