//! The commands: `serve`, `dev`, `check`, `vocabulary`, and `bench` with the feature of that name.
#![expect(clippy::print_stderr, reason = "a command speaks to a person")]

#[cfg(feature = "bench")]
pub mod bench;
pub mod check;
pub mod demo;
pub mod dev;
pub mod nats_server;
pub mod serve;
pub mod signals;
pub mod vocabulary;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;
use clap::error::ContextKind;
use clap::error::ContextValue;

use crate::config;
use crate::config::Config;
use crate::config::load;
use crate::config::load::Loaded;
use crate::config::source::Sources;
use crate::nats::files;
use crate::protocol::suggest;

/// Wrong flags or a wrong configuration (BSD's `EX_USAGE`).
const USAGE: u8 = 64;

const ABOUT: &str = "The WebSocket edge for NATS: browsers subscribe to subjects over a WebSocket, and see what their roles allow.";

const FIRST_STEPS: &str = "\
First steps:
  tidegate dev                try it: a node with a NATS server, moving prices and a page
  tidegate check --connect    is config.toml right, and does NATS do what it needs?
  tidegate serve              run a node

config.toml, which comes with Tidegate, explains every key of the configuration. The exit code is 0 if all is well, 64 for
a wrong flag or configuration, and 1 for any other failure.";

#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about = ABOUT, after_help = FIRST_STEPS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or Ctrl-C, which let its clients move to another one first.
    Serve(Common),
    /// Try Tidegate on this machine: a node, a NATS server, moving prices and a page. Not for production.
    Dev(dev::DevArgs),
    /// List every mistake in the configuration, and what it opens to whom. Starts nothing.
    Check(check::CheckArgs),
    /// Test, show or explain the file that describes a frontend's own messages.
    #[command(subcommand)]
    Vocabulary(vocabulary::VocabularyCommand),
    /// Measure what a delivery, a socket and a connection cost, with servers that it starts itself.
    #[cfg(feature = "bench")]
    Bench(tidegate_bench::command::BenchArgs),
    /// Becomes the floor of `bench`: frames from memory to sockets.
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchFloor { threads: usize, ports: PathBuf },
    /// Becomes another program, which ends when its parent does.
    #[command(hide = true)]
    Beside {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

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
    fn load(&self) -> Result<Loaded, ExitCode> {
        self.load_with(None)
    }

    /// The same with one more key, which a flag of its own sets.
    fn load_with(&self, more: Option<(String, String)>) -> Result<Loaded, ExitCode> {
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

/// Parses the arguments and runs the command.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version are no errors, and go to standard output.
            let _ = error.print();
            if let Some(hint) = hint(&error, std::env::args().skip(1)) {
                eprintln!("{hint}");
            }
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Serve(common) => serve::run(&common),
        Command::Dev(args) => dev::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Vocabulary(command) => vocabulary::run(&command),
        #[cfg(feature = "bench")]
        Command::Bench(args) => bench::run(&args),
        #[cfg(feature = "bench")]
        Command::BenchFloor { threads, ports } => bench::floor(threads, &ports),
        Command::Beside { command } => nats_server::beside(&command),
    }
}

/// What was probably meant by a word that is no command or flag.
fn hint(error: &clap::Error, arguments: impl Iterator<Item = String>) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(_) | None => None,
    };
    let mut command = Cli::command();
    let mut said = "tidegate".to_owned();
    for argument in arguments {
        let Some(inner) = command.find_subcommand(&argument) else { break };
        said = format!("{said} {argument}");
        command = inner.clone();
    }
    if let Some(unknown) = text(ContextKind::InvalidSubcommand) {
        let known = command.get_subcommands().filter(|known| !known.is_hide_set());
        let known: Vec<&str> = known.map(clap::Command::get_name).collect();
        let meant = suggest::word(unknown, &known)?;
        return Some(format!("did you mean `{said} {meant}`?"));
    }
    let unknown = text(ContextKind::InvalidArg)?.strip_prefix("--")?;
    let unknown = unknown.split('=').next().unwrap_or_default();
    if unknown.contains('.') {
        return Some(format!("keys of the configuration are set so: --set {unknown}=VALUE"));
    }
    let known: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    suggest::word(unknown, &known).map(|meant| format!("did you mean --{meant}?"))
}

/// Runs a command's work on the small runtime around the shards.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
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

#[cfg(test)]
mod tests;
