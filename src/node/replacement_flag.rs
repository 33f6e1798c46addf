//! `ReplacementFlag`: tells the task of a connection, on any thread, that another connection has taken its place.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock when a task is polled, and one when a connection is replaced; nothing is awaited under it"
)]

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Waker;

/// Raised once, when a connection is replaced.
#[derive(Debug, Default)]
pub(super) struct ReplacementFlag {
    is_raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl ReplacementFlag {
    /// Raises the flag, and wakes the task that polls it.
    pub(super) fn raise(&self) {
        self.is_raised.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Whether the flag is raised. If not, the task of `context` is woken when it is.
    pub(super) fn poll(&self, context: &Context<'_>) -> bool {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if waker.as_ref().is_none_or(|known| !known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        drop(waker);
        self.is_raised.load(Ordering::Acquire)
    }
}
