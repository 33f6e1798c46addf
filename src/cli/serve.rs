//! `tidegate serve`: runs a node until it is told to end.

use std::process::ExitCode;

use tokio::net::TcpListener;
use tracing::error;
use tracing::warn;

use crate::app;
use crate::app::App;
use crate::app::options::AppOptions;
use crate::cli::common::Common;
use crate::cli::common::block_on;
use crate::cli::signals::Signals;
use crate::config::Config;
use crate::config::log::LogFormat;
use crate::telemetry;

/// Runs a node.
pub fn run(common: &Common) -> ExitCode {
    let loaded = match common.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    telemetry::init(&loaded.config.log, LogFormat::Json);
    telemetry::panics::log();
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    block_on(serve(loaded.config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let listener = app::listen(config.http.listen, "http.listen").await?;
    match signals.unless_ended(App::start(options(config, listener))).await? {
        Some(app) => until_end(app, signals).await,
        None => Ok(()),
    }
}

/// Options without faults on purpose.
pub(super) fn options(config: Config, listener: TcpListener) -> AppOptions {
    AppOptions { config, listener, tls: None, hooks: Default::default() }
}

/// Lets a node work until it is told to end or cannot go on; then drains it, and in a hurry when it is told so again.
pub(super) async fn until_end(app: App, mut signals: Signals) -> anyhow::Result<()> {
    let failed = tokio::select! {
        () = signals.end() => false,
        () = app.failed() => true,
    };
    if failed {
        error!("the node cannot go on");
    }
    app.drain_unless_hurried(signals.end()).await;
    anyhow::ensure!(!failed, "a shard ended by itself: this is a fault of Tidegate's");
    Ok(())
}
