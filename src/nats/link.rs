//! Link: one connection to a nats-server as a state machine: bytes in, bytes out, and what it has for the lane in between.
//! Pure: whoever has the socket and the clock drives it, and makes the next connection when this one has ended.

mod publishing;
mod refusal;
mod table;

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;
use tidegate_protocol::subject::Pattern;

use crate::nats::incoming::Incoming;
use crate::nats::incoming::SubscriptionKey;
use crate::nats::info::Info;
use crate::nats::link::refusal::Refusal;
use crate::nats::link::table::SubscriptionTable;
use crate::nats::outgoing::Confirmation;
use crate::nats::wire::Said;
use crate::nats::wire::Wire;

/// What is read at a time. A larger message gets room as it arrives, which is given back behind it.
const READ: usize = 64 * 1024;
/// Of what the server does not take, so much is kept. Of more the link is cut: the next one begins with what is
/// subscribed then, which is less.
const MAX_UNSENT: usize = 64 * 1024 * 1024;
/// How long a server may take for its first `PONG`.
const GREETING: Duration = Duration::from_secs(5);
/// A server that sends and does not answer is left after so many intervals: it takes nothing any more. Its answer may
/// come behind much else, but a nats-server itself ends connections to which it cannot write for 10 s.
const STALLED: u32 = 4;
/// Subscriptions that the server has taken back, or does not make again, are asked for again after so long.
const RETRY: Duration = Duration::from_secs(5);
const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"PONG\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no connection.
    Down,
    /// `CONNECT` is on its way; the server may still refuse.
    Greeting,
    /// The server has taken it.
    Up,
}

/// One connection, then the next, and the subscriptions that all of them have.
#[derive(Debug)]
pub(super) struct Link {
    phase: Phase,
    wire: Wire,
    inbound: BytesMut,
    outbound: Vec<u8>,
    sent: usize,
    /// Why nothing comes or goes any more. What has come is still handed out.
    cut: Option<String>,
    /// Why the last one ended.
    ended: Option<String>,
    table: SubscriptionTable,
    /// What is handed out before the next bytes are looked at.
    said: VecDeque<Incoming>,
    /// What the server has said of what was published.
    confirmations: VecDeque<Confirmation>,
    info: Info,
    is_news: bool,
    pings: Pings,
    retry: Option<Instant>,
    /// More may be handed out without another byte.
    has_more: bool,
}

/// Whether the other end is still there.
#[derive(Debug)]
struct Pings {
    interval: Duration,
    next: Instant,
    unanswered: u32,
    heard: bool,
}

impl Link {
    /// No connection yet. Later ones are tested this often; a silent one is noticed after two to three intervals.
    pub(super) fn new(ping_interval: Duration, now: Instant) -> Self {
        Self {
            phase: Phase::Down,
            wire: Wire::default(),
            inbound: BytesMut::new(),
            outbound: Vec::new(),
            sent: 0,
            cut: None,
            ended: None,
            table: SubscriptionTable::default(),
            said: VecDeque::new(),
            confirmations: VecDeque::new(),
            info: Info::default(),
            is_news: false,
            pings: Pings { interval: ping_interval, next: now, unanswered: 0, heard: false },
            retry: None,
            has_more: false,
        }
    }

    /// Subscribes, now or as soon as there is a connection.
    pub(super) fn subscribe(&mut self, pattern: &Pattern) -> SubscriptionKey {
        let sid = self.table.add(pattern.clone());
        if self.phase == Phase::Up {
            self.table.write_new(sid, &mut self.outbound);
        }
        SubscriptionKey(sid)
    }

    /// Unsubscribes. Messages that are on their way may still come.
    pub(super) fn unsubscribe(&mut self, SubscriptionKey(sid): SubscriptionKey) {
        if self.table.remove(sid) && self.phase == Phase::Up {
            self.outbound.extend_from_slice(format!("UNSUB {sid}\r\n").as_bytes());
        }
    }

