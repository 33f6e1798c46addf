//! `WebSocket`: turns the bytes that a connection reads into messages, and the frames of its outbox into writes.

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
use tidegate_protocol::moment::Moment;
use tidegate_protocol::session::InputReadiness;
use tidegate_protocol::session::limits::Bucket;
use tidegate_protocol::websocket::Assembler;
use tidegate_protocol::websocket::Event;
use tidegate_protocol::websocket::Violation;
use tracing::error;

use crate::connection::context::Context;
use crate::connection::pending_input::PendingInput;
use crate::hub::outbox::InFlight;
use crate::net::stream::Stream;
use crate::node::limits::ConnectionLimits;
use crate::telemetry::limit::LogLimit;

static PANICS: LogLimit = LogLimit::per_second(1);

/// The key of the limit on the bytes that a client sends.
pub(super) const INBOUND_LIMIT: &str = "limits.inbound_bytes_per_s";
/// Frames in one write, at most.
pub(super) const MAX_FRAMES: usize = 65;
/// Up to this size, frames are copied into one buffer and written with a plain call: the copy costs less than a
/// vectored write (ADR 13).
const MAX_JOINED: usize = 8 * 1024;

/// The state that only a WebSocket has.
pub struct WebSocket {
    pub(super) stream: Stream,
    /// What remains to be done of the handshake.
    handshake: Cell<Option<Box<PendingHandshake>>>,
    pub(super) assembler: RefCell<Assembler>,
    /// Whether the handshake has agreed on permessage-deflate.
    inflates: bool,
    pub(super) inbound: Cell<Bucket>,
    control: Cell<Bucket>,
    /// The payload of a ping that cannot be answered yet, because the socket has no room.
    pub(super) unanswered_ping: Cell<Option<Box<Bytes>>>,
    /// When the first fragment of an unfinished message arrived.
    pub(super) unfinished_since: Cell<Option<Moment>>,
    /// Bytes that the session cannot process yet. Until it has, the socket is not read.
    pub(super) pending_input: Cell<Option<Box<PendingInput>>>,
}

/// What remains to be done of a handshake.
struct PendingHandshake {
    /// The 101 response, unless hyper has sent it. It goes out in one write with the first frames.
    response: Option<Bytes>,
    /// Bytes that arrived after the request in the same read.
    initial_input: Bytes,
}

impl WebSocket {
    /// Creates a WebSocket from a stream after its handshake. `response` is the handshake response if it is still to be
    /// sent, `initial_input` what arrived after the request. With `inflates`, the handshake has agreed on
    /// permessage-deflate.
    pub fn new(stream: Stream, response: Option<Bytes>, initial_input: Bytes, inflates: bool) -> Self {
        Self {
            stream,
            handshake: Cell::new(Some(Box::new(PendingHandshake { response, initial_input }))),
            assembler: RefCell::new(Assembler::new()),
            inflates,
            inbound: Cell::default(),
            control: Cell::default(),
            unanswered_ping: Cell::default(),
            unfinished_since: Cell::default(),
            pending_input: Cell::default(),
        }
    }

    /// The handshake response, if it is still to be sent. Returns it once.
    pub(super) fn preface(&self) -> Option<Frame> {
        let mut handshake = self.handshake.take()?;
        let response = handshake.response.take();
        self.handshake.set(Some(handshake));
        response.map(|response| Frame::preface(&response))
    }

    /// Takes the bytes that arrived after the handshake request.
    pub(super) fn take_initial_input(&self) -> Vec<u8> {
        self.handshake.take().map_or_else(Vec::new, |handshake| handshake.initial_input.to_vec())
    }

    /// Writes as many of the frames, at most [`MAX_FRAMES`], as there is room for; `WouldBlock` if there is none.
    /// `joined` is a buffer to join small frames in.
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

    /// Whether bytes wait for the session.
    pub(super) fn has_pending_input(&self) -> bool {
        self.peek(|pending| pending.is_some())
    }

    /// When the session can process the waiting bytes, if that depends on the time alone.
    pub(super) fn resumes_reading_at(&self) -> Option<Instant> {
        self.peek(|pending| match pending?.readiness {
            InputReadiness::At(at) => Some(at),
            InputReadiness::Now | InputReadiness::AfterAnswer | InputReadiness::Never => None,
        })
    }

    fn peek<T>(&self, look: impl FnOnce(Option<&PendingInput>) -> T) -> T {
        let pending = self.pending_input.take();
        let result = look(pending.as_deref());
        self.pending_input.set(pending);
        result
    }

    /// Decodes the next event. The rate limit counts the inflated size of a compressed message: few bytes on the wire
    /// must not cause much work. An error is why the session must end, with the key of the exceeded limit, if any.
    pub(super) fn next_event(
        &self,
        context: &Context,
        limits: &ConnectionLimits,
        bytes: &mut [u8],
        at: &mut usize,
        now: Instant,
    ) -> Result<Option<Event>, (Disconnect, Option<&'static str>)> {
        let mut assembler = self.assembler.borrow_mut();
        if !self.inflates {
            return assembler.next_event(bytes, at, limits.assembler, None).map_err(disconnect);
        }
        // After a panic in the inflater, the next message gets a new one.
        let mut inflater = context.inflater.take().unwrap_or_default();
        let event = catch_unwind(AssertUnwindSafe(|| {
            assembler.next_event(bytes, at, limits.assembler, Some(&mut inflater))
        }));
        let event = event.map_err(|_| {
            if let Some(suppressed) = PANICS.pass() {
                error!(
                    suppressed,
                    "internal error while inflating a message: this session is closed, all others continue"
                );
            }
            (Disconnect::InternalError, None)
        })?;
        let gained = u32::try_from(inflater.take_expanded_bytes()).unwrap_or(u32::MAX);
        context.inflater.set(Some(inflater));
        let mut inbound = self.inbound.get();
        let in_time = gained == 0 || inbound.take(limits.inbound, gained, now);
        self.inbound.set(inbound);
        if in_time { event.map_err(disconnect) } else { Err((Disconnect::RateLimited, Some(INBOUND_LIMIT))) }
    }

    /// Counts a control frame. Returns false if there are too many.
    pub(super) fn allows_control_frame(&self, limits: &ConnectionLimits, now: Instant) -> bool {
        let mut control = self.control.get();
        let in_time = control.take(limits.control, 1, now);
        self.control.set(control);
        in_time
    }
}

fn disconnect(violation: Violation) -> (Disconnect, Option<&'static str>) {
    match violation {
        Violation::Protocol(_) => (Disconnect::ProtocolError, None),
        Violation::Utf8 => (Disconnect::InvalidUtf8, None),
        Violation::TooBig => (Disconnect::MessageTooBig, Some("limits.max_message_bytes")),
        Violation::TooManyFragments => (Disconnect::PolicyViolation, Some("limits.max_fragments")),
    }
}
