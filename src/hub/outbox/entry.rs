//! `QueueEntry`: one entry of an outbox's queues.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::ClassNumber;
use tidegate_protocol::class::Overflow;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::delivery_batch::CoalescedDeliveries;

/// One entry of a queue.
#[derive(Debug)]
pub enum QueueEntry {
    /// A reply of the session. Never dropped.
    Reply(Box<Frame>),
    /// A publication.
    Delivery { delivery: Rc<Delivery>, subscription: SubscriptionId, class: EntryClass },
    /// A last value for a subscription that has just joined, in the queue of its class. It is not counted as delivered.
    LastValue { delivery: Rc<Delivery>, subscription: SubscriptionId, class: EntryClass },
    /// Publications of one priority in one piece. Only while the client keeps up.
    Coalesced { coalesced: Rc<CoalescedDeliveries>, subscription: SubscriptionId, class: EntryClass },
    /// In the place of dropped publications of one priority.
    Gap { subscription: SubscriptionId, dropped: u64, cause: GapCause, priority: Priority, class: EntryClass },
    /// A message with the client's current elements, which is put together when it is taken: the number of the
    /// collection, and the class of one of its channels. When it is taken, also a gap of that collection: why the client
    /// does not get how many elements.
    Collected { collection: u32, class: ClassNumber, lost: Option<(GapCause, u64)> },
    /// The rest of a frame that is partly written.
    Rest(Box<Bytes>),
    /// The place of an entry that was removed.
    Vacant,
}

/// What an entry needs to know of its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryClass {
    pub number: ClassNumber,
    pub overflow: Overflow,
    /// The priority of the class, and so of messages about its channels.
    pub home: Priority,
}

impl EntryClass {
    pub fn of(class: &Class) -> Self {
        Self { number: class.number, overflow: class.overflow(), home: class.priority }
    }
}

impl QueueEntry {
    /// The number of its bytes.
    pub fn byte_count(&self) -> usize {
        self.size().0
    }

    /// The number of its frames.
    pub fn frame_count(&self) -> usize {
        self.size().1
    }

    /// The publications that count as delivered or dropped when this entry is taken.
    pub fn delivery_counts(&self) -> DeliveryCounts {
        let (delivered, dropped) = match self {
            Self::Delivery { .. } | Self::Collected { lost: None, .. } => (1, 0),
            Self::Collected { lost: Some((_, dropped)), .. } => (0, *dropped),
            Self::Coalesced { coalesced, .. } => (coalesced.deliveries().len() as u64, 0),
            Self::Gap { dropped, .. } => (0, *dropped),
            Self::LastValue { .. } | Self::Reply(_) | Self::Rest(_) | Self::Vacant => (0, 0),
        };
        DeliveryCounts { delivered, dropped }
    }

    /// A gap for the publications, if they have expired.
    pub fn expired(&self, now: Instant) -> Option<Self> {
        let gap = |subscription, dropped, priority, class| {
            Some(Self::Gap { subscription, dropped, cause: GapCause::Expired, priority, class })
        };
        match self {
            Self::Delivery { delivery, subscription, class }
            | Self::LastValue { delivery, subscription, class }
                if delivery.is_expired(now) =>
            {
                gap(*subscription, 1, delivery.priority, *class)
            }
            Self::Coalesced { coalesced, subscription, class } if coalesced.is_expired(now) => {
                gap(*subscription, coalesced.deliveries().len() as u64, coalesced.priority(), *class)
            }
            Self::Delivery { .. }
            | Self::LastValue { .. }
            | Self::Coalesced { .. }
            | Self::Reply(_)
            | Self::Gap { .. }
            | Self::Collected { .. }
            | Self::Rest(_)
            | Self::Vacant => None,
        }
    }

    /// Adds another gap, if both are of one subscription, cause and priority. Returns whether it did.
    pub fn merge(&mut self, other: &Self) -> bool {
        let Self::Gap { subscription, dropped, cause, priority, .. } = self else { return false };
        let Self::Gap { subscription: of, dropped: more, cause: why, priority: also, .. } = other else {
            return false;
        };
        let is_same = (*subscription, *cause, *priority) == (*of, *why, *also);
        *dropped += if is_same { *more } else { 0 };
        is_same
    }

    /// The number of its bytes and frames.
    #[inline]
    pub fn size(&self) -> (usize, usize) {
        match self {
            Self::Delivery { delivery, .. } | Self::LastValue { delivery, .. } => (delivery.frame.len(), 1),
            Self::Coalesced { coalesced, .. } => (coalesced.bytes().len(), coalesced.deliveries().len()),
            Self::Reply(frame) => (frame.len(), 1),
            Self::Rest(bytes) => (bytes.len(), 1),
            Self::Gap { .. } | Self::Collected { .. } | Self::Vacant => (0, 0),
        }
    }

    /// For an entry of this queue that is not just a publication of a class with this priority: whether no more urgent
    /// publication may overtake it, and the priority of its class.
    #[inline]
    pub fn irregular(&self, place: Priority) -> Option<(bool, Priority)> {
        let (priority, home) = match self {
            Self::Delivery { delivery, class, .. } => (delivery.priority, class.home),
            Self::Coalesced { coalesced, class, .. } => (coalesced.priority(), class.home),
            Self::Gap { priority, class, .. } => (*priority, class.home),
            Self::Reply(_) | Self::LastValue { .. } => return Some((true, place)),
            Self::Collected { .. } | Self::Rest(_) | Self::Vacant => return None,
        };
        ((priority, home) != (place, place)).then_some((priority < place, home))
    }

    /// The class of its publications. `None` if it has none.
    pub fn class(&self) -> Option<ClassNumber> {
        match self {
            Self::Delivery { class, .. }
            | Self::LastValue { class, .. }
            | Self::Coalesced { class, .. }
            | Self::Gap { class, .. } => Some(class.number),
            Self::Collected { class, .. } => Some(*class),
            Self::Reply(_) | Self::Rest(_) | Self::Vacant => None,
        }
    }

    /// The priorities of a publication or gap: its own, and that of its class.
    pub fn priorities(&self) -> Option<(Priority, Priority)> {
        match self {
            Self::Delivery { delivery, class, .. } | Self::LastValue { delivery, class, .. } => {
                Some((delivery.priority, class.home))
            }
            Self::Coalesced { coalesced, class, .. } => Some((coalesced.priority(), class.home)),
            Self::Gap { priority, class, .. } => Some((*priority, class.home)),
            Self::Reply(_) | Self::Collected { .. } | Self::Rest(_) | Self::Vacant => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_costs_24_bytes() {
        assert_eq!(size_of::<QueueEntry>(), 24, "an outbox has thousands of them when its client is slow");
    }
}
