//! Reading: from the transport to the session, and what is kept while the session cannot take it.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Instant;

use tidegate_protocol::class::Priority;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Readiness;
use tidegate_protocol::websocket::Event;
use tidegate_protocol::websocket::Opcode;
use tracing::debug;

use crate::connection::Connection;
use crate::connection::Stage;
use crate::connection::transport::Transport;
use crate::connection::unread::Stop;
use crate::connection::unread::Unread;
use crate::connection::websocket::WebSocket;
use crate::hooks::ARE_ON;
use crate::hooks::fault_point;

/// What a client may cause before other connections have their turn, in commands.
const TURN_WORK: u32 = 64;
/// Reads before other connections have their turn.
const READS: usize = 4;

impl Connection {
    /// Takes what the client said behind its handshake.
    pub(super) fn read_first(self: &Rc<Self>, now: Instant) {
        match &self.transport {
            Transport::WebSocket(websocket) => {
                let mut first = websocket.take_first();
                if !first.is_empty() {
                    self.feed(websocket, &mut first, now);
                }
            }
            #[cfg(feature = "event-stream")]
            Transport::EventStream(stream) => {
                for message in stream.take_first() {
                    self.apply(Input::Received(message), now);
                }
            }
        }
    }

    /// Reads what has come, as far as the session takes it. True if there may be more, which has to wait for the turns of
    /// others.
    pub(super) fn read(self: &Rc<Self>, now: Instant) -> bool {
        match &self.transport {
            Transport::WebSocket(websocket) => self.read_websocket(websocket, now),
            // It is readable when the client has gone.
            #[cfg(feature = "event-stream")]
            Transport::EventStream(_) => {
                self.end();
                false
            }
        }
    }

    /// Gives the session what it could not take when it was read, as far as it takes it now.
    pub(super) fn read_on(self: &Rc<Self>, now: Instant) {
        match &self.transport {
            Transport::WebSocket(websocket) => self.read_on_websocket(websocket, now),
            #[cfg(feature = "event-stream")]
            Transport::EventStream(_) => {}
        }
    }

    /// Whether bytes are held, so that nothing is to be read. A connection that closes reads and forgets.
    pub(super) fn is_holding(&self) -> bool {
        self.transport.is_holding() && self.stage.get() == Stage::Open
    }

    fn read_websocket(self: &Rc<Self>, websocket: &WebSocket, now: Instant) -> bool {
        let mut scratch = self.context.scratch();
        let mut reads = 0;
        while reads < READS && !self.is_holding() {
            reads += 1;
            match websocket.stream.try_read(&mut scratch) {
                Ok(0) => {
                    self.end();
                    break;
                }
                Ok(count) => self.feed(websocket, &mut scratch[..count], now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    debug!(%error, "socket broken");
                    self.end();
                    break;
                }
            }
        }
        self.context.scratch.set(scratch);
        reads == READS
    }

    /// Takes bytes from the client. Once the connection closes they are read and forgotten, so that the peer's
    /// kernel does not answer the close frame with a reset.
    fn feed(self: &Rc<Self>, websocket: &WebSocket, bytes: &mut [u8], now: Instant) {
        if self.stage.get() != Stage::Open {
            return;
        }
        let mut inbound = websocket.inbound.get();
        let units = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let in_time = inbound.take(self.context.node.limits.connection.inbound, units, now);
        websocket.inbound.set(inbound);
        if !in_time {
            return self.apply(Input::Disconnect(Disconnect::RateLimited), now);
        }
        if let Some(stop) = self.take(websocket, bytes, now) {
            self.hold(websocket, bytes, stop);
        }
    }

