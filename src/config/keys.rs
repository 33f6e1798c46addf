//! Keys: every key that a configuration may have.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Every key that is read, as a path with `[]` for the elements of a list, and a number's range.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownKeys(BTreeMap<String, Option<RangeInclusive<u64>>>);

impl KnownKeys {
    /// One more key; the range of its values, if it is a number.
    pub(super) fn insert(&mut self, key: String, range: Option<RangeInclusive<u64>>) {
        self.0.insert(key, range);
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Whether a variable or a flag can set a key: there is one, and it is not in a list of tables.
    pub(super) fn can_be_set(&self, key: &str) -> bool {
        self.0.contains_key(key) && !key.contains('[')
    }

    #[cfg(test)]
    pub(super) fn ranges(&self) -> Vec<(String, RangeInclusive<u64>)> {
        self.0.iter().filter_map(|(key, range)| Some((key.clone(), range.clone()?))).collect()
    }
}
