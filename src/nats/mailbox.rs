//! Mailbox: messages that wait for whoever reads them, bounded in bytes. What has no room is dropped.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;

use tokio::sync::Notify;

use crate::nats::message::Message;

/// Bytes that may wait, and what a message counts next to its own.
const MAX_BYTES: usize = 16 * 1024 * 1024;
const MESSAGE_BYTES: usize = 64;

/// Messages for one reader on the same thread.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    messages: RefCell<VecDeque<Message>>,
    bytes: Cell<usize>,
    is_closed: Cell<bool>,
    changed: Notify,
}

impl Mailbox {
    /// Puts a copy in, so that nothing keeps the buffer that it was read into.
    pub(super) fn put(&self, message: &Message) {
        let bytes = self.bytes.get() + message.size() + MESSAGE_BYTES;
        if bytes <= MAX_BYTES {
            self.bytes.set(bytes);
            self.messages.borrow_mut().push_back(message.detached());
            self.changed.notify_one();
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.changed.notify_one();
    }

    /// The next one. `None` when nothing more will come.
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
    fn what_waits_is_bounded_in_bytes() {
        let mailbox = Mailbox::default();
        let large = Message::plain("a", &vec![b'x'; MAX_BYTES / 4]);
        (0..10).for_each(|_| mailbox.put(&large));
        assert_eq!(mailbox.messages.borrow().len(), 3);
        assert!(mailbox.take().is_some());
        mailbox.put(&large);
        assert_eq!(mailbox.messages.borrow().len(), 3, "there is room again");
        while mailbox.take().is_some() {}
        assert_eq!(mailbox.bytes.get(), 0);
    }
}
