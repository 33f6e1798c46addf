//! Diagnostic: what is wrong with a document, said so that a reader can mend it at once.

use std::fmt;

use crate::place::Place;

/// The key of what is wrong with a file as a whole.
pub const WHOLE_FILE: &str = "the file";
/// The origin of a value that no one has written.
pub(crate) const DEFAULT: &str = "default";

/// Whether a document can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, and probably does not say what is meant.
    Warning,
}

/// One mistake or one warning. None of its texts holds a secret, and none holds a line break.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// As in the file, `section.key`, the elements of a list counted from 0; or a variable or flag that has no key;
    /// [`WHOLE_FILE`] for the file as a whole.
    pub key: String,
    /// The file, the variable or the flag that the value came from; [`DEFAULT`] where no one has written it; empty for a
    /// file whose name its reader does not know.
    pub origin: String,
    /// Where in the file.
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// How to mend it; empty for a warning that says so itself.
    pub help: String,
}

/// Why a single value is refused, before its key and origin are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl Wrong {
    /// What is wrong with a value, and how to mend it.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

impl Diagnostic {
    /// What is wrong at a key. Its origin and place are not known yet.
    pub fn error(key: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        let (key, message, help) = (key.into(), message.into(), help.into());
        Self { severity: Severity::Error, key, origin: String::new(), place: None, message, help }
    }

    /// What is allowed at a key and probably not meant.
    pub fn warning(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, message, "") }
    }

    /// The same, of this file, variable or flag.
    #[must_use]
    pub fn from(self, origin: &str) -> Self {
        Self { origin: origin.to_owned(), ..self }
    }
}

/// `config.toml:3:1: http.listen: …`, a form that editors and terminals turn into a link. The help is on the next line.
impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, origin, place, message, help, .. } = self;
        if !origin.is_empty() && origin != DEFAULT {
            write!(formatter, "{origin}:")?;
            if let Some(place) = place {
                write!(formatter, "{place}:")?;
            }
            formatter.write_str(" ")?;
        }
        if key != WHOLE_FILE {
            write!(formatter, "{key}: ")?;
        }
        formatter.write_str(message)?;
        if help.is_empty() { Ok(()) } else { write!(formatter, "\n  help: {help}") }
    }
}
