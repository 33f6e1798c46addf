//! Section: one table of a document, read key by key. A wrong value is noted and reading goes on; a key that no one asked
//! for is a mistake.

pub mod lists;

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::diagnostic::Wrong;
use crate::diagnostics::Diagnostics;
use crate::node::Node;
use crate::quote::plain;
use crate::suggest::did_you_mean;

/// What is said of a value that is no text.
const NO_TEXT: (&str, &str) = ("is not a text", "write it between quotation marks");

/// Where a table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    key: String,
    /// What is next to its keys in messages.
    note: String,
}

impl Location {
    /// The table itself, `receive[3]`; empty for the whole document.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// One of its keys as a message names it, `receive[3].channel (when …)`.
    pub fn of(&self, name: &str) -> String {
        self.noted(&self.path_to(name))
    }

    /// The same of a key that anybody may have written: on one line, and short.
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

/// One table of a document. Keys that no one asks for are mistakes.
#[derive(Debug)]
pub struct Section<'d> {
    diagnostics: &'d Diagnostics<'d>,
    location: Location,
    /// `None` where there is no such table: then it has no keys.
    node: Option<&'d Node>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'d> Section<'d> {
    /// The whole document.
    pub fn root(diagnostics: &'d Diagnostics<'d>) -> Self {
        Self::at(diagnostics, Location::default(), Some(diagnostics.root()))
    }

    fn at(diagnostics: &'d Diagnostics<'d>, location: Location, node: Option<&'d Node>) -> Self {
        Self { diagnostics, location, node, asked: RefCell::default() }
    }

    /// A section that is not there, of which the document would have any number.
    pub fn absent(&self, name: &str) -> Self {
        let key = self.location.path_to(name);
        Self::at(self.diagnostics, Location { key, note: self.location.note.clone() }, None)
    }

    /// The same, with a note next to its keys in messages, so that a reader finds the table.
    #[must_use]
    pub fn noted(mut self, note: String) -> Self {
        self.location.note = note;
        self
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// One of its keys from the top of the document.
    pub fn path_to(&self, name: &str) -> String {
        self.location.path_to(name)
    }

    /// Notes a mistake at one of its keys.
    pub fn mistake(&self, name: &str, message: impl Into<String>, help: impl Into<String>) {
        self.note(name, Diagnostic::error(self.location.of(name), message, help));
    }

    /// Notes a warning at one of its keys.
    pub fn warning(&self, name: &str, message: impl Into<String>) {
        self.note(name, Diagnostic::warning(self.location.of(name), message));
    }

    fn note(&self, name: &str, diagnostic: Diagnostic) {
        match self.peek(name) {
            Some(node) => self.diagnostics.at_node(diagnostic, node),
            None => self.diagnostics.at_key(diagnostic),
        }
    }

    /// Notes what is wrong with a value, which the message names.
    pub fn refuse(&self, name: &str, node: &Node, wrong: Wrong) {
        self.refuse_shown(name, node, &node.shown(), wrong);
    }

    /// The same where the value has been taken apart, and a part of it is wrong.
    fn refuse_shown(&self, name: &str, node: &Node, shown: &str, Wrong { message, help }: Wrong) {
        let message = format!("{shown} {message}");
        self.diagnostics.at_node(Diagnostic::error(self.location.of(name), message, help), node);
    }

    /// The value of a key, which counts as asked for.
    pub fn get(&self, name: &'static str) -> Option<&'d Node> {
        self.asked.borrow_mut().push(name);
        self.peek(name)
    }

    fn peek(&self, name: &str) -> Option<&'d Node> {
        self.node?.table()?.get(name)
    }

    /// A value that must be of one kind; another is a mistake.
    fn kind<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&'d Node) -> Option<T>,
        otherwise: impl FnOnce() -> Wrong,
    ) -> Option<T> {
        let node = self.get(name)?;
        let value = read(node);
        if value.is_none() {
            self.refuse(name, node, otherwise());
        }
        value
    }

    /// A text.
    pub fn text(&self, name: &'static str) -> Option<&'d str> {
        self.kind(name, Node::text, || Wrong::new(NO_TEXT.0, NO_TEXT.1))
    }

    /// A text that must be there, and not be empty.
    pub fn required_text(&self, name: &'static str, help: &str) -> Option<&'d str> {
        self.required(name, help);
        let text = self.text(name)?;
        if text.is_empty() {
            self.mistake(name, "is empty", help);
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// Notes that a key is missing.
    pub fn required(&self, name: &'static str, help: &str) {
        if self.get(name).is_none() {
            self.mistake(name, "is missing", help);
        }
    }

    /// A text that means something. `None` where it is absent, and where it is a mistake.
    pub fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&'d str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let refuse = |wrong| self.peek(name).map(|node| self.refuse(name, node, wrong));
        parse(text).map_err(refuse).ok()
    }

    /// A word out of a list of words.
    pub fn choice<T: Copy>(&self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(name, |text| choose(text, choices))
    }

    /// True or false.
    pub fn boolean(&self, name: &'static str) -> Option<bool> {
        self.kind(name, Node::boolean, || Wrong::new("is neither true nor false", "write true or false"))
    }

    /// A whole number in a range. `of` says of what, `" of bytes"`, and `default` what is taken without it; both may be
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
        self.refuse(name, node, Wrong::new(wrong, help));
        None
    }

    /// A time in the unit that the key's name ends with, `_ms` or `_s`, and in a range of that unit.
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

    /// A table.
    pub fn table(&self, name: &'static str) -> Option<Self> {
        let wrong = || Wrong::new("is not a table", "write it as a table");
        let node = self.kind(name, |node| node.table().map(|_| node), wrong)?;
        Some(Self { node: Some(node), ..self.absent(name) })
    }

    /// Its keys and values in the order of the file, for tables whose keys are names.
    pub fn entries(&self) -> impl Iterator<Item = (&'d str, &'d Node)> {
        self.node.and_then(Node::table).into_iter().flat_map(|table| table.iter())
    }

    /// Notes every key that no one has asked for. `elsewhere` says what is wrong with it, if it is known by its path.
    pub fn end(&self, elsewhere: impl Fn(&str) -> Option<Wrong>) {
        let mut asked = self.asked.take();
        asked.sort_unstable();
        asked.dedup();
        for (name, node) in self.entries().filter(|(name, _)| asked.binary_search(name).is_err()) {
            let wrong = elsewhere(name).unwrap_or_else(|| {
                let help = format!("{}known here are {}", did_you_mean(name, &asked), asked.join(", "));
                Wrong::new(NO_KEY, help)
            });
            let diagnostic = Diagnostic::error(self.location.of_unknown(name), wrong.message, wrong.help);
            self.diagnostics.at_node(diagnostic, node);
        }
    }
}

/// What is wrong with a key that there is not.
pub const NO_KEY: &str = "there is no such key";

/// One of several words.
pub fn choose<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let unknown = || {
        let listed: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let help = format!("{}write {}", did_you_mean(text, &words), listed.join(" or "));
        Wrong::new("is not a word for this", help)
    };
    choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice).ok_or_else(unknown)
}

#[cfg(test)]
mod tests;
