//! `InvalidConfig`: the error that lists everything wrong with a configuration.

use std::error::Error;
use std::fmt;

use tidegate_document::diagnostic::Diagnostic;

/// All errors of a configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig(pub Vec<Diagnostic>);

/// Two lines for each error: the message and the help.
impl fmt::Display for InvalidConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|error| writeln!(formatter, "error: {error}"))
    }
}

impl Error for InvalidConfig {}
