//! The state that is shared while all tables are read: diagnostics and known keys.

use std::cell::Ref;
use std::cell::RefCell;
use std::ops::RangeInclusive;

use tidegate_document::diagnostics::Diagnostics;
use tidegate_document::node::Node;

use crate::config::keys::KnownKeys;
use crate::config::tree::Layer;

/// A value with its key and the layer that it comes from.
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
    /// Whether this pass reads an empty document, only to collect the known keys.
    pub(super) is_survey: bool,
    pub(super) diagnostics: Diagnostics<'t>,
    keys: RefCell<KnownKeys>,
}

impl<'t> ConfigReader<'t> {
    /// `file` is the origin of values without their own origin.
    pub(super) fn new(root: &'t Node, file: &str, keys: KnownKeys) -> Self {
        let diagnostics = Diagnostics::of_layers(root, file);
        Self { is_survey: false, diagnostics, keys: RefCell::new(keys) }
    }

    pub(super) fn survey(empty: &'t Node) -> Self {
        Self { is_survey: true, ..Self::new(empty, "", KnownKeys::default()) }
    }

    pub(super) fn add_key(&self, key: String, range: Option<RangeInclusive<u64>>) {
        self.keys.borrow_mut().insert(key, range);
    }

    pub(super) fn add_secret(&self, key: String) {
        self.keys.borrow_mut().insert_secret(key);
    }

    pub(super) fn keys(&self) -> Ref<'_, KnownKeys> {
        self.keys.borrow()
    }
}
