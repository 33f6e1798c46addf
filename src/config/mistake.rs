//! What is wrong with a configuration: all mistakes of it, and what other modules find in files that it names.

use std::error::Error;
use std::fmt;

use tidegate_document::diagnostic::Diagnostic;

/// All mistakes of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Diagnostic>);

/// What another module finds wrong with the file that a key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub key: &'static str,
    pub problem: String,
    pub cure: String,
}

/// One after the other, each on lines of its own.
impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| writeln!(formatter, "error: {mistake}"))
    }
}

impl Error for Mistakes {}
