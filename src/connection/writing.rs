//! Writing: from the outbox to the transport, in as few writes as possible.

use std::io;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::Context as TaskContext;
use std::time::Instant;

use tidegate_protocol::class::Priority;
use tidegate_protocol::frame::Frame;
use tracing::debug;

use crate::connection::Connection;
use crate::connection::LINGER;
use crate::connection::Stage;
use crate::connection::websocket::MAX_FRAMES;
use crate::hooks::fault_point;
use crate::hub::outbox::split;

/// Frames and bytes that one write takes out of the outbox. There may be one frame more, a gap of what was too old.
const WRITE_FRAMES: usize = MAX_FRAMES - 1;
const WRITE_BYTES: usize = 256 * 1024;

impl Connection {
    /// Writes what the outbox holds, as far as the socket takes it, in as few writes as possible. While the socket
    /// takes nothing it is not even asked: what waits goes when it has room again.
    pub fn flush(self: &Rc<Self>, now: Instant) {
        self.subscriber.clear_changed();
        self.flush_due.set(None);
        if self.blocked_since.get().is_none() {
            self.write_all(now);
        }
        self.schedule();
    }

    /// The socket has room again.
    pub(super) fn resume(self: &Rc<Self>, now: Instant) {
        self.write_all(now);
        self.schedule();
    }

    fn write_all(self: &Rc<Self>, now: Instant) {
        let write = || self.guarded(|| while self.write_some(now) {});
        // After a fault the close frame is still to be written; after a second one nothing will be.
        if !write() && !write() {
            self.end();
        }
        if self.blocked_since.get().is_some() || self.stage.get() != Stage::Open {
            self.unscheduled.set(true);
        }
    }

    /// One write. True if there may be more to write, and room for it.
    fn write_some(&self, now: Instant) -> bool {
        if matches!(self.stage.get(), Stage::Closed | Stage::Lingering(_)) {
            return false;
        }
        let mut taken = self.context.taken.take();
        taken.clear();
        let mut delivery_counts = self.subscriber.take(now, WRITE_FRAMES, WRITE_BYTES, &mut taken);
        if taken.is_empty() {
            self.context.taken.set(taken);
            self.count(delivery_counts);
            return self.emptied(now);
        }
        taken.iter().for_each(|taken| fault_point!("panic in deliver", taken.bytes()));
        let mut joined = self.context.joined.take();
        let written = self.transport.write(&taken, &mut joined);
        self.context.joined.set(joined);
        let mut more = written.is_ok();
        match written {
            Ok(written) => {
                let (whole, offset) = split(taken.iter().map(|taken| taken.bytes().len()), written);
                let is_full = whole < taken.len();
                if is_full {
                    delivery_counts -= self.subscriber.put_back(taken.drain(whole..), offset);
                }
                if self.subscriber.is_empty() {
                    more = self.emptied(now);
                } else {
                    // It has taken something, which is what the write timeout asks for.
                    if is_full || self.blocked_since.get().is_some() {
                        self.blocked_since.set(Some(now));
                    }
                    self.answer_ping();
                }
            }
            Err(error) => {
                delivery_counts -= self.subscriber.put_back(taken.drain(..), 0);
                self.not_written(&error, now);
            }
        }
        self.count(delivery_counts);
        taken.clear();
        self.context.taken.set(taken);
        more
    }

    /// Everything is written. True if that leaves more to write.
    fn emptied(&self, now: Instant) -> bool {
        if self.transport.has_unsent() {
            return self.send_rest(now);
        }
        self.blocked_since.set(None);
        self.subscriber.emptied();
        if self.answer_ping() {
            return true;
        }
        if self.stage.get() == Stage::Closing {
            self.transport.shutdown();
            self.stage.set(Stage::Lingering(now + LINGER));
        }
        false
    }

    /// Answers the ping that waits for room, if there is one.
    fn answer_ping(&self) -> bool {
        let payload = self.transport.take_ping();
        if let Some(payload) = &payload {
            self.send(Frame::pong(payload), Priority::High);
        }
        payload.is_some()
    }

    /// Sends what the transport still keeps of what it was given. True if some of that has gone.
    fn send_rest(&self, now: Instant) -> bool {
        match self.transport.write(&[], &mut Vec::new()) {
            Ok(_) => {
                self.blocked_since.set(Some(now));
                true
            }
            Err(error) => {
                self.not_written(&error, now);
                false
            }
        }
    }

    /// A write took nothing: waits for room, or ends a connection that is broken.
    fn not_written(&self, error: &io::Error, now: Instant) {
        if error.kind() == ErrorKind::WouldBlock {
            self.blocked_since.set(self.blocked_since.get().or(Some(now)));
            self.await_room();
        } else {
            debug!(%error, "socket broken");
            self.end();
        }
    }

    /// Lets the connection's task wake up when the socket has room. Its next poll would ask as well, but
    /// whoever flushes is not that task.
    fn await_room(&self) {
        let waker = self.waker.borrow();
        if let Some(waker) = waker.as_ref()
            && self.transport.poll_writable(&mut TaskContext::from_waker(waker)).is_ready()
        {
            waker.wake_by_ref();
        }
    }
}
