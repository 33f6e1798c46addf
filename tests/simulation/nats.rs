//! A model of a nats-server, as far as a lane's connection can see it: it speaks the protocol of NATS in bytes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use tidegate_protocol::subject::Pattern;

/// One message that was published.
pub(crate) struct NatsMessage<'m> {
    pub(crate) subject: &'m str,
    /// The headers without their first line and the empty last line.
    pub(crate) headers: &'m [u8],
    pub(crate) payload: &'m [u8],
}

/// The server's end of the connection of one lane.
#[derive(Default)]
pub(crate) struct Connection {
    /// The start of a line whose end has not arrived.
    received: Vec<u8>,
    subscriptions: BTreeMap<u64, Pattern>,
    /// What the lane has not read.
    unread: VecDeque<u8>,
}

/// What the server does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keeps,
    /// It is cut off as a slow consumer.
    CutsOff,
}

impl Connection {
    /// Processes what a lane has sent. `denied` are the patterns that it may not subscribe to.
    pub(crate) fn receive(&mut self, bytes: &[u8], denied: &BTreeSet<Pattern>) {
        self.received.extend_from_slice(bytes);
        while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            let line = String::from_utf8(line).unwrap();
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["CONNECT", ..] | ["PONG"] => {}
                ["PING"] => self.send(b"PONG\r\n"),
                ["SUB", pattern, sid] => {
                    let pattern = Pattern::parse(pattern).unwrap();
                    if denied.contains(&pattern) {
                        self.deny(&pattern, None);
                    } else {
                        self.subscriptions.insert(sid.parse().unwrap(), pattern);
                    }
                }
                ["UNSUB", sid] => drop(self.subscriptions.remove(&sid.parse().unwrap())),
                _ => panic!("a lane sent {line:?}"),
            }
        }
    }

    /// Sends a message once for each subscription that matches it. Returns how often, and what becomes of the connection.
    pub(crate) fn publish(&mut self, message: &NatsMessage<'_>, max_pending: usize) -> (usize, Verdict) {
        let subject = Pattern::parse(message.subject).unwrap();
        let matching: Vec<u64> = self
            .subscriptions
            .iter()
            .filter(|(_, pattern)| pattern.covers(&subject))
            .map(|(sid, _)| *sid)
            .collect();
        for sid in &matching {
            let NatsMessage { subject, headers, payload } = message;
            let head = if headers.is_empty() {
                format!("MSG {subject} {sid} {}\r\n", payload.len()).into_bytes()
            } else {
                let block = [b"NATS/1.0\r\n", *headers, b"\r\n"].concat();
                let line =
                    format!("HMSG {subject} {sid} {} {}\r\n", block.len(), block.len() + payload.len());
                [line.as_bytes(), &block].concat()
            };
            self.send(&head);
            self.send(payload);
            self.send(b"\r\n");
        }
        let verdict = if self.unread.len() > max_pending { Verdict::CutsOff } else { Verdict::Keeps };
        (matching.len(), verdict)
    }

    /// Ends the subscriptions of a pattern.
    pub(crate) fn revoke(&mut self, pattern: &Pattern) {
        let of_pattern = self.subscriptions.iter().filter(|(_, of)| *of == pattern);
        for sid in of_pattern.map(|(sid, _)| *sid).collect::<Vec<_>>() {
            self.subscriptions.remove(&sid);
            self.deny(pattern, Some(sid));
        }
    }

    fn deny(&mut self, pattern: &Pattern, sid: Option<u64>) {
        let sid = sid.map(|sid| format!(" (sid \"{sid}\")")).unwrap_or_default();
        let error =
            format!("-ERR 'Permissions Violation for Subscription to \"{}\"{sid}'\r\n", pattern.as_str());
        self.send(error.as_bytes());
    }

    /// The next bytes on their way to the lane.
    pub(crate) fn deliver(&mut self, max: usize) -> Vec<u8> {
        let count = max.min(self.unread.len());
        self.unread.drain(..count).collect()
    }

    /// The patterns of its subscriptions.
    pub(crate) fn patterns(&self) -> Vec<&Pattern> {
        self.subscriptions.values().collect()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.unread.extend(bytes);
    }
}
