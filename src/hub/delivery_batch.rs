//! Parcel: what a topic hands to an outbox at once: one publication, or a run of them that is written as one piece.

use std::rc::Rc;
use std::time::Instant;

use tidegate_protocol::publication::Delivery;

/// Consecutive publications of one topic in one format.
#[derive(Clone, Debug)]
pub enum DeliveryBatch {
    /// One alone.
    One(Rc<Delivery>),
    /// Several.
    Run(Rc<Run>),
}

/// Publications whose frames also are one behind the other in one piece: an outbox whose socket keeps up holds one
/// entry for all of them, and the kernel copies one slice. Where each counts for itself, they are taken apart.
#[derive(Debug)]
pub struct Run {
    joined: Box<[u8]>,
    deliveries: Vec<Rc<Delivery>>,
}

impl DeliveryBatch {
    /// Empties `deliveries` into a parcel. `None` if there are none.
    pub fn pack(deliveries: &mut Vec<Rc<Delivery>>) -> Option<Self> {
        if deliveries.len() < 2 {
            return deliveries.pop().map(Self::One);
        }
        let mut joined = Vec::with_capacity(deliveries.iter().map(|delivery| delivery.frame.len()).sum());
        for delivery in deliveries.iter() {
            joined.extend_from_slice(delivery.frame.as_bytes());
        }
        Some(Self::Run(Rc::new(Run { joined: joined.into(), deliveries: std::mem::take(deliveries) })))
    }

    /// The publications, in order.
    pub fn deliveries(&self) -> &[Rc<Delivery>] {
        match self {
            Self::One(delivery) => std::slice::from_ref(delivery),
            Self::Run(run) => run.deliveries(),
        }
    }
}

impl Run {
    /// All frames in one piece.
    pub fn joined(&self) -> &[u8] {
        &self.joined
    }

    /// The publications, in order: at least two.
    pub fn deliveries(&self) -> &[Rc<Delivery>] {
        &self.deliveries
    }

    /// Whether they are too old. They were received together, so one is as old as the other.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.deliveries.first().is_some_and(|delivery| delivery.is_expired(now))
    }
}
