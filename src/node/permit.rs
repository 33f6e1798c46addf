//! `Permit`: counts one socket or connection until it is dropped.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Counts as one in one or two counters until it is dropped.
#[derive(Debug)]
pub struct Permit {
    counter: Arc<AtomicUsize>,
    also: Option<Arc<AtomicUsize>>,
}

impl Permit {
    /// A permit whose counter the caller has already incremented.
    pub fn already_counted(counter: Arc<AtomicUsize>) -> Self {
        Self { counter, also: None }
    }

    /// Increments both counters.
    pub fn new(counter: Arc<AtomicUsize>, also: Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::AcqRel);
        also.fetch_add(1, Ordering::AcqRel);
        Self { counter, also: Some(also) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for counter in self.also.iter().chain([&self.counter]) {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
