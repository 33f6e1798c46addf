//! `Histogram`: how long something took, counted in fixed steps. Plain data: its owner counts in it.

use std::ops::AddAssign;
use std::time::Duration;

/// The upper ends of the steps, in microseconds: 100 µs to 10 s.
const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// The number of steps; the last one has no upper end.
pub const STEPS: usize = BOUNDS_US.len() + 1;

/// Counts of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were in each step; the last number is of those that were longer.
    counts: [u64; STEPS],
    sum: Duration,
}

impl Histogram {
    /// Counts one duration. Returns its step.
    pub fn record(&mut self, took: Duration) -> usize {
        let step = BOUNDS_US.partition_point(|bound| Duration::from_micros(*bound) < took);
        self.counts[step] += 1;
        self.sum = self.sum.saturating_add(took);
        step
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long they took together, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    /// The upper end of each step in microseconds, and how many were in that step; for the last step, the greatest
    /// number.
    pub fn steps_in_us(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        BOUNDS_US.into_iter().chain([u64::MAX]).zip(self.counts)
    }

    /// The upper end of each step in seconds, and how many were in that step.
    pub fn steps(&self) -> Vec<(f64, u64)> {
        let seconds = |bound: &u64| Duration::from_micros(*bound).as_secs_f64();
        BOUNDS_US.iter().map(seconds).chain([f64::INFINITY]).zip(self.counts).collect()
    }
}

impl AddAssign for Histogram {
    fn add_assign(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum = self.sum.saturating_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_step_that_it_does_not_exceed() {
        let mut histogram = Histogram::default();
        for microseconds in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.record(Duration::from_micros(microseconds));
        }
        let steps = histogram.steps();
        assert_eq!(steps[..3], [(0.0001, 2), (0.00025, 1), (0.0005, 0)]);
        assert_eq!(steps[15..], [(10.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((histogram.count(), histogram.sum), (5, Duration::from_micros(20_000_202)));
        assert!((histogram.sum() - 20.000_202).abs() < 1e-9);
        let mut twice = histogram;
        twice += histogram;
        assert_eq!((twice.count(), twice.steps()[0].1), (10, 4));
    }
}
