//! The command line: `serve`, `dev`, `check`, `vocabulary`, `explain`, `subject`, `revoke`, `streams`, `token`, and `bench`
//! with the feature of that name.
#![expect(clippy::print_stderr, reason = "commands print for people")]

#[cfg(feature = "bench")]
pub mod bench;
pub mod check;
pub mod claims;
pub mod common;
pub mod demo;
pub mod dev;
pub mod explain;
pub mod login;
pub mod nats_server;
mod output;
pub mod revoke;
pub mod serve;
pub mod signals;
pub mod signing_key;
pub mod streams;
pub mod subject;
pub mod token;
mod token_input;
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

const ABOUT: &str = "A WebSocket edge for NATS. Browsers connect over WebSocket and subscribe to the subjects that their roles allow.";

const FIRST_STEPS: &str = "\
First steps:
  tidegate dev                try Tidegate: a node, a NATS server, demo data and a web page
  tidegate check --connect    check config.toml and the connection to NATS
  tidegate serve              run a node

The config.toml that comes with Tidegate explains every configuration key.

Exit codes: 0 success, 64 wrong flags or configuration, 1 any other error.";

#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about = ABOUT, after_help = FIRST_STEPS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node. SIGTERM or Ctrl-C drains it: clients are told to reconnect, then the node stops.
    Serve(Common),
    /// Try Tidegate on this machine: a node, a NATS server, demo data and a web page. Not for production.
    Dev(dev::DevArgs),
    /// Check the configuration and list all mistakes. Starts nothing.
    Check(check::CheckArgs),
    /// Test and explain vocabularies: files that describe the messages of a frontend.
    #[command(subcommand)]
    Vocabulary(vocabulary::VocabularyCommand),
    /// Create the JetStream buckets that Tidegate uses, or show what is missing.
    #[command(subcommand)]
    Streams(streams::StreamsCommand),
    /// Mint tokens, and explain why a token is accepted or refused.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Say whether a client may use a subject, and which rule of which role decides. Exit codes: 0 allowed, 1 denied, 64
    /// wrong flags or configuration.
    Explain(explain::ExplainArgs),
    /// Print the subject of a user for producers, where `auth.user_claim` is set: names such as e-mail addresses are encoded
    /// in subjects.
    Subject(subject::SubjectArgs),
    /// Revoke the credentials of a user, one token, or all tokens; or withdraw permissions. Takes effect on every node.
    Revoke(revoke::RevokeArgs),
    /// Run the load generator: measure the cost of deliveries and connections, with servers that it starts itself.
    #[cfg(feature = "bench")]
    Bench(tidegate_bench::command::BenchArgs),
    /// Run the baseline server of `bench`: it writes frames from memory to sockets.
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchBaseline { threads: usize, ports: PathBuf },
    /// Run clients of `bench`, which standard input describes.
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchClients,
    /// Replace this process by a program that ends when its parent ends.
    #[command(hide = true)]
    ExecWithParent {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// Parses the arguments and runs the command.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap reports help and the version as errors too; they go to standard output.
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
        Command::Streams(command) => streams::run(&command),
        Command::Token(command) => token::run(&command),
        Command::Explain(args) => explain::run(&args),
        Command::Subject(args) => subject::run(&args),
        Command::Revoke(args) => revoke::run(&args),
        Command::Vocabulary(command) => vocabulary::run(&command),
        #[cfg(feature = "bench")]
        Command::Bench(args) => bench::run(&args),
        #[cfg(feature = "bench")]
        Command::BenchBaseline { threads, ports } => bench::baseline(threads, &ports),
        #[cfg(feature = "bench")]
        Command::BenchClients => bench::clients(),
        Command::ExecWithParent { command } => nats_server::exec_with_parent(&command),
    }
}

/// A hint for an unknown command or flag: the one that was probably meant.
fn hint(error: &clap::Error, arguments: impl Iterator<Item = String>) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(_) | None => None,
    };
    let mut command = Cli::command();
    let mut prefix = "tidegate".to_owned();
    for argument in arguments {
        let Some(inner) = command.find_subcommand(&argument) else { break };
        prefix = format!("{prefix} {argument}");
        command = inner.clone();
    }
    if let Some(unknown) = text(ContextKind::InvalidSubcommand) {
        let known = command.get_subcommands().filter(|known| !known.is_hide_set());
        let known: Vec<&str> = known.map(clap::Command::get_name).collect();
        let meant = suggest::closest_word(unknown, &known)?;
        return Some(format!("did you mean `{prefix} {meant}`?"));
    }
    let unknown = text(ContextKind::InvalidArg)?.strip_prefix("--")?;
    let unknown = unknown.split('=').next().unwrap_or_default();
    if unknown.contains('.') {
        return Some(format!("set a configuration key with --set {unknown}=VALUE"));
    }
    let known: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    suggest::closest_word(unknown, &known).map(|meant| format!("did you mean --{meant}?"))
}

#[cfg(test)]
mod tests;
