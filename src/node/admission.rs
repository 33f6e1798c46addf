//! `Admission`: which handshakes go on now, which wait a moment, and when clients that were refused come back.
//!
//! When a node ends, its clients go to the others all at once. Without this, each of their handshakes takes time from
//! the publications that are under way, and from each other.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::session::limits::Rate;

use crate::node::permit::Permit;

/// The longest time after which anybody is told to come back.
const LATEST_RETURN: Duration = Duration::from_secs(60);

/// How many handshakes a node takes, all shards together.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Upgraded sockets; 0 for no limit.
    pub connections: usize,
    /// Handshakes; 0 a second for no limit.
    pub handshakes: Rate,
    /// How long one may have to wait for its turn.
    pub wait: Duration,
}

/// The counts of one node.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    begun: Instant,
    /// When the bucket of handshakes is full again, in nanoseconds since it began (the generic cell rate algorithm).
    full_at: AtomicU64,
    /// When the last of those that were refused is to come back.
    back_at: AtomicU64,
    seats: Arc<AtomicUsize>,
}

/// When a handshake may go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// At once.
    Now,
    /// After this.
    After(Duration),
    /// Not on this connection; another one has better chances after this.
    Never(Duration),
}

impl Admission {
    /// Counts that begin with no one.
    pub fn new(limits: AdmissionLimits, now: Instant) -> Self {
        Self {
            limits,
            begun: now,
            full_at: AtomicU64::new(0),
            back_at: AtomicU64::new(0),
            seats: Arc::default(),
        }
    }

    /// A seat on the node, taken until it is dropped. If there is none: after how long to come back.
    pub fn seat(&self, now: Instant) -> Result<Permit, Duration> {
        let limit = self.limits.connections;
        let free = |taken: usize| (limit == 0 || taken < limit).then_some(taken + 1);
        if self.seats.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).is_err() {
            return Err(self.back(now));
        }
        Ok(Permit::counted(Arc::clone(&self.seats)))
    }

    /// When one more handshake may go on. Whoever is given a turn has used it, come what may.
    pub fn turn(&self, now: Instant) -> Turn {
        let Rate { per_second, burst } = self.limits.handshakes;
        if per_second == 0 {
            return Turn::Now;
        }
        let now_at = self.since(now);
        let room = span(burst, per_second).saturating_add(nanoseconds(self.limits.wait));
        let next = |full_at: u64| {
            let full_at = full_at.max(now_at).saturating_add(span(1, per_second));
            (full_at - now_at <= room).then_some(full_at)
        };
        match self.full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(before) => {
                let full_at = next(before).unwrap_or(now_at);
                match (full_at - now_at).saturating_sub(span(burst, per_second)) {
                    0 => Turn::Now,
                    wait => Turn::After(Duration::from_nanos(wait)),
                }
            }
            Err(_) => Turn::Never(self.back(now)),
        }
    }

    /// After how long one more of those that are refused is to come back: one after the other, as fast as they will be
    /// taken, and not all at the same time again.
    fn back(&self, now: Instant) -> Duration {
        let now_at = self.since(now);
        let latest = now_at.saturating_add(nanoseconds(LATEST_RETURN));
        let step = span(1, self.limits.handshakes.per_second.max(1));
        let next = |back_at: u64| Some(back_at.max(now_at).saturating_add(step).min(latest));
        let before = self.back_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let back_at = before.ok().and_then(next).unwrap_or(latest);
        Duration::from_nanos(back_at - now_at)
    }

    fn since(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.begun))
    }
}

fn span(units: u32, per_second: u32) -> u64 {
    u64::from(units) * 1_000_000_000 / u64::from(per_second)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, per_second: u32, burst: u32, wait_ms: u64) -> (Admission, Instant) {
        let start = Instant::now();
        let handshakes = Rate { per_second, burst };
        let limits = AdmissionLimits { connections, handshakes, wait: Duration::from_millis(wait_ms) };
        (Admission::new(limits, start), start)
    }

    fn after(milliseconds: u64) -> Turn {
        Turn::After(Duration::from_millis(milliseconds))
    }

    #[test]
    fn the_burst_goes_at_once_the_next_wait_in_a_row_and_the_rest_is_told_when_to_return() {
        let (admission, start) = admission(0, 10, 3, 250);
        let turns: Vec<_> = (0..7).map(|_| admission.turn(start)).collect();
        let never = |milliseconds| Turn::Never(Duration::from_millis(milliseconds));
        assert_eq!(turns, [Turn::Now, Turn::Now, Turn::Now, after(100), after(200), never(100), never(200)]);
        // Whoever was refused has not lengthened the queue.
        assert_eq!(admission.turn(start + Duration::from_millis(100)), after(200));
        assert_eq!(admission.turn(start + Duration::from_millis(700)), Turn::Now);
        let rested = start + Duration::from_secs(60);
        assert_eq!((0..4).map(|_| admission.turn(rested)).filter(|turn| *turn == Turn::Now).count(), 3);
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let (admission, start) = admission(0, 0, 1, 0);
        assert!((0..10_000).all(|_| admission.turn(start) == Turn::Now));
        assert!((0..10_000).map(|_| admission.seat(start)).collect::<Result<Vec<_>, _>>().is_ok());
    }

    #[test]
    fn those_that_are_refused_are_spread_and_nobody_for_longer_than_a_minute() {
        let (admission, start) = admission(0, 100, 1, 0);
        assert_eq!(admission.turn(start), Turn::Now);
        let mut seconds = [0; 61];
        for _ in 0..10_000 {
            let Turn::Never(wait) = admission.turn(start) else { panic!("the bucket is empty") };
            seconds[usize::try_from(wait.as_millis().div_ceil(1000)).unwrap()] += 1;
        }
        assert_eq!((seconds[0], seconds[1], seconds[59]), (0, 100, 100));
        assert_eq!(seconds[60], 10_000 - 5900);
    }

    #[test]
    fn ex_01_a_seat_is_free_again_when_it_is_left() {
        let (admission, start) = admission(2, 0, 1, 0);
        let (one, _two) = (admission.seat(start).unwrap(), admission.seat(start).unwrap());
        assert_eq!(
            admission.seat(start).unwrap_err(),
            Duration::from_secs(1),
            "as at one handshake a second"
        );
        drop(one);
        let _three = admission.seat(start).unwrap();
        assert!(admission.seat(start).is_err());
    }

    #[test]
    fn threads_together_get_no_more_than_there_is() {
        let (admission, start) = admission(1000, 1, 500, 0);
        let (admission, turns, seats) = (&admission, &AtomicUsize::new(0), &AtomicUsize::new(0));
        let held: Vec<_> = std::thread::scope(|scope| {
            let threads = (0..4).map(|_| {
                scope.spawn(move || {
                    let taken = (0..500).filter(|_| admission.turn(start) == Turn::Now).count();
                    turns.fetch_add(taken, Ordering::Relaxed);
                    let held: Vec<_> = (0..500).filter_map(|_| admission.seat(start).ok()).collect();
                    seats.fetch_add(held.len(), Ordering::Relaxed);
                    held
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((turns.load(Ordering::Relaxed), seats.load(Ordering::Relaxed)), (500, 1000));
        drop(held);
    }
}
