//! Faults on purpose, for this package's own tests: only with the feature `test-hooks`.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

/// The places of one node where a test can hold work up.
#[derive(Debug, Default)]
pub struct Hooks {
    /// Who reads NATS subscriptions, by lane.
    pub reader: Gate,
    /// Who empties inboxes, by shard.
    pub pump: Gate,
    /// How many subscriptions have joined.
    pub joined: AtomicU64,
    /// How many messages were deflated, whether it paid or not.
    pub deflated: AtomicU64,
    /// How far the time of day is ahead of the system's, in seconds.
    pub ahead_s: AtomicU64,
}

impl Hooks {
    /// The time of day, where the system's clock says this.
    pub fn wall(&self, system: SystemTime) -> SystemTime {
        system + Duration::from_secs(self.ahead_s.load(Ordering::SeqCst))
    }
}

/// A place where work can be held up, for each thread on its own.
#[derive(Debug, Default)]
pub struct Gate {
    closed: AtomicU64,
}

impl Gate {
    /// Holds up the thread of this number, until the gate is opened.
    pub fn close(&self, thread: usize) {
        self.closed.fetch_or(1 << thread, Ordering::SeqCst);
    }

    /// Lets everybody pass.
    pub fn open(&self) {
        self.closed.store(0, Ordering::SeqCst);
    }

    /// Whether the thread of this number is held up.
    pub fn is_closed(&self, thread: usize) -> bool {
        self.closed.load(Ordering::SeqCst) & (1 << thread) != 0
    }

    /// Waits while the gate is closed for this thread.
    pub async fn pass(&self, thread: usize) {
        while self.is_closed(thread) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Panics if `bytes` contain `words`.
pub fn panic_on(bytes: &[u8], words: &str) {
    let found = bytes.windows(words.len()).any(|window| window == words.as_bytes());
    assert!(!found, "asked for by a test: {words}");
}
