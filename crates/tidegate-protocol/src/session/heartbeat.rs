//! The heartbeat: when to ping, and when to give up on a silent client.

use std::time::Duration;
use std::time::Instant;

use crate::moment::Moment;

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
    next_ping: Moment,
    pong_deadline: Option<Moment>,
}

impl Heartbeat {
    /// Creates a heartbeat. The first pings of many sessions are spread evenly over the second half of the interval, by
    /// the sessions' ids.
    pub(super) fn new(interval: Duration, session: &str, now: Instant) -> Self {
        let spread = interval.mul_f64(0.5 + fraction(session) / 2.0);
        Self { next_ping: (now + spread).into(), pong_deadline: None }
    }

    /// The client has sent something.
    pub(super) fn alive(&mut self) {
        self.pong_deadline = None;
    }

    /// When the oldest ping was sent that the client has not answered, by the same timeout.
    pub(super) fn unanswered_ping(&self, timeout: Duration) -> Option<Instant> {
        Instant::from(self.pong_deadline?).checked_sub(timeout)
    }

    pub(super) fn poll(&mut self, interval: Duration, timeout: Duration, now: Instant) -> HeartbeatAction {
        let at = Moment::from(now);
        if self.pong_deadline.is_some_and(|pong_deadline| at >= pong_deadline) {
            return HeartbeatAction::TimedOut;
        }
        if at < self.next_ping {
            return HeartbeatAction::Nothing;
        }
        // Late pings keep to their times: otherwise, all that wait while the thread is busy would stay together.
        let late =
            now.saturating_duration_since(self.next_ping.into()).as_nanos() % interval.as_nanos().max(1);
        let late = Duration::from_nanos(u64::try_from(late).unwrap_or_default());
        self.next_ping = (now + interval - late).into();
        if self.pong_deadline.is_none() {
            self.pong_deadline = Some((now + timeout).into());
        }
        HeartbeatAction::Ping
    }

    /// When to call `poll` again.
    pub(super) fn deadline(&self) -> Instant {
        self.pong_deadline.map_or(self.next_ping, |pong_deadline| pong_deadline.min(self.next_ping)).into()
    }
}

/// Maps the id of a session to a number from 0 to 1. Multiples of the fraction of √3 are spread evenly, so ids that are
/// numbered one after the other are too.
fn fraction(session: &str) -> f64 {
    let sum = session.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    f64::from(sum.wrapping_mul(0xbb67_ae85)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    /// A heartbeat every 25 s that is answered, after its first ping at the returned time.
    fn beating() -> (Heartbeat, Instant) {
        let mut heartbeat = Heartbeat::new(25 * S, "50fde92a-0-0", Instant::now());
        let first = heartbeat.deadline();
        assert_eq!(heartbeat.poll(25 * S, 10 * S, first), HeartbeatAction::Ping);
        heartbeat.alive();
        (heartbeat, first)
    }

    #[test]
    fn first_pings_are_spread_evenly_over_the_second_half_of_the_interval() {
        let now = Instant::now();
        for prefix in ["50fde92a-0-", "00000000-f-"] {
            // Sessions by quarter of a second: 1000 in 50 quarters.
            let mut quarters = [0; 50];
            for number in 0..1000 {
                let first = Heartbeat::new(25 * S, &format!("{prefix}{number:x}"), now).deadline() - now;
                let into = first.checked_sub(12_500 * MS).expect("not in the first half");
                quarters[usize::try_from(into.as_millis() / 250).unwrap().min(49)] += 1;
            }
            assert!(quarters.iter().all(|sessions| (8..=32).contains(sessions)), "{quarters:?}");
        }
    }

    #[test]
    fn a_ping_that_is_late_does_not_delay_the_next() {
        for (late, next) in [
            (Duration::ZERO, 50 * S),
            (250 * MS, 50 * S),
            (25 * S - MS, 50 * S),
            (25 * S, 75 * S),
            (110 * S, 150 * S),
        ] {
            let (mut heartbeat, first) = beating();
            let at = first + 25 * S + late;
            assert_eq!(heartbeat.poll(25 * S, 10 * S, at), HeartbeatAction::Ping);
            assert_eq!(
                heartbeat.poll(25 * S, 10 * S, at),
                HeartbeatAction::Nothing,
                "one ping, {late:?} late"
            );
            heartbeat.alive();
            assert_eq!(heartbeat.deadline(), first + next, "{late:?} late");
        }
    }

    #[test]
    fn the_time_for_an_answer_counts_from_a_late_ping() {
        let (mut heartbeat, first) = beating();
        let at = first + 26 * S;
        assert_eq!(heartbeat.poll(25 * S, 10 * S, at), HeartbeatAction::Ping);
        assert_eq!(heartbeat.poll(25 * S, 10 * S, at + 10 * S - MS), HeartbeatAction::Nothing);
        assert_eq!(heartbeat.poll(25 * S, 10 * S, at + 10 * S), HeartbeatAction::TimedOut);
    }
}
