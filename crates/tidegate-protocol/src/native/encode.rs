//! Encodes replies, pushes and publications as JSON of the native protocol.

use std::sync::Arc;

use crate::frame::Frame;
use crate::json;
use crate::message::Connected;
use crate::message::Push;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::publication::Publication;
use crate::writer::ObjectWriter;
use crate::writer::millis;

/// Estimated size of a message without its payload, in bytes, so that most buffers need not grow.
const ENVELOPE: usize = 120;

/// A publication as a message of `channel`. It has a `subject` only if that differs from the channel.
pub fn publication(channel: &Arc<str>, publication: &Publication) -> Frame {
    let capacity = ENVELOPE + channel.len() + publication.subject.len() + publication.payload.bytes().len();
    Frame::text(capacity, |out| {
        let mut message = ObjectWriter::begin(out);
        message.text("type", "message");
        message.text("channel", channel);
        if *publication.subject != **channel {
            message.text("subject", &publication.subject);
        }
        message.payload(&publication.payload);
        message.time("time", publication.time);
        if !publication.headers.is_empty() {
            message.object("headers", |headers| put_headers(headers, &publication.headers));
        }
        message.end();
    })
}

/// One member per name. If a name occurs several times, the member is an array of its values.
fn put_headers(object: &mut ObjectWriter<'_>, headers: &[(String, String)]) {
    for (at, (name, value)) in headers.iter().enumerate() {
        if headers[..at].iter().any(|(earlier, _)| earlier == name) {
            continue;
        }
        let values: Vec<_> = headers[at..].iter().filter(|(other, _)| other == name).collect();
        if values.len() == 1 {
            object.text(name, value);
        } else {
            let values: Vec<_> = values.iter().map(|(_, value)| json::string(value)).collect();
            object.array(name, values.iter().map(String::as_bytes));
        }
    }
}

/// The reply to a command; `None` if this protocol has none.
pub fn reply(reply: &Reply) -> Option<Frame> {
    let mut has_message = true;
    let frame = object(|message| match reply {
        Reply::Connected(connected) => put_connected(message, connected),
        Reply::Subscribed { request_context, channel, snapshot } => {
            begin(message, "subscribed", request_context.as_ref());
            message.text("channel", channel);
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
        Push::Gap { channel, cause, dropped } => {
            message.text("type", "gap");
            message.text("channel", channel);
            message.text("cause", cause.name());
            if let Some(dropped) = dropped {
                message.number("dropped", *dropped);
            }
        }
        Push::Stale { channel, since } => {
            message.text("type", "stale");
            message.text("channel", channel);
            message.time("since", *since);
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
