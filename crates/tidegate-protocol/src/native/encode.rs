//! Encodes replies, pushes and publications as JSON of the native protocol.

use crate::frame::Frame;
use crate::headers::PublicationHeaders;
use crate::message::Connected;
use crate::message::Push;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::position::Position;
use crate::position::SequenceRange;
use crate::publication::Publication;
use crate::scratch::Scratch;
use crate::slots::Slots;
use crate::timestamp::Timestamp;
use crate::writer::ObjectWriter;
use crate::writer::millis;
use crate::writer::put_string;

/// Estimated size of a message without its payload, in bytes, so that most buffers need not grow.
const ENVELOPE: usize = 120;

/// A publication as a message of `channel`. It has a `subject` only if that differs from the channel.
pub fn publication(scratch: &mut Scratch, channel: &str, publication: &Publication) -> Frame {
    let capacity = ENVELOPE + channel.len() + publication.subject.len() + publication.payload.bytes().len();
    let (time, is_recovery) = (scratch.timestamp(publication.time), scratch.is_recovery);
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(br#"{"type":"message","channel":"#);
        put_string(out, channel);
        let mut message = ObjectWriter::resume(out);
        if *publication.subject != *channel {
            message.text("subject", &publication.subject);
        }
        message.payload(&publication.payload);
        if publication.seq > 0 {
            message.number("seq", publication.seq);
        }
        if is_recovery {
            message.raw("recovered", b"true");
        }
        message.timestamp("time", &time);
        if !publication.headers.is_empty() {
            message.object("headers", |headers| put_headers(headers, &publication.headers));
        }
        message.end();
        Slots::default()
    };
    scratch.frame(capacity, write, &[])
}

/// One member per name. If a name occurs several times, the member is an array of its values.
fn put_headers(object: &mut ObjectWriter<'_>, headers: &PublicationHeaders) {
    for (at, (name, _)) in headers.iter().enumerate() {
        if headers.iter().take(at).any(|(earlier, _)| earlier == name) {
            continue;
        }
        let named = headers.iter().skip(at).filter(|(other, _)| *other == name);
        object.texts(name, named.map(|(_, value)| value));
    }
}

/// The reply to a command; `None` if this protocol has none.
pub fn reply(reply: &Reply) -> Option<Frame> {
    let mut has_message = true;
    let frame = object(|message| match reply {
        Reply::Connected(connected) => put_connected(message, connected),
        Reply::Subscribed { request_context, channel, snapshot, position, recovered } => {
            begin(message, "subscribed", request_context.as_ref());
            message.text("channel", channel);
            if let Some(Position { epoch, seq }) = position {
                message.text("epoch", &epoch.0);
                message.number("seq", *seq);
            }
            if let Some(recovered) = recovered {
                message.raw("recovered", if *recovered { b"true" } else { b"false" });
            }
            message.array("snapshot", snapshot.iter().map(Frame::message));
        }
        Reply::Unsubscribed { request_context, channel } => {
            begin(message, "unsubscribed", request_context.as_ref());
            message.text("channel", channel);
            message.text("code", "requested");
            message.text("reason", "the client asked for it");
        }
        Reply::Published { request_context } => begin(message, "published", request_context.as_ref()),
        Reply::Replied { request_context, data } => {
            begin(message, "reply", request_context.as_ref());
            message.payload(data);
        }
        Reply::Error { request_context, channel, error } => {
            begin(message, "error", request_context.as_ref());
            if let Some(channel) = channel {
                message.text("channel", channel);
            }
            message.text("code", error.code.name());
            message.text("message", &error.message);
        }
        Reply::Delayed { request_context, channel, error } => {
            begin(message, "error", request_context.as_ref());
            message.text("channel", channel);
            message.text("code", error.code.name());
            message.text("message", &error.message);
            message.raw("pending", b"true");
        }
        // Only pings lead to this reply in the native protocol.
        Reply::Pong { request_context } | Reply::Acknowledged { request_context } => {
            begin(message, "pong", request_context.as_ref())
        }
        Reply::LastValues { .. } | Reply::Statistics { .. } => has_message = false,
    });
    has_message.then_some(frame)
}

/// A message that the server sends on its own.
pub fn push(push: &Push) -> Frame {
    object(|message| match push {
        Push::Ping => message.text("type", "ping"),
        Push::Gap { channel, cause, dropped, range } => {
            message.text("type", "gap");
            message.text("channel", channel);
            message.text("cause", cause.name());
            if let Some(dropped) = dropped {
                message.number("dropped", *dropped);
            }
            if let Some(SequenceRange { from, to }) = range {
                message.number("from", *from);
                message.number("to", *to);
            }
        }
        Push::Stale { channel, since } => {
            message.text("type", "stale");
            message.text("channel", channel);
            message.timestamp("since", &Timestamp::new(*since));
        }
        Push::Unsubscribed { channel, error } => {
            message.text("type", "unsubscribed");
            message.text("channel", channel);
            message.text("code", error.code.name());
            message.text("reason", &error.message);
        }
        Push::Expiring { within } => {
            message.text("type", "expiring");
            message.number("in_ms", millis(*within));
        }
        Push::Close { disconnect, retry_after } => {
            message.text("type", "close");
            message.number("code", u64::from(disconnect.code()));
            message.text("reason", disconnect.name());
            if let Some(retry_after) = retry_after {
                message.number("retry_after_ms", millis(*retry_after));
            }
        }
    })
}

