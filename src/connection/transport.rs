//! `Transport`: carries the messages of a connection. Sessions and outboxes are the same for all transports; what only
//! one transport has (fragments, pings, a handshake response) is in its own file.

use std::io;
use std::task::Context;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::moment::Moment;

use crate::connection::counts::TransportKind;
#[cfg(feature = "event-stream")]
use crate::connection::event_stream::EventStream;
use crate::connection::websocket::WebSocket;
use crate::hub::outbox::InFlight;

/// The transport of one connection.
pub enum Transport {
    /// WebSocket frames in both directions.
    WebSocket(WebSocket),
    /// Server-Sent Events, from server to client.
    #[cfg(feature = "event-stream")]
    EventStream(Box<EventStream>),
}

impl Transport {
    /// The kind of transport.
    pub(super) fn kind(&self) -> TransportKind {
        match self {
            Self::WebSocket(_) => TransportKind::WebSocket,
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => TransportKind::EventStream,
        }
    }

    pub(super) fn is_websocket(&self) -> bool {
        match self {
            Self::WebSocket(_) => true,
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => false,
        }
    }

    /// Whether the client can send messages, and so answer a ping.
    pub(super) fn can_receive(&self) -> bool {
        match self {
            Self::WebSocket(_) => true,
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => false,
        }
    }

    /// The bytes to send before all frames, if there are any. Returns them once.
    pub(super) fn preface(&self) -> Option<Frame> {
        match self {
            Self::WebSocket(websocket) => websocket.preface(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => None,
        }
    }

    /// When the session can process the pending input, if that depends on the time alone.
    pub(super) fn resumes_reading_at(&self) -> Option<Instant> {
        match self {
            Self::WebSocket(websocket) => websocket.resumes_reading_at(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => None,
        }
    }

    /// Whether there is input that the session cannot process yet. Until it has, the transport is not read.
    pub(super) fn has_pending_input(&self) -> bool {
        match self {
            Self::WebSocket(websocket) => websocket.has_pending_input(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => false,
        }
    }

    /// Takes the payload of a ping that waits for room to be answered.
    pub(super) fn take_ping(&self) -> Option<Bytes> {
        match self {
            Self::WebSocket(websocket) => websocket.unanswered_ping.take().map(|payload| *payload),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => None,
        }
    }

    /// Stops the time limit of an unfinished message, because the client is disconnected for it.
    pub(super) fn forget_unfinished(&self) {
        match self {
            Self::WebSocket(websocket) => websocket.unfinished_since.set(None),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => {}
        }
    }

    /// Ready when there may be bytes to read, or the client has gone.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::WebSocket(websocket) => websocket.stream.poll_readable(context),
            #[cfg(feature = "event-stream")]
            Self::EventStream(stream) => stream.poll_gone(context),
        }
    }

    /// Ready when there may be room to write.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::WebSocket(websocket) => websocket.stream.poll_writable(context),
            #[cfg(feature = "event-stream")]
            Self::EventStream(stream) => stream.poll_writable(context),
        }
    }

    /// Writes as much as there is room for. Returns the number of bytes of the outbox that were written, or
    /// `WouldBlock` if there is no room. `joined` is a buffer to join small frames in.
    pub(super) fn write(&self, taken: &[InFlight], joined: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::WebSocket(websocket) => websocket.write(taken, joined),
            #[cfg(feature = "event-stream")]
            Self::EventStream(stream) => stream.write(taken),
        }
    }

    /// Whether bytes that were written are still buffered (by TLS). The next write sends them, even if it is empty.
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::WebSocket(websocket) => websocket.stream.has_unsent(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => false,
        }
    }

    /// Closes the sending direction.
    pub(super) fn shutdown(&self) {
        match self {
            Self::WebSocket(websocket) => websocket.stream.shutdown(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(stream) => stream.end(),
        }
    }

    /// Closes the transport at once and discards unsent bytes.
    pub(super) fn abort(&self) {
        match self {
            Self::WebSocket(websocket) => websocket.stream.abort(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(stream) => stream.abort(),
        }
    }

    /// When the first fragment of an unfinished message arrived.
    pub(super) fn unfinished_since(&self) -> Option<Moment> {
        match self {
            Self::WebSocket(websocket) => websocket.unfinished_since.get(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => None,
        }
    }
}
