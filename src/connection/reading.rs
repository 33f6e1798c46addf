//! Reading: passes messages from the transport to the session, and keeps the bytes that the session cannot process yet.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Instant;

use tidegate_protocol::class::Priority;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::InputReadiness;
use tidegate_protocol::websocket::Event;
use tidegate_protocol::websocket::Opcode;
use tracing::debug;

use crate::connection::Connection;
use crate::connection::Stage;
use crate::connection::events::event::EventKind;
use crate::connection::events::event::NewEvent;
use crate::connection::pending_input::Pause;
use crate::connection::pending_input::PendingInput;
use crate::connection::transport::Transport;
use crate::connection::websocket::INBOUND_LIMIT;
use crate::connection::websocket::WebSocket;
use crate::hooks::ARE_ON;
use crate::hooks::fault_point;

/// Work that one client may cause before other connections run, in commands.
const MAX_WORK: u32 = 64;
/// Reads of one socket before other connections run.
const MAX_READS: usize = 4;

impl Connection {
    /// Processes the bytes or messages that came with the handshake.
    pub(super) fn read_initial_input(self: &Rc<Self>, now: Instant) {
        match &self.transport {
            Transport::WebSocket(websocket) => {
                let mut bytes = websocket.take_initial_input();
                if !bytes.is_empty() {
                    self.receive(websocket, &mut bytes, now);
                }
            }
            #[cfg(feature = "event-stream")]
            Transport::EventStream(stream) => {
                for message in stream.take_initial_input() {
                    self.apply(Input::Received(message), now);
                }
            }
        }
    }

    /// Reads what has arrived, until the session cannot take more. Returns true if there may be more to read after
    /// other connections have run.
    pub(super) fn read(self: &Rc<Self>, now: Instant) -> bool {
        match &self.transport {
            Transport::WebSocket(websocket) => self.read_websocket(websocket, now),
            // An event stream becomes readable when the client has gone.
            #[cfg(feature = "event-stream")]
            Transport::EventStream(_) => {
                self.end();
                false
            }
        }
    }

    /// Passes pending input to the session, until it cannot take more.
    pub(super) fn resume_reading(self: &Rc<Self>, now: Instant) {
        match &self.transport {
            Transport::WebSocket(websocket) => self.resume_websocket(websocket, now),
            #[cfg(feature = "event-stream")]
            Transport::EventStream(_) => {}
        }
    }

    /// Whether input waits for the session, so that the socket is not read. A closing connection reads and discards.
    pub(super) fn has_pending_input(&self) -> bool {
        self.transport.has_pending_input() && self.stage.get() == Stage::Open
    }

    fn read_websocket(self: &Rc<Self>, websocket: &WebSocket, now: Instant) -> bool {
        let mut buffer = self.context.read_buffer();
        let mut reads = 0;
        while reads < MAX_READS && !self.has_pending_input() {
            reads += 1;
            match websocket.stream.try_read(&mut buffer) {
                Ok(0) => {
                    self.end();
                    break;
                }
                Ok(count) => self.receive(websocket, &mut buffer[..count], now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    debug!(%error, "connection lost");
                    self.end();
                    break;
                }
            }
        }
        self.context.read_buffer.set(buffer);
        let has_more = reads == MAX_READS;
        if has_more && websocket.unfinished_since.get().is_some() {
            // We are slower than the client, so its time starts anew. It gains nothing: its message is bounded in
            // bytes.
            websocket.unfinished_since.set(Some(now.into()));
        }
        has_more
    }

    /// Processes bytes from the client. A closing connection discards them: if they stayed unread in the kernel, the
    /// client would get a reset instead of the close frame.
    fn receive(self: &Rc<Self>, websocket: &WebSocket, bytes: &mut [u8], now: Instant) {
        if self.stage.get() != Stage::Open {
            return;
        }
        let mut inbound = websocket.inbound.get();
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let is_allowed = inbound.take(self.settings.limits.inbound, size, now);
        websocket.inbound.set(inbound);
        if !is_allowed {
            return self.disconnect(Disconnect::RateLimited, Some(INBOUND_LIMIT), now);
        }
        if let Some(pause) = self.process(websocket, bytes, now) {
            if let InputReadiness::At(ready) = pause.readiness
                && ready > now
            {
                self.note(&NewEvent::new(EventKind::RateLimited));
            }
            self.keep(websocket, bytes, pause);
        }
    }

