//! What a reading of the whole configuration gathers: every mistake, every warning, and every key that
//! exists.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use ::config::Value;
use tidegate_document::parse::parse;
use tidegate_document::place::Place;

use crate::config::keys::Keys;
use crate::config::mistake::DEFAULT;
use crate::config::mistake::Mistake;
use crate::config::mistake::Warning;
use crate::config::mistake::Wrong;
use crate::config::value::Layer;

/// A value, the key that it was found under, and how much that key weighs.
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) key: String,
    pub(super) layer: Layer,
}

impl<T> Found<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        Found { value: change(self.value), key: self.key, layer: self.layer }
    }
}

pub(super) struct Reader {
    /// Whether this reading is of nothing, and only to learn the keys.
    pub(super) surveys: bool,
    file: String,
    keys: RefCell<Keys>,
    origins: RefCell<BTreeMap<String, String>>,
    mistakes: RefCell<Vec<Mistake>>,
    warnings: RefCell<Vec<Warning>>,
}

impl Reader {
    /// `file` is the origin of values that carry none.
    pub(super) fn new(file: String, keys: Keys, mistakes: Vec<Mistake>) -> Self {
        Self {
            surveys: false,
            file,
            keys: RefCell::new(keys),
            origins: RefCell::default(),
            mistakes: RefCell::new(mistakes),
            warnings: RefCell::default(),
        }
    }

    pub(super) fn survey() -> Self {
        Self { surveys: true, ..Self::new(String::new(), Keys::default(), Vec::new()) }
    }

    pub(super) fn know(&self, key: String, range: Option<RangeInclusive<u64>>) {
        self.keys.borrow_mut().insert(key, range);
    }

    pub(super) fn note_origin(&self, key: String, value: &Value) {
        let origin = value.origin().unwrap_or(&self.file).to_owned();
        self.origins.borrow_mut().insert(key, origin);
    }

    /// What is wrong with the value of a key that has been read.
    pub(super) fn mistake(&self, key: String, wrong: Wrong) {
        let origin = self.origin_of(&key);
        self.mistake_from(&key, &origin, wrong);
    }

    /// The same with the origin named, for a key that the origin stands for.
    pub(super) fn mistake_from(&self, key: &str, origin: &str, wrong: Wrong) {
        self.mistake_at(key, origin, None, wrong);
    }

    /// The same in a file of its own.
    pub(super) fn mistake_at(&self, key: &str, origin: &str, place: Option<Place>, wrong: Wrong) {
        let Wrong { problem, cure } = wrong;
        let (key, origin) = (key.to_owned(), origin.to_owned());
        self.mistakes.borrow_mut().push(Mistake { key, origin, place, problem, cure });
    }

    pub(super) fn warning(&self, key: String, text: String) {
        let origin = self.origin_of(&key);
        self.warning_at(&key, &origin, None, text);
    }

    /// The same in a file of its own.
    pub(super) fn warning_at(&self, key: &str, origin: &str, place: Option<Place>, text: String) {
        let (key, origin) = (key.to_owned(), origin.to_owned());
        self.warnings.borrow_mut().push(Warning { key, origin, place, text });
    }

    /// Whether a key that has been read was there.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.origins.borrow().contains_key(key)
    }

    /// Whether there is a mistake at a key.
    pub(super) fn refuses(&self, key: &str) -> bool {
        self.mistakes.borrow().iter().any(|mistake| mistake.key == key)
    }

    pub(super) fn keys(&self) -> Keys {
        self.keys.borrow().clone()
    }

    /// All of them, with their places where they are in the file, whose text this is.
    pub(super) fn finish(self, text: &str) -> (Vec<Mistake>, Vec<Warning>) {
        let (mut mistakes, mut warnings) = (self.mistakes.into_inner(), self.warnings.into_inner());
        let root = parse(text).unwrap_or_default();
        let find = |origin: &str, key: &str| if origin == self.file { root.place_of(key) } else { None };
        for Mistake { key, origin, place, .. } in &mut mistakes {
            *place = place.or_else(|| find(origin, key));
        }
        for Warning { key, origin, place, .. } in &mut warnings {
            *place = place.or_else(|| find(origin, key));
        }
        // As one reads a file; what is in no file comes first.
        mistakes.sort_by_cached_key(|mistake| {
            (mistake.place.is_some(), mistake.origin != self.file, mistake.place)
        });
        (mistakes, warnings)
    }

    /// The origin of a key; of one that is missing in an element of a list, the element's.
    fn origin_of(&self, key: &str) -> String {
        let origins = self.origins.borrow();
        let element = key.rsplit_once('.').map(|(parent, _)| parent).filter(|parent| parent.ends_with(']'));
        let origin = origins.get(key).or_else(|| origins.get(element?));
        origin.map_or_else(|| DEFAULT.to_owned(), String::clone)
    }
}
