//! `tidegate check`: the same loading code as `serve`, and nothing else.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to a person")]

use std::process::ExitCode;

use crate::auth::AuthSetupError;
use crate::auth::Authenticator;
use crate::cli::Common;
use crate::cli::USAGE;
use crate::config::Config;

/// Says what is wrong, or that nothing is.
pub fn run(common: &Common) -> ExitCode {
    let loaded = match common.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    for warning in &loaded.warnings {
        println!("warning: {warning}");
    }
    if let Err(error) = try_out(loaded.config) {
        eprintln!("error: {error}");
        return ExitCode::from(USAGE);
    }
    println!("the configuration is valid ({})", loaded.origin);
    ExitCode::SUCCESS
}

/// What shows only when keys and roles are put together.
fn try_out(config: Config) -> Result<(), AuthSetupError> {
    let authenticator = Authenticator::new(config.auth, config.roles)?;
    let mut endpoints = config.endpoints.iter().enumerate();
    endpoints.try_for_each(|(at, endpoint)| {
        authenticator.policy(&endpoint.access, &format!("endpoint[{at}]")).map(drop)
    })
}
