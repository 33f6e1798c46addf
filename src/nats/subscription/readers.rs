//! Readers: who reads the subscriptions of one connection, so that all of them can be asked to come to an end.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::task::Waker;

use tokio::sync::Notify;

use crate::nats::subscription::SubscriptionKey;

/// The readers of one connection.
#[derive(Debug, Default)]
pub(super) struct Readers {
    entries: RefCell<HashMap<SubscriptionKey, Entry>>,
    /// How many have not read all that had come when they were asked.
    behind: Cell<usize>,
    caught_up: Notify,
}

#[derive(Debug)]
struct Entry {
    waker: Waker,
    behind: bool,
}

/// One reader's place among them, for as long as it reads.
#[derive(Debug)]
pub(super) struct Place {
    readers: Rc<Readers>,
    key: SubscriptionKey,
}

impl Readers {
    /// Lets the task that calls this take part.
    pub(super) async fn enter(self: &Rc<Self>, key: SubscriptionKey) -> Place {
        let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        self.entries.borrow_mut().insert(key, Entry { waker, behind: false });
        Place { readers: Rc::clone(self), key }
    }

    /// Waits until every reader has read all that has come so far.
    pub(super) async fn catch_up(&self) {
        let mut behind = 0;
        for entry in self.entries.borrow_mut().values_mut() {
            entry.behind = true;
            entry.waker.wake_by_ref();
            behind += 1;
        }
        self.behind.set(behind);
        while self.behind.get() > 0 {
            self.caught_up.notified().await;
        }
    }

    /// What they read.
    pub(super) fn keys(&self) -> Vec<SubscriptionKey> {
        self.entries.borrow().keys().copied().collect()
    }
}

impl Place {
    /// Nothing is left to read.
    pub(super) fn caught_up(&self) {
        if self.readers.behind.get() == 0 {
            return;
        }
        let mut entries = self.readers.entries.borrow_mut();
        if entries.get_mut(&self.key).is_some_and(|entry| std::mem::take(&mut entry.behind)) {
            self.readers.behind.set(self.readers.behind.get() - 1);
            self.readers.caught_up.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.caught_up();
        self.readers.entries.borrow_mut().remove(&self.key);
    }
}
