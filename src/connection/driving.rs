//! Driving: what a connection's task waits for, and what it does then.

use std::rc::Rc;
use std::task::Context as TaskContext;
use std::task::Poll;
use std::time::Instant;

use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::session::Input;

use crate::connection::Connection;
use crate::connection::Stage;

/// What only this connection's socket can cause.
pub(super) enum Ready {
    Readable,
    Writable,
    /// Another socket of its user has taken its place.
    Replaced,
    Closed,
}

impl Connection {
    /// Greets, and takes what came behind the handshake.
    pub(super) fn begin(self: &Rc<Self>) {
        let now = Instant::now();
        self.unscheduled.set(true);
        self.guarded(|| self.perform_all(now));
        self.read_first(now);
        self.flush(now);
    }

    /// Waits for what only this connection's socket can cause.
    pub(super) fn poll_ready(&self, context: &mut TaskContext<'_>) -> Poll<Ready> {
        if self.stage.get() == Stage::Closed {
            return Poll::Ready(Ready::Closed);
        }
        let known = self.waker.borrow().as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if !known {
            *self.waker.borrow_mut() = Some(context.waker().clone());
        }
        if self.guard.poll_replaced(context) {
            return Poll::Ready(Ready::Replaced);
        }
        if self.blocked_since.get().is_some() && self.transport.poll_writable(context).is_ready() {
            return Poll::Ready(Ready::Writable);
        }
        if self.is_holding() {
            return Poll::Pending;
        }
        self.transport.poll_readable(context).map(|()| Ready::Readable)
    }

    /// Does what its socket asks for. False when it is over.
    pub(super) fn go_on(self: &Rc<Self>, ready: Ready) -> bool {
        match ready {
            Ready::Readable => {
                let now = Instant::now();
                self.read(now);
                self.flush(now);
            }
            Ready::Writable => self.resume(Instant::now()),
            Ready::Replaced => self.replaced(Instant::now()),
            Ready::Closed => return false,
        }
        true
    }

    /// Over: no one sends it anything any more.
    pub(super) fn finish(&self) {
        self.leave_all();
        self.count(DeliveryCounts::dropped(self.subscriber.undecided()));
        self.log_end();
    }

    fn replaced(self: &Rc<Self>, now: Instant) {
        self.guard.release_user();
        self.apply(Input::Disconnect(Disconnect::TooManyConnections), now);
        self.flush(now);
    }
}
