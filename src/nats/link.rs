//! One connection to a nats-server as a state machine without I/O: bytes in, bytes out, and events for the lane.
//! `LinkDriver` adds the socket and the clock, and reconnects.

mod publishing;
mod server_error;
mod table;

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;
use tidegate_protocol::subject::Pattern;

use crate::nats::incoming::Incoming;
use crate::nats::incoming::SubscriptionKey;
use crate::nats::info::ServerInfo;
use crate::nats::link::server_error::ServerError;
use crate::nats::link::table::SubscriptionTable;
use crate::nats::outgoing::Confirmation;
use crate::nats::wire::ServerOp;
use crate::nats::wire::WireParser;

/// How much to read at a time. The buffer grows for a larger message as it arrives, and shrinks after it.
const READ_BYTES: usize = 64 * 1024;
/// The link disconnects when more than this is unsent. The next connection sends only what is still subscribed, which
/// is less.
const MAX_UNSENT: usize = 64 * 1024 * 1024;
/// How long a server may take for its first `PONG`.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that sends data but answers no `PING` is disconnected after this many intervals: it does not read any more.
/// Its `PONG` may be queued behind much data, but nats-server itself closes connections to which it cannot write for 10
/// s.
const STALLED_INTERVALS: u32 = 4;
/// How long to wait before subscribing again to what the server has revoked or rejected.
const RETRY_AFTER: Duration = Duration::from_secs(5);
const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"PONG\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    Disconnected,
    /// `CONNECT` was sent; the server may still reject it.
    Connecting,
    /// The server has accepted `CONNECT`.
    Connected,
}

/// The current connection and, after a loss, the next one. The subscriptions outlive both.
#[derive(Debug)]
pub struct Link {
    state: LinkState,
    wire: WireParser,
    inbound: BytesMut,
    outbound: Vec<u8>,
    sent: usize,
    /// Why the link is disconnecting: it reads and sends nothing more, but still delivers what it has received.
    disconnecting: Option<String>,
    /// Why the last connection ended.
    end_reason: Option<String>,
    table: SubscriptionTable,
    /// Events to deliver before the next bytes are parsed.
    pending: VecDeque<Incoming>,
    /// The server's answers to what was published.
    confirmations: VecDeque<Confirmation>,
    info: ServerInfo,
    has_new_info: bool,
    keepalive: Keepalive,
    retry: Option<Instant>,
    /// More may be delivered without another byte.
    has_more: bool,
}

/// Detects a dead connection.
#[derive(Debug)]
struct Keepalive {
    interval: Duration,
    next: Instant,
    unanswered: u32,
    has_received: bool,
    /// The number of a `PING` whose round trip is measured, and when it was sent.
    measured: Option<(u64, Instant)>,
    /// When the last of these was sent that the server has answered.
    answered: Option<Instant>,
}

impl Link {
    /// Starts without a connection. Connections are pinged this often; a silent server is noticed after two to three
    /// intervals.
    pub fn new(ping_interval: Duration, now: Instant) -> Self {
        Self {
            state: LinkState::Disconnected,
            wire: WireParser::default(),
            inbound: BytesMut::new(),
            outbound: Vec::new(),
            sent: 0,
            disconnecting: None,
            end_reason: None,
            table: SubscriptionTable::default(),
            pending: VecDeque::new(),
            confirmations: VecDeque::new(),
            info: ServerInfo::default(),
            has_new_info: false,
            keepalive: Keepalive {
                interval: ping_interval,
                next: now,
                unanswered: 0,
                has_received: false,
                measured: None,
                answered: None,
            },
            retry: None,
            has_more: false,
        }
    }

    /// Subscribes, at once if connected, otherwise on the next connection. [`Incoming::Opened`] follows when the server has
    /// confirmed it; messages may come before that.
    pub fn subscribe(&mut self, pattern: &Pattern) -> SubscriptionKey {
        let sid = self.table.add(pattern.clone());
        if self.state == LinkState::Connected {
            self.table.write_new(sid, &mut self.outbound);
        }
        SubscriptionKey(sid)
    }

    /// Unsubscribes. Messages that are in transit may still arrive.
    pub fn unsubscribe(&mut self, SubscriptionKey(sid): SubscriptionKey) {
        if self.table.remove(sid) && self.state == LinkState::Connected {
            self.outbound.extend_from_slice(format!("UNSUB {sid}\r\n").as_bytes());
        }
    }

    /// Subscribes after a delay, and repeats that until the server accepts: it has just rejected it.
    pub(super) fn subscribe_later(&mut self, pattern: &Pattern) -> SubscriptionKey {
        self.retry.get_or_insert(self.keepalive.next + RETRY_AFTER);
        SubscriptionKey(self.table.add_denied(pattern.clone()))
    }

