//! Terms: what one subscription has agreed with its vocabulary: its group, what later messages need, and which
//! publications are wanted.

use std::cell::RefCell;

use crate::frame::Frame;
use crate::message::Filter;
use crate::message::Pairs;

/// What one subscription has agreed with its vocabulary. The session, the hub and the outbox share it.
#[derive(Debug, Default)]
pub struct SubscriptionContext {
    /// The set of subscriptions that it belongs to.
    pub group: Box<str>,
    /// What later messages need.
    pub kept: Pairs,
    /// What goes into the cuts of its publications, by their numbers.
    pub inserts: Box<[(u8, Box<[u8]>)]>,
    /// Whether its publications have cuts, or a filter may come.
    pub is_tailored: bool,
    /// Which publications are wanted, if not all.
    pub filter: RefCell<Option<Filter>>,
}

impl SubscriptionContext {
    /// Whether nothing was agreed.
    pub fn are_plain(&self) -> bool {
        self.group.is_empty() && self.kept.is_empty() && self.inserts.is_empty() && !self.is_tailored
    }

    /// Only these from now on.
    pub fn set_filter(&self, filter: Filter) {
        *self.filter.borrow_mut() = Some(filter);
    }

    /// What of a publication this subscription is sent: nothing, or its own copy.
    pub fn own(&self, frame: &Frame) -> Option<Frame> {
        if let Some(filter) = &*self.filter.borrow() {
            let value = frame.note().split(|byte| *byte == 0).nth(usize::from(filter.field.0))?;
            filter.values.iter().find(|wanted| wanted.as_bytes() == value)?;
        }
        if self.inserts.is_empty() {
            return Some(frame.clone());
        }
        Some(frame.filled(|number| self.insert(number)))
    }

    /// What goes into the cut of this number.
    pub fn insert(&self, number: u8) -> Option<&[u8]> {
        self.inserts.iter().find(|(insert, _)| *insert == number).map(|(_, bytes)| &**bytes)
    }
}
