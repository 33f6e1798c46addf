//! Rate limits.

use std::time::Duration;
use std::time::Instant;

use crate::moment::Moment;

/// A join counts as one more command per this many last values that are read for it.
pub const VALUES_PER_COMMAND: usize = 64;

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units per second in the long run; at least 1.
    pub per_second: u32,
    /// Units at once after a pause; at least 1.
    pub burst: u32,
}

/// A token bucket, stored as the time when it will be full (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at: Option<Moment>,
}

impl Rate {
    /// The time in which this rate yields `units`.
    fn span(self, units: u32) -> Duration {
        Duration::from_secs(1).saturating_mul(units) / self.per_second.max(1)
    }
}

impl Bucket {
    /// Takes `units` if the bucket has that many; returns whether it did.
    pub fn take(&mut self, rate: Rate, units: u32, now: Instant) -> bool {
        self.take_span(rate.span(units), rate.span(rate.burst), now)
    }

    /// Takes one unit, which comes back after `interval`, if fewer than `burst` are out.
    pub(crate) fn take_with_interval(&mut self, interval: Duration, burst: u32, now: Instant) -> bool {
        self.take_span(interval, interval.saturating_mul(burst), now)
    }

    /// Takes `units` even if the bucket is empty.
    pub fn overdraw(&mut self, rate: Rate, units: u32, now: Instant) {
        self.full_at = Some((self.full_at(now) + rate.span(units)).into());
    }

    fn full_at(&self, now: Instant) -> Instant {
        self.full_at.map_or(now, |full_at| now.max(full_at.into()))
    }

    /// When the bucket will have a unit; `None` if it has one now.
    pub(crate) fn ready_at(&self, rate: Rate, now: Instant) -> Option<Instant> {
        // An empty bucket is full again after the time of a whole burst.
        let ready =
            Instant::from(self.full_at?).checked_sub(rate.span(rate.burst).saturating_sub(rate.span(1)))?;
        (ready > now).then_some(ready)
    }

    fn take_span(&mut self, span: Duration, whole: Duration, now: Instant) -> bool {
        let full_at = self.full_at(now) + span;
        let fits = full_at - now <= whole;
        if fits {
            self.full_at = Some(full_at.into());
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate { per_second: 10, burst: 5 };
        let start = Instant::now();
        let mut bucket = Bucket::default();
        assert!((0..5).all(|_| bucket.take(rate, 1, start)));
        assert!(!bucket.take(rate, 1, start));
        assert!(!bucket.take(rate, 1, start + Duration::from_millis(99)));
        assert!(bucket.take(rate, 1, start + Duration::from_millis(100)));
        assert!(!bucket.take(rate, 1, start + Duration::from_millis(100)));
        assert!(bucket.take(rate, 5, start + Duration::from_secs(10)));
        assert!(!bucket.take(rate, 6, start + Duration::from_secs(100)), "never more than the burst");
    }

    #[test]
    fn a_bucket_knows_when_it_has_a_unit_again() {
        let rate = Rate { per_second: 10, burst: 2 };
        let start = Instant::now();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.ready_at(rate, start), None);
        bucket.overdraw(rate, 1, start);
        assert_eq!(bucket.ready_at(rate, start), None, "one of two is left");
        bucket.overdraw(rate, 1, start);
        let ready = start + Duration::from_millis(100);
        assert_eq!(bucket.ready_at(rate, start), Some(ready));
        assert!(!bucket.take(rate, 1, ready - Duration::from_millis(1)) && bucket.take(rate, 1, ready));
        bucket.overdraw(rate, 1, ready);
        assert_eq!(
            bucket.ready_at(rate, ready),
            Some(ready + Duration::from_millis(200)),
            "overdrawn units delay the next one"
        );
    }

    #[test]
    fn units_come_back_after_their_interval() {
        let (interval, start) = (Duration::from_secs(10), Instant::now());
        let mut bucket = Bucket::default();
        assert!((0..3).all(|_| bucket.take_with_interval(interval, 3, start)));
        assert!(!bucket.take_with_interval(interval, 3, start + Duration::from_secs(9)));
        assert!(bucket.take_with_interval(interval, 3, start + Duration::from_secs(10)));
    }
}
