//! `RefusedByVocabulary`: how many handshakes and calls were refused at the endpoints of each vocabulary.

use std::sync::OnceLock;

use tidegate_protocol::frame::VocabularyId;

use crate::node::shared_counter::SharedCounter;

/// The most vocabularies that are counted. A reload may bring new ones; those beyond are not counted.
const VOCABULARIES: usize = 256;

/// The counts of all threads.
#[derive(Debug)]
pub struct RefusedByVocabulary(Box<[(OnceLock<VocabularyId>, SharedCounter)]>);

impl Default for RefusedByVocabulary {
    fn default() -> Self {
        Self((0..VOCABULARIES).map(|_| (OnceLock::new(), SharedCounter::default())).collect())
    }
}

impl RefusedByVocabulary {
    /// Counts a handshake or call that was refused.
    pub fn count(&self, vocabulary: VocabularyId) {
        if let Some((_, counter)) = self.0.iter().find(|(id, _)| *id.get_or_init(|| vocabulary) == vocabulary)
        {
            counter.count();
        }
    }

    /// How many were refused.
    pub fn of(&self, vocabulary: VocabularyId) -> u64 {
        let known = self.0.iter().find(|(id, _)| id.get() == Some(&vocabulary));
        known.map_or(0, |(_, counter)| counter.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vocabulary_is_counted_for_itself() {
        let counts = RefusedByVocabulary::default();
        for id in [3, 1, 3] {
            counts.count(VocabularyId(id));
        }
        assert_eq!([1, 2, 3].map(|id| counts.of(VocabularyId(id))), [1, 0, 2]);
    }
}
