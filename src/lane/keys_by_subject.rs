//! An index of the last values of a feed: which keys a subject has.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;

/// The keys of each subject, except the subject itself, which is the key of most publications.
#[derive(Debug, Default)]
pub(super) struct KeysBySubject {
    /// Each key after the hash of its subject: an entry is small, and keeps no text alive except the key.
    entries: BTreeSet<(u64, Arc<str>)>,
    hash: RandomState,
}

impl KeysBySubject {
    pub(super) fn insert(&mut self, subject: &str, key: &Arc<str>) {
        self.entries.extend(self.entry(subject, key));
    }

    pub(super) fn remove(&mut self, subject: &str, key: &Arc<str>) {
        if let Some(entry) = self.entry(subject, key) {
            self.entries.remove(&entry);
        }
    }

    /// The keys that publications on this subject may have. Other subjects may have them instead: one with the same
    /// hash, or one whose producer chose this subject as the key.
    pub(super) fn of<'a>(&'a self, subject: &'a str) -> impl Iterator<Item = &'a str> {
        let hash = self.hash.hash_one(subject);
        let entries =
            self.entries.range((hash, Arc::default())..).take_while(move |(other, _)| *other == hash);
        entries.map(|(_, key)| &**key).chain([subject])
    }

    fn entry(&self, subject: &str, key: &Arc<str>) -> Option<(u64, Arc<str>)> {
        (**key != *subject).then(|| (self.hash.hash_one(subject), Arc::clone(key)))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
