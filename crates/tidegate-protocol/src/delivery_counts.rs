//! Counts of delivered and dropped publications.

use std::ops::AddAssign;
use std::ops::SubAssign;

use serde::Deserialize;
use serde::Serialize;

/// Publications, counted once per client. Not counted: publications that a newer one of their key replaced, as their
/// class intends, and last values, which are replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryCounts {
    /// Written to the client's socket.
    pub delivered: u64,
    /// Dropped: announced by gaps, if they could be counted, or still pending when a connection ended.
    pub dropped: u64,
}

impl DeliveryCounts {
    /// Counts of dropped publications only.
    pub fn dropped(dropped: u64) -> Self {
        Self { delivered: 0, dropped }
    }
}

impl AddAssign for DeliveryCounts {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.dropped += other.dropped;
    }
}

impl SubAssign for DeliveryCounts {
    fn sub_assign(&mut self, other: Self) {
        self.delivered -= other.delivered;
        self.dropped -= other.dropped;
    }
}
