//! `Admission`: limits the connections of a node and the rate of handshakes, and spreads the retries of rejected clients.
//!
//! When a node stops, its clients reconnect to the other nodes all at once. Without this limit, their handshakes would
//! delay publications and each other.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::session::limits::Rate;

use crate::node::atomic_rate::AtomicRate;
use crate::node::permit::Permit;

/// The longest `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The limits of one node, for all shards together.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// The most connections; 0 for no limit.
    pub connections: usize,
    /// The rate of handshakes; 0 per second for no limit.
    pub handshakes: Rate,
    /// How long a handshake may wait for its slot.
    pub wait: Duration,
}

/// The counters of one node.
#[derive(Debug)]
pub struct Admission {
    /// The most connections; 0 for no limit.
    max_connections: AtomicUsize,
    handshakes: AtomicRate,
    /// How long a handshake may wait for its slot, in nanoseconds.
    wait: AtomicU64,
    started: Instant,
    /// When the bucket of handshakes is full again, in nanoseconds since `started` (generic cell rate algorithm).
    full_at: AtomicU64,
    /// When the last rejected client may retry, in nanoseconds since `started`.
    retry_at: AtomicU64,
    connections: Arc<AtomicUsize>,
}

/// When a handshake may continue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeSlot {
    Now,
    /// After this time.
    After(Duration),
    /// Not at all. The client may retry on a new socket after this time.
    Rejected(Duration),
}

impl Admission {
    pub fn new(limits: AdmissionLimits, now: Instant) -> Self {
        Self {
            max_connections: AtomicUsize::new(limits.connections),
            handshakes: AtomicRate::new(limits.handshakes),
            wait: AtomicU64::new(nanoseconds(limits.wait)),
            started: now,
            full_at: AtomicU64::new(0),
            retry_at: AtomicU64::new(0),
            connections: Arc::default(),
        }
    }

    /// Uses other limits from now on. Connections above the new limit stay.
    pub fn change_limits(&self, limits: AdmissionLimits) {
        self.max_connections.store(limits.connections, Ordering::Relaxed);
        self.handshakes.set(limits.handshakes);
        self.wait.store(nanoseconds(limits.wait), Ordering::Relaxed);
    }

