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

impl Bucket {
    /// Takes `units`, if the bucket holds as many.
    pub fn take(&mut self, rate: Rate, units: u32, now: Instant) -> bool {
        let span = |units: u32| Duration::from_secs(1).saturating_mul(units) / rate.per_second.max(1);
        let start = self.full_at.map_or(now, |full_at| full_at.max(now));
        let full_at = start + span(units);
        let fits = full_at - now <= span(rate.burst);
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
}
