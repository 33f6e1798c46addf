//! `TracedHistogram`: a histogram that remembers an example of each step, with the trace that it belongs to.

use std::time::Duration;
use std::time::SystemTime;

use crate::metrics::histogram::Histogram;
use crate::metrics::histogram::STEPS;

/// Counts of durations, and the latest example in each step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TracedHistogram {
    pub durations: Histogram,
    pub examples: [Option<Example>; STEPS],
}

/// A duration that was counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Example {
    /// The id of its trace.
    pub trace: u128,
    pub took: Duration,
    /// When it was counted.
    pub at: SystemTime,
}

impl TracedHistogram {
    /// Counts one duration that ended at this time. It becomes the example of its step if it belongs to a trace.
    pub fn record(&mut self, took: Duration, trace: Option<u128>, at: SystemTime) {
        let step = self.durations.record(took);
        if let Some(trace) = trace {
            self.examples[step] = Some(Example { trace, took, at });
        }
    }

    /// Adds another one. The later example of each step stays.
    pub fn merge(&mut self, other: Self) {
        self.durations += other.durations;
        for (own, other) in self.examples.iter_mut().zip(other.examples) {
            let is_later = other.is_some_and(|other| own.is_none_or(|own| other.at > own.at));
            if is_later {
                *own = other;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_latest_example_of_each_step_is_kept() {
        let (now, mut one, mut other) =
            (SystemTime::UNIX_EPOCH, TracedHistogram::default(), TracedHistogram::default());
        one.record(MS, Some(1), now);
        one.record(MS, None, now + MS);
        other.record(MS, Some(2), now + MS);
        other.record(1000 * MS, Some(3), now);
        one.merge(other);
        let traces: Vec<_> = one.examples.iter().flatten().map(|example| example.trace).collect();
        assert_eq!((one.durations.count(), traces), (4, vec![2, 3]));
    }
}