    /// Subscribes a while from now, and again and again until the server wants it: it has refused just now.
    pub(super) fn subscribe_later(&mut self, pattern: &Pattern) -> SubscriptionKey {
        self.retry.get_or_insert(self.pings.next + RETRY);
        SubscriptionKey(self.table.add_denied(pattern.clone()))
    }

    /// There is a connection to a server that has said this of itself. `connect` goes out first; `rest` came behind
    /// what the server has said.
    pub(super) fn open(&mut self, info: Info, connect: &[u8], rest: BytesMut, now: Instant) {
        self.phase = Phase::Greeting;
        self.info = info;
        self.is_news = true;
        self.inbound = rest;
        self.outbound.extend_from_slice(connect);
        self.outbound.extend_from_slice(PING);
        self.pings.next = now + GREETING;
        self.pings.unanswered = 0;
        self.has_more = true;
    }

    /// The connection has ended, or is to.
    pub(super) fn cut(&mut self, why: impl Into<String>) {
        if self.phase != Phase::Down {
            self.cut.get_or_insert_with(|| why.into());
            self.has_more = true;
        }
    }

    /// Whether there is a connection that the server has taken.
    pub(super) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Whether the server answers: a connection may be open without an answer.
    pub(super) fn is_answering(&self) -> bool {
        self.is_up() && self.pings.unanswered < 2
    }

