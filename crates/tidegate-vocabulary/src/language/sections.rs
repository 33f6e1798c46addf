//! The keys of the sections of a vocabulary's file, except those in `rules.rs`.

use crate::language::key::Key;
use crate::language::key::Kind;
use crate::language::rules::IF;
use crate::language::rules::MAX_ON_CONNECT;
use crate::language::rules::MAX_TABLES;
use crate::language::rules::UNLESS;

/// The top of the file.
#[rustfmt::skip]
pub const TOP: &[Key] = &[
    Key::required("name", Kind::Text(1, 64), "The name of the vocabulary: lower-case letters, digits and \"-\". It is also a WebSocket subprotocol."),
    Key::optional("description", Kind::Text(0, 0), "What it is for."),
    Key::optional("switches", Kind::Shared("switches"), ""),
    Key::optional("protocol", Kind::Table(PROTOCOL), "Subprotocols, and the format of messages."),
    Key::required("path", Kind::Tables("path", 1, MAX_TABLES), "Where clients connect."),
    Key::optional("greeting", Kind::Table(SEND_ONLY), "The first message to a client, sent when it has an identity. Default: none."),
    Key::optional("heartbeat", Kind::Table(HEARTBEAT), "Pings in messages. Pings of the WebSocket itself do not depend on it."),
    Key::optional("receive", Kind::Tables("receive", 0, MAX_TABLES), "The messages that clients may send. The first rule that matches a message is used."),
    Key::optional("unknown", Kind::Table(UNKNOWN), "What happens with a message that no rule matches."),
    Key::optional("deliver", Kind::Tables("deliver", 0, MAX_TABLES), "How publications on a client's channels are sent."),
    Key::optional("error", Kind::Table(ERROR), "How errors are sent."),
    Key::optional("gap", Kind::Table(SEND_ONLY), "The message where publications are missing: {channel}, {cause}, {dropped}, {sub.x}. Default: none."),
    Key::optional("stale", Kind::Table(SEND_ONLY), "The message when a channel becomes stale: {channel}, {since}, {sub.x}. Default: none."),
    Key::optional("unsubscribed", Kind::Table(SEND_ONLY), "The message when the server ends a channel: {channel}, {code}, {message}, {sub.x}. Default: none."),
    Key::optional("expiring", Kind::Table(SEND_ONLY), "The message before a client's credential expires: {in_ms}. Default: none."),
    Key::optional("close", Kind::CloseCodes(CLOSE), "Close codes for the ends of a session, by Tidegate's names."),
    Key::optional("http", Kind::Tables("http", 0, MAX_TABLES), "HTTP requests that the vocabulary answers."),
];

/// `[protocol]`.
#[rustfmt::skip]
pub const PROTOCOL: &[Key] = &[
    Key::optional("subprotocols", Kind::Shared("names"), "More WebSocket subprotocols that select the vocabulary. The first one that a client offers and that is known is used."),
    Key::optional("required", Kind::Boolean, "Whether a client must offer one of the subprotocols."),
    Key::optional("encoding", Kind::OneOf(&["json"]), "The encoding of messages."),
    Key::optional("time", Kind::OneOf(&["rfc3339_ms", "rfc3339", "naive", "unix", "unix_ms"]), "The format of {time}, {now} and {since} without a time filter. rfc3339_ms: 2024-10-05T10:30:00.000Z. rfc3339: 2024-10-05T10:30:00Z. naive: 2024-10-05T10:30:00, in UTC. unix, unix_ms: seconds or milliseconds since 1970, as a number."),
];

#[rustfmt::skip]
const SEND_ONLY: &[Key] = &[
    Key::required("send", Kind::Shared("template"), "The message."),
];

/// `[heartbeat]`.
#[rustfmt::skip]
pub(crate) const HEARTBEAT: &[Key] = &[
    Key::optional("by", Kind::OneOf(&["client", "server", "both"]), "Who sends pings. client: a rule must answer them. server or both: the server sends `ping`."),
    Key::optional("every", Kind::Text(0, 0), "The time between pings of the server, in seconds: \"30s\", at most \"3600s\". Default: limits.ping_interval_s."),
    Key::optional("ping", Kind::Shared("template"), "The ping of the server."),
    Key::optional("pong", Kind::Shared("match"), "The answer of the client. Messages that match it are ignored."),
];

/// `[unknown]`.
#[rustfmt::skip]
pub(crate) const UNKNOWN: &[Key] = &[
    Key::optional("do", Kind::OneOf(&["ignore"]), "ignore: the message has no effect and no answer."),
    Key::optional("code", Kind::Shared("error_name"), "The error. Default: unknown_type."),
    Key::optional("message", Kind::Shared("text"), "The text of the error."),
];

