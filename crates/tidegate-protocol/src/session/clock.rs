//! Clock: the time of day for messages that name it. Sessions hear of instants only; this says which time that was.

use std::cell::Cell;
use std::time::Instant;
use std::time::SystemTime;

/// One moment on both clocks; before there is one it is 1970. Whoever has the system's time sets it anew from time to time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Cell<Option<(Instant, SystemTime)>>);

impl Clock {
    /// Begins with a moment.
    pub fn new(now: Instant, time: SystemTime) -> Self {
        Self(Cell::new(Some((now, time))))
    }

    /// The system's clock may have been set since.
    pub fn set(&self, now: Instant, time: SystemTime) {
        self.0.set(Some((now, time)));
    }

    /// The time of day at an instant.
    pub fn at(&self, instant: Instant) -> SystemTime {
        let moment = self.0.get();
        moment.map_or(SystemTime::UNIX_EPOCH, |(now, time)| time + instant.saturating_duration_since(now))
    }
}
