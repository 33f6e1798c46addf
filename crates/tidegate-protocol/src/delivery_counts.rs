//! Tally: how many publications were delivered, and how many were dropped.

use std::ops::AddAssign;
use std::ops::SubAssign;

use serde::Deserialize;
use serde::Serialize;

/// Publications, one for each client that was to get it. What the newest of its key has replaced counts nowhere, as its
/// class says so; nor does a last value, which answers who asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryCounts {
    /// Given to the client's socket.
    pub delivered: u64,
    /// Left out: what gaps have told of, as far as it could be counted, and what still waited when a connection ended.
    pub dropped: u64,
}

impl DeliveryCounts {
    /// So many that no client will get.
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
