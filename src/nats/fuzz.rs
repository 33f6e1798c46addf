//! Fuzz: bytes of any kind for the reader of NATS, in tests only.

use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;
use tidegate_protocol::subject::Pattern;

use crate::nats::incoming::Incoming;
use crate::nats::info::Info;
use crate::nats::link::Link;
use crate::nats::message::Message;

/// What a link makes of these bytes, which come in pieces of that size, and what it answers. A panic is a fault of ours,
/// and so is another outcome for another size.
pub fn link(bytes: &[u8], piece: usize) -> (Vec<String>, Vec<u8>) {
    let now = Instant::now();
    let mut link = Link::new(Duration::from_secs(5), now);
    link.open(Info::default(), b"CONNECT {}\r\n", BytesMut::from(&b"PONG\r\n"[..]), now);
    let mut heard = take(&mut link);
    for text in ["a.b", "a.*", ">"] {
        if let Ok(pattern) = Pattern::parse(text) {
            link.subscribe(&pattern);
        }
    }
    let mut sent = link.unsent().to_vec();
    link.sent(sent.len());
    for piece in bytes.chunks(piece.max(1)) {
        if link.ended().is_some() {
            break;
        }
        link.room().extend_from_slice(piece);
        link.received();
        heard.extend(take(&mut link));
    }
    sent.extend_from_slice(link.unsent());
    link.cut("the end");
    heard.extend(take(&mut link));
    (heard, sent)
}

fn take(link: &mut Link) -> Vec<String> {
    let mut words = Vec::new();
    while link.has_more() {
        let mut batch = Vec::new();
        link.take(2, &mut batch);
        words.extend(batch.iter().map(word));
    }
    words
}

fn word(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Message(key, message) => format!("{key:?} {}", of(message)),
        Incoming::Opened(_)
        | Incoming::Failed(..)
        | Incoming::Malformed(_)
        | Incoming::Interrupted(_)
        | Incoming::LinkLost => format!("{incoming:?}"),
    }
}

fn of(message: &Message) -> String {
    let headers = message.headers(&["*".to_owned()]);
    let key = message.header("Tidegate-Key");
    format!("{} {:?} {key:?} {headers:?}", message.subject(), message.payload())
}