    /// Takes bytes that are read, as far as the session takes messages now.
    fn take(self: &Rc<Self>, websocket: &WebSocket, bytes: &mut [u8], now: Instant) -> Option<Stop> {
        let (mut at, mut work) = (0, 0);
        while self.stage.get() == Stage::Open {
            if at < bytes.len()
                && let Some(stop) = self.stops(at, now)
            {
                // How long the rest of a message takes is not the client's affair now.
                websocket.unfinished_since.set(None);
                return Some(stop);
            }
            match websocket.next_event(&self.context, bytes, &mut at, now) {
                Ok(Some(event)) => {
                    self.received(websocket, event, now);
                    work += self.session.borrow_mut().take_work();
                    if work >= TURN_WORK && at < bytes.len() {
                        // Others have their turn.
                        return Some(Stop { taken: at, readiness: Readiness::At(now) });
                    }
                }
                Ok(None) => break,
                Err(disconnect) => {
                    self.apply(Input::Disconnect(disconnect), now);
                    // The session may wait for what it has published; what is not WebSocket is not read on.
                    return Some(Stop { taken: bytes.len(), readiness: Readiness::Never });
                }
            }
            // What begins behind it in the same bytes has its own time.
            if !websocket.assembler.borrow().is_unfinished() {
                websocket.unfinished_since.set(None);
            }
        }
        if websocket.assembler.borrow().is_unfinished() {
            self.unscheduled.set(true);
            websocket.unfinished_since.set(websocket.unfinished_since.get().or(Some(now)));
        }
        None
    }

    fn received(self: &Rc<Self>, websocket: &WebSocket, event: Event, now: Instant) {
        let limits = &self.context.node.limits.connection;
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
            Event::Ping(payload) if websocket.controls(limits, now) => {
                if self.blocked_since.get().is_none() {
                    self.send(Frame::pong(&payload), Priority::High);
                } else {
                    // Of the pings that could not be answered yet, only the latest is (RFC 6455 §5.5.3), so that
                    // a client that reads nothing cannot pile up pongs.
                    websocket.unanswered_ping.set(Some(payload));
                }
                self.apply(Input::Alive, now);
            }
            Event::Pong(_) if websocket.controls(limits, now) => self.apply(Input::Alive, now),
            Event::Ping(_) | Event::Pong(_) => {
                self.apply(Input::Disconnect(Disconnect::PolicyViolation), now)
            }
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

    /// Whether the session takes no message now, and when it will.
    fn stops(&self, taken: usize, now: Instant) -> Option<Stop> {
        let readiness = self.session.borrow().readiness(now);
        (readiness != Readiness::Now).then_some(Stop { taken, readiness })
    }

    /// Keeps what was not taken. Nothing is read until it is.
    fn hold(&self, websocket: &WebSocket, bytes: &[u8], Stop { taken, readiness }: Stop) {
        self.put_back(websocket, Unread { bytes: bytes[taken..].into(), taken: 0, readiness });
    }

    /// Gives the session what is held, as far as it takes it now. When all is taken the socket is read again.
    fn read_on_websocket(self: &Rc<Self>, websocket: &WebSocket, now: Instant) {
        let Some(unread) = websocket.unread.take() else {
            return;
        };
        let Unread { mut bytes, taken, readiness } = *unread;
        if readiness == Readiness::Never || self.stops(taken, now).is_some() {
            return self.put_back(websocket, Unread { bytes, taken, readiness });
        }
        match self.take(websocket, &mut bytes[taken..], now) {
            Some(stop) => {
                self.put_back(
                    websocket,
                    Unread { bytes, taken: taken + stop.taken, readiness: stop.readiness },
                );
            }
            None => {
                if let Some(waker) = self.waker.borrow().as_ref() {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// What a session that ends has not taken is forgotten; its socket is read no more.
    fn put_back(&self, websocket: &WebSocket, mut unread: Unread) {
        if unread.readiness == Readiness::Never {
            unread = Unread { bytes: Box::default(), taken: 0, ..unread };
        }
        websocket.unread.set(Some(Box::new(unread)));
        self.unscheduled.set(true);
    }
}
