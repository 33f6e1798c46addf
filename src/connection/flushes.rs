//! Flushes: the subscribers of a shard whose outboxes have changed, in one queue.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::hub::subscriber::Subscriber;

/// Connections that are flushed before something else has its turn: few, so that what comes in meanwhile is published
/// before the others are flushed, and goes with the same writes.
const TURN: usize = 8;
/// However many there are, all have been flushed after so many turns.
const TURNS: usize = 16;

/// Subscribers in the order in which their outboxes changed. Until its turn comes an outbox may gather more: the busier a shard, the
/// more goes into one write.
#[derive(Debug, Default)]
pub struct Flushes {
    queue: RefCell<VecDeque<Rc<Subscriber>>>,
    added: Notify,
}

impl Flushes {
    /// Adds subscribers that were marked as changed.
    pub fn add(&self, changed: impl Iterator<Item = Rc<Subscriber>>) {
        let mut queue = self.queue.borrow_mut();
        let before = queue.len();
        queue.extend(changed);
        if before == 0 && !queue.is_empty() {
            self.added.notify_one();
        }
    }

    /// Waits until there is one.
    pub async fn some(&self) {
        while self.is_empty() {
            self.added.notified().await;
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// How many are to be flushed before something else has its turn.
    pub fn turn(&self) -> usize {
        let waiting = self.queue.borrow().len();
        TURN.max(waiting.div_ceil(TURNS)).min(waiting)
    }

    /// Takes the first one out.
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
    async fn whoever_waits_hears_of_the_first_and_takes_them_in_order() {
        let flushes = Flushes::default();
        let wait = || tokio::time::timeout(Duration::from_millis(1), flushes.some());
        assert!(wait().await.is_err());
        flushes.add(subscribers(2));
        flushes.add(subscribers(1));
        for owner in [0, 1, 0] {
            assert!(wait().await.is_ok());
            assert_eq!(flushes.next().map(|subscriber| subscriber.owner.0), Some(owner));
        }
        assert!(wait().await.is_err());
        assert!(flushes.next().is_none());
    }

    #[test]
    fn a_turn_is_short_and_all_turns_are_few() {
        for (waiting, turn) in [(0, 0), (3, 3), (8, 8), (100, 8), (128, 8), (129, 9), (10_000, 625)] {
            let flushes = Flushes::default();
            flushes.add(subscribers(waiting));
            assert_eq!(flushes.turn(), turn, "{waiting}");
        }
    }
}
