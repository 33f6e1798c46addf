//! Sections: one table of a document, read key by key. Reading continues after a wrong value, and reports keys that
//! are not known.

pub mod lists;

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::diagnostic::ValueError;
use crate::diagnostics::Diagnostics;
use crate::node::Node;
use crate::quote::plain;
use crate::suggest::did_you_mean;

/// The message and help for a value that is not a text.
const NOT_TEXT: (&str, &str) = ("is not a text", "write it between quotation marks");

/// Where a table is in the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    key: String,
    /// A note for messages, next to the names of its keys.
    note: String,
}

impl Location {
    /// The path of the table, such as `receive[3]`; empty for the whole document.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A key as messages name it, such as `receive[3].channel (when …)`.
    pub fn of(&self, name: &str) -> String {
        self.noted(&self.path_to(name))
    }

    /// The same for an unknown key, which may be any text: on one line, and shortened.
    fn of_unknown(&self, name: &str) -> String {
        self.noted(&plain(&self.path_to(name)))
    }

    fn noted(&self, path: &str) -> String {
        format!("{path}{}", if self.key.is_empty() { "" } else { &self.note })
    }

    fn path_to(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }
}

/// One table of a document. Its known keys are those that were read.
#[derive(Debug)]
pub struct Section<'d> {
    diagnostics: &'d Diagnostics<'d>,
    location: Location,
    /// `None` if there is no such table; then it has no keys.
    node: Option<&'d Node>,
    known: RefCell<Vec<&'static str>>,
}

impl<'d> Section<'d> {
    /// The section of the whole document.
    pub fn root(diagnostics: &'d Diagnostics<'d>) -> Self {
        Self::at(diagnostics, Location::default(), Some(diagnostics.root()))
    }

    fn at(diagnostics: &'d Diagnostics<'d>, location: Location, node: Option<&'d Node>) -> Self {
        Self { diagnostics, location, node, known: RefCell::default() }
    }

    /// An empty section, for a table that the document does not have.
    pub fn absent(&self, name: &str) -> Self {
        let key = self.location.path_to(name);
        Self::at(self.diagnostics, Location { key, note: self.location.note.clone() }, None)
    }

    /// Adds a note to its keys in messages, so that readers find the table.
    #[must_use]
    pub fn noted(mut self, note: String) -> Self {
        self.location.note = note;
        self
    }

    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The full path of a key.
    pub fn path_to(&self, name: &str) -> String {
        self.location.path_to(name)
    }

    /// Reports an error at a key.
    pub fn error(&self, name: &str, message: impl Into<String>, help: impl Into<String>) {
        self.note(name, Diagnostic::error(self.location.of(name), message, help));
    }

    /// Reports a warning at a key.
    pub fn warning(&self, name: &str, message: impl Into<String>) {
        self.note(name, Diagnostic::warning(self.location.of(name), message));
    }

    fn note(&self, name: &str, diagnostic: Diagnostic) {
        match self.peek(name) {
            Some(node) => self.diagnostics.at_node(diagnostic, node),
            None => self.diagnostics.at_key(diagnostic),
        }
    }

    /// Reports what is wrong with a value. The message begins with the value.
    pub fn refuse(&self, name: &str, node: &Node, wrong: ValueError) {
        self.refuse_part(name, node, &node.describe(), wrong);
    }

    /// The same for a part of a value.
    fn refuse_part(&self, name: &str, node: &Node, shown: &str, ValueError { message, help }: ValueError) {
        let message = format!("{shown} {message}");
        self.diagnostics.at_node(Diagnostic::error(self.location.of(name), message, help), node);
    }

    /// The value of a key, which is known from now on.
    pub fn get(&self, name: &'static str) -> Option<&'d Node> {
        self.known.borrow_mut().push(name);
        self.peek(name)
    }

    fn peek(&self, name: &str) -> Option<&'d Node> {
        self.node?.table()?.get(name)
    }

