//! The commands: `serve`, `dev`, `check`, `vocabulary`, and `bench` with the feature of that name.
#![expect(clippy::print_stderr, reason = "a command speaks to a person")]

#[cfg(feature = "bench")]
pub mod bench;
pub mod check;
pub mod common;
pub mod demo;
pub mod dev;
pub mod nats_server;
pub mod serve;
pub mod signals;
pub mod vocabulary;

use std::ffi::OsString;
#[cfg(feature = "bench")]
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;
use clap::error::ContextKind;
use clap::error::ContextValue;
use tidegate_document::suggest;

use crate::cli::common::Common;
use crate::cli::common::USAGE;

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
    /// Becomes the baseline of `bench`: frames from memory to sockets.
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchBaseline { threads: usize, ports: PathBuf },
    /// Becomes another program, which ends when its parent does.
    #[command(hide = true)]
    Beside {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
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
        Command::BenchBaseline { threads, ports } => bench::baseline(threads, &ports),
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

#[cfg(test)]
mod tests;