fn put_connected(message: &mut ObjectWriter<'_>, connected: &Connected) {
    message.text("type", "connected");
    message.text("session", &connected.session);
    message.text("user", &connected.user);
    message.text("node", &connected.node);
    message.number("ping_interval_ms", millis(connected.ping_interval));
    if let Some(expires_in) = connected.expires_in {
        message.number("expires_in_ms", millis(expires_in));
    }
    message.object("limits", |limits| {
        limits.number("message_bytes", connected.max_message as u64);
        limits.number("subscriptions", connected.max_subscriptions as u64);
    });
}

fn begin(message: &mut ObjectWriter<'_>, kind: &str, request_context: Option<&RequestContext>) {
    message.text("type", kind);
    if let Some(RequestContext::Id(json)) = request_context {
        message.raw("id", json.as_bytes());
    }
}

fn object(write: impl FnOnce(&mut ObjectWriter<'_>)) -> Frame {
    Frame::text(ENVELOPE, |out| {
        let mut message = ObjectWriter::begin(out);
        write(&mut message);
        message.end();
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;
    use std::time::SystemTime;

    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::payload::Payload;
    use crate::websocket::Opcode;
    use crate::websocket::put_header;

    /// The frame as general formatters make it, without any buffer that is reused.
    fn expected(channel: &str, publication: &Publication) -> Vec<u8> {
        let text = |text: &str| serde_json::to_string(text).unwrap();
        let mut members = vec![r#""type":"message""#.to_owned(), format!(r#""channel":{}"#, text(channel))];
        if *publication.subject != *channel {
            members.push(format!(r#""subject":{}"#, text(&publication.subject)));
        }
        members.push(match &publication.payload {
            Payload::Json(bytes) => format!(r#""data":{}"#, String::from_utf8_lossy(bytes)),
            Payload::Text(bytes) => format!(r#""data":{}"#, text(&String::from_utf8_lossy(bytes))),
            Payload::Binary(bytes) => {
                let mut base64 = Vec::new();
                Payload::put_base64(bytes, &mut base64);
                format!(r#""data_base64":{}"#, text(&String::from_utf8_lossy(&base64)))
            }
        });
        if publication.seq > 0 {
            members.push(format!(r#""seq":{}"#, publication.seq));
        }
        members.push(format!(r#""time":"{}""#, humantime::format_rfc3339_millis(publication.time)));
        let mut names: Vec<_> = publication.headers.iter().map(|(name, _)| name).collect();
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(*name));
        let header = |name: &&str| {
            let values = publication.headers.iter().filter(|(other, _)| other == name);
            let values: Vec<_> = values.map(|(_, value)| text(value)).collect();
            let value = if values.len() == 1 { values.concat() } else { format!("[{}]", values.join(",")) };
            format!("{}:{value}", text(name))
        };
        if !names.is_empty() {
            let headers: Vec<_> = names.iter().map(header).collect();
            members.push(format!(r#""headers":{{{}}}"#, headers.join(",")));
        }
        let message = format!("{{{}}}", members.join(","));
        let mut frame = Vec::new();
        put_header(&mut frame, Opcode::Text, message.len());
        [frame, message.into_bytes()].concat()
    }

    prop_compose! {
        fn publications()(
            subject in select(&["prices.AAPL", "prices.*", "a\"b\\c", "é"][..]),
            payload in prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                vec(any::<u8>(), 0..200),
                select(&[0_usize, 1, 60, 120, 65_400, 65_536, 70_000][..]).prop_map(|len| vec![b'1'; len]),
                Just(br#"{"price":190.1,"note":"\u00e9 \"x\""}"#.to_vec()),
            ],
            headers in vec(("[a-c\"]{1,2}", ".{0,20}"), 0..6),
            millis in 0..253_402_300_800_000_u64,
            seq in select(&[0, 1, u64::MAX][..]),
        ) -> Publication {
            Publication {
                subject: subject.into(),
                payload: Payload::classify(Bytes::from(payload)),
                headers: headers.into_iter().collect(),
                key: subject.into(),
                time: SystemTime::UNIX_EPOCH + Duration::from_millis(millis),
                seq,
            }
        }
    }

    proptest! {
        #[test]
        fn frames_are_the_same_whatever_was_encoded_before_them(
            publications in vec(publications(), 1..8),
            channel in select(&["prices.AAPL", "prices.*", "a\"b\\c"][..]),
        ) {
            let mut scratch = Scratch::default();
            for one in &publications {
                let frame = publication(&mut scratch, channel, one);
                let expected = expected(channel, one);
                prop_assert_eq!(frame.as_bytes().escape_ascii().to_string(), expected.escape_ascii().to_string());
                prop_assert_eq!((frame.note(), frame.has_slots()), (&b""[..], false));
            }
        }
    }
}
