//! `Hooks`: lets the tests of this package pause a node, cause faults in it, and count what it does. Without the
//! feature `test-hooks`, a [`Hooks`] has no size and does nothing, so the code that calls it needs no `cfg`.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

/// Whether the feature `test-hooks` is on.
pub const ARE_ON: bool = cfg!(feature = "test-hooks");

/// Panics if the bytes contain the words, so that a test can cause a panic here. Without the feature it expands to
/// nothing that runs, and the bytes are not evaluated.
macro_rules! fault_point {
    ($words:literal, $bytes:expr) => {
        if $crate::hooks::ARE_ON {
            $crate::hooks::panic_on($bytes, $words);
        }
    };
}
pub(crate) use fault_point;

/// Whether a test has planted this [`Bug`] on the current thread. Without the feature it is always false, and costs
/// nothing.
macro_rules! planted {
    ($bug:ident) => {
        $crate::hooks::ARE_ON && $crate::hooks::is_planted($crate::hooks::Bug::$bug)
    };
}
pub(crate) use planted;

/// A bug that a test can plant, to prove that the simulation finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The gap of an inbox that is full counts only its first publication.
    OverflowCountsTooFew,
    /// The gap of a full outbox counts only its first publication.
    DropIsSilent,
    /// A feed keeps its last values when its link is lost.
    ValuesOutliveLink,
    /// A lane whose queue is full is never told that a shard has left a channel.
    LeaveIsForgotten,
}

#[cfg(feature = "test-hooks")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug on the current thread, in place of an earlier one.
#[cfg(feature = "test-hooks")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// See [`planted`].
pub fn is_planted(bug: Bug) -> bool {
    #[cfg(feature = "test-hooks")]
    return PLANTED.get() == Some(bug);
    #[cfg(not(feature = "test-hooks"))]
    {
        let _ = bug;
        false
    }
}

/// A handle to the [`Faults`] of a test. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    #[cfg(feature = "test-hooks")]
    faults: std::sync::Arc<Faults>,
}

const _: () = assert!(ARE_ON || size_of::<Hooks>() == 0, "without the feature, hooks have no size");

/// The faults and counters of one node in a test.
#[derive(Debug, Default)]
pub struct Faults {
    /// Pauses the reader of NATS subscriptions, by lane.
    pub reader: Barrier,
    /// Delays the opening of feeds whose NATS subscription is up, by lane.
    pub opening: Barrier,
    /// Pauses the reader of the inbox, by shard.
    pub pump: Barrier,
    /// How many messages lanes have taken from NATS.
    pub taken: AtomicU64,
    /// How many subscriptions have joined.
    pub joined: AtomicU64,
    /// How many messages were compressed, including those that were sent uncompressed because they did not get smaller.
    pub deflated: AtomicU64,
    /// Seconds to add to the system clock.
    pub ahead_s: AtomicU64,
    /// Whether subscriptions stay held and never go live.
    pub hold: bool,
    /// Replaces the keyed hash that assigns patterns to lanes.
    pub hash: Option<fn(&str) -> u64>,
    /// The stack size of shard threads in bytes, to prove that little is enough.
    pub stack: Option<usize>,
}

impl Hooks {
    fn faults(&self) -> Option<&Faults> {
        #[cfg(feature = "test-hooks")]
        return Some(&self.faults);
        #[cfg(not(feature = "test-hooks"))]
        None
    }

    /// Waits while the reader of this lane is paused.
    pub async fn pass_reader(&self, thread: usize) {
        if let Some(faults) = self.faults() {
            faults.reader.pass(thread).await;
        }
    }

    /// Whether the reader of this lane is paused.
    pub fn is_reader_paused(&self, thread: usize) -> bool {
        self.faults().is_some_and(|faults| faults.reader.is_closed(thread))
    }

    /// Whether the opening of feeds of this lane is delayed.
    pub fn is_opening_delayed(&self, thread: usize) -> bool {
        self.faults().is_some_and(|faults| faults.opening.is_closed(thread))
    }

    /// Waits while the opening of feeds of this lane is delayed.
    pub async fn pass_opening(&self, thread: usize) {
        if let Some(faults) = self.faults() {
            faults.opening.pass(thread).await;
        }
    }

    /// Waits while the reader of this shard's inbox is paused.
    pub async fn pass_pump(&self, thread: usize) {
        if let Some(faults) = self.faults() {
            faults.pump.pass(thread).await;
        }
    }

    /// Counts a message that a lane has taken from NATS.
    pub fn count_taken(&self) {
        if let Some(faults) = self.faults() {
            faults.taken.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Counts subscriptions that have joined.
    pub fn count_joined(&self, joined: usize) {
        if let Some(faults) = self.faults() {
            faults.joined.fetch_add(joined as u64, Ordering::SeqCst);
        }
    }

    /// Counts a message that was compressed.
    pub fn count_deflated(&self) {
        if let Some(faults) = self.faults() {
            faults.deflated.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The time of day: the system clock plus `ahead_s`.
    pub fn wall(&self, system: SystemTime) -> SystemTime {
        let ahead = self.faults().map(|faults| Duration::from_secs(faults.ahead_s.load(Ordering::SeqCst)));
        system + ahead.unwrap_or_default()
    }

    /// Whether subscriptions stay held, to prove that clients cannot tell the difference.
    pub fn hold(&self) -> bool {
        self.faults().is_some_and(|faults| faults.hold)
    }

    /// The hash that assigns a pattern to a lane, if a test has its own.
    pub fn hash(&self, pattern: &str) -> Option<u64> {
        self.faults()?.hash.map(|hash| hash(pattern))
    }

    /// The stack size of shard threads in bytes, if it is not the default.
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

/// A place where a test can pause threads. Threads are numbered as their shards and lanes.
#[derive(Debug, Default)]
pub struct Barrier {
    closed: AtomicU64,
}

impl Barrier {
    /// Pauses a thread until [`Barrier::open`].
    pub fn close(&self, thread: usize) {
        self.closed.fetch_or(1 << thread, Ordering::SeqCst);
    }

    /// Lets all threads continue.
    pub fn open(&self) {
        self.closed.store(0, Ordering::SeqCst);
    }

    /// Whether a thread is paused.
    pub fn is_closed(&self, thread: usize) -> bool {
        self.closed.load(Ordering::SeqCst) & (1 << thread) != 0
    }

    /// Waits while a thread is paused.
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
