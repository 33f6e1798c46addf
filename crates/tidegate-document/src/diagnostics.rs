//! Collects the diagnostics of one document.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::diagnostic::DEFAULT;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Severity;
use crate::diagnostic::ValueError;
use crate::node::Node;

/// How to report a key that is not in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AbsentKey {
    /// As missing in the file, at the place of the table that should have it.
    Missing,
    /// As a default value. Only in an element of a list it is missing in the file.
    Default,
}

/// Collects the diagnostics of one document.
#[derive(Debug)]
pub struct Diagnostics<'d> {
    root: &'d Node,
    file: String,
    absent_key: AbsentKey,
    found: RefCell<Vec<Diagnostic>>,
}

/// All diagnostics of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
}

impl<'d> Diagnostics<'d> {
    /// For a document from a single file. `file` is its name, or empty if unknown.
    pub fn of_file(root: &'d Node, file: &str) -> Self {
        Self { root, file: file.to_owned(), absent_key: AbsentKey::Missing, found: RefCell::default() }
    }

    /// For a document merged from a file, variables, flags and defaults. `file` is the origin of nodes without one.
    pub fn of_layers(root: &'d Node, file: &str) -> Self {
        Self { absent_key: AbsentKey::Default, ..Self::of_file(root, file) }
    }

    pub fn root(&self) -> &'d Node {
        self.root
    }

    /// Adds a diagnostic unchanged.
    pub fn add(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    /// Adds a diagnostic with the origin and place of its key.
    pub fn at_key(&self, diagnostic: Diagnostic) {
        let origin = self.origin_of(&diagnostic.key);
        let place = if origin == self.file { self.root.place_of(&diagnostic.key) } else { None };
        self.add(Diagnostic { origin, place, ..diagnostic });
    }

    /// Adds a diagnostic with the origin and place of a node.
    pub(crate) fn at_node(&self, diagnostic: Diagnostic, node: &Node) {
        let origin = node.origin.as_ref().unwrap_or(&self.file).clone();
        self.add(Diagnostic { origin, place: node.place, ..diagnostic });
    }

    /// Adds an error about the value of a key.
    pub fn refuse(&self, key: impl Into<String>, wrong: ValueError) {
        self.at_key(Diagnostic::error(key, wrong.message, wrong.help));
    }

    /// Whether there is an error at a key.
    pub fn refuses(&self, key: &str) -> bool {
        self.found.borrow().iter().any(|found| found.severity == Severity::Error && found.key == key)
    }

    /// Whether there is an error in one of these sections.
    pub fn refuses_in(&self, sections: &[&str]) -> bool {
        let is_there = |found: &Diagnostic| sections.iter().any(|section| found.key.starts_with(section));
        self.found.borrow().iter().any(|found| found.severity == Severity::Error && is_there(found))
    }

    /// Returns all diagnostics, without duplicates, in the order of the file; those without a place come first, and
    /// those of other files last.
    pub fn finish(self) -> Findings {
        let mut all = self.found.into_inner();
        all.sort_by_cached_key(|found| (found.place.is_some(), found.origin != self.file, found.place));
        let mut seen = HashSet::new();
        all.retain(|found| seen.insert(found.clone()));
        let (errors, warnings) = all.into_iter().partition(|found| found.severity == Severity::Error);
        Findings { errors, warnings }
    }

    /// The origin of a key's value; for a missing key in an element of a list, the origin of the element.
    fn origin_of(&self, key: &str) -> String {
        if self.absent_key == AbsentKey::Missing {
            return self.file.clone();
        }
        let element = key.rsplit_once('.').map(|(parent, _)| parent).filter(|parent| parent.ends_with(']'));
        let node = self.root.find(key).or_else(|| self.root.find(element?));
        node.map_or_else(|| DEFAULT.to_owned(), |node| node.origin.as_ref().unwrap_or(&self.file).clone())
    }
}
