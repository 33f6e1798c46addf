//! `Clock`: converts instants to the time of day without a system call. The shard updates it every second.

use std::cell::Cell;
use std::time::Instant;

use tidegate_protocol::session::now::Now;

/// One moment, on the monotonic clock and on the system's clock. Other moments are computed from it.
pub struct Clock(Cell<Now>);

impl Clock {
    pub fn new(moment: Now) -> Self {
        Self(Cell::new(moment))
    }

    /// Replaces the moment.
    pub fn set(&self, moment: Now) {
        self.0.set(moment);
    }

    /// Adds the time of day to an instant.
    pub fn at(&self, instant: Instant) -> Now {
        let moment = self.0.get();
        Now { instant, wall: moment.wall + instant.saturating_duration_since(moment.instant) }
    }
}
