//! `Permit`: one connection that limits count, for as long as it is kept.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// One of the connections that a limit counts; they are told apart by living.
#[derive(Debug)]
pub struct Permit {
    counters: Vec<Arc<AtomicUsize>>,
}

impl Permit {
    /// Is counted already.
    pub fn counted(counter: Arc<AtomicUsize>) -> Self {
        Self { counters: vec![counter] }
    }

    /// Counts one more in each.
    pub fn new(counters: Vec<Arc<AtomicUsize>>) -> Self {
        for counter in &counters {
            counter.fetch_add(1, Ordering::AcqRel);
        }
        Self { counters }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for counter in &self.counters {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