    /// A server has accepted the socket and sent `info`. `connect` is sent first; `unread` is what was read after
    /// `INFO`.
    pub fn open(&mut self, info: ServerInfo, connect: &[u8], unread: BytesMut, now: Instant) {
        self.state = LinkState::Connecting;
        self.info = info;
        self.has_new_info = true;
        self.inbound = unread;
        self.outbound.extend_from_slice(connect);
        self.outbound.extend_from_slice(PING);
        self.keepalive.next = now + HANDSHAKE_TIMEOUT;
        self.keepalive.unanswered = 0;
        self.has_more = true;
    }

    /// Ends the connection, or records that it has ended. The first reason counts.
    pub fn disconnect(&mut self, reason: impl Into<String>) {
        if self.state != LinkState::Disconnected {
            self.disconnecting.get_or_insert_with(|| reason.into());
            self.has_more = true;
        }
    }

    pub fn is_up(&self) -> bool {
        self.state == LinkState::Connected
    }

    /// Whether the server answers `PING`s: it may have stopped without closing the connection.
    pub(super) fn is_answering(&self) -> bool {
        self.is_up() && self.keepalive.unanswered < 2
    }

    /// When the `PING` was sent that the server has answered last, of those that are sent in each interval. Returned once.
    /// The answer comes after everything that the server had to send before it.
    pub(super) fn take_answered_ping(&mut self) -> Option<Instant> {
        self.keepalive.answered.take()
    }

    /// Why the connection ended, once everything that it received has been delivered. Returned once.
    pub fn take_end_reason(&mut self) -> Option<String> {
        self.end_reason.take()
    }

    /// The server's latest `INFO`.
    pub(super) fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// The latest `INFO`, returned once for each that arrives.
    pub(super) fn take_new_info(&mut self) -> Option<&ServerInfo> {
        std::mem::take(&mut self.has_new_info).then_some(&self.info)
    }

    /// Updates the server's message size limit.
    pub(super) fn set_max_payload(&mut self, max_payload: usize) {
        self.info.max_payload = max_payload;
    }

    /// Whether an event can be delivered without another byte from the server.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// The bytes to send.
    pub fn unsent(&mut self) -> &[u8] {
        if self.state == LinkState::Connected && self.table.begin_flush() {
            self.outbound.extend_from_slice(PING);
        }
        if self.outbound.len() - self.sent > MAX_UNSENT {
            self.disconnect("the server does not read what it is sent");
        }
        if self.disconnecting.is_some() { &[] } else { &self.outbound[self.sent..] }
    }

