//! `DeliveryBatch`: what a topic appends to an outbox at once: one publication, or several that are written as one
//! piece.

use std::rc::Rc;
use std::time::Instant;

use tidegate_protocol::class::Priority;
use tidegate_protocol::publication::Delivery;

/// Consecutive publications of one topic in one format.
#[derive(Clone, Debug)]
pub enum DeliveryBatch {
    One(Rc<Delivery>),
    Coalesced(Rc<CoalescedDeliveries>),
}

/// Publications whose frames are also copied into one buffer. While a client keeps up, its outbox has one entry for all
/// of them, and the kernel copies one slice. For a slow client, they are split into single publications.
#[derive(Debug)]
pub struct CoalescedDeliveries {
    bytes: Box<[u8]>,
    deliveries: Vec<Rc<Delivery>>,
}

impl DeliveryBatch {
    /// Moves all `deliveries`, which have one priority, into a batch. `None` if there are none.
    pub fn pack(deliveries: &mut Vec<Rc<Delivery>>) -> Option<Self> {
        if deliveries.len() < 2 {
            return deliveries.pop().map(Self::One);
        }
        let mut bytes = Vec::with_capacity(deliveries.iter().map(|delivery| delivery.frame.len()).sum());
        for delivery in deliveries.iter() {
            bytes.extend_from_slice(delivery.frame.as_bytes());
        }
        Some(Self::Coalesced(Rc::new(CoalescedDeliveries {
            bytes: bytes.into(),
            deliveries: std::mem::take(deliveries),
        })))
    }

    /// The publications, in order.
    pub fn deliveries(&self) -> &[Rc<Delivery>] {
        match self {
            Self::One(delivery) => std::slice::from_ref(delivery),
            Self::Coalesced(coalesced) => coalesced.deliveries(),
        }
    }
}

impl CoalescedDeliveries {
    /// All frames in one piece.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The publications, in order: at least two.
    pub fn deliveries(&self) -> &[Rc<Delivery>] {
        &self.deliveries
    }

    /// Their priority.
    pub fn priority(&self) -> Priority {
        self.deliveries.first().map_or(Priority::Normal, |delivery| delivery.priority)
    }

    /// Whether the publications have expired. They arrived together, so all have the same age.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.deliveries.first().is_some_and(|delivery| delivery.is_expired(now))
    }
}
