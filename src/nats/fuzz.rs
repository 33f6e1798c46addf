//! Feeds arbitrary bytes to a [`Link`], for fuzz tests only.

use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;
use tidegate_protocol::subject::Pattern;

use crate::nats::incoming::Incoming;
use crate::nats::info::ServerInfo;
use crate::nats::link::Link;
use crate::nats::message::HeaderLine;
use crate::nats::message::Message;

/// Returns the events that a link produces from these bytes, read in chunks of `piece` bytes, and what it sends. The
/// result must not depend on `piece`, and the link must not panic.
pub fn link(bytes: &[u8], piece: usize) -> (Vec<String>, Vec<u8>) {
    let now = Instant::now();
    let mut link = Link::new(Duration::from_secs(5), now);
    link.open(ServerInfo::default(), b"CONNECT {}\r\n", BytesMut::from(&b"PONG\r\n"[..]), now);
    let mut events = take(&mut link);
    for text in ["a.b", "a.*", ">"] {
        if let Ok(pattern) = Pattern::parse(text) {
            link.subscribe(&pattern);
        }
    }
    let mut sent = link.unsent().to_vec();
    link.sent(sent.len());
    for piece in bytes.chunks(piece.max(1)) {
        if link.take_end_reason().is_some() {
            break;
        }
        link.read_buffer().extend_from_slice(piece);
        link.received();
        events.extend(take(&mut link));
    }
    sent.extend_from_slice(link.unsent());
    link.disconnect("the end");
    events.extend(take(&mut link));
    (events, sent)
}

fn take(link: &mut Link) -> Vec<String> {
    let mut events = Vec::new();
    while link.has_more() {
        let mut batch = Vec::new();
        link.take(2, &mut batch);
        events.extend(batch.iter().map(describe));
    }
    events
}

fn describe(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Message(key, message) => format!("{key:?} {}", describe_message(message)),
        Incoming::Opened(_)
        | Incoming::Failed(..)
        | Incoming::Malformed(_)
        | Incoming::Interrupted(_)
        | Incoming::LinkLost => format!("{incoming:?}"),
    }
}

fn describe_message(message: &Message) -> String {
    let read = |line: HeaderLine<'_>| line.parts().map(|(name, value)| format!("{name}: {:?}", value.read()));
    let headers: Vec<_> = message.header_lines().map(read).collect();
    let key = message.header("Tidegate-Key");
    format!("{} {:?} {key:?} {headers:?}", message.subject(), message.payload())
}
