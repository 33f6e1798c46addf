//! `Permit`: counts one socket or connection until it is dropped.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::node::connection_counts::CountedConnection;

/// Counts as one in one or two counters, and perhaps for an address, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    counter: Arc<AtomicUsize>,
    also: Option<Arc<AtomicUsize>>,
    /// Released with the others.
    address: Option<CountedConnection>,
}

impl Permit {
    /// A permit whose counter the caller has already incremented.
    pub fn already_counted(counter: Arc<AtomicUsize>) -> Self {
        Self { counter, also: None, address: None }
    }

    /// Also counts for an address from now on.
    pub fn count_address(&mut self, address: Option<CountedConnection>) {
        self.address = address;
    }

    /// Increments both counters.
    pub fn new(counter: Arc<AtomicUsize>, also: Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::AcqRel);
        also.fetch_add(1, Ordering::AcqRel);
        Self { counter, also: Some(also), address: None }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for counter in self.also.iter().chain([&self.counter]) {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
