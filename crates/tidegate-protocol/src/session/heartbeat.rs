//! The heartbeat: when to ping, and when to give up on a silent client.

use std::time::Duration;
use std::time::Instant;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeartbeatAction {
    Nothing,
    Ping,
    /// The client has sent nothing since the last ping.
    TimedOut,
}

/// The heartbeat of one session. Any frame from the client counts as a sign of life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    next_ping: Instant,
    pong_deadline: Option<Instant>,
}

impl Heartbeat {
    /// Creates a heartbeat. `seed` spreads the first pings of many sessions over the second half of the interval.
    pub(super) fn new(interval: Duration, seed: u32, now: Instant) -> Self {
        let spread = interval.mul_f64(0.5 + f64::from(seed % 1000) / 2000.0);
        Self { next_ping: now + spread, pong_deadline: None }
    }

    /// The client has sent something.
    pub(super) fn alive(&mut self) {
        self.pong_deadline = None;
    }

    pub(super) fn poll(&mut self, interval: Duration, timeout: Duration, now: Instant) -> HeartbeatAction {
        if self.pong_deadline.is_some_and(|pong_deadline| now >= pong_deadline) {
            return HeartbeatAction::TimedOut;
        }
        if now < self.next_ping {
            return HeartbeatAction::Nothing;
        }
        self.next_ping = now + interval;
        if self.pong_deadline.is_none() {
            self.pong_deadline = Some(now + timeout);
        }
        HeartbeatAction::Ping
    }

    /// When to call `poll` again.
    pub(super) fn deadline(&self) -> Instant {
        self.pong_deadline.map_or(self.next_ping, |pong_deadline| pong_deadline.min(self.next_ping))
    }
}