/// `[error]`.
#[rustfmt::skip]
pub const ERROR: &[Key] = &[
    Key::optional("send", Kind::Shared("template"), "The message for errors: {code}, {message}, {channel}, and the client's message. Default: errors are not sent."),
    Key::optional("codes", Kind::ErrorNames, "The values of {code}."),
    Key::optional("refuse_codes", Kind::ErrorNames, "The values of {code} in `refuse` of rules. Default: those of `codes`."),
    Key::optional("close", Kind::ClosingCodes, "Errors that are not sent but end the session, with its close code."),
];

#[rustfmt::skip]
const CLOSE: &[Key] = &[
    Key::optional("send", Kind::Shared("template"), "The last message before the close frame: {close_code}, {reason}, {retry_after_ms}."),
];

/// `[[path]]`.
#[rustfmt::skip]
pub const PATH: &[Key] = &[
    Key::required("name", Kind::Text(1, 0), "The name of the path, for rules and statistics."),
    Key::required("path", Kind::Text(1, 0), "The path of the handshake. {name} matches one whole segment."),
    Key::optional("token_query", Kind::Text(1, 0), "The query parameter that may hold a credential. Placeholders cannot read it."),
    Key::optional("token_field", Kind::Text(1, 0), "The member of messages that may hold a credential, or the path to it, such as \"data.token\"."),
    Key::optional("label", Kind::Shared("text"), "The name of a session in statistics, at most 128 bytes. It gives no permissions."),
    Key::optional("require", Kind::Shared("require"), ""),
    Key::optional("greeting", Kind::Shared("template"), "The first message to a client, in place of [greeting]."),
    Key::optional("on_connect", Kind::Tables("on_connect", 0, MAX_ON_CONNECT), "Actions when a client has an identity, after the greeting."),
];

/// `collect` of `[[deliver]]`.
#[rustfmt::skip]
pub(crate) const COLLECT: &[Key] = &[
    Key::required("by", Kind::Shared("placeholder"), "The value that an element has in common with the element that replaces it, such as \"{data.symbol}\"."),
];

/// `[[deliver]]`.
#[rustfmt::skip]
pub(crate) const DELIVER: &[Key] = &[
    Key::required("pattern", Kind::Text(1, 0), "The subjects of the publications."),
    Key::optional("if", Kind::Shared("switch"), IF),
    Key::optional("unless", Kind::Shared("switch"), UNLESS),
    Key::optional("path", Kind::Shared("names"), "The names of the paths to which the rule belongs. Default: all paths."),
    Key::optional("when", Kind::Shared("match"), "Conditions on the publication: data.x, nats.Name, subject.N."),
    Key::optional("each", Kind::Shared("placeholder"), "A part of the payload that may be a list, such as \"{data}\". The rule is applied to each element, as if it had been published alone: {data} is the element. Another value is one element; an empty list sends nothing."),
    Key::optional("channel", Kind::Shared("subject"), "With each: the channel to which an element belongs. Only clients that have joined it get the element. Default, and if a value is missing: the subject of the publication."),
    Key::optional("collect", Kind::Table(COLLECT), "With each: a client gets its current elements together, as {list}."),
    Key::required("send", Kind::Shared("template"), "The message. {data}, {subject}, {subject.N}, {subject.N..}, {capture.N}, {time}, {nats.Name}, {sub.x} and the placeholders of the session except {var.x}. With collect: {list}, {count}, {time} and those of the session."),
];

/// The meaning of each error, in the order of `ErrorCode`.
#[rustfmt::skip]
pub(crate) const ERRORS: &[(&str, &str)] = &[
    ("bad_request", "A field is missing or of the wrong type."),
    ("not_json", "The message is binary, is not a JSON object, or has a duplicate member."),
    ("unknown_type", "No rule matches the message."),
    ("unsupported", "The action is not possible for this channel."),
    ("unauthorized", "The client has no identity yet, or its credential was refused."),
    ("token_expired", "A valid token has expired."),
    ("forbidden", "The roles do not allow it, or a `require` failed."),
    ("bad_channel", "A value cannot be one token, or the subject is invalid."),
    ("already_subscribed", "`unique` is set, and the group is not empty."),
    ("not_subscribed", "The filter is for a channel without a subscription."),
    ("limit_exceeded", "There are too many channels or waiting requests."),
    ("rate_limited", "Too many HTTP calls in a short time. Messages that come too fast are read later."),
    ("bad_data", "The data or a header is too large or not allowed."),
    ("no_responders", "No service listens on the subject."),
    ("service", "The service reported an error (header Nats-Service-Error)."),
    ("timeout", "The service did not reply in time."),
    ("unavailable", "NATS is not connected."),
    ("try_again", "The node is busy."),
    ("default", "All other errors."),
];
