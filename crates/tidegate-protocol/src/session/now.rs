//! Now: the moment at which something happens, on both clocks. The core reads neither: whoever drives a session says it.

use std::time::Instant;
use std::time::SystemTime;

/// One moment, on the clock of deadlines and on that of messages and credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// On the clock that only goes forward: deadlines and rates.
    pub instant: Instant,
    /// The time of day, which may be set: messages that show it, and the ends of credentials.
    pub wall: SystemTime,
}
