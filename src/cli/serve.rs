//! `tidegate serve`: runs a node until it gets a signal to end.

use std::process::ExitCode;

use tracing::error;
use tracing::info;
use tracing::warn;

use crate::app;
use crate::app::App;
use crate::app::options::AppOptions;
use crate::app::reload::Reloaded;
use crate::cli::common::Common;
use crate::cli::common::block_on_logged;
use crate::cli::signals::Signals;
use crate::config::Config;
use crate::config::invalid::InvalidConfig;
use crate::config::log::LogFormat;
use crate::config::report::ConfigReport;
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
    block_on_logged(serve(common, loaded.config, loaded.report))
}

async fn serve(common: &Common, config: Config, report: ConfigReport) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let listener = app::listen(&config.http.listen, "http.listen")?;
    match signals.unless_ended(App::start(options(config, report, listener))).await? {
        Some(app) => until_end(app, signals, async |app: &App| reload(app, common).await).await,
        None => Ok(()),
    }
}

/// The options of a node without faults for tests.
pub(super) fn options(config: Config, report: ConfigReport, listener: Listener) -> AppOptions {
    AppOptions { config, report, listener, hooks: Default::default() }
}

/// Loads the configuration again and applies it. If it has a mistake, the node goes on with the old one.
async fn reload(app: &App, common: &Common) {
    let loaded = match common.load_again() {
        Ok(loaded) => loaded,
        Err(InvalidConfig(mistakes)) => {
            for mistake in &mistakes {
                error!("{mistake}");
            }
            app.node.counts.reload_failures.count();
            return error!("SIGHUP: the configuration has mistakes, so nothing has changed");
        }
    };
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    match app.reload(loaded.config, loaded.report).await {
        Ok(Reloaded { changed, needs_restart }) => log_reloaded(&changed, &needs_restart),
        Err(error) => {
            app.node.counts.reload_failures.count();
            let error = format!("{error:#}");
            error!(error, "SIGHUP: the configuration cannot be used, so nothing has changed");
        }
    }
}

/// Logs which settings have changed. A reload also fetches published keys and reads certificate files again; what has
/// changed there is logged separately.
fn log_reloaded(changed: &[&str], needs_restart: &[&str]) {
    let has_changed = !changed.is_empty();
    let changed = has_changed.then(|| changed.join(", "));
    if !needs_restart.is_empty() {
        let needs_restart = needs_restart.join(", ");
        warn!(changed, needs_restart, "SIGHUP: the configuration is in use, except for what needs a restart");
    } else if has_changed {
        info!(changed, "SIGHUP: the configuration is in use");
    } else {
        info!("SIGHUP: nothing has changed in the configuration");
    }
}

/// Waits until the process gets a signal or the node fails; then drains it. A second signal skips the remaining waits.
/// Runs `on_hangup` for each SIGHUP before.
pub(super) async fn until_end(
    app: App,
    mut signals: Signals,
    on_hangup: impl AsyncFn(&App),
) -> anyhow::Result<()> {
    let failed = tokio::select! {
        () = signals.end_or_hangup(async || on_hangup(&app).await) => false,
        () = app.failed() => true,
    };
    if failed {
        error!("a shard has ended unexpectedly: shutting down");
    }
    app.drain_with_shortcut(signals.end()).await;
    anyhow::ensure!(!failed, "a shard ended unexpectedly; this is a bug in Tidegate, please report it");
    Ok(())
}
