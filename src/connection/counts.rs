//! `ShardCounts`: what the connections of a shard have counted since it started. Plain cells, because only its thread uses
//! them.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::class::ClassNumber;
use tidegate_protocol::gap_cause::GapCause;

use crate::connection::outbox_levels::OutboxLevels;
use crate::lane::produced::Produced;
use crate::metrics::histogram::Histogram;
use crate::metrics::traced_histogram::TracedHistogram;

/// The most pairs of close code and reason that are counted apart. Vocabularies have codes of their own.
const MAX_ENDS: usize = 256;
/// One batch in this many is measured for the latency, and one pong for the round trip.
const SAMPLE_EVERY: u32 = 16;

/// A kind of transport, for counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    WebSocket,
    #[cfg(feature = "event-stream")]
    EventStream,
}

impl TransportKind {
    /// All of them, in the order of their declaration.
    pub const ALL: &[Self] = &[
        Self::WebSocket,
        #[cfg(feature = "event-stream")]
        Self::EventStream,
    ];
    const COUNT: usize = Self::ALL.len();

    /// The word in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            #[cfg(feature = "event-stream")]
            Self::EventStream => "sse",
        }
    }
}

/// Why a client did not get a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It is missing in a gap.
    Gap(GapCause),
    /// It is missing in a gap, which the client's vocabulary has no message for.
    Unannounced,
    /// The subscription or the connection ended first.
    Ended,
    /// A newer publication of its key has replaced it, as its class or `max_rate_ms` intends.
    Conflated,
}

impl DropReason {
    const COUNT: usize = GapCause::ALL.len() + 3;

    /// All reasons.
    pub fn all() -> impl Iterator<Item = Self> {
        GapCause::ALL.into_iter().map(Self::Gap).chain([Self::Unannounced, Self::Ended, Self::Conflated])
    }

    /// The word in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gap(cause) => cause.name(),
            Self::Unannounced => "unannounced",
            Self::Ended => "ended",
            Self::Conflated => "conflated",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Gap(cause) => cause as usize,
            Self::Unannounced => GapCause::ALL.len(),
            Self::Ended => GapCause::ALL.len() + 1,
            Self::Conflated => GapCause::ALL.len() + 2,
        }
    }
}

/// The publications that clients did not get, in the order of [`DropReason::all`].
pub type DroppedCounts = [u64; DropReason::COUNT];

/// A number that one thread counts.
#[derive(Debug, Default)]
struct PlainCounter(Cell<u64>);

impl PlainCounter {
    #[inline]
    fn add(&self, number: u64) {
        self.0.set(self.0.get() + number);
    }
}

