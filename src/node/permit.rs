//! `Permit`: one connection that limits count, for as long as it is kept.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// One of the connections that one or two limits count; they are told apart by living.
#[derive(Debug)]
pub struct Permit {
    counter: Arc<AtomicUsize>,
    also: Option<Arc<AtomicUsize>>,
}

impl Permit {
    /// Is counted already.
    pub fn counted(counter: Arc<AtomicUsize>) -> Self {
        Self { counter, also: None }
    }

    /// Counts one more in both.
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
