//! `Deadlines`: the next deadline of each connection of a shard, in one queue. Distant deadlines share slots, so that
//! the thread wakes once for the heartbeats of many connections.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Notify;

use crate::hub::subscriber::ConnectionId;

/// If a deadline is handled this late, the thread was busy or stopped.
const LATE: Duration = Duration::from_millis(50);
/// A deadline that is at least this far away when it is set is rounded up to a slot.
const DISTANT: Nanos = 4_000_000_000;
/// The time from one slot to the next: how late a rounded deadline is, at most.
const SLOT: Nanos = 250_000_000;
/// In place of a deadline that does not exist.
const NEVER: Nanos = Nanos::MAX;

/// A moment, in nanoseconds after the start of the queue: half the size of an `Instant`, and enough for 584 years.
type Nanos = u64;

/// Deadlines, the earliest first. A connection may have several entries, but each moment once. An entry that comes too
/// early is harmless: the connection checks its deadlines and finds nothing to do.
#[derive(Debug)]
pub struct Deadlines {
    queue: RefCell<BTreeSet<(Nanos, ConnectionId)>>,
    earlier: Notify,
    start: Instant,
}

/// When a connection has something to do next.
#[derive(Clone, Copy, Debug, Default)]
pub struct NextDeadlines {
    /// The earliest deadline that must not be late.
    pub exact: Option<Instant>,
    /// The earliest of the other deadlines, which may be a slot late.
    pub rounded: Option<Instant>,
}

/// What a connection has in the queue.
#[derive(Debug)]
pub struct Scheduled {
    /// The earliest entry.
    earliest: Cell<Nanos>,
    /// The last deadline that was distant when it was set. It keeps its slot while it comes nearer.
    distant: Cell<Nanos>,
}

impl Default for Scheduled {
    fn default() -> Self {
        Self { earliest: Cell::new(NEVER), distant: Cell::new(NEVER) }
    }
}

impl Scheduled {
    /// Forgets the earliest entry, because the queue has returned it.
    pub fn forget_earliest(&self) {
        self.earliest.set(NEVER);
    }
}

impl Deadlines {
    /// Creates an empty queue, with slots from now on.
    pub fn new(start: Instant) -> Self {
        Self { queue: RefCell::default(), earlier: Notify::new(), start }
    }

    /// Adds the next deadline of a connection, unless the queue has an entry that is as early.
    pub fn schedule(
        &self,
        connection: ConnectionId,
        scheduled: &Scheduled,
        next: NextDeadlines,
        now: Instant,
    ) {
        let exact = next.exact.map_or(NEVER, |at| self.nanos(at));
        let rounded = next.rounded.map_or(NEVER, |at| self.round(at, scheduled, now));
        let at = exact.min(rounded);
        if at < scheduled.earliest.get() {
            scheduled.earliest.set(at);
            self.add(at, connection);
        }
    }

    /// The slot of a deadline, if it was distant when it was set; otherwise the deadline.
    fn round(&self, at: Instant, scheduled: &Scheduled, now: Instant) -> Nanos {
        let at = self.nanos(at);
        if scheduled.distant.get() != at {
            if at.saturating_sub(self.nanos(now)) < DISTANT {
                return at;
            }
            scheduled.distant.set(at);
        }
        at.checked_next_multiple_of(SLOT).unwrap_or(at)
    }

    fn nanos(&self, instant: Instant) -> Nanos {
        u64::try_from(instant.saturating_duration_since(self.start).as_nanos()).unwrap_or(NEVER)
    }

    fn add(&self, at: Nanos, connection: ConnectionId) {
        let first = self.first();
        self.queue.borrow_mut().insert((at, connection));
        if first.is_none_or(|first| at < first) {
            self.earlier.notify_one();
        }
    }

    /// When the earliest is due.
    pub fn next(&self) -> Option<Instant> {
        self.first().map(|first| self.start + Duration::from_nanos(first))
    }

    fn first(&self) -> Option<Nanos> {
        self.queue.borrow().first().map(|(first, _)| *first)
    }

