//! Diagnostics: what is wrong with a document, and how to fix it.

use std::fmt;

use crate::place::Place;

/// The key for errors of a file as a whole.
pub const WHOLE_FILE: &str = "the file";
/// The origin of a default value.
pub(crate) const DEFAULT: &str = "default";

/// Whether the document is still usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Error,
    /// The document is usable, but probably not what its author means.
    Warning,
}

/// One error or warning. Its texts have no secrets and no line breaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The key as in the file, such as `section.key`; list elements count from 0. Or a variable or flag without a key,
    /// or [`WHOLE_FILE`].
    pub key: String,
    /// The file, variable or flag that the value comes from; [`DEFAULT`] for a default value; empty for a file whose
    /// name is unknown.
    pub origin: String,
    /// The place in the file.
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// How to fix it; empty for a warning that needs no help.
    pub help: String,
}

/// What is wrong with a single value, before its key and origin are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub help: String,
}

impl ValueError {
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

impl Diagnostic {
    /// An error at a key, without origin and place.
    pub fn error(key: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        let (key, message, help) = (key.into(), message.into(), help.into());
        Self { severity: Severity::Error, key, origin: String::new(), place: None, message, help }
    }

    /// A warning at a key, without origin and place.
    pub fn warning(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, message, "") }
    }

    /// The same with this file, variable or flag as the origin.
    #[must_use]
    pub fn with_origin(self, origin: &str) -> Self {
        Self { origin: origin.to_owned(), ..self }
    }
}

/// `config.toml:3:1: http.listen: …`, a form that editors and terminals turn into a link. The help is on the next
/// line.
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
