//! `DeliveryTotals`: how many publications of each vocabulary one shard has delivered and dropped.

use std::cell::RefCell;

use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::frame::VocabularyId;

/// The counts of each vocabulary since the shard started, by the vocabulary's number.
#[derive(Debug, Default)]
pub struct DeliveryTotals(RefCell<Vec<DeliveryCounts>>);

impl DeliveryTotals {
    /// Adds to the counts of a vocabulary.
    pub fn add(&self, vocabulary: VocabularyId, delivery_counts: DeliveryCounts) {
        let (mut totals, at) = (self.0.borrow_mut(), usize::from(vocabulary.0));
        if at >= totals.len() {
            totals.resize(at + 1, DeliveryCounts::default());
        }
        totals[at] += delivery_counts;
    }

    /// The counts of a vocabulary.
    pub fn of(&self, vocabulary: VocabularyId) -> DeliveryCounts {
        self.0.borrow().get(usize::from(vocabulary.0)).copied().unwrap_or_default()
    }
}
