//! The WebSocket under a connection: scratch buffer → assembler → session, and from the outbox one vectored write.

use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::task::Context as TaskContext;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::class::Priority;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::ClientMessage;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Readiness;
use tidegate_protocol::tally::Tally;
use tidegate_protocol::websocket::Event;
use tidegate_protocol::websocket::Opcode;
use tidegate_protocol::websocket::Violation;
use tracing::debug;
use tracing::error;

use crate::connection::Connection;
use crate::connection::LINGER;
use crate::connection::Stage;
use crate::connection::socket::MAX_FRAMES;
use crate::connection::unread::Stop;
use crate::hooks::ARE_ON;
use crate::hooks::fault_point;
use crate::hub::outbox::split;
use crate::telemetry::limit::LogLimit;

static FAULTS: LogLimit = LogLimit::per_second(1);

/// Frames and bytes of one write.
const WRITE_FRAMES: usize = MAX_FRAMES - 1;
const WRITE_BYTES: usize = 256 * 1024;
/// What a client may cause before other connections have their turn, in commands.
const TURN_WORK: u32 = 64;
/// Reads before other connections have their turn.
const READS: usize = 4;

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
    pub(super) fn begin(self: &Rc<Self>, read: Bytes) {
        let now = Instant::now();
        self.unscheduled.set(true);
        self.guarded(|| self.perform_all(now));
        if !read.is_empty() {
            let mut bytes = read.to_vec();
            drop(read);
            self.feed(&mut bytes, now);
        }
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
        let seat = self.seat.take();
        let is_replaced = seat.as_ref().is_some_and(|seat| seat.poll_replaced(context));
        self.seat.set(seat);
        if is_replaced {
            return Poll::Ready(Ready::Replaced);
        }
        if self.blocked_since.get().is_some() && self.socket.poll_writable(context).is_ready() {
            return Poll::Ready(Ready::Writable);
        }
        if self.is_holding() {
            return Poll::Pending;
        }
        self.socket.poll_readable(context).map(|()| Ready::Readable)
    }

    /// Does what its socket asks for. False when it is over.
    pub(super) fn go_on(self: &Rc<Self>, ready: Ready) -> bool {
        match ready {
            Ready::Readable => self.read(),
            Ready::Writable => self.resume(Instant::now()),
            Ready::Replaced => self.replaced(Instant::now()),
            Ready::Closed => return false,
        }
        true
    }

    /// Over: nobody sends it anything any more.
    pub(super) fn finish(&self) {
        self.leave_all();
        self.count(Tally::dropped(self.subscriber.undecided()));
        self.log_end();
    }

    fn replaced(self: &Rc<Self>, now: Instant) {
        drop(self.seat.take());
        self.apply(Input::Failed(Disconnect::TooManyConnections), now);
        self.flush(now);
    }

    fn read(self: &Rc<Self>) {
        let now = Instant::now();
        let mut scratch = self.context.scratch();
        for _ in 0..READS {
            if self.is_holding() {
                break;
            }
            match self.socket.read(&mut scratch) {
                Ok(0) => {
                    self.end();
                    break;
                }
                Ok(count) => self.feed(&mut scratch[..count], now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    debug!(%error, "socket broken");
                    self.end();
                    break;
                }
            }
        }
        self.context.scratch.set(scratch);
        self.flush(now);
    }

    /// Takes bytes from the client. Once the connection closes they are read and forgotten, so that the peer's
    /// kernel does not answer the close frame with a reset.
    fn feed(self: &Rc<Self>, bytes: &mut [u8], now: Instant) {
        if self.stage.get() != Stage::Open {
            return;
        }
        let mut inbound = self.inbound.get();
        let units = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let in_time = inbound.take(self.context.node.limits.connection.inbound, units, now);
        self.inbound.set(inbound);
        if !in_time {
            return self.apply(Input::Failed(Disconnect::RateLimited), now);
        }
        if let Some(stop) = self.take(bytes, now) {
            self.hold(bytes, stop);
        }
    }

    /// Takes bytes that are read, as far as the session takes messages now.
    pub(super) fn take(self: &Rc<Self>, bytes: &mut [u8], now: Instant) -> Option<Stop> {
        let (mut at, mut work) = (0, 0);
        while self.stage.get() == Stage::Open {
            if at < bytes.len()
                && let Some(stop) = self.stops(at, now)
            {
                // How long the rest of a message takes is not the client's affair now.
                self.unfinished_since.set(None);
                return Some(stop);
            }
            match self.next_event(bytes, &mut at, now) {
                Ok(Some(event)) => {
                    self.received(event, now);
                    work += self.session.borrow_mut().take_work();
                    if work >= TURN_WORK && at < bytes.len() {
                        // Others have their turn.
                        return Some(Stop { taken: at, readiness: Readiness::At(now) });
                    }
                }
                Ok(None) => break,
                Err(disconnect) => {
                    self.apply(Input::Failed(disconnect), now);
                    // The session may wait for what it has published; what is not WebSocket is not read on.
                    return Some(Stop { taken: bytes.len(), readiness: Readiness::Never });
                }
            }
            // What begins behind it in the same bytes has its own time.
            if !self.assembler.borrow().is_unfinished() {
                self.unfinished_since.set(None);
            }
        }
        if self.assembler.borrow().is_unfinished() {
            self.unscheduled.set(true);
            self.unfinished_since.set(self.unfinished_since.get().or(Some(now)));
        }
        None
    }

    /// What the client says next. What comes out of a compressed message counts as if it had been sent as it is: a
    /// client that sends little must not cause much work.
    fn next_event(
        &self,
        bytes: &mut [u8],
        at: &mut usize,
        now: Instant,
    ) -> Result<Option<Event>, Disconnect> {
        let mut assembler = self.assembler.borrow_mut();
        let limits = &self.context.node.limits.connection;
        match self.encoding {
            Encoding::JsonText => assembler.next_event(bytes, at, limits.assembler, None).map_err(disconnect),
            Encoding::JsonTextDeflated { .. } => {
                // After a fault in it there is none, and so the next message has a new one.
                let mut inflater = self.context.inflater.take().unwrap_or_default();
                let event = catch_unwind(AssertUnwindSafe(|| {
                    assembler.next_event(bytes, at, limits.assembler, Some(&mut inflater))
                }));
                let event = event.map_err(|_| {
                    if let Some(suppressed) = FAULTS.pass() {
                        error!(
                            suppressed,
                            "a fault in inflating a message: this session ends, the others go on"
                        );
                    }
                    Disconnect::InternalError
                })?;
                let gained = u32::try_from(inflater.take_gained()).unwrap_or(u32::MAX);
                self.context.inflater.set(Some(inflater));
                let mut inbound = self.inbound.get();
                let in_time = gained == 0 || inbound.take(limits.inbound, gained, now);
                self.inbound.set(inbound);
                if in_time { event.map_err(disconnect) } else { Err(Disconnect::RateLimited) }
            }
        }
    }

    fn received(self: &Rc<Self>, event: Event, now: Instant) {
        match event {
            Event::Message(message) => {
                if ARE_ON
                    && let ClientMessage::Text(text) = &message
                    && !self.guarded(|| fault_point!("panic in decode", text.as_bytes()))
                {
                    return;
                }
                self.apply(Input::Received(message), now);
            }
            Event::Ping(payload) if self.controls(now) => {
                if self.blocked_since.get().is_none() {
                    self.send(Frame::pong(&payload), Priority::High);
                } else {
                    // Of the pings that could not be answered yet, only the latest is (RFC 6455 §5.5.3), so that
                    // a client that reads nothing cannot pile up pongs.
                    self.pong.set(Some(payload));
                }
                self.apply(Input::Alive, now);
            }
            Event::Pong(_) if self.controls(now) => self.apply(Input::Alive, now),
            Event::Ping(_) | Event::Pong(_) => self.apply(Input::Failed(Disconnect::PolicyViolation), now),
            Event::Close(close) => {
                self.trace.ends(close.as_ref().map_or(1005, |(code, _)| *code), "by_client");
                let answer = close.map_or_else(
                    || Frame::build(Opcode::Close, 0, |_| {}),
                    |(code, _)| Frame::close(code, ""),
                );
                self.close_with(answer);
            }
        }
    }

    fn controls(&self, now: Instant) -> bool {
        let mut control = self.control.get();
        let in_time = control.take(self.context.node.limits.connection.control, 1, now);
        self.control.set(control);
        in_time
    }

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
    fn resume(self: &Rc<Self>, now: Instant) {
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
        let mut tally = self.subscriber.take(now, WRITE_FRAMES, WRITE_BYTES, &mut taken);
        if taken.is_empty() {
            self.context.taken.set(taken);
            self.count(tally);
            return self.emptied(now);
        }
        taken.iter().for_each(|taken| fault_point!("panic in deliver", taken.bytes()));
        let mut joined = self.context.joined.take();
        let written = self.socket.write(taken.iter().map(|taken| taken.bytes()), &mut joined);
        self.context.joined.set(joined);
        let mut more = written.is_ok();
        match written {
            Ok(written) => {
                let (whole, offset) = split(taken.iter().map(|taken| taken.bytes().len()), written);
                let is_full = whole < taken.len();
                if is_full {
                    tally -= self.subscriber.put_back(taken.drain(whole..), offset);
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
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tally -= self.subscriber.put_back(taken.drain(..), 0);
                self.blocked_since.set(self.blocked_since.get().or(Some(now)));
                self.await_room();
            }
            Err(error) => {
                debug!(%error, "socket broken");
                tally -= self.subscriber.put_back(taken.drain(..), 0);
                self.end();
            }
        }
        self.count(tally);
        taken.clear();
        self.context.taken.set(taken);
        more
    }

    /// Everything is written. True if that leaves more to write.
    fn emptied(&self, now: Instant) -> bool {
        self.blocked_since.set(None);
        self.subscriber.emptied();
        if self.answer_ping() {
            return true;
        }
        if self.stage.get() == Stage::Closing {
            self.socket.end_writing();
            self.stage.set(Stage::Lingering(now + LINGER));
        }
        false
    }

    /// Answers the ping that waits for the socket to take something, if there is one.
    fn answer_ping(&self) -> bool {
        let payload = self.pong.take();
        if let Some(payload) = &payload {
            self.send(Frame::pong(payload), Priority::High);
        }
        payload.is_some()
    }

    /// Lets the connection's task wake up when the socket has room. Its next poll would ask as well, but
    /// whoever flushes is not that task.
    fn await_room(&self) {
        let waker = self.waker.borrow();
        if let Some(waker) = waker.as_ref()
            && self.socket.poll_writable(&mut TaskContext::from_waker(waker)).is_ready()
        {
            waker.wake_by_ref();
        }
    }
}

fn disconnect(violation: Violation) -> Disconnect {
    match violation {
        Violation::Protocol(_) => Disconnect::ProtocolError,
        Violation::Utf8 => Disconnect::InvalidUtf8,
        Violation::TooBig => Disconnect::MessageTooBig,
        Violation::TooManyFragments => Disconnect::PolicyViolation,
    }
}
