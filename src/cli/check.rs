//! `tidegate check`: loads the configuration as `serve` does; with `--connect` also tries it against NATS.
#![expect(clippy::print_stderr, reason = "commands print for people")]

mod needs;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::auth::Authenticator;
use crate::auth::setup_error::AuthSetupError;
use crate::cli::common::Common;
use crate::cli::common::USAGE;
use crate::cli::common::block_on;
use crate::cli::login;
use crate::cli::output::print_line;
use crate::config::Config;
use crate::config::nats::login::NatsLogin;
use crate::nats::finding::Finding;
use crate::nats::finding::Verdict;
use crate::nats::probe;
use crate::net::listen;

/// The arguments of `tidegate check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    common: Common,
    /// Also connect to NATS and check its version, the login, the permissions that the roles need, and JetStream. Sends
    /// nothing to other clients, but asks each service that decides for the node one question, about no one.
    #[arg(long)]
    connect: bool,
    /// With --connect, also log in to NATS as this user, a producer or service, and warn if it may do what only Tidegate
    /// may. @FILE names a file that contains USER:PASSWORD. May be repeated.
    #[arg(long, value_name = "USER:PASSWORD", value_parser = login::password, requires = "connect")]
    producer: Vec<NatsLogin>,
    /// The same with a credentials file.
    #[arg(long, value_name = "FILE", value_parser = login::creds, requires = "connect")]
    producer_creds: Vec<NatsLogin>,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> ExitCode {
    let loaded = match args.common.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    for warning in &loaded.warnings {
        print_line!("warning: {warning}");
    }
    if let Err(error) = build_authenticator(&loaded.config) {
        eprintln!("error: {error}");
        return ExitCode::from(USAGE);
    }
    for warning in needs::services_among_channels(&loaded.config) {
        print_line!("warning: {warning}");
    }
    for note in needs::claims(&loaded.config.roles) {
        print_line!("note: {note}");
    }
    if let Some(warning) = listen::short_queue() {
        print_line!("note: on this machine, {warning}");
    }
    print_line!("the configuration is valid ({})", loaded.origin);
    if args.connect { block_on(connect(loaded.config, args)) } else { ExitCode::SUCCESS }
}

/// Builds the authenticator and the policies of endpoints, to find mistakes that only show when keys and roles are
/// combined.
fn build_authenticator(config: &Config) -> Result<(), AuthSetupError> {
    let authenticator = Authenticator::new(config.auth.clone(), config.closed_roles())?;
    let mut endpoints = config.endpoints.iter().enumerate();
    endpoints.try_for_each(|(at, endpoint)| {
        authenticator.policy(&endpoint.access, &format!("endpoint[{at}]")).map(drop)
    })
}

async fn connect(config: Config, args: &CheckArgs) -> anyhow::Result<()> {
    let producers = [&args.producer[..], &args.producer_creds].concat();
    let probe_id = format!("{:016x}", getrandom::u64().context("the system has no random numbers")?);
    let findings = probe::probe(&config.nats, &needs::of_nats(&config), &producers, &probe_id).await;
    for Finding { text, verdict } in &findings {
        match verdict {
            Verdict::Passed => print_line!("ok       {text}"),
            Verdict::Untested { help } => print_line!("untested {text}\n         help: {help}"),
            Verdict::Warning { help } => print_line!("warning  {text}\n         help: {help}"),
            Verdict::Failed { help } => print_line!("FAILED   {text}\n         help: {help}"),
        }
    }
    let failed = findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Failed { .. })).count();
    anyhow::ensure!(
        failed == 0,
        "NATS does not meet the needs of this configuration: {failed} failed; see FAILED above"
    );
    print_line!("NATS meets the needs of this configuration");
    Ok(())
}
