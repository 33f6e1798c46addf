//! Diagnostics: everything that one reading of a document finds.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::diagnostic::DEFAULT;
use crate::diagnostic::Diagnostic;
use crate::diagnostic::Severity;
use crate::diagnostic::Wrong;
use crate::node::Node;

/// What is said of a key that no one has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwritten {
    /// It is missing in the file, at the place of the table that should have it.
    Missing,
    /// It has its default. Only in an element of a list it is missing.
    Default,
}

/// Gathers what is found in one document.
#[derive(Debug)]
pub struct Diagnostics<'d> {
    root: &'d Node,
    file: String,
    unwritten: Unwritten,
    found: RefCell<Vec<Diagnostic>>,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What makes the document useless.
    pub errors: Vec<Diagnostic>,
    /// What is allowed, and probably not meant.
    pub warnings: Vec<Diagnostic>,
}

impl<'d> Diagnostics<'d> {
    /// Of a file that is all there is. `file` is its name, empty if the reader does not know it.
    pub fn of_file(root: &'d Node, file: &str) -> Self {
        Self { root, file: file.to_owned(), unwritten: Unwritten::Missing, found: RefCell::default() }
    }

    /// Of a document merged from a file, variables, flags and defaults. `file` is the origin of nodes that name none.
    pub fn of_layers(root: &'d Node, file: &str) -> Self {
        Self { unwritten: Unwritten::Default, ..Self::of_file(root, file) }
    }

    /// The whole document.
    pub fn root(&self) -> &'d Node {
        self.root
    }

    /// Adds one as it is.
    pub fn add(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    /// Adds one whose origin and place are those of its key.
    pub fn at_key(&self, diagnostic: Diagnostic) {
        let origin = self.origin_of(&diagnostic.key);
        let place = if origin == self.file { self.root.place_of(&diagnostic.key) } else { None };
        self.add(Diagnostic { origin, place, ..diagnostic });
    }

    /// Adds one whose origin and place are those of a node.
    pub(crate) fn at_node(&self, diagnostic: Diagnostic, node: &Node) {
        let origin = node.origin.as_ref().unwrap_or(&self.file).clone();
        self.add(Diagnostic { origin, place: node.place, ..diagnostic });
    }

    /// Adds what is wrong with the value of a key.
    pub fn refuse(&self, key: impl Into<String>, wrong: Wrong) {
        self.at_key(Diagnostic::error(key, wrong.message, wrong.help));
    }

    /// Whether something is wrong at a key.
    pub fn refuses(&self, key: &str) -> bool {
        self.found.borrow().iter().any(|found| found.severity == Severity::Error && found.key == key)
    }

    /// Whether something is wrong in one of these sections.
    pub fn refuses_in(&self, sections: &[&str]) -> bool {
        let is_there = |found: &Diagnostic| sections.iter().any(|section| found.key.starts_with(section));
        self.found.borrow().iter().any(|found| found.severity == Severity::Error && is_there(found))
    }

    /// All of them, each once, in the order of the file; what is in no file comes first, and other files last.
    pub fn finish(self) -> Found {
        let mut all = self.found.into_inner();
        all.sort_by_cached_key(|found| (found.place.is_some(), found.origin != self.file, found.place));
        let mut seen = HashSet::new();
        all.retain(|found| seen.insert(found.clone()));
        let (errors, warnings) = all.into_iter().partition(|found| found.severity == Severity::Error);
        Found { errors, warnings }
    }

    /// Where the value of a key comes from; of one that is missing in an element of a list, where the element does.
    fn origin_of(&self, key: &str) -> String {
        if self.unwritten == Unwritten::Missing {
            return self.file.clone();
        }
        let element = key.rsplit_once('.').map(|(parent, _)| parent).filter(|parent| parent.ends_with(']'));
        let node = self.root.find(key).or_else(|| self.root.find(element?));
        node.map_or_else(|| DEFAULT.to_owned(), |node| node.origin.as_ref().unwrap_or(&self.file).clone())
    }
}