    /// Takes a connection slot, which is free again when the permit is dropped. If none is free, the error is the time
    /// after which the client may retry.
    pub fn acquire_connection(&self, now: Instant) -> Result<Permit, Duration> {
        let limit = self.max_connections.load(Ordering::Relaxed);
        let free = |taken: usize| (limit == 0 || taken < limit).then_some(taken + 1);
        if self.connections.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).is_err() {
            return Err(self.next_retry(now));
        }
        Ok(Permit::already_counted(Arc::clone(&self.connections)))
    }

    /// Takes a handshake slot. It is used up even if the handshake fails.
    pub fn acquire_handshake(&self, now: Instant) -> HandshakeSlot {
        let Rate { per_second, burst } = self.handshakes.get();
        if per_second == 0 {
            return HandshakeSlot::Now;
        }
        let now_at = self.since(now);
        let room = span(burst, per_second).saturating_add(self.wait.load(Ordering::Relaxed));
        let next = |full_at: u64| {
            let full_at = full_at.max(now_at).saturating_add(span(1, per_second));
            (full_at - now_at <= room).then_some(full_at)
        };
        match self.full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(before) => {
                let full_at = next(before).unwrap_or(now_at);
                match (full_at - now_at).saturating_sub(span(burst, per_second)) {
                    0 => HandshakeSlot::Now,
                    wait => HandshakeSlot::After(Duration::from_nanos(wait)),
                }
            }
            Err(_) => HandshakeSlot::Rejected(self.next_retry(now)),
        }
    }

    /// The time after which one more rejected client may retry. Clients are spread at the rate of handshakes, so that they
    /// do not return all at the same time.
    fn next_retry(&self, now: Instant) -> Duration {
        let now_at = self.since(now);
        let latest = now_at.saturating_add(nanoseconds(MAX_RETRY_AFTER));
        let step = span(1, self.handshakes.get().per_second.max(1));
        let next = |retry_at: u64| Some(retry_at.max(now_at).saturating_add(step).min(latest));
        let before = self.retry_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let retry_at = before.ok().and_then(next).unwrap_or(latest);
        Duration::from_nanos(retry_at - now_at)
    }

    fn since(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.started))
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

    fn after(milliseconds: u64) -> HandshakeSlot {
        HandshakeSlot::After(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_burst_is_admitted_at_once_some_wait_and_the_rest_get_a_retry_time() {
        let (admission, start) = admission(0, 10, 3, 250);
        let turns: Vec<_> = (0..7).map(|_| admission.acquire_handshake(start)).collect();
        let never = |milliseconds| HandshakeSlot::Rejected(Duration::from_millis(milliseconds));
        assert_eq!(
            turns,
            [
                HandshakeSlot::Now,
                HandshakeSlot::Now,
                HandshakeSlot::Now,
                after(100),
                after(200),
                never(100),
                never(200)
            ]
        );
        // Rejected handshakes have not lengthened the queue.
        assert_eq!(admission.acquire_handshake(start + Duration::from_millis(100)), after(200));
        assert_eq!(admission.acquire_handshake(start + Duration::from_millis(700)), HandshakeSlot::Now);
        let rested = start + Duration::from_secs(60);
        assert_eq!(
            (0..4)
                .map(|_| admission.acquire_handshake(rested))
                .filter(|turn| *turn == HandshakeSlot::Now)
                .count(),
            3
        );
    }

    #[test]
    fn without_a_rate_no_handshake_waits() {
        let (admission, start) = admission(0, 0, 1, 0);
        assert!((0..10_000).all(|_| admission.acquire_handshake(start) == HandshakeSlot::Now));
        assert!(
            (0..10_000).map(|_| admission.acquire_connection(start)).collect::<Result<Vec<_>, _>>().is_ok()
        );
    }

    #[test]
    fn retries_are_spread_over_at_most_a_minute() {
        let (admission, start) = admission(0, 100, 1, 0);
        assert_eq!(admission.acquire_handshake(start), HandshakeSlot::Now);
        let mut seconds = [0; 61];
        for _ in 0..10_000 {
            let HandshakeSlot::Rejected(wait) = admission.acquire_handshake(start) else {
                panic!("the bucket is empty")
            };
            seconds[usize::try_from(wait.as_millis().div_ceil(1000)).unwrap()] += 1;
        }
        assert_eq!((seconds[0], seconds[1], seconds[59]), (0, 100, 100));
        assert_eq!(seconds[60], 10_000 - 5900);
    }

    #[test]
    fn ex_01_a_dropped_connection_permit_is_free_again() {
        let (admission, start) = admission(2, 0, 1, 0);
        let (one, _two) =
            (admission.acquire_connection(start).unwrap(), admission.acquire_connection(start).unwrap());
        assert_eq!(
            admission.acquire_connection(start).unwrap_err(),
            Duration::from_secs(1),
            "as at one handshake a second"
        );
        drop(one);
        let _three = admission.acquire_connection(start).unwrap();
        assert!(admission.acquire_connection(start).is_err());
    }

    #[test]
    fn threads_together_get_no_more_than_the_limits() {
        let (admission, start) = admission(1000, 1, 500, 0);
        let (admission, turns, connections) = (&admission, &AtomicUsize::new(0), &AtomicUsize::new(0));
        let held: Vec<_> = std::thread::scope(|scope| {
            let threads = (0..4).map(|_| {
                scope.spawn(move || {
                    let taken =
                        (0..500).filter(|_| admission.acquire_handshake(start) == HandshakeSlot::Now).count();
                    turns.fetch_add(taken, Ordering::Relaxed);
                    let held: Vec<_> =
                        (0..500).filter_map(|_| admission.acquire_connection(start).ok()).collect();
                    connections.fetch_add(held.len(), Ordering::Relaxed);
                    held
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((turns.load(Ordering::Relaxed), connections.load(Ordering::Relaxed)), (500, 1000));
        drop(held);
    }
}
