//! `RateBuckets`: limits the rate of each key, such as a caller or an address, with a fixed amount of memory.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_protocol::session::limits::Rate;

use crate::node::atomic_rate::AtomicRate;

/// Buckets in a row. A key has one bucket in each of two rows and is rejected only if both are empty. Two keys hardly
/// ever share both, so a fixed table is enough: nothing is stored for each key.
const ROW: usize = 16 * 1024;
const ROWS: usize = 2;

/// The buckets of all keys. A key is a keyed hash. Times are nanoseconds since any fixed instant.
#[derive(Debug)]
pub(super) struct RateBuckets {
    rate: AtomicRate,
    /// When each bucket is full again (generic cell rate algorithm).
    full_at: Box<[AtomicU64]>,
}

impl RateBuckets {
    /// Every key has this rate; 0 per second for no limit.
    pub(super) fn new(rate: Rate) -> Self {
        let count = if rate.per_second == 0 { 0 } else { ROWS * ROW };
        Self { rate: AtomicRate::new(rate), full_at: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Changes the rate of every key. Does nothing if there is no limit, or none in `rate`.
    pub(super) fn change_rate(&self, rate: Rate) {
        if rate.per_second > 0 {
            self.rate.set(rate);
        }
    }

    /// Takes `units`, or returns the time until there are as many.
    pub(super) fn take(&self, id: u64, units: u32, now: u64) -> Result<(), Duration> {
        if self.full_at.is_empty() {
            return Ok(());
        }
        let rate = self.rate.get();
        let (cost, room) = (span(units.min(rate.burst), rate), span(rate.burst, rate));
        // The shorter wait of both rows counts.
        let mut wait: Option<u64> = None;
        for row in 0..ROWS {
            let next = |full_at: u64| {
                let full_at = full_at.max(now).saturating_add(cost);
                (full_at - now <= room).then_some(full_at)
            };
            let bucket = self.bucket(id, row);
            let missing = match bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
                Ok(_) => 0,
                Err(full_at) => (full_at.max(now) - now).saturating_add(cost).saturating_sub(room),
            };
            wait = Some(wait.map_or(missing, |other| other.min(missing)));
        }
        match wait {
            None | Some(0) => Ok(()),
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }

    /// Takes `units`, even if there are fewer.
    pub(super) fn overdraw(&self, id: u64, units: u32, now: u64) {
        if self.full_at.is_empty() || units == 0 {
            return;
        }
        let cost = span(units, self.rate.get());
        let next = |full_at: u64| Some(full_at.max(now).saturating_add(cost));
        for row in 0..ROWS {
            // It always succeeds.
            let _ = self.bucket(id, row).fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        }
    }

    fn bucket(&self, id: u64, row: usize) -> &AtomicU64 {
        let place = usize::try_from(id >> (32 * row)).unwrap_or_default() % ROW;
        &self.full_at[row * ROW + place]
    }
}

/// The time in which a rate yields `units`, in nanoseconds.
fn span(units: u32, rate: Rate) -> u64 {
    u64::from(units) * 1_000_000_000 / u64::from(rate.per_second.max(1))
}
