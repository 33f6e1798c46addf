//! When to ping, and when a silent client is given up.

use std::time::Duration;
use std::time::Instant;

/// What the clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing is due.
    Quiet,
    /// Ping now.
    Ping,
    /// The client has not shown a sign of life after a ping.
    Dead,
}

/// The heartbeat of one session. Whatever comes from the client is a sign of life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    next_ping: Instant,
    give_up: Option<Instant>,
}

impl Heartbeat {
    /// `seed` spreads the first pings of many sessions over the second half of the interval.
    pub(super) fn new(interval: Duration, seed: u32, now: Instant) -> Self {
        let spread = interval.mul_f64(0.5 + f64::from(seed % 1000) / 2000.0);
        Self { next_ping: now + spread, give_up: None }
    }

    /// The client has said something.
    pub(super) fn alive(&mut self) {
        self.give_up = None;
    }

    /// What is due at `now`.
    pub(super) fn beat(&mut self, interval: Duration, timeout: Duration, now: Instant) -> Beat {
        if self.give_up.is_some_and(|give_up| now >= give_up) {
            return Beat::Dead;
        }
        if now < self.next_ping {
            return Beat::Quiet;
        }
        self.next_ping = now + interval;
        if self.give_up.is_none() {
            self.give_up = Some(now + timeout);
        }
        Beat::Ping
    }

    /// When to ask again.
    pub(super) fn deadline(&self) -> Instant {
        self.give_up.map_or(self.next_ping, |give_up| give_up.min(self.next_ping))
    }
}
