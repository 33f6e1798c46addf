//! `tidegate token`: mints tokens, and explains why one is accepted or refused.

pub mod check;
pub mod mint;

use std::process::ExitCode;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Mint a token, for tests and for programs, and print nothing else. It has the claims that the configuration
    /// requires.
    New(mint::MintArgs),
    /// Explain a token or an API key: why it is refused, or what it may do. It asks no node, so it does not know what was
    /// revoked. Exit codes: 0 accepted, 1 refused, 64 wrong
    /// flags or configuration.
    Check(check::TokenCheckArgs),
}

/// Runs the command.
pub fn run(command: &TokenCommand) -> ExitCode {
    match command {
        TokenCommand::New(args) => mint::run(args),
        TokenCommand::Check(args) => check::run(args),
    }
}
