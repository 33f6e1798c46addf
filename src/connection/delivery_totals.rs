//! `DeliveryTotals`: how many publications of each vocabulary one shard has delivered and dropped, and how many messages
//! it has answered with an error.

use std::cell::RefCell;

use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::frame::VocabularyId;

/// The counts of each vocabulary since the shard started, by the vocabulary's number.
#[derive(Debug, Default)]
pub struct DeliveryTotals(RefCell<Vec<VocabularyTotals>>);

/// The counts of one vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VocabularyTotals {
    pub delivery_counts: DeliveryCounts,
    /// Messages of clients that were answered with an error.
    pub errors: u64,
}

impl DeliveryTotals {
    /// Adds to the counts of a vocabulary.
    pub fn add(&self, vocabulary: VocabularyId, delivery_counts: DeliveryCounts) {
        self.change(vocabulary, |totals| totals.delivery_counts += delivery_counts);
    }

    /// Counts a message of a client that was answered with an error.
    pub fn count_error(&self, vocabulary: VocabularyId) {
        self.change(vocabulary, |totals| totals.errors += 1);
    }

    /// The counts of a vocabulary.
    pub fn of(&self, vocabulary: VocabularyId) -> VocabularyTotals {
        self.0.borrow().get(usize::from(vocabulary.0)).copied().unwrap_or_default()
    }

    #[inline]
    fn change(&self, vocabulary: VocabularyId, change: impl FnOnce(&mut VocabularyTotals)) {
        let (mut totals, at) = (self.0.borrow_mut(), usize::from(vocabulary.0));
        if at >= totals.len() {
            totals.resize(at + 1, VocabularyTotals::default());
        }
        change(&mut totals[at]);
    }
}