    /// Passes messages to the session, until it cannot take more.
    fn process(self: &Rc<Self>, websocket: &WebSocket, bytes: &mut [u8], now: Instant) -> Option<Pause> {
        let (mut at, mut work) = (0, 0);
        while self.stage.get() == Stage::Open {
            if at < bytes.len()
                && let Some(pause) = self.needed_pause(at, now)
            {
                return Some(pause);
            }
            match websocket.next_event(&self.context, &self.settings.limits, bytes, &mut at, now) {
                Ok(Some(event)) => {
                    self.on_event(websocket, event, now);
                    work += self.session.borrow_mut().take_work();
                    if work >= MAX_WORK && at < bytes.len() {
                        // Let other connections run.
                        return Some(Pause { taken: at, readiness: InputReadiness::At(now) });
                    }
                }
                Ok(None) => break,
                Err((disconnect, limit)) => {
                    self.disconnect(disconnect, limit, now);
                    // The session may wait for its publishes before it ends. After a protocol error, nothing more is
                    // read.
                    return Some(Pause { taken: bytes.len(), readiness: InputReadiness::Never });
                }
            }
            // A message that begins in the same bytes gets its own time limit.
            if !websocket.assembler.borrow().is_unfinished() {
                websocket.unfinished_since.set(None);
            }
        }
        if websocket.assembler.borrow().is_unfinished() {
            self.needs_scheduling.set(true);
            websocket.unfinished_since.set(websocket.unfinished_since.get().or_else(|| Some(now.into())));
        }
        None
    }

    fn on_event(self: &Rc<Self>, websocket: &WebSocket, event: Event, now: Instant) {
        let limits = &self.settings.limits;
        match event {
            Event::Message(message) => {
                self.log_context.note_message(now);
                if ARE_ON
                    && let ClientMessage::Text(text) = &message
                    && !self.catch_panics(|| fault_point!("panic in decode", text.as_bytes()))
                {
                    return;
                }
                self.apply(Input::Received(message), now);
            }
            Event::Ping(payload) if websocket.allows_control_frame(limits, now) => {
                if self.blocked_since.get().is_none() {
                    self.send(Frame::pong(&payload), Priority::High);
                } else {
                    // Only the latest of several pings is answered later (RFC 6455 §5.5.3), so that a client that does
                    // not read cannot pile up pongs.
                    websocket.unanswered_ping.set(Some(Box::new(payload)));
                }
                self.apply(Input::Alive, now);
            }
            Event::Pong(_) if websocket.allows_control_frame(limits, now) => {
                self.count_pong(now);
                self.apply(Input::Alive, now);
            }
            Event::Ping(_) | Event::Pong(_) => {
                self.disconnect(Disconnect::PolicyViolation, Some("limits.control_frames_per_s"), now);
            }
            Event::Close(close) => {
                self.log_context.set_end(close.as_ref().map_or(1005, |(code, _)| *code), "by_client");
                let answer = close.map_or_else(
                    || Frame::build(Opcode::Close, 0, |_| {}),
                    |(code, _)| Frame::close(code, ""),
                );
                self.close_with(answer);
            }
        }
    }

    /// `None` if the session takes messages now, else when it will.
    fn needed_pause(&self, taken: usize, now: Instant) -> Option<Pause> {
        let readiness = self.session.borrow().readiness(now);
        (readiness != InputReadiness::Now).then_some(Pause { taken, readiness })
    }

    /// Keeps the bytes that were not processed. The socket is not read until they are.
    fn keep(&self, websocket: &WebSocket, bytes: &[u8], Pause { taken, readiness }: Pause) {
        self.set_pending_input(websocket, PendingInput { bytes: bytes[taken..].into(), taken: 0, readiness });
    }

    /// Passes pending input to the session. When all of it is processed, the task reads the socket again.
    fn resume_websocket(self: &Rc<Self>, websocket: &WebSocket, now: Instant) {
        let Some(pending) = websocket.pending_input.take() else {
            return;
        };
        let PendingInput { mut bytes, taken, readiness } = *pending;
        if readiness == InputReadiness::Never {
            return self.set_pending_input(websocket, PendingInput { bytes, taken, readiness });
        }
        if let Some(Pause { taken, readiness }) = self.needed_pause(taken, now) {
            // The session may have been charged while it paused, so it may be ready later than it was to be.
            return self.set_pending_input(websocket, PendingInput { bytes, taken, readiness });
        }
        match self.process(websocket, &mut bytes[taken..], now) {
            Some(pause) => {
                self.set_pending_input(
                    websocket,
                    PendingInput { bytes, taken: taken + pause.taken, readiness: pause.readiness },
                );
            }
            None => {
                if let Some(waker) = self.waker.borrow().as_ref() {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// Sets the pending input. Until it is processed, the client waits for us, so the time limit of an unfinished
    /// message stops. A session that is ending takes no more, so its bytes are discarded, and its socket is not read
    /// again.
    fn set_pending_input(&self, websocket: &WebSocket, mut pending: PendingInput) {
        websocket.unfinished_since.set(None);
        if pending.readiness == InputReadiness::Never {
            pending = PendingInput { bytes: Box::default(), taken: 0, ..pending };
        }
        websocket.pending_input.set(Some(Box::new(pending)));
        self.needs_scheduling.set(true);
    }
}
