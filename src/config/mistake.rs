//! What is wrong with a configuration, said so that a reader can mend it at once.

use std::error::Error;
use std::fmt;

/// One mistake. None of its texts holds a secret, and none holds a line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// As in the file, `section.key`, the elements of a list counted from 0; or a variable or flag that has
    /// no key.
    pub key: String,
    /// The file, the variable or the flag that the value came from; `default` where it is ours.
    pub origin: String,
    pub problem: String,
    pub cure: String,
}

/// All mistakes of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

/// Something that is allowed and probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub key: String,
    pub origin: String,
    pub text: String,
}

/// Why a single value is refused, before its key and origin are known.
pub(super) struct Wrong {
    pub(super) problem: String,
    pub(super) cure: String,
}

impl Wrong {
    pub(super) fn new(problem: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { problem: problem.into(), cure: cure.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, origin, problem, cure } = self;
        write!(formatter, "{key} ({origin})\n    problem: {problem}\n    cure:    {cure}")
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n\n")?;
            }
            mistake.fmt(formatter)?;
        }
        Ok(())
    }
}

impl Error for Mistakes {}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, origin, text } = self;
        write!(formatter, "{key} ({origin}): {text}")
    }
}

/// Text from outside as it may stand in a message: on one line, without control characters, and short.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let cut = text.char_indices().nth(LONGEST).map_or(text.len(), |(index, _)| index);
    let ellipsis = if cut < text.len() { "…" } else { "" };
    format!("\"{}{ellipsis}\"", text[..cut].escape_debug())
}

/// The same for a key or a path, without quotation marks.
pub(super) fn plain(text: &str) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}
