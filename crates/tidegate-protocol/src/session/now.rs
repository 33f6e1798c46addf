//! The current time, on both clocks. The core reads no clock: its caller passes the time.

use std::time::Instant;
use std::time::SystemTime;

/// One moment, on the monotonic clock and on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock, for deadlines and rates.
    pub instant: Instant,
    /// The wall clock, which may jump: for times in messages and the expiry of credentials.
    pub wall: SystemTime,
}
