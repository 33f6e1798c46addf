//! Tallies: what has become of the publications of each vocabulary on one shard.

use std::cell::RefCell;

use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::frame::VocabularyId;

/// A tally for each vocabulary, by its number.
#[derive(Debug, Default)]
pub struct Tallies(RefCell<Vec<DeliveryCounts>>);

impl Tallies {
    /// Adds to a vocabulary's tally.
    pub fn add(&self, vocabulary: VocabularyId, delivery_counts: DeliveryCounts) {
        let (mut tallies, at) = (self.0.borrow_mut(), usize::from(vocabulary.0));
        if at >= tallies.len() {
            tallies.resize(at + 1, DeliveryCounts::default());
        }
        tallies[at] += delivery_counts;
    }

    /// A vocabulary's tally since the shard's start.
    pub fn of(&self, vocabulary: VocabularyId) -> DeliveryCounts {
        self.0.borrow().get(usize::from(vocabulary.0)).copied().unwrap_or_default()
    }
}
