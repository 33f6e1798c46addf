//! Clock: the time of day at an instant, without asking the system each time. The shard sets it anew every second.

use std::cell::Cell;
use std::time::Instant;

use tidegate_protocol::session::now::Now;

/// One moment on both clocks; the system's may be set since.
pub struct Clock(Cell<Now>);

impl Clock {
    /// Begins with a moment.
    pub fn new(moment: Now) -> Self {
        Self(Cell::new(moment))
    }

    /// Goes on from another moment.
    pub fn set(&self, moment: Now) {
        self.0.set(moment);
    }

    /// An instant, with its time of day.
    pub fn at(&self, instant: Instant) -> Now {
        let moment = self.0.get();
        Now { instant, wall: moment.wall + instant.saturating_duration_since(moment.instant) }
    }
}
