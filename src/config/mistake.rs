//! All mistakes of a configuration, as the error that it is refused with.

use std::error::Error;
use std::fmt;

use tidegate_document::diagnostic::Diagnostic;

/// All mistakes of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Diagnostic>);

/// One after the other, each on lines of its own.
impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| writeln!(formatter, "error: {mistake}"))
    }
}

impl Error for Mistakes {}
