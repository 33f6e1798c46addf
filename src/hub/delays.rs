//! `Delays`: what the subscriptions of a subscriber with a `max_rate_ms` have together.

use std::cell::Cell;
use std::fmt;
use std::time::Instant;

use tidegate_protocol::class::ClassNumber;

use crate::hub::class_counts::ClassCounts;
use crate::hub::conflation::ConflationSize;

/// What the subscriptions with a `max_rate_ms` have together. One word, because most subscribers have none.
#[derive(Default)]
pub struct Delays(Cell<Option<Box<State>>>);

#[derive(Default)]
struct State {
    /// Their earliest release, so that a flush does not search all of them.
    next_release: NextRelease,
    /// The size of what they delay. The outbox may use that many bytes less.
    size: ConflationSize,
    /// Publications that newer ones have replaced, until they are counted.
    conflated: ClassCounts,
}

/// When the first delayed publication is released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextRelease {
    /// To be computed from all subscriptions.
    #[default]
    Unknown,
    /// No publication is delayed, and no key was sent within its interval.
    Never,
    At(Instant),
}

impl Delays {
    /// There is a subscription with a `max_rate_ms`.
    pub fn begin(&self) {
        self.0.set(Some(self.0.take().unwrap_or_default()));
    }

    /// There is none any more.
    pub fn end(&self) {
        self.0.set(None);
    }

    pub fn next_release(&self) -> NextRelease {
        let state = self.0.take();
        let next_release = state.as_ref().map_or(NextRelease::Never, |state| state.next_release);
        self.0.set(state);
        next_release
    }

    /// Sets the next release. Does nothing if there are no subscriptions with a `max_rate_ms`.
    pub fn set_next_release(&self, next_release: NextRelease) {
        if let Some(mut state) = self.0.take() {
            state.next_release = next_release;
            self.0.set(Some(state));
        }
    }

    /// Calls `change` with the size of what is delayed. Returns its result, and the bytes afterwards.
    pub fn with_size<T>(&self, change: impl FnOnce(&mut ConflationSize) -> T) -> (T, usize) {
        let mut state = self.0.take().unwrap_or_default();
        let result = change(&mut state.size);
        let bytes = state.size.bytes;
        self.0.set(Some(state));
        (result, bytes)
    }

    /// A newer publication of a class has replaced one that was delayed.
    pub fn count_conflated(&self, class: ClassNumber) {
        if let Some(mut state) = self.0.take() {
            state.conflated.add(class, 1);
            self.0.set(Some(state));
        }
    }

    /// Calls `count` with the publications that newer ones have replaced since the last call.
    pub fn take_conflated(&self, count: impl FnMut((ClassNumber, u64))) {
        if let Some(mut state) = self.0.take() {
            state.conflated.drain().for_each(count);
            self.0.set(Some(state));
        }
    }
}

impl fmt::Debug for Delays {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Delays").field(&self.next_release()).finish()
    }
}