    /// Records that this many bytes of [`Link::unsent`] were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.outbound.len() {
            self.sent = 0;
            self.outbound.clear();
            self.outbound.shrink_to(READ_BYTES);
        } else if self.sent > 16 * READ_BYTES {
            self.outbound.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Where to read the next bytes into; call [`Link::received`] afterwards.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        let unread = self.inbound.len();
        let missing = self.wire.missing_bytes(&self.inbound);
        if missing <= READ_BYTES && self.inbound.capacity() > 4 * READ_BYTES {
            let mut smaller = BytesMut::with_capacity(unread + READ_BYTES);
            smaller.extend_from_slice(&self.inbound);
            self.inbound = smaller;
        }
        self.inbound
            .reserve((READ_BYTES.saturating_sub(unread)).max(missing.min(unread)).max(READ_BYTES / 8));
        &mut self.inbound
    }

    /// Bytes were added to [`Link::read_buffer`].
    pub fn received(&mut self) {
        self.keepalive.has_received = true;
        self.has_more = true;
    }

    /// Moves events to `batch` until it has `max`.
    pub fn take(&mut self, max: usize, batch: &mut Vec<Incoming>) {
        while batch.len() < max {
            if let Some(incoming) = self.pending.pop_front() {
                batch.push(incoming);
                continue;
            }
            match self.wire.next(&mut self.inbound) {
                Ok(Some(ServerOp::Message(sid, message))) => {
                    batch.push(Incoming::Message(SubscriptionKey(sid), message));
                }
                Ok(Some(ServerOp::Malformed(sid))) => batch.push(Incoming::Malformed(SubscriptionKey(sid))),
                Ok(Some(op)) => self.on_op(op),
                Ok(None) if self.disconnecting.is_some() => self.finish(),
                Ok(None) => {
                    self.pending.shrink_to(max);
                    self.has_more = false;
                    return;
                }
                Err(error) => self.abort(error.to_string()),
            }
        }
        self.has_more = true;
    }

    /// When to call [`Link::on_timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        let retry = self.retry.filter(|_| self.state == LinkState::Connected);
        let next = (self.state != LinkState::Disconnected).then_some(self.keepalive.next);
        retry.into_iter().chain(next).min()
    }

    /// Acts on the clock. Everything that had arrived by `now` must have been read.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.state == LinkState::Connected && self.retry.is_some_and(|retry| retry <= now) {
            let denied = self.table.write_denied(&mut self.outbound);
            self.retry = denied.then_some(now + RETRY_AFTER);
        }
        if self.state == LinkState::Disconnected || now < self.keepalive.next {
            return;
        }
        let is_silent = !std::mem::take(&mut self.keepalive.has_received);
        match self.state {
            LinkState::Disconnected => {}
            LinkState::Connecting => self.disconnect("the server did not answer CONNECT"),
            LinkState::Connected if self.keepalive.unanswered < 2 => {
                self.table.ping_sent();
                self.outbound.extend_from_slice(PING);
                self.keepalive.unanswered += 1;
                self.keepalive.measured.get_or_insert_with(|| (self.table.last_ping(), now));
            }
            LinkState::Connected if is_silent => {
                self.disconnect("the server sent nothing and answered no PING")
            }
            LinkState::Connected if self.keepalive.unanswered >= STALLED_INTERVALS => {
                self.disconnect("the server does not read what it is sent");
            }
            // The server is alive; its `PONG` is queued behind other data.
            LinkState::Connected => self.keepalive.unanswered += 1,
        }
        self.keepalive.next = now + self.keepalive.interval;
    }

    fn on_op(&mut self, op: ServerOp) {
        match (op, self.state) {
            (ServerOp::Ping, _) => self.outbound.extend_from_slice(PONG),
            (ServerOp::Pong, LinkState::Connecting) => {
                self.state = LinkState::Connected;
                self.keepalive.next = self.keepalive.next - HANDSHAKE_TIMEOUT + self.keepalive.interval;
                self.table.write_all(&mut self.outbound);
            }
            (ServerOp::Pong, _) => {
                self.keepalive.unanswered = 0;
                self.confirmations
                    .extend(self.table.published_before_next_pong().map(Confirmation::Confirmed));
                self.pending.extend(self.table.on_pong());
                let answered = self.table.last_answered();
                if let Some((_, sent)) = self.keepalive.measured.take_if(|(ping, _)| *ping <= answered) {
                    self.keepalive.answered = Some(sent);
                }
            }
            (ServerOp::Info(json), _) => match ServerInfo::parse(&json) {
                Some(info) => {
                    self.info = info;
                    self.has_new_info = true;
                }
                None => self.abort("the server sent an invalid INFO".to_owned()),
            },
            (ServerOp::Error(message), LinkState::Connected) => self.on_server_error(&message),
            (ServerOp::Error(message), _) if message.to_ascii_lowercase().contains("authorization") => {
                self.abort(format!("the server refused the login: {message}; check the login in [nats]"));
            }
            (ServerOp::Error(message), _) => self.abort(format!("the server sent an error: {message}")),
            (ServerOp::Ok | ServerOp::Message(..) | ServerOp::Malformed(_), _) => {}
        }
    }

    fn on_server_error(&mut self, message: &str) {
        match ServerError::parse(message) {
            ServerError::SubscribeDenied { subject, sid } => {
                self.pending.extend(self.table.on_denied(&subject, sid))
            }
            ServerError::SubscribeFailed => self.pending.extend(self.table.on_rejected(message)),
            ServerError::PublishDenied(subject) => {
                let denied = self.table.published_before_next_pong().map(|_| Confirmation::Denied(subject));
                return self.confirmations.extend(denied);
            }
            ServerError::Fatal => self.abort(format!("the server sent an error: {message}")),
        }
        self.retry.get_or_insert(self.keepalive.next + RETRY_AFTER);
    }

    /// Disconnects, and discards what has been read but not parsed.
    fn abort(&mut self, reason: String) {
        self.inbound.clear();
        self.wire = WireParser::default();
        self.disconnect(reason);
    }

    /// Everything that the connection received has been delivered.
    fn finish(&mut self) {
        if self.state == LinkState::Connected {
            self.table.on_link_lost();
            self.pending.push_back(Incoming::LinkLost);
        }
        self.state = LinkState::Disconnected;
        self.wire = WireParser::default();
        self.inbound = BytesMut::new();
        self.outbound = Vec::new();
        self.sent = 0;
        self.retry = None;
        self.keepalive.measured = None;
        self.end_reason = self.disconnecting.take();
    }
}

#[cfg(test)]
mod tests;