/// The counts of one shard.
#[derive(Debug, Default)]
pub struct ShardCounts {
    opened: [PlainCounter; TransportKind::COUNT],
    ended: [PlainCounter; TransportKind::COUNT],
    closed: RefCell<BTreeMap<(u16, &'static str), u64>>,
    delivered: [PlainCounter; TransportKind::COUNT],
    /// By class.
    dropped: RefCell<Vec<DroppedCounts>>,
    gaps: [PlainCounter; GapCause::ALL.len()],
    bytes_sent: PlainCounter,
    with_gaps: Cell<u64>,
    outboxes: RefCell<OutboxLevels>,
    handshakes: RefCell<Histogram>,
    publishes: RefCell<Histogram>,
    round_trips: RefCell<Histogram>,
    latencies: RefCell<Histogram>,
    producer_latencies: RefCell<TracedHistogram>,
    /// Batches until the next sample.
    until_sample: Cell<u32>,
    /// Pongs until the next sample.
    until_pong: Cell<u32>,
    /// When the batch was read whose outboxes are being flushed, if it is a sample; and when one of its publications was
    /// produced.
    sampled: Cell<Option<(Instant, Option<Produced>)>>,
}

/// The numbers of a shard at one moment. Those of transports, reasons and causes are in the order of `ALL`.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardCountsReport {
    pub opened: [u64; TransportKind::COUNT],
    pub open: [u64; TransportKind::COUNT],
    /// By close code and reason.
    pub closed: Vec<((u16, &'static str), u64)>,
    pub delivered: [u64; TransportKind::COUNT],
    /// By the number of their class.
    pub dropped: Vec<DroppedCounts>,
    pub gaps: [u64; GapCause::ALL.len()],
    pub bytes_sent: u64,
    /// Open connections that have had a gap.
    pub with_gaps: u64,
    pub outboxes: OutboxLevels,
    pub handshakes: Histogram,
    /// From sending a client's publication to its confirmation.
    pub publishes: Histogram,
    /// From a ping to its pong.
    pub round_trips: Histogram,
    pub latencies: Histogram,
    /// From the time of a producer to the writes.
    pub producer_latencies: TracedHistogram,
}

impl ShardCounts {
    /// Counts a connection whose handshake took so long.
    pub fn count_opened(&self, transport: TransportKind, handshake: Duration) {
        self.opened[transport as usize].add(1);
        self.handshakes.borrow_mut().record(handshake);
    }

    /// Counts the end of a connection.
    pub fn count_closed(&self, transport: TransportKind, code: u16, reason: &'static str) {
        self.ended[transport as usize].add(1);
        let mut closed = self.closed.borrow_mut();
        let is_known = closed.len() < MAX_ENDS || closed.contains_key(&(code, reason));
        let end = if is_known { (code, reason) } else { (0, "other") };
        *closed.entry(end).or_default() += 1;
    }

    /// Counts publications that were written to a socket.
    #[inline]
    pub fn count_delivered(&self, transport: TransportKind, delivered: u64) {
        self.delivered[transport as usize].add(delivered);
    }

    /// Counts publications of a class that a client did not get.
    pub fn count_dropped(&self, class: ClassNumber, reason: DropReason, dropped: u64) {
        let (mut all, class) = (self.dropped.borrow_mut(), usize::from(class.0));
        if all.len() <= class {
            all.resize(class + 1, DroppedCounts::default());
        }
        all[class][reason.place()] += dropped;
    }

    /// Counts a gap of a subscription and the publications of its class that were dropped for it.
    pub fn count_gap(&self, class: ClassNumber, cause: GapCause, dropped: u64) {
        self.gaps[cause as usize].add(1);
        self.count_dropped(class, DropReason::Gap(cause), dropped);
    }

    /// Counts bytes that were written to a socket.
    #[inline]
    pub fn count_sent(&self, bytes: usize) {
        self.bytes_sent.add(bytes as u64);
    }

    /// Counts an open connection that has had its first gap.
    pub fn count_with_gap(&self) {
        self.with_gaps.update(|connections| connections + 1);
    }

    /// Counts the end of a connection that has had a gap.
    pub fn count_end_with_gap(&self) {
        self.with_gaps.update(|connections| connections - 1);
    }

    /// Notes that other bytes wait for a client.
    pub fn change_outbox(&self, before: u32, after: u32) {
        self.outboxes.borrow_mut().change(before, after);
    }

    /// Counts a publication of a client that NATS has confirmed.
    pub fn count_publish(&self, took: Duration) {
        self.publishes.borrow_mut().record(took);
    }

    /// Whether this pong is a sample of the round trips.
    #[inline]
    pub fn is_pong_sample(&self) -> bool {
        is_next(&self.until_pong)
    }

    /// Counts the round trip of a ping and its pong.
    pub fn count_round_trip(&self, took: Duration) {
        self.round_trips.borrow_mut().record(took);
    }

    /// Whether this batch is a sample of the latency.
    #[inline]
    pub fn is_sample(&self) -> bool {
        is_next(&self.until_sample)
    }

    /// Begins a sample with a batch that was read at this time, unless one is under way.
    pub fn begin_sample(&self, received: Instant, produced: Option<Produced>) {
        self.sampled.set(self.sampled.get().or(Some((received, produced))));
    }

    /// Ends the sample that is under way: all outboxes are flushed.
    #[inline]
    pub fn end_sample(&self) {
        if let Some((received, produced)) = self.sampled.take() {
            self.latencies.borrow_mut().record(received.elapsed());
            if let Some(Produced { at, trace }) = produced {
                let now = SystemTime::now();
                let took = now.duration_since(at).unwrap_or_default();
                self.producer_latencies.borrow_mut().record(took, trace, now);
            }
        }
    }

    /// A histogram of sampled batches: the upper bound of each bucket in microseconds, and how many batches it has.
    pub fn latencies(&self) -> impl Iterator<Item = (u64, u64)> {
        self.latencies.borrow().steps_in_us()
    }

    /// The numbers of this moment.
    pub fn report(&self) -> ShardCountsReport {
        let number = |counter: &PlainCounter| counter.0.get();
        let mut open = self.opened.each_ref().map(number);
        open.iter_mut().zip(&self.ended).for_each(|(open, ended)| *open -= number(ended));
        ShardCountsReport {
            opened: self.opened.each_ref().map(number),
            open,
            closed: self.closed.borrow().iter().map(|(end, count)| (*end, *count)).collect(),
            delivered: self.delivered.each_ref().map(number),
            dropped: self.dropped.borrow().clone(),
            gaps: self.gaps.each_ref().map(number),
            bytes_sent: self.bytes_sent.0.get(),
            with_gaps: self.with_gaps.get(),
            outboxes: *self.outboxes.borrow(),
            handshakes: *self.handshakes.borrow(),
            publishes: *self.publishes.borrow(),
            round_trips: *self.round_trips.borrow(),
            latencies: *self.latencies.borrow(),
            producer_latencies: *self.producer_latencies.borrow(),
        }
    }
}

/// Counts one of many, and returns whether it is a sample.
#[inline]
fn is_next(until: &Cell<u32>) -> bool {
    let left = until.get();
    until.set(left.checked_sub(1).unwrap_or(SAMPLE_EVERY - 1));
    left == 0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn connections_are_counted_by_how_they_end() {
        let counts = ShardCounts::default();
        for _ in 0..3 {
            counts.count_opened(TransportKind::WebSocket, Duration::from_millis(1));
        }
        counts.count_closed(TransportKind::WebSocket, 1000, "normal");
        counts.count_closed(TransportKind::WebSocket, 4002, "slow_consumer");
        let report = counts.report();
        assert_eq!((report.opened[0], report.open[0], report.handshakes.count()), (3, 1, 3));
        assert_eq!(report.closed, [((1000, "normal"), 1), ((4002, "slow_consumer"), 1)]);
    }

    #[test]
    fn the_number_of_close_codes_is_bounded() {
        let counts = ShardCounts::default();
        for code in 0..1000 {
            counts.count_opened(TransportKind::WebSocket, Duration::ZERO);
            counts.count_closed(TransportKind::WebSocket, 4000 + code, "by_rule");
        }
        counts.count_opened(TransportKind::WebSocket, Duration::ZERO);
        counts.count_closed(TransportKind::WebSocket, 4000, "by_rule");
        let closed = counts.report().closed;
        assert_eq!(closed.len(), MAX_ENDS + 1);
        assert_eq!(closed.iter().map(|(_, count)| count).sum::<u64>(), 1001);
        assert!(closed.contains(&((4000, "by_rule"), 2)));
    }

    #[test]
    fn each_reason_and_cause_has_its_own_counter() {
        let counts = ShardCounts::default();
        let [plain, other] = [0, 2].map(ClassNumber);
        for (number, reason) in (1..).zip(DropReason::all()) {
            counts.count_dropped(other, reason, number);
        }
        let none = DroppedCounts::default();
        let each = std::array::from_fn(|place| place as u64 + 1);
        assert_eq!(counts.report().dropped, [none, none, each]);
        let names: BTreeSet<_> = DropReason::all().map(DropReason::name).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        counts.count_gap(other, GapCause::Nats, 5);
        counts.count_gap(plain, GapCause::Nats, 7);
        let report = counts.report();
        let of_nats = [plain, other].map(|class| report.dropped[usize::from(class.0)][2]);
        assert_eq!((report.gaps, of_nats), ([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0], [7, 3 + 5]));
    }

    #[test]
    fn one_batch_in_sixteen_is_a_sample_and_it_lasts_until_all_is_flushed() {
        let counts = ShardCounts::default();
        let samples: Vec<_> = (0..40).filter(|_| counts.is_sample()).collect();
        assert_eq!(samples, [0, 16, 32]);
        let now = Instant::now();
        counts.begin_sample(now, Some(Produced { at: SystemTime::now(), trace: Some(7) }));
        counts.begin_sample(now + Duration::from_secs(60), None);
        assert_eq!(counts.report().latencies.count(), 0);
        counts.end_sample();
        counts.end_sample();
        let report = counts.report();
        assert_eq!((report.latencies.count(), report.producer_latencies.durations.count()), (1, 1));
        assert!(report.producer_latencies.examples.iter().flatten().all(|example| example.trace == 7));
    }
}
