//! Writing: from the outbox to the transport, in as few writes as possible.

use std::io;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::Context as TaskContext;
use std::time::Instant;

use tidegate_protocol::class::Priority;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::moment::Moment;
use tracing::debug;

use crate::connection::CLOSE_TIMEOUT;
use crate::connection::Connection;
use crate::connection::Stage;
use crate::connection::counts::DropReason;
use crate::connection::websocket::MAX_FRAMES;
use crate::hooks::fault_point;
use crate::hub::class_counts::ClassCounts;
use crate::hub::outbox::InFlight;
use crate::hub::outbox::split;

/// Frames and bytes that one write takes from the outbox. There may be one frame more: a gap for expired publications.
const WRITE_FRAMES: usize = MAX_FRAMES - 1;
const WRITE_BYTES: usize = 256 * 1024;

impl Connection {
    /// Writes the frames of the outbox in as few writes as possible, until the socket has no more room. If the socket
    /// is known to be full, this does nothing: [`Connection::resume`] writes when there is room again.
    pub fn flush(self: &Rc<Self>, now: Instant) {
        self.subscriber.clear_changed();
        self.flush_due.set(None);
        if self.blocked_since.get().is_none() {
            self.write_all(now);
        }
        if self.has_waiting() {
            self.note_changed_waiting();
        }
        self.schedule(now);
    }

    /// Continues to write when the socket has room again.
    pub(super) fn resume(self: &Rc<Self>, now: Instant) {
        self.write_all(now);
        if self.has_waiting() {
            self.note_waiting();
        }
        self.schedule(now);
    }

    fn write_all(self: &Rc<Self>, now: Instant) {
        let write = || self.catch_panics(|| while self.write_some(now) {});
        // After a panic, try to write the close frame; after a second panic, give up.
        if !write() && !write() {
            self.end();
        }
        if self.blocked_since.get().is_some() || self.stage.get() != Stage::Open {
            self.needs_scheduling.set(true);
        }
    }

    /// Performs one write. Returns true if there may be more to write, and room for it.
    fn write_some(&self, now: Instant) -> bool {
        if matches!(self.stage.get(), Stage::Closed | Stage::CloseSent(_)) {
            return false;
        }
        self.count_conflated();
        let mut taken = self.context.taken.take();
        taken.clear();
        let mut unannounced = self.context.unannounced.borrow_mut();
        let mut delivery_counts =
            self.subscriber.take(now, WRITE_FRAMES, WRITE_BYTES, &mut taken, &mut unannounced);
        if !unannounced.is_empty() {
            self.count_unannounced(&mut unannounced);
        }
        drop(unannounced);
        if taken.is_empty() {
            self.context.taken.set(taken);
            self.count(delivery_counts);
            return self.on_outbox_empty(now);
        }
        taken.iter().for_each(|taken| fault_point!("panic in deliver", taken.bytes()));
        let mut joined = self.context.write_buffer.take();
        let written = self.transport.write(&taken, &mut joined);
        self.context.write_buffer.set(joined);
        let mut has_more = written.is_ok();
        match written {
            Ok(written) => {
                let (whole, offset) = split(taken.iter().map(|taken| taken.bytes().len()), written);
                self.context.counts.count_sent(written);
                let is_full = whole < taken.len();
                if delivery_counts.dropped > 0 {
                    self.count_gaps(&taken[..whole + usize::from(offset > 0)]);
                }
                if is_full {
                    delivery_counts -= self.subscriber.put_back(taken.drain(whole..), offset);
                }
                if self.subscriber.is_empty() {
                    has_more = self.on_outbox_empty(now);
                } else {
                    // Some bytes were written, so the write timeout starts again.
                    if is_full || self.blocked_since.get().is_some() {
                        self.progress(Some(now.into()), now);
                    }
                    self.answer_ping();
                }
            }
            Err(error) => {
                delivery_counts -= self.subscriber.put_back(taken.drain(..), 0);
                self.on_write_error(&error, now);
            }
        }
        self.count(delivery_counts);
        taken.clear();
        self.context.taken.set(taken);
        has_more
    }

    /// Counts the gaps among these entries.
    #[cold]
    fn count_gaps(&self, written: &[InFlight]) {
        for (class, cause, dropped) in written.iter().filter_map(InFlight::gap) {
            self.context.counts.count_gap(class, cause, dropped);
            self.note_gap(cause, dropped);
        }
    }

    /// Counts publications in gaps that the client's vocabulary has no message for.
    #[cold]
    fn count_unannounced(&self, unannounced: &mut ClassCounts) {
        for (class, dropped) in unannounced.drain() {
            self.context.counts.count_dropped(class, DropReason::Unannounced, dropped);
        }
    }

    /// Handles an empty outbox. Returns true if there is more to write now.
    fn on_outbox_empty(&self, now: Instant) -> bool {
        if self.transport.has_unsent() {
            return self.send_unsent(now);
        }
        self.progress(None, now);
        self.subscriber.forget_ended();
        if self.answer_ping() {
            return true;
        }
        if self.stage.get() == Stage::Closing {
            self.transport.shutdown();
            self.stage.set(Stage::CloseSent(now + CLOSE_TIMEOUT));
        }
        false
    }

    /// The socket has taken bytes. `blocked` is since when it has no room for the rest.
    #[inline]
    fn progress(&self, blocked: Option<Moment>, now: Instant) {
        if let Some(since) = self.blocked_since.replace(blocked) {
            self.note_resumed(since, now);
        }
    }

    /// Answers a ping that waits for room. Returns whether there was one.
    fn answer_ping(&self) -> bool {
        let payload = self.transport.take_ping();
        if let Some(payload) = &payload {
            self.send(Frame::pong(payload), Priority::High);
        }
        payload.is_some()
    }

    /// Sends bytes that the transport has buffered. Returns true if some were sent.
    fn send_unsent(&self, now: Instant) -> bool {
        match self.transport.write(&[], &mut Vec::new()) {
            Ok(_) => {
                self.progress(Some(now.into()), now);
                true
            }
            Err(error) => {
                self.on_write_error(&error, now);
                false
            }
        }
    }

    /// Handles a failed write: waits for room, or ends a broken connection.
    fn on_write_error(&self, error: &io::Error, now: Instant) {
        if error.kind() == ErrorKind::WouldBlock {
            self.blocked_since.set(self.blocked_since.get().or_else(|| Some(now.into())));
            self.wake_when_writable();
        } else {
            debug!(%error, "connection lost");
            self.end();
        }
    }

    /// Wakes the connection's task when the socket has room. That task would register for this at its next poll; but
    /// flushes are called from other tasks too.
    fn wake_when_writable(&self) {
        let waker = self.waker.borrow();
        if let Some(waker) = waker.as_ref()
            && self.transport.poll_writable(&mut TaskContext::from_waker(waker)).is_ready()
        {
            waker.wake_by_ref();
        }
    }
}
