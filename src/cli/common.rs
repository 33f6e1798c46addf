//! What commands share: flags, the exit code for mistakes, and the runtime.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::process::Termination;

use anyhow::Context as _;
use clap::Args;
use tracing::Level;
use tracing::enabled;
use tracing::error;

use crate::auth;
use crate::config;
use crate::config::Config;
use crate::config::invalid::InvalidConfig;
use crate::config::load;
use crate::config::load::Loaded;
use crate::config::source::Sources;
use crate::nats;
use crate::net;

/// Wrong flags or a wrong configuration (BSD's `EX_USAGE`).
pub(super) const USAGE: u8 = 64;

/// The flags of all commands with a configuration.
#[derive(Debug, Args)]
pub struct Common {
    /// The configuration file [default: config.toml in the working directory, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a configuration key, for example --set http.listen=127.0.0.1:0. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

impl Common {
    /// Loads the configuration. If it has mistakes, prints them and returns the exit code.
    pub(super) fn load(&self) -> Result<Loaded, ExitCode> {
        self.load_with(None)
    }

    /// Loads it again, in a node that runs. It does not look into the files of `[nats]`, which the node reads at its start,
    /// and of `[tls]`: certificates that cannot be used must not keep a leaked key in use, and are logged when they are read.
    pub(super) fn load_again(&self) -> Result<Loaded, InvalidConfig> {
        load::load_and_inspect(&self.sources(None), |config| auth::keys::inspect(&config.auth))
    }

    /// The same as [`Common::load`] with one more key, which has its own flag.
    pub(super) fn load_with(&self, extra: Option<(String, String)>) -> Result<Loaded, ExitCode> {
        let inspect = |config: &Config| {
            let (nats, tls) = (nats::files::inspect(&config.nats), net::tls::files::inspect(&config.tls));
            nats.into_iter().chain(tls).chain(auth::keys::inspect(&config.auth)).collect()
        };
        load::load_and_inspect(&self.sources(extra), inspect).map_err(|mistakes| {
            eprint!("{mistakes}");
            let count = mistakes.0.len();
            eprintln!("the configuration has {count} {}", if count == 1 { "mistake" } else { "mistakes" });
            ExitCode::from(USAGE)
        })
    }

    fn sources(&self, extra: Option<(String, String)>) -> Sources {
        Sources {
            file: self.config.clone(),
            environment: config::environment(),
            flags: self.set.iter().cloned().chain(extra).collect(),
        }
    }
}

/// Runs a command on the runtime of the main thread. Prints an error as text.
pub(super) fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    run(work, |error| eprintln!("error: {error:#}"))
}

/// Runs a command on the runtime of the main thread. Logs an error, so that it has the format of all other lines on
/// standard error.
pub(super) fn block_on_logged(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    run(work, |error| {
        if enabled!(Level::ERROR) {
            error!(error = format!("{error:#}"), "the node has failed");
        } else {
            eprintln!("error: {error:#}");
        }
    })
}

/// Runs a command that has its own exit codes on the runtime of the main thread. Prints an error as text.
pub(super) fn block_on_code(work: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    run(work, |error| eprintln!("error: {error:#}"))
}

fn run<T: Termination>(
    work: impl Future<Output = anyhow::Result<T>>,
    report: impl FnOnce(anyhow::Error),
) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("cannot start a runtime").and_then(|runtime| runtime.block_on(work));
    match result {
        Ok(done) => done.report(),
        Err(error) => {
            report(error);
            ExitCode::FAILURE
        }
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("write it as KEY=VALUE, for example http.listen=127.0.0.1:0")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}
