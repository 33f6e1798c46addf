//! The next deadline of every connection of a shard, in one queue.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Notify;

use crate::hub::subscriber::ConnectionId;

/// A deadline that is looked at so much later says that the thread stood still.
const LATE: Duration = Duration::from_millis(50);

/// Deadlines in the order in which they come. A connection may be in it several times: what is due is asked
/// again, and finds nothing to do if it was early.
#[derive(Debug, Default)]
pub struct Deadlines {
    queue: RefCell<BinaryHeap<Reverse<(Instant, ConnectionId)>>>,
    earlier: Notify,
}

impl Deadlines {
    /// Adds a deadline.
    pub fn add(&self, at: Instant, connection: ConnectionId) {
        let first = self.queue.borrow().peek().map(|Reverse((first, _))| *first);
        self.queue.borrow_mut().push(Reverse((at, connection)));
        if first.is_none_or(|first| at < first) {
            self.earlier.notify_one();
        }
    }

    /// Waits for the next deadline and takes out all that are due by then. If this thread had no time when they were due, what
    /// came meanwhile is seen to first: no one is blamed for what the node has not looked at.
    pub async fn due(&self) -> Vec<ConnectionId> {
        loop {
            let next = self.queue.borrow().peek().map(|Reverse((next, _))| *next);
            match next {
                None => self.earlier.notified().await,
                Some(next) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(next.into()) => {
                            if next.elapsed() > LATE {
                                // The runtime asks the kernel, and wakes who has something to read, before it goes on here.
                                tokio::task::yield_now().await;
                            }
                            return self.take(Instant::now());
                        }
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    fn take(&self, now: Instant) -> Vec<ConnectionId> {
        let mut queue = self.queue.borrow_mut();
        let mut due = Vec::new();
        while let Some(Reverse((at, connection))) = queue.peek().copied()
            && at <= now
        {
            queue.pop();
            due.push(connection);
        }
        due
    }
}
