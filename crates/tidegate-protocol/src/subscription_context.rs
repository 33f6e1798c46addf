//! What a vocabulary keeps for one subscription: its group, values for later messages, its texts for slots, and its
//! filter.

use std::cell::RefCell;

use crate::frame::Frame;
use crate::message::Filter;
use crate::message::Pairs;

/// What a vocabulary keeps for one subscription. The session, the hub and the outbox share it.
#[derive(Debug, Default)]
pub struct SubscriptionContext {
    /// The group that the subscription belongs to.
    pub group: Box<str>,
    /// Values that later messages need.
    pub kept: Pairs,
    /// The texts for the slots of its publications, by the slots' numbers.
    pub inserts: Box<[(u8, Box<[u8]>)]>,
    /// Whether its publications have slots or can be filtered.
    pub is_tailored: bool,
    /// Whether publications of its channel are taken apart: which of their elements it gets depends on the other channels
    /// of its group.
    pub takes_elements: bool,
    /// The filter, if there is one.
    pub filter: RefCell<Option<Filter>>,
}

impl SubscriptionContext {
    /// Whether there is nothing to keep.
    pub fn is_plain(&self) -> bool {
        self.group.is_empty() && self.kept.is_empty() && self.inserts.is_empty() && !self.is_tailored
    }

    pub fn set_filter(&self, filter: Filter) {
        *self.filter.borrow_mut() = Some(filter);
    }

    /// Whether the filter accepts a frame or an element with this note.
    pub fn passes(&self, note: &[u8]) -> bool {
        let filter = self.filter.borrow();
        let Some(filter) = &*filter else { return true };
        let value = note.split(|byte| *byte == 0).nth(usize::from(filter.field.0));
        value.is_some_and(|value| filter.passes(value))
    }

    /// The frame as this subscription gets it: with its own texts in the slots. `None` if the filter rejects it.
    pub fn tailor(&self, frame: &Frame) -> Option<Frame> {
        if !self.passes(frame.note()) {
            return None;
        }
        if self.inserts.is_empty() {
            return Some(frame.clone());
        }
        Some(frame.fill_slots(|number| self.insert(number)))
    }

    /// The text for the slot with this number.
    pub fn insert(&self, number: u8) -> Option<&[u8]> {
        self.inserts.iter().find(|(insert, _)| *insert == number).map(|(_, bytes)| &**bytes)
    }
}
