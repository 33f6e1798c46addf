//! Transport: what carries a connection's messages. A session and an outbox are the same over each; what only one of them
//! has (frames that come in pieces, pings, an answer to a handshake) is its own.

use std::io;
use std::task::Context;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::frame::Frame;

#[cfg(feature = "event-stream")]
use crate::connection::event_stream::EventStream;
use crate::connection::websocket::WebSocket;
use crate::hub::outbox::InFlight;

/// What carries the messages of one connection.
pub enum Transport {
    /// Frames both ways.
    WebSocket(WebSocket),
    /// Server-Sent Events, from the server only.
    #[cfg(feature = "event-stream")]
    EventStream(Box<EventStream>),
}

impl Transport {
    /// Whether the client can say anything, and so answer a ping.
    pub(super) fn hears(&self) -> bool {
        match self {
            Self::WebSocket(_) => true,
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => false,
        }
    }

    /// What goes in front of all frames, once.
    pub(super) fn preface(&self) -> Option<Frame> {
        match self {
            Self::WebSocket(websocket) => websocket.preface(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => None,
        }
    }

    /// When the session can take what was read, if the clock decides that.
    pub(super) fn reads_on_at(&self) -> Option<Instant> {
        match self {
            Self::WebSocket(websocket) => websocket.reads_on_at(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => None,
        }
    }

    /// Whether something was read that the session cannot take, so that nothing is to be read.
    pub(super) fn is_holding(&self) -> bool {
        match self {
            Self::WebSocket(websocket) => websocket.is_holding(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => false,
        }
    }

    /// The payload of the ping that waits for room to be answered, once.
    pub(super) fn take_ping(&self) -> Option<Bytes> {
        match self {
            Self::WebSocket(websocket) => websocket.unanswered_ping.take(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => None,
        }
    }

    /// Forgets since when a message has been unfinished: its client is told.
    pub(super) fn give_up_unfinished(&self) {
        match self {
            Self::WebSocket(websocket) => websocket.unfinished_since.set(None),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => {}
        }
    }

    /// Whether the client may have said something, or gone; otherwise the task is woken when it has.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::WebSocket(websocket) => websocket.stream.poll_readable(context),
            #[cfg(feature = "event-stream")]
            Self::EventStream(stream) => stream.poll_gone(context),
        }
    }

    /// Whether there may be room to write; otherwise the task is woken when there is.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::WebSocket(websocket) => websocket.stream.poll_writable(context),
            #[cfg(feature = "event-stream")]
            Self::EventStream(stream) => stream.poll_writable(context),
        }
    }

    /// Writes as much as there is room for, and says how many of the outbox's bytes that is; `WouldBlock` if there is no
    /// room. What is put together on the way is put together in `joined`.
    pub(super) fn write(&self, taken: &[InFlight], joined: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::WebSocket(websocket) => websocket.write(taken, joined),
            #[cfg(feature = "event-stream")]
            Self::EventStream(stream) => stream.write(taken),
        }
    }

    /// Whether something that was written has not left yet: it goes with the next write, also of nothing.
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::WebSocket(websocket) => websocket.stream.has_unsent(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => false,
        }
    }

    /// Tells the client that nothing more will come.
    pub(super) fn shutdown(&self) {
        match self {
            Self::WebSocket(websocket) => websocket.stream.shutdown(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(stream) => stream.end(),
        }
    }

    /// Lets it end at once, whatever is unsent.
    pub(super) fn abort(&self) {
        match self {
            Self::WebSocket(websocket) => websocket.stream.abort(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(stream) => stream.abort(),
        }
    }

    /// Since when a message has been unfinished.
    pub(super) fn unfinished_since(&self) -> Option<Instant> {
        match self {
            Self::WebSocket(websocket) => websocket.unfinished_since.get(),
            #[cfg(feature = "event-stream")]
            Self::EventStream(_) => None,
        }
    }
}
