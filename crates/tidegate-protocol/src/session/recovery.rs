//! `Recovery`: what a client that comes back has missed on a channel.

use std::sync::Arc;
use std::time::SystemTime;

use crate::gap_cause::GapCause;
use crate::position::Position;
use crate::position::SequenceRange;
use crate::publication::Delivery;

/// What a client has missed on a channel since its position.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The last values, if they replace what the client has missed, or if not all of that is there.
    pub snapshot: SharedDeliveries,
    /// The messages, in order.
    pub messages: SharedDeliveries,
    /// Why others are missing, if any are, and which, if that is known.
    pub missing: Vec<(GapCause, Option<SequenceRange>)>,
    /// Since when the channel has been silent, if that is longer than its class allows.
    pub stale: Option<SystemTime>,
    /// Where the client is before the messages.
    pub position: Option<Position>,
}

/// Messages that several clients get, each from a place on.
#[derive(Clone, Debug)]
pub struct SharedDeliveries {
    all: Arc<[Delivery]>,
    first: usize,
}

impl SharedDeliveries {
    /// Those from this place on.
    pub fn from_place(all: Arc<[Delivery]>, first: usize) -> Self {
        Self { all, first }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Delivery> {
        self.all.iter().skip(self.first)
    }

    pub fn is_empty(&self) -> bool {
        self.iter().len() == 0
    }
}

impl Default for SharedDeliveries {
    fn default() -> Self {
        Self { all: Arc::new([]), first: 0 }
    }
}

impl FromIterator<Delivery> for SharedDeliveries {
    fn from_iter<I: IntoIterator<Item = Delivery>>(deliveries: I) -> Self {
        Self { all: deliveries.into_iter().collect(), first: 0 }
    }
}
