//! `tidegate check`: the same loading code as `serve`; with `--connect` also what NATS says to it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to a person")]

mod needs;

use std::process::ExitCode;

use clap::Args;

use crate::auth::Authenticator;
use crate::auth::setup_error::AuthSetupError;
use crate::cli::common::Common;
use crate::cli::common::USAGE;
use crate::cli::common::block_on;
use crate::config::Config;
use crate::nats::probe;
use crate::nats::probe::Finding;
use crate::nats::probe::Verdict;

/// The arguments of `tidegate check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    common: Common,
    /// Also connect to NATS, and try its version, the login, the permissions that the roles need, and JetStream.
    /// Nothing is published that others hear.
    #[arg(long)]
    connect: bool,
}

/// Says what is wrong, or that nothing is.
pub fn run(args: &CheckArgs) -> ExitCode {
    let loaded = match args.common.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    for warning in &loaded.warnings {
        println!("warning: {warning}");
    }
    if let Err(error) = try_out(&loaded.config) {
        eprintln!("error: {error}");
        return ExitCode::from(USAGE);
    }
    for note in needs::claims(&loaded.config.roles) {
        println!("note: {note}");
    }
    println!("the configuration is valid ({})", loaded.origin);
    if args.connect { block_on(connect(loaded.config)) } else { ExitCode::SUCCESS }
}

/// What shows only when keys and roles are put together.
fn try_out(config: &Config) -> Result<(), AuthSetupError> {
    let authenticator = Authenticator::new(config.auth.clone(), config.roles.clone())?;
    let mut endpoints = config.endpoints.iter().enumerate();
    endpoints.try_for_each(|(at, endpoint)| {
        authenticator.policy(&endpoint.access, &format!("endpoint[{at}]")).map(drop)
    })
}

async fn connect(config: Config) -> anyhow::Result<()> {
    let findings = probe::probe(&config.nats, &needs::of_nats(&config)).await;
    for Finding { text, verdict } in &findings {
        match verdict {
            Verdict::Passed => println!("ok       {text}"),
            Verdict::Warning { help } => println!("warning  {text}\n         help: {help}"),
            Verdict::Failed { help } => println!("FAILED   {text}\n         help: {help}"),
        }
    }
    let failed = findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Failed { .. })).count();
    anyhow::ensure!(failed == 0, "NATS does not do what this configuration needs: {failed} failed");
    println!("NATS does what this configuration needs");
    Ok(())
}
