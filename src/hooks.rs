//! Hooks: where this package's own tests hold a node up, cause faults in it, and count what it does. Without the feature
//! `test-hooks` a [`Hooks`] has no size and does nothing, so whoever has one need not know of the feature.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

/// Whether there are hooks.
pub const ARE_ON: bool = cfg!(feature = "test-hooks");

/// Panics where a test asks for it: if the bytes contain the words. Without the feature nothing is left of it, and the
/// bytes are not even looked for.
macro_rules! fault_point {
    ($words:literal, $bytes:expr) => {
        if $crate::hooks::ARE_ON {
            $crate::hooks::panic_on($bytes, $words);
        }
    };
}
pub(crate) use fault_point;

/// What each part of a node holds of the [`Faults`] of its test. The default is a node without any.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    #[cfg(feature = "test-hooks")]
    faults: std::sync::Arc<Faults>,
}

const _: () = assert!(ARE_ON || size_of::<Hooks>() == 0, "without the feature nothing of the hooks is left");

/// The places of one node where a test can hold work up, and what it can see there.
#[derive(Debug, Default)]
pub struct Faults {
    /// Who reads NATS subscriptions, by lane.
    pub reader: Barrier,
    /// Feeds whose subscriptions are there, by lane: what they wait for is not read yet.
    pub opening: Barrier,
    /// Who empties inboxes, by shard.
    pub pump: Barrier,
    /// How many subscriptions have joined.
    pub joined: AtomicU64,
    /// How many messages were deflated, whether it paid or not.
    pub deflated: AtomicU64,
    /// How far the time of day is ahead of the system's, in seconds.
    pub ahead_s: AtomicU64,
    /// Whether every subscription is kept held.
    pub hold: bool,
    /// The stack of each shard's thread, in bytes, to prove that nothing needs much.
    pub stack: Option<usize>,
}

impl Hooks {
    /// The faults, if there are hooks.
    fn faults(&self) -> Option<&Faults> {
        #[cfg(feature = "test-hooks")]
        return Some(&self.faults);
        #[cfg(not(feature = "test-hooks"))]
        None
    }

    /// Waits while the reader of this lane's subscriptions is held up.
    pub async fn pass_reader(&self, thread: usize) {
        if let Some(faults) = self.faults() {
            faults.reader.pass(thread).await;
        }
    }

    /// Whether the reader of this lane's subscriptions is held up.
    pub fn is_reader_held_up(&self, thread: usize) -> bool {
        self.faults().is_some_and(|faults| faults.reader.is_closed(thread))
    }

    /// Whether something is to be read before feeds of this lane open.
    pub fn is_opening_held_up(&self, thread: usize) -> bool {
        self.faults().is_some_and(|faults| faults.opening.is_closed(thread))
    }

    /// Waits until it is read.
    pub async fn pass_opening(&self, thread: usize) {
        if let Some(faults) = self.faults() {
            faults.opening.pass(thread).await;
        }
    }

    /// Waits while whoever empties the inbox of this shard is held up.
    pub async fn pass_pump(&self, thread: usize) {
        if let Some(faults) = self.faults() {
            faults.pump.pass(thread).await;
        }
    }

    /// Counts subscriptions that have joined.
    pub fn count_joined(&self, joined: usize) {
        if let Some(faults) = self.faults() {
            faults.joined.fetch_add(joined as u64, Ordering::SeqCst);
        }
    }

    /// Counts a message that is deflated.
    pub fn count_deflated(&self) {
        if let Some(faults) = self.faults() {
            faults.deflated.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The time of day, where the system's clock says this.
    pub fn wall(&self, system: SystemTime) -> SystemTime {
        let ahead = self.faults().map(|faults| Duration::from_secs(faults.ahead_s.load(Ordering::SeqCst)));
        system + ahead.unwrap_or_default()
    }

    /// Whether every subscription is kept held, to prove that no one can tell.
    pub fn hold(&self) -> bool {
        self.faults().is_some_and(|faults| faults.hold)
    }

    /// The stack of each shard's thread, in bytes, if it is not the usual one.
    pub fn stack(&self) -> Option<usize> {
        self.faults()?.stack
    }
}

#[cfg(feature = "test-hooks")]
impl From<std::sync::Arc<Faults>> for Hooks {
    fn from(faults: std::sync::Arc<Faults>) -> Self {
        Self { faults }
    }
}

/// A place where work can be held up, for each thread on its own.
#[derive(Debug, Default)]
pub struct Barrier {
    closed: AtomicU64,
}

impl Barrier {
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
