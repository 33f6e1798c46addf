//! `LaneCounts`: what a lane has counted since it started. Plain cells, because only its thread uses them.

use std::cell::Cell;
use std::cell::RefCell;
use std::time::Duration;

use tidegate_protocol::class::ClassNumber;
use tidegate_protocol::moment::Moment;

use crate::lane::shard_index::ShardIndex;
use crate::metrics::histogram::Histogram;

/// The counts of one lane.
#[derive(Debug, Default)]
pub struct LaneCounts {
    /// By class.
    publications: RefCell<Vec<u64>>,
    frames: Cell<u64>,
    connects: Cell<u64>,
    slow_ends: Cell<u64>,
    round_trips: RefCell<Histogram>,
    subscriptions: Cell<usize>,
    inbox_lost: RefCell<Vec<u64>>,
}

/// How busy a feed is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedActivity {
    /// The messages since the feed began, modulo 2^32.
    pub messages: u32,
    /// When the last one arrived.
    pub last: Option<Moment>,
}

impl FeedActivity {
    /// Messages in a second, since it was as it was `elapsed` ago.
    pub fn rate_since(self, earlier: Self, elapsed: Duration) -> f64 {
        let messages = self.messages.wrapping_sub(earlier.messages);
        if elapsed.is_zero() { 0.0 } else { f64::from(messages) / elapsed.as_secs_f64() }
    }
}

/// The numbers of a lane at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneReport {
    /// Publications of NATS, by the number of their class.
    pub publications: Vec<u64>,
    /// Frames that were made of publications.
    pub frames: u64,
    /// How often both connections to NATS were up after they were not.
    pub connects: u64,
    /// How often NATS ended the connection for subscriptions because the lane read too slowly.
    pub slow_ends: u64,
    /// From a `PING` on that connection to its `PONG`.
    pub round_trips: Histogram,
    /// Subscriptions on NATS.
    pub subscriptions: u64,
    /// By shard: publications that its inbox had no room for.
    pub inbox_lost: Vec<u64>,
}

impl LaneCounts {
    /// Counts a publication of this class.
    pub fn count_publication(&self, class: ClassNumber) {
        let (mut all, class) = (self.publications.borrow_mut(), usize::from(class.0));
        if all.len() <= class {
            all.resize(class + 1, 0);
        }
        all[class] += 1;
    }

    /// Counts frames of one publication.
    pub fn count_frames(&self, frames: usize) {
        self.frames.set(self.frames.get() + frames as u64);
    }

    /// Counts that both connections to NATS are up again.
    pub fn count_connect(&self) {
        self.connects.set(self.connects.get() + 1);
    }

    /// Counts the round trip of a `PING` and its `PONG`.
    pub fn count_round_trip(&self, took: Duration) {
        self.round_trips.borrow_mut().record(took);
    }

    /// Sets how often NATS ended the connection for subscriptions because the lane read too slowly.
    pub fn set_slow_ends(&self, slow_ends: u64) {
        self.slow_ends.set(slow_ends);
    }

    /// Sets the number of subscriptions on NATS.
    pub fn set_subscriptions(&self, subscriptions: usize) {
        self.subscriptions.set(subscriptions);
    }

    /// Counts publications that the inbox of a shard had no room for.
    pub fn count_lost(&self, shard: ShardIndex, lost: u64) {
        let mut all = self.inbox_lost.borrow_mut();
        if all.len() <= shard.0 {
            all.resize(shard.0 + 1, 0);
        }
        all[shard.0] += lost;
    }

    /// The numbers of this moment.
    pub fn report(&self) -> LaneReport {
        LaneReport {
            publications: self.publications.borrow().clone(),
            frames: self.frames.get(),
            connects: self.connects.get(),
            slow_ends: self.slow_ends.get(),
            round_trips: *self.round_trips.borrow(),
            subscriptions: self.subscriptions.get() as u64,
            inbox_lost: self.inbox_lost.borrow().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_counted_between_two_samples_also_when_the_count_begins_again() {
        let sample = |messages| FeedActivity { messages, last: None };
        let elapsed = Duration::from_secs(2);
        assert!((sample(30).rate_since(sample(10), elapsed) - 10.0).abs() < 1e-9);
        assert!((sample(9).rate_since(sample(u32::MAX), elapsed) - 5.0).abs() < 1e-9);
        assert!(sample(9).rate_since(sample(1), Duration::ZERO).abs() < 1e-9);
    }

    #[test]
    fn a_report_has_what_was_counted() {
        let counts = LaneCounts::default();
        [2, 0, 2].map(ClassNumber).into_iter().for_each(|class| counts.count_publication(class));
        counts.count_frames(2);
        counts.count_frames(3);
        counts.count_connect();
        counts.count_round_trip(Duration::from_millis(2));
        counts.set_slow_ends(3);
        let mut round_trips = Histogram::default();
        round_trips.record(Duration::from_millis(2));
        counts.set_subscriptions(7);
        counts.count_lost(ShardIndex(2), 4);
        counts.count_lost(ShardIndex(0), 1);
        counts.count_lost(ShardIndex(2), 4);
        let expected = LaneReport {
            publications: vec![1, 0, 2],
            frames: 5,
            connects: 1,
            slow_ends: 3,
            round_trips,
            subscriptions: 7,
            inbox_lost: vec![1, 0, 8],
        };
        assert_eq!(counts.report(), expected);
    }
}
