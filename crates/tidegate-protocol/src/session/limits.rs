//! How much of something a client may do in a time.

use std::time::Duration;
use std::time::Instant;

/// A rate and how much may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units a second, in the long run; at least 1.
    pub per_second: u32,
    /// Units at once, after a pause; at least 1.
    pub burst: u32,
}

/// A token bucket in one number: when it will be full again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at: Option<Instant>,
}

impl Rate {
    /// The time in which so many units come at this rate.
    fn span(self, units: u32) -> Duration {
        Duration::from_secs(1).saturating_mul(units) / self.per_second.max(1)
    }
}

impl Bucket {
    /// Takes `units`, if the bucket holds as many.
    pub fn take(&mut self, rate: Rate, units: u32, now: Instant) -> bool {
        self.take_span(rate.span(units), rate.span(rate.burst), now)
    }

    /// Takes a unit that comes back after `interval`, if fewer than `burst` are out.
    pub(crate) fn take_slowly(&mut self, interval: Duration, burst: u32, now: Instant) -> bool {
        self.take_span(interval, interval.saturating_mul(burst), now)
    }

    /// Takes units although the bucket may be empty.
    pub fn owe(&mut self, rate: Rate, units: u32, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |full_at| full_at.max(now)) + rate.span(units));
    }

    /// When the bucket will hold a unit; `None` if it does now.
    pub(crate) fn ready_at(&self, rate: Rate, now: Instant) -> Option<Instant> {
        // Empty is a bucket that will be full after the time of its whole burst.
        let ready = self.full_at?.checked_sub(rate.span(rate.burst).saturating_sub(rate.span(1)))?;
        (ready > now).then_some(ready)
    }

    fn take_span(&mut self, span: Duration, whole: Duration, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + span;
        let fits = full_at - now <= whole;
        if fits {
            self.full_at = Some(full_at);
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
    fn a_bucket_says_when_it_holds_a_unit_again() {
        let rate = Rate { per_second: 10, burst: 2 };
        let start = Instant::now();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.ready_at(rate, start), None);
        bucket.owe(rate, 1, start);
        assert_eq!(bucket.ready_at(rate, start), None, "one of two is left");
        bucket.owe(rate, 1, start);
        let ready = start + Duration::from_millis(100);
        assert_eq!(bucket.ready_at(rate, start), Some(ready));
        assert!(!bucket.take(rate, 1, ready - Duration::from_millis(1)) && bucket.take(rate, 1, ready));
        bucket.owe(rate, 1, ready);
        assert_eq!(
            bucket.ready_at(rate, ready),
            Some(ready + Duration::from_millis(200)),
            "what is owed waits too"
        );
    }

    #[test]
    fn what_is_taken_slowly_comes_back_slowly() {
        let (interval, start) = (Duration::from_secs(10), Instant::now());
        let mut bucket = Bucket::default();
        assert!((0..3).all(|_| bucket.take_slowly(interval, 3, start)));
        assert!(!bucket.take_slowly(interval, 3, start + Duration::from_secs(9)));
        assert!(bucket.take_slowly(interval, 3, start + Duration::from_secs(10)));
    }
}
