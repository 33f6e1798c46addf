//! `FlushQueue`: the subscribers of a shard whose outboxes have changed, in one queue.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::hub::subscriber::Subscriber;

/// Connections to flush before other tasks run. Few, so that publications that arrive in the meantime reach the other
/// outboxes before those are flushed, and go out in the same writes.
pub const MIN_BATCH: usize = 8;
/// The whole queue is flushed in at most this many batches.
const MAX_BATCHES: usize = 16;

/// Subscribers in the order in which their outboxes changed. A queued outbox may receive more frames: the busier the
/// shard, the more frames go into one write.
#[derive(Debug, Default)]
pub struct FlushQueue {
    queue: RefCell<VecDeque<Rc<Subscriber>>>,
    added: Notify,
}

impl FlushQueue {
    /// Adds subscribers, each marked as changed.
    pub fn add(&self, changed: impl Iterator<Item = Rc<Subscriber>>) {
        let mut queue = self.queue.borrow_mut();
        let before = queue.len();
        queue.extend(changed);
        if before == 0 && !queue.is_empty() {
            self.added.notify_one();
        }
    }

    /// Waits until the queue is not empty.
    pub async fn wait(&self) {
        while self.is_empty() {
            self.added.notified().await;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// How many subscribers to flush before other tasks run.
    pub fn batch_size(&self) -> usize {
        let waiting = self.queue.borrow().len();
        MIN_BATCH.max(waiting.div_ceil(MAX_BATCHES)).min(waiting)
    }

    /// Removes and returns the first subscriber.
    pub fn next(&self) -> Option<Rc<Subscriber>> {
        self.queue.borrow_mut().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hub::subscriber::ConnectionId;
    use std::sync::Arc;

    use crate::hub::outbox::limits::OutboxLimits;
    use tidegate_protocol::native::Native;

    fn subscribers(count: usize) -> impl Iterator<Item = Rc<Subscriber>> {
        let limits = OutboxLimits { bytes: 1000, frames: 10 };
        (0..count).map(move |owner| Rc::new(Subscriber::new(ConnectionId(owner), Arc::new(Native), limits)))
    }

    #[tokio::test]
    async fn a_waiting_task_wakes_for_the_first_and_takes_all_in_order() {
        let queue = FlushQueue::default();
        let wait = || tokio::time::timeout(Duration::from_millis(1), queue.wait());
        assert!(wait().await.is_err());
        queue.add(subscribers(2));
        queue.add(subscribers(1));
        for owner in [0, 1, 0] {
            assert!(wait().await.is_ok());
            assert_eq!(queue.next().map(|subscriber| subscriber.owner.0), Some(owner));
        }
        assert!(wait().await.is_err());
        assert!(queue.next().is_none());
    }

    #[test]
    fn batches_are_small_and_few() {
        for (waiting, size) in [(0, 0), (3, 3), (8, 8), (100, 8), (128, 8), (129, 9), (10_000, 625)] {
            let queue = FlushQueue::default();
            queue.add(subscribers(waiting));
            assert_eq!(queue.batch_size(), size, "{waiting}");
        }
    }
}
