//! The event loop of a connection's task: the events that it waits for, and how it handles them.

use std::rc::Rc;
use std::task::Context as TaskContext;
use std::task::Poll;
use std::time::Instant;

use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::session::Input;

use crate::connection::Connection;
use crate::connection::Stage;

/// An event that wakes the task of a connection.
pub(super) enum Ready {
    Readable,
    Writable,
    /// A newer connection of the same user has replaced this one, which ends for this reason.
    Replaced(Disconnect),
    Closed,
}

impl Connection {
    /// Sends the greeting, and processes the bytes that arrived with the handshake.
    pub(super) fn begin(self: &Rc<Self>, now: Instant) {
        self.needs_scheduling.set(true);
        self.catch_panics(|| self.perform_all(now));
        // A revocation may have come since the handshake.
        self.check_revocations(now);
        self.read_initial_input(now);
        self.flush(now);
    }

    /// Polls for the next event.
    pub(super) fn poll_ready(&self, context: &mut TaskContext<'_>) -> Poll<Ready> {
        if self.stage.get() == Stage::Closed {
            return Poll::Ready(Ready::Closed);
        }
        let is_known = self.waker.borrow().as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if !is_known {
            *self.waker.borrow_mut() = Some(context.waker().clone());
        }
        if let Some(disconnect) = self.guard.poll_replaced(context) {
            return Poll::Ready(Ready::Replaced(disconnect));
        }
        if self.blocked_since.get().is_some() && self.transport.poll_writable(context).is_ready() {
            return Poll::Ready(Ready::Writable);
        }
        if self.has_pending_input() {
            return Poll::Pending;
        }
        self.transport.poll_readable(context).map(|()| Ready::Readable)
    }

    /// Handles an event. Returns false if the connection has ended.
    pub(super) fn on_ready(self: &Rc<Self>, ready: Ready, now: Instant) -> bool {
        match ready {
            Ready::Readable => {
                self.read(now);
                self.flush(now);
            }
            Ready::Writable => self.resume(now),
            Ready::Replaced(disconnect) => self.replaced(disconnect, now),
            Ready::Closed => return false,
        }
        true
    }

    /// Releases and logs a connection that has ended.
    pub(super) fn finish(&self) {
        self.leave_all();
        self.count_ended(self.subscriber.queued_publications());
        self.count_end();
        self.log_end();
        self.log_context
            .take_client_name()
            .into_iter()
            .for_each(|name| self.context.client_names.release(name));
    }

    fn replaced(self: &Rc<Self>, disconnect: Disconnect, now: Instant) {
        self.guard.release_user();
        self.apply(Input::Disconnect(disconnect), now);
        self.flush(now);
    }
}
