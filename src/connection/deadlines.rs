//! `Deadlines`: the next deadline of each connection of a shard, in one queue.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Notify;

use crate::hub::subscriber::ConnectionId;

/// If a deadline is handled this late, the thread was busy or stopped.
const LATE: Duration = Duration::from_millis(50);

/// Deadlines, the earliest first. A connection may have several entries. An entry that comes too early is harmless: the
/// connection checks its deadlines and finds nothing to do.
#[derive(Debug, Default)]
pub struct Deadlines {
    queue: RefCell<BinaryHeap<Reverse<(Instant, ConnectionId)>>>,
    earlier: Notify,
}

impl Deadlines {
    pub fn add(&self, at: Instant, connection: ConnectionId) {
        let first = self.queue.borrow().peek().map(|Reverse((first, _))| *first);
        self.queue.borrow_mut().push(Reverse((at, connection)));
        if first.is_none_or(|first| at < first) {
            self.earlier.notify_one();
        }
    }

    /// Waits for the next deadline and removes all that are due. If the thread was late, it first reads what has
    /// arrived in the meantime: no client is timed out for messages that the node has not read.
    pub async fn due(&self) -> Vec<ConnectionId> {
        loop {
            let next = self.queue.borrow().peek().map(|Reverse((next, _))| *next);
            match next {
                None => self.earlier.notified().await,
                Some(next) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(next.into()) => {
                            if next.elapsed() > LATE {
                                // The runtime polls the kernel and runs the readable connections before it continues
                                // here.
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