    /// A value of one kind; reports an error for another kind.
    fn kind<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&'d Node) -> Option<T>,
        otherwise: impl FnOnce() -> ValueError,
    ) -> Option<T> {
        let node = self.get(name)?;
        let value = read(node);
        if value.is_none() {
            self.refuse(name, node, otherwise());
        }
        value
    }

    pub fn text(&self, name: &'static str) -> Option<&'d str> {
        self.kind(name, Node::text, || ValueError::new(NOT_TEXT.0, NOT_TEXT.1))
    }

    /// A text that must be present and not empty.
    pub fn required_text(&self, name: &'static str, help: &str) -> Option<&'d str> {
        self.required(name, help);
        let text = self.text(name)?;
        if text.is_empty() {
            self.error(name, "is empty", help);
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// Reports a missing key.
    pub fn required(&self, name: &'static str, help: &str) {
        if self.get(name).is_none() {
            self.error(name, "is missing", help);
        }
    }

    /// A text with a meaning. `None` if it is absent or wrong.
    pub fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&'d str) -> Result<T, ValueError>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let refuse = |wrong| self.peek(name).map(|node| self.refuse(name, node, wrong));
        parse(text).map_err(refuse).ok()
    }

    /// One of several words.
    pub fn choice<T: Copy>(&self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(name, |text| choose(text, choices))
    }

    pub fn boolean(&self, name: &'static str) -> Option<bool> {
        self.kind(name, Node::boolean, || ValueError::new("is neither true nor false", "write true or false"))
    }

    /// A whole number in a range. `of` names the unit, such as `" of bytes"`, and `default` the default; both may be
    /// empty.
    pub fn whole(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
        of: &str,
        default: &str,
    ) -> Option<u64> {
        let node = self.get(name)?;
        let wrong = match node.whole().map(u64::try_from) {
            Some(Ok(number)) if range.contains(&number) => return Some(number),
            Some(_) => "is out of range",
            None => "is not a whole number",
        };
        let default = if default.is_empty() { String::new() } else { format!(" (default: {default})") };
        let help = format!("write a whole number{of} from {} to {}{default}", range.start(), range.end());
        self.refuse(name, node, ValueError::new(wrong, help));
        None
    }

    /// A duration in the unit that the key ends with, `_ms` or `_s`, in a range of that unit.
    pub fn duration(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
        default: Option<Duration>,
    ) -> Option<Duration> {
        let shown = |count: Option<u128>| count.map(|count| count.to_string()).unwrap_or_default();
        if name.ends_with("_ms") {
            let default = shown(default.as_ref().map(Duration::as_millis));
            self.whole(name, range, " of milliseconds", &default).map(Duration::from_millis)
        } else {
            let default = shown(default.map(|default| default.as_secs().into()));
            self.whole(name, range, " of seconds", &default).map(Duration::from_secs)
        }
    }

    pub fn table(&self, name: &'static str) -> Option<Self> {
        let wrong = || ValueError::new("is not a table", "write it as a table");
        let node = self.kind(name, |node| node.table().map(|_| node), wrong)?;
        Some(Self { node: Some(node), ..self.absent(name) })
    }

    /// The keys and values in the order of the file, for tables whose keys are names.
    pub fn entries(&self) -> impl Iterator<Item = (&'d str, &'d Node)> {
        self.node.and_then(Node::table).into_iter().flat_map(|table| table.iter())
    }

    /// Reports all keys that are not known. `elsewhere` returns a better message for some of them.
    pub fn end(&self, elsewhere: impl Fn(&str) -> Option<ValueError>) {
        let mut known = self.known.take();
        known.sort_unstable();
        known.dedup();
        for (name, node) in self.entries().filter(|(name, _)| known.binary_search(name).is_err()) {
            let wrong = elsewhere(name).unwrap_or_else(|| {
                let help = format!("{}the known keys are {}", did_you_mean(name, &known), known.join(", "));
                ValueError::new(UNKNOWN_KEY, help)
            });
            let diagnostic = Diagnostic::error(self.location.of_unknown(name), wrong.message, wrong.help);
            self.diagnostics.at_node(diagnostic, node);
        }
    }
}

/// The message for an unknown key.
pub const UNKNOWN_KEY: &str = "there is no such key";

/// Parses one of several words.
pub fn choose<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, ValueError> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let unknown = || {
        let listed: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let help = format!("{}write {}", did_you_mean(text, &words), listed.join(" or "));
        ValueError::new("is not an allowed value", help)
    };
    choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice).ok_or_else(unknown)
}

#[cfg(test)]
mod tests;
