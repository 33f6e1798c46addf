//! The WebSocket under a connection: what was read becomes messages, and frames of the outbox become one write.

use std::cell::Cell;
use std::cell::RefCell;
use std::io;
use std::io::IoSlice;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::session::Readiness;
use tidegate_protocol::session::limits::Bucket;
use tidegate_protocol::websocket::Assembler;
use tidegate_protocol::websocket::Event;
use tidegate_protocol::websocket::Violation;
use tracing::error;

use crate::connection::context::Context;
use crate::connection::unread::Unread;
use crate::hub::outbox::InFlight;
use crate::net::stream::Stream;
use crate::node::limits::ConnectionLimits;
use crate::telemetry::limit::LogLimit;

static FAULTS: LogLimit = LogLimit::per_second(1);

/// What one write takes at most.
pub(super) const MAX_FRAMES: usize = 65;
/// So many bytes are copied and written with the plain call, which is cheaper than the vectored one by more than the copy
/// costs (ADR 13).
const MAX_JOINED: usize = 8 * 1024;

/// A stream that speaks WebSocket, and what only this transport has.
pub struct WebSocket {
    pub(super) stream: Stream,
    /// What the handshake has left to do, until it is done.
    handshake: Cell<Option<Box<Handshake>>>,
    pub(super) assembler: RefCell<Assembler>,
    /// Whether the client may send deflated messages: it is sent them too.
    inflates: bool,
    pub(super) inbound: Cell<Bucket>,
    control: Cell<Bucket>,
    /// The payload of the ping that is not answered yet, because the socket takes nothing.
    pub(super) unanswered_ping: Cell<Option<Bytes>>,
    /// Since when a message has been unfinished.
    pub(super) unfinished_since: Cell<Option<Instant>>,
    /// What has been read and is not taken yet, because the session cannot take more now. Nothing is read until it is.
    pub(super) unread: Cell<Option<Box<Unread>>>,
}

/// What a handshake has left to do.
struct Handshake {
    /// What it is answered with, unless that was sent already; it goes with the first frames, in one write.
    answer: Option<Bytes>,
    /// What came behind it.
    read: Bytes,
}

impl WebSocket {
    /// A stream behind its handshake; `read` came behind it. `answer` is still to be sent. With `inflates`, the handshake
    /// has agreed on permessage-deflate.
    pub fn new(stream: Stream, answer: Option<Bytes>, read: Bytes, inflates: bool) -> Self {
        Self {
            stream,
            handshake: Cell::new(Some(Box::new(Handshake { answer, read }))),
            assembler: RefCell::new(Assembler::new()),
            inflates,
            inbound: Cell::default(),
            control: Cell::default(),
            unanswered_ping: Cell::default(),
            unfinished_since: Cell::default(),
            unread: Cell::default(),
        }
    }

    /// What goes in front of all frames, once.
    pub(super) fn preface(&self) -> Option<Frame> {
        let mut handshake = self.handshake.take()?;
        let answer = handshake.answer.take();
        self.handshake.set(Some(handshake));
        answer.map(|answer| Frame::preface(&answer))
    }

    /// What came behind the handshake, once.
    pub(super) fn take_first(&self) -> Vec<u8> {
        self.handshake.take().map_or_else(Vec::new, |handshake| handshake.read.to_vec())
    }

    /// Writes as much of the frames, at most [`MAX_FRAMES`], as there is room for; `WouldBlock` if there is none. What is
    /// put together on the way is put together in `joined`.
    pub(super) fn write(&self, taken: &[InFlight], joined: &mut Vec<u8>) -> io::Result<usize> {
        let frames = || taken.iter().map(InFlight::bytes);
        if let [one] = taken {
            return self.stream.try_write(one.bytes());
        }
        if frames().map(<[u8]>::len).sum::<usize>() <= MAX_JOINED {
            joined.clear();
            frames().for_each(|frame| joined.extend_from_slice(frame));
            return self.stream.try_write(joined);
        }
        let mut slices = [IoSlice::new(&[]); MAX_FRAMES];
        let count = taken.len().min(MAX_FRAMES);
        for (slice, frame) in slices.iter_mut().zip(frames()) {
            *slice = IoSlice::new(frame);
        }
        self.stream.try_write_vectored(&slices[..count])
    }

    /// Whether bytes are held, so that nothing is to be read.
    pub(super) fn is_holding(&self) -> bool {
        self.peek(|unread| unread.is_some())
    }

    /// When held bytes may be taken, if the clock decides that.
    pub(super) fn reads_on_at(&self) -> Option<Instant> {
        self.peek(|unread| match unread?.readiness {
            Readiness::At(at) => Some(at),
            Readiness::Now | Readiness::AfterAnswer | Readiness::Never => None,
        })
    }

    fn peek<T>(&self, look: impl FnOnce(Option<&Unread>) -> T) -> T {
        let unread = self.unread.take();
        let seen = look(unread.as_deref());
        self.unread.set(unread);
        seen
    }

    /// What the client says next. What comes out of a compressed message counts as if it had been sent as it is: a
    /// client that sends little must not cause much work.
    pub(super) fn next_event(
        &self,
        context: &Context,
        bytes: &mut [u8],
        at: &mut usize,
        now: Instant,
    ) -> Result<Option<Event>, Disconnect> {
        let mut assembler = self.assembler.borrow_mut();
        let limits = &context.node.limits.connection;
        if !self.inflates {
            return assembler.next_event(bytes, at, limits.assembler, None).map_err(disconnect);
        }
        // After a fault in it there is none, and so the next message has a new one.
        let mut inflater = context.inflater.take().unwrap_or_default();
        let event = catch_unwind(AssertUnwindSafe(|| {
            assembler.next_event(bytes, at, limits.assembler, Some(&mut inflater))
        }));
        let event = event.map_err(|_| {
            if let Some(suppressed) = FAULTS.pass() {
                error!(suppressed, "a fault in inflating a message: this session ends, the others go on");
            }
            Disconnect::InternalError
        })?;
        let gained = u32::try_from(inflater.take_expanded_bytes()).unwrap_or(u32::MAX);
        context.inflater.set(Some(inflater));
        let mut inbound = self.inbound.get();
        let in_time = gained == 0 || inbound.take(limits.inbound, gained, now);
        self.inbound.set(inbound);
        if in_time { event.map_err(disconnect) } else { Err(Disconnect::RateLimited) }
    }

    /// Whether one more control frame is in time.
    pub(super) fn controls(&self, limits: &ConnectionLimits, now: Instant) -> bool {
        let mut control = self.control.get();
        let in_time = control.take(limits.control, 1, now);
        self.control.set(control);
        in_time
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
