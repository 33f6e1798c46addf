//! `tidegate check`: the same loading code as `serve`, and nothing else.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to a person")]

use std::process::ExitCode;

use crate::auth::Authenticator;
use crate::cli::Common;
use crate::cli::USAGE;

/// Says what is wrong, or that nothing is.
pub fn run(common: &Common) -> ExitCode {
    let loaded = match common.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    for warning in &loaded.warnings {
        println!("warning: {warning}");
    }
    if let Err(error) = Authenticator::new(loaded.config.auth, loaded.config.roles) {
        eprintln!("error: {error}");
        return ExitCode::from(USAGE);
    }
    println!("the configuration is valid ({})", loaded.origin);
    ExitCode::SUCCESS
}