    /// Why there is no connection any more, once everything that came over it has been handed out. Said once.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.ended.take()
    }

    /// What the server has said of itself.
    pub(super) fn info(&self) -> &Info {
        &self.info
    }

    /// The same, once for each time that it says so.
    pub(super) fn news(&mut self) -> Option<&Info> {
        std::mem::take(&mut self.is_news).then_some(&self.info)
    }

    /// The server takes messages of another size now.
    pub(super) fn takes(&mut self, max_payload: usize) {
        self.info.max_payload = max_payload;
    }

    /// Whether something can be handed out without another byte from the server.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// What is to be sent.
    pub(super) fn unsent(&mut self) -> &[u8] {
        if self.phase == Phase::Up && self.table.close_round() {
            self.outbound.extend_from_slice(PING);
        }
        if self.outbound.len() - self.sent > MAX_UNSENT {
            self.cut("it does not take what it is sent");
        }
        if self.cut.is_some() { &[] } else { &self.outbound[self.sent..] }
    }

    /// So much of it has been sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.outbound.len() {
            self.sent = 0;
            self.outbound.clear();
            self.outbound.shrink_to(READ);
        } else if self.sent > 16 * READ {
            self.outbound.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Where to put what comes next; [`Link::received`] is told afterwards.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        let unread = self.inbound.len();
        let missing = self.wire.missing(&self.inbound);
        if missing <= READ && self.inbound.capacity() > 4 * READ {
            let mut smaller = BytesMut::with_capacity(unread + READ);
            smaller.extend_from_slice(&self.inbound);
            self.inbound = smaller;
        }
        self.inbound.reserve((READ.saturating_sub(unread)).max(missing.min(unread)).max(READ / 8));
        &mut self.inbound
    }

    /// Something has come.
    pub(super) fn received(&mut self) {
        self.pings.heard = true;
        self.has_more = true;
    }

    /// Moves what has come to `batch`, until it has `max`.
    pub(super) fn take(&mut self, max: usize, batch: &mut Vec<Incoming>) {
        while batch.len() < max {
            if let Some(incoming) = self.said.pop_front() {
                batch.push(incoming);
                continue;
            }
            match self.wire.next(&mut self.inbound) {
                Ok(Some(Said::Message(sid, message))) => {
                    batch.push(Incoming::Message(SubscriptionKey(sid), message));
                }
                Ok(Some(Said::Malformed(sid))) => batch.push(Incoming::Malformed(SubscriptionKey(sid))),
                Ok(Some(said)) => self.hear(said),
                Ok(None) if self.cut.is_some() => self.end(),
                Ok(None) => {
                    self.said.shrink_to(max);
                    self.has_more = false;
                    return;
                }
                Err(error) => self.break_off(error.to_string()),
            }
        }
        self.has_more = true;
    }

    /// When [`Link::on_time`] is to be called.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let retry = self.retry.filter(|_| self.phase == Phase::Up);
        let next = (self.phase != Phase::Down).then_some(self.pings.next);
        retry.into_iter().chain(next).min()
    }

    /// It is `now`, and everything has been read that has come by now.
    pub(super) fn on_time(&mut self, now: Instant) {
        if self.phase == Phase::Up && self.retry.is_some_and(|retry| retry <= now) {
            let denied = self.table.write_denied(&mut self.outbound);
            self.retry = denied.then_some(now + RETRY);
        }
        if self.phase == Phase::Down || now < self.pings.next {
            return;
        }
        let is_silent = !std::mem::take(&mut self.pings.heard);
        match self.phase {
            Phase::Down => {}
            Phase::Greeting => self.cut("it does not answer"),
            Phase::Up if self.pings.unanswered < 2 => {
                self.table.add_round();
                self.outbound.extend_from_slice(PING);
                self.pings.unanswered += 1;
            }
            Phase::Up if is_silent => self.cut("it is silent"),
            Phase::Up if self.pings.unanswered >= STALLED => {
                self.cut("it does not take what it is sent");
            }
            // It is there, and its answer comes behind much else.
            Phase::Up => self.pings.unanswered += 1,
        }
        self.pings.next = now + self.pings.interval;
    }

    fn hear(&mut self, said: Said) {
        match (said, self.phase) {
            (Said::Ping, _) => self.outbound.extend_from_slice(PONG),
            (Said::Pong, Phase::Greeting) => {
                self.phase = Phase::Up;
                self.pings.next = self.pings.next - GREETING + self.pings.interval;
                self.table.write_all(&mut self.outbound);
            }
            (Said::Pong, _) => {
                self.pings.unanswered = 0;
                self.confirmations.extend(self.table.published().map(Confirmation::Seen));
                self.said.extend(self.table.pong());
            }
            (Said::Info(json), _) => match Info::read(&json) {
                Some(info) => {
                    self.info = info;
                    self.is_news = true;
                }
                None => self.break_off("it says of itself what cannot be read".to_owned()),
            },
            (Said::Error(words), Phase::Up) => self.refused(&words),
            (Said::Error(words), _) if words.to_ascii_lowercase().contains("authorization") => {
                self.break_off(format!("it refuses: {words}. Is the login in [nats] right?"));
            }
            (Said::Error(words), _) => self.break_off(format!("it refuses: {words}")),
            (Said::Ok | Said::Message(..) | Said::Malformed(_), _) => {}
        }
    }

    fn refused(&mut self, words: &str) {
        match Refusal::read(words) {
            Refusal::Denied { subject, sid } => self.said.extend(self.table.denied(&subject, sid)),
            Refusal::Unnamed => self.said.extend(self.table.refused(words)),
            Refusal::Unpublished(subject) => {
                let denied = self.table.published().map(|_| Confirmation::Denied(subject));
                return self.confirmations.extend(denied);
            }
            Refusal::Final => self.break_off(format!("it refuses: {words}")),
        }
        self.retry.get_or_insert(self.pings.next + RETRY);
    }

    /// The connection ends here: what is behind this in what has come is not looked at.
    fn break_off(&mut self, why: String) {
        self.inbound.clear();
        self.wire = Wire::default();
        self.cut(why);
    }

    /// Everything that came over the connection has been handed out.
    fn end(&mut self) {
        if self.phase == Phase::Up {
            self.table.link_lost();
            self.said.push_back(Incoming::LinkLost);
        }
        self.phase = Phase::Down;
        self.wire = Wire::default();
        self.inbound = BytesMut::new();
        self.outbound = Vec::new();
        self.sent = 0;
        self.retry = None;
        self.ended = self.cut.take();
    }
}

#[cfg(test)]
mod tests;
