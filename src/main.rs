//! The command `tidegate`: parses its arguments, runs one command, and turns an error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::run()
}
