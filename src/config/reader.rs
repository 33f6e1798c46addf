//! What a reading of the whole configuration gathers: what is wrong, what is doubtful, and every key that exists.

use std::cell::Ref;
use std::cell::RefCell;
use std::ops::RangeInclusive;

use tidegate_document::diagnostics::Diagnostics;
use tidegate_document::node::Node;

use crate::config::keys::KnownKeys;
use crate::config::tree::Layer;

/// A value, the key that it was found under, and how much that key weighs.
pub(super) struct SetValue<T> {
    pub(super) value: T,
    pub(super) key: String,
    pub(super) layer: Layer,
}

impl<T> SetValue<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> SetValue<U> {
        SetValue { value: change(self.value), key: self.key, layer: self.layer }
    }
}

pub(super) struct ConfigReader<'t> {
    /// Whether this reading is of nothing, and only to learn the keys.
    pub(super) surveys: bool,
    pub(super) diagnostics: Diagnostics<'t>,
    keys: RefCell<KnownKeys>,
}

impl<'t> ConfigReader<'t> {
    /// `file` is the origin of values that carry none.
    pub(super) fn new(root: &'t Node, file: &str, keys: KnownKeys) -> Self {
        let diagnostics = Diagnostics::of_layers(root, file);
        Self { surveys: false, diagnostics, keys: RefCell::new(keys) }
    }

    pub(super) fn survey(nothing: &'t Node) -> Self {
        Self { surveys: true, ..Self::new(nothing, "", KnownKeys::default()) }
    }

    pub(super) fn know(&self, key: String, range: Option<RangeInclusive<u64>>) {
        self.keys.borrow_mut().insert(key, range);
    }

    pub(super) fn keys(&self) -> Ref<'_, KnownKeys> {
        self.keys.borrow()
    }
}
