//! Common: what commands share: their flags, their exit code for a mistake, their runtime.
#![expect(clippy::print_stderr, reason = "a command speaks to a person")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config;
use crate::config::Config;
use crate::config::load;
use crate::config::load::Loaded;
use crate::config::source::Sources;
use crate::nats::files;

/// Wrong flags or a wrong configuration (BSD's `EX_USAGE`).
pub(super) const USAGE: u8 = 64;

/// What every command takes.
#[derive(Debug, Args)]
pub struct Common {
    /// The configuration file [default: config.toml in the working directory, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key of the configuration, as in --set http.listen=127.0.0.1:0. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

impl Common {
    /// The configuration, or the exit code when it has mistakes, which were printed.
    pub(super) fn load(&self) -> Result<Loaded, ExitCode> {
        self.load_with(None)
    }

    /// The same with one more key, which a flag of its own sets.
    pub(super) fn load_with(&self, more: Option<(String, String)>) -> Result<Loaded, ExitCode> {
        let sources = Sources {
            file: self.config.clone(),
            environment: config::environment(),
            flags: self.set.iter().cloned().chain(more).collect(),
        };
        let inspect = |config: &Config| files::inspect(&config.nats);
        load::load_and_inspect(&sources, inspect).map_err(|mistakes| {
            eprint!("{mistakes}");
            let count = mistakes.0.len();
            eprintln!("the configuration has {count} {}", if count == 1 { "mistake" } else { "mistakes" });
            ExitCode::from(USAGE)
        })
    }
}

/// Runs a command's work on the small runtime around the shards.
pub(super) fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("write it as key=value, for example http.listen=127.0.0.1:0")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}
