//! What is wrong with a configuration, said so that a reader can mend it at once.

use std::error::Error;
use std::fmt;

use tidegate_document::place::Place;

/// The key of what is wrong with a file as a whole.
pub(super) const WHOLE_FILE: &str = "the file";
/// The origin of a value that nobody has written.
pub(super) const DEFAULT: &str = "default";

/// One mistake. None of its texts holds a secret, and none holds a line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// As in the file, `section.key`, the elements of a list counted from 0; or a variable or flag that has
    /// no key.
    pub key: String,
    /// The file, the variable or the flag that the value came from; `default` where it is ours.
    pub origin: String,
    /// Where in the file.
    pub place: Option<Place>,
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
    pub place: Option<Place>,
    pub text: String,
}

/// What another module finds wrong with the file that a key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub key: &'static str,
    pub problem: String,
    pub cure: String,
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
        write_head(formatter, &self.origin, self.place, &self.key)?;
        write!(formatter, "{}\n  help: {}", self.problem, self.cure)
    }
}

/// One after the other, each on lines of its own.
impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| writeln!(formatter, "error: {mistake}"))
    }
}

/// `config.toml:3:1: http.listen: `, as editors and terminals can follow it.
fn write_head(
    formatter: &mut fmt::Formatter<'_>,
    origin: &str,
    place: Option<Place>,
    key: &str,
) -> fmt::Result {
    if origin != DEFAULT {
        write!(formatter, "{origin}:")?;
        if let Some(place) = place {
            write!(formatter, "{place}:")?;
        }
        formatter.write_str(" ")?;
    }
    if key == WHOLE_FILE { Ok(()) } else { write!(formatter, "{key}: ") }
}

impl Error for Mistakes {}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_head(formatter, &self.origin, self.place, &self.key)?;
        formatter.write_str(&self.text)
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
