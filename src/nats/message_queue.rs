//! A queue of messages for one reader, bounded in bytes. Messages that do not fit are dropped.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;

use tokio::sync::Notify;

use crate::nats::message::Message;

/// The bound, and the overhead that each message counts in addition to its own size.
const MAX_BYTES: usize = 16 * 1024 * 1024;
const MESSAGE_BYTES: usize = 64;

/// Messages for one reader on the same thread.
#[derive(Debug, Default)]
pub(super) struct MessageQueue {
    messages: RefCell<VecDeque<Message>>,
    bytes: Cell<usize>,
    is_closed: Cell<bool>,
    changed: Notify,
}

impl MessageQueue {
    /// Appends a copy, so that the queue does not keep the read buffer alive. Drops the message if there is no room.
    pub(super) fn push(&self, message: &Message) {
        let bytes = self.bytes.get() + message.size() + MESSAGE_BYTES;
        if bytes <= MAX_BYTES {
            self.bytes.set(bytes);
            self.messages.borrow_mut().push_back(message.detached());
            self.changed.notify_one();
        }
    }

    /// The queue gets no more messages.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.changed.notify_one();
    }

    /// Waits for the next message. `None` once the queue is closed and empty.
    pub(super) async fn next(&self) -> Option<Message> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            if self.is_closed.get() {
                return None;
            }
            self.changed.notified().await;
        }
    }

    fn take(&self) -> Option<Message> {
        let message = self.messages.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - message.size() - MESSAGE_BYTES);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_in_bytes() {
        let queue = MessageQueue::default();
        let large = Message::plain("a", &vec![b'x'; MAX_BYTES / 4]);
        (0..10).for_each(|_| queue.push(&large));
        assert_eq!(queue.messages.borrow().len(), 3);
        assert!(queue.take().is_some());
        queue.push(&large);
        assert_eq!(queue.messages.borrow().len(), 3, "there is room again");
        while queue.take().is_some() {}
        assert_eq!(queue.bytes.get(), 0);
    }
}