    /// Waits for the next deadline and removes all that are due. If the thread was late, it first reads what has
    /// arrived in the meantime: no client is timed out for messages that the node has not read.
    pub async fn due(&self) -> Vec<ConnectionId> {
        loop {
            match self.next() {
                None => self.earlier.notified().await,
                Some(next) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(next.into()) => {
                            if next.elapsed() > LATE {
                                // The runtime polls the kernel and runs the readable connections before it continues
                                // here.
                                tokio::task::yield_now().await;
                            }
                            return self.take(Instant::now());
                        }
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    /// Removes and returns all that are due at `now`.
    pub fn take(&self, now: Instant) -> Vec<ConnectionId> {
        let now = self.nanos(now);
        let mut queue = self.queue.borrow_mut();
        let mut due = Vec::new();
        while let Some((at, _)) = queue.first()
            && *at <= now
        {
            due.extend(queue.pop_first().map(|(_, connection)| connection));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const NS: Duration = Duration::from_nanos(1);
    const DISTANT: Duration = Duration::from_secs(4);
    const SLOT: Duration = Duration::from_millis(250);
    const ID: ConnectionId = ConnectionId(7);

    /// A queue, one connection, and the time.
    struct Shard {
        deadlines: Deadlines,
        scheduled: Scheduled,
        now: Instant,
    }

    impl Shard {
        fn new() -> Self {
            let now = Instant::now();
            Self { deadlines: Deadlines::new(now), scheduled: Scheduled::default(), now }
        }

        fn schedule(&self, next: NextDeadlines) {
            self.deadlines.schedule(ID, &self.scheduled, next, self.now);
        }

        /// Schedules a deadline that may be late. Returns when it is handled.
        fn rounded(&self, at: Instant) -> Instant {
            self.scheduled.forget_earliest();
            self.schedule(NextDeadlines { exact: None, rounded: Some(at) });
            self.deadlines.start + Duration::from_nanos(self.scheduled.earliest.get())
        }

        /// The entries of the queue, as the time from its start.
        fn entries(&self) -> Vec<Duration> {
            self.deadlines.queue.borrow().iter().map(|(at, _)| Duration::from_nanos(*at)).collect()
        }
    }

    #[test]
    fn a_deadline_less_than_four_seconds_away_keeps_its_time() {
        let shard = Shard::new();
        for away in [Duration::ZERO, NS, MS, 2001 * MS, DISTANT - NS] {
            assert_eq!(shard.rounded(shard.now + away), shard.now + away, "{away:?}");
        }
    }

    #[test]
    fn a_deadline_at_least_four_seconds_away_is_rounded_up_to_the_next_slot() {
        let shard = Shard::new();
        for (away, slot) in [
            (DISTANT, DISTANT),
            (DISTANT + NS, DISTANT + SLOT),
            (DISTANT + MS, DISTANT + SLOT),
            (DISTANT + SLOT, DISTANT + SLOT),
            (DISTANT + SLOT + NS, DISTANT + 2 * SLOT),
        ] {
            assert_eq!(shard.rounded(shard.now + away), shard.now + slot, "{away:?}");
        }
    }

    #[test]
    fn a_rounded_deadline_is_never_early_and_less_than_a_slot_late() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut shard = Shard::new();
        for _ in 0..10_000 {
            shard.now += Duration::from_nanos(random.u64(..1_000_000_000));
            let at = shard.now + Duration::from_nanos(random.u64(..60_000_000_000));
            let handled = shard.rounded(at);
            assert!(handled >= at && handled < at + SLOT, "{:?}", handled - at);
        }
    }

    #[test]
    fn a_distant_deadline_keeps_its_slot_while_it_comes_nearer() {
        let mut shard = Shard::new();
        let at = shard.now + 5001 * MS;
        let slot = shard.rounded(at);
        assert_eq!(slot, shard.now + 5250 * MS);
        shard.now += 4900 * MS;
        assert_eq!(shard.rounded(at), slot);
        let nearer = at - MS;
        assert_eq!(shard.rounded(nearer), nearer, "another deadline, which was never distant");
        assert_eq!(shard.entries(), [5000 * MS, 5250 * MS]);
    }

    #[test]
    fn an_exact_deadline_keeps_its_time_however_distant_it_is() {
        let shard = Shard::new();
        let (exact, rounded) = (shard.now + 60_120 * MS, shard.now + 60_001 * MS);
        shard.schedule(NextDeadlines { exact: Some(exact), rounded: Some(rounded) });
        assert_eq!(shard.entries(), [60_120 * MS]);
        let earlier = exact - 120 * MS;
        shard.schedule(NextDeadlines { exact: Some(earlier), rounded: None });
        assert_eq!(shard.entries(), [60_000 * MS, 60_120 * MS]);
        shard.schedule(NextDeadlines { exact: Some(exact), rounded: None });
        shard.schedule(NextDeadlines::default());
        assert_eq!(shard.entries(), [60_000 * MS, 60_120 * MS], "later deadlines add nothing");
    }

    #[test]
    fn deadlines_of_many_connections_share_slots() {
        let shard = Shard::new();
        for id in 0..1000_u32 {
            let next = NextDeadlines { exact: None, rounded: Some(shard.now + 10_000 * MS + MS * id) };
            shard.deadlines.schedule(ConnectionId(id as usize), &Scheduled::default(), next, shard.now);
        }
        let mut instants = shard.entries();
        assert_eq!(instants.len(), 1000);
        instants.dedup();
        assert_eq!(instants, [10_000 * MS, 10_250 * MS, 10_500 * MS, 10_750 * MS, 11_000 * MS]);
    }

    #[test]
    fn earlier_deadlines_leave_no_copies_of_a_later_one() {
        let mut shard = Shard::new();
        let ping = shard.now + 30_000 * MS;
        shard.schedule(NextDeadlines { exact: None, rounded: Some(ping) });
        for _ in 0..100 {
            let flush = shard.now + 10 * MS;
            shard.schedule(NextDeadlines { exact: Some(flush), rounded: Some(ping) });
            shard.now = flush;
            assert_eq!(shard.deadlines.take(shard.now), [ID]);
            shard.scheduled.forget_earliest();
            shard.schedule(NextDeadlines { exact: None, rounded: Some(ping) });
        }
        assert_eq!(shard.entries(), [30_000 * MS]);
    }
}
