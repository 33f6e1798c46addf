//! The sections of a vocabulary's file: every key, what it holds, and what it is for.

use crate::language::key::Key;
use crate::language::key::Kind;
use crate::language::rules::MAX_ON_CONNECT;
use crate::language::rules::MAX_TABLES;

/// The top of the file.
#[rustfmt::skip]
pub const TOP: &[Key] = &[
    Key::required("name", Kind::Text(1, 64), "The vocabulary's name: small letters, digits and \"-\". It is a WebSocket subprotocol too."),
    Key::optional("description", Kind::Text(0, 0), "What it is for."),
    Key::optional("protocol", Kind::Table(PROTOCOL), "What holds for every message."),
    Key::required("path", Kind::Tables("path", 1, MAX_TABLES), "Where clients come in."),
    Key::optional("greeting", Kind::Table(SAID), "What a client is sent when it is known who it is. Left out: nothing is said."),
    Key::optional("heartbeat", Kind::Table(HEARTBEAT), "Who pings in messages. Pings of the WebSocket itself go on."),
    Key::optional("receive", Kind::Tables("receive", 0, MAX_TABLES), "What a client may send. The first rule that takes a message decides."),
    Key::optional("unknown", Kind::Table(UNKNOWN), "What becomes of a message that no rule takes."),
    Key::optional("deliver", Kind::Tables("deliver", 0, MAX_TABLES), "What a client is sent of the channels that it has."),
    Key::optional("error", Kind::Table(ERROR), "What a client is sent when something is refused."),
    Key::optional("gap", Kind::Table(SAID), "What a client is sent where publications are missing: {channel}, {cause}, {dropped}, {sub.x}. Left out: nothing is said."),
    Key::optional("stale", Kind::Table(SAID), "What a client is sent when a channel has fallen silent: {channel}, {since}, {sub.x}. Left out: nothing is said."),
    Key::optional("unsubscribed", Kind::Table(SAID), "What a client is sent when a channel ends unasked: {channel}, {code}, {message}, {sub.x}. Left out: nothing is said."),
    Key::optional("expiring", Kind::Table(SAID), "What a client is sent before its credential expires: {in_ms}. Left out: nothing is said."),
    Key::optional("close", Kind::Ends(CLOSE), "How sessions end: Tidegate's name of an end, and the code that this frontend knows."),
    Key::optional("http", Kind::Tables("http", 0, MAX_TABLES), "HTTP requests beside the socket."),
];

/// `[protocol]`.
#[rustfmt::skip]
pub const PROTOCOL: &[Key] = &[
    Key::optional("subprotocols", Kind::Shared("names"), "The WebSocket subprotocols that stand for it, beside its name. The first that a client offers and that is known is taken."),
    Key::optional("required", Kind::Boolean, "Whether a client that offers none is refused."),
    Key::optional("encoding", Kind::Words(&["json"]), "How messages are written."),
    Key::optional("time", Kind::Words(&["rfc3339_ms", "rfc3339", "naive", "unix", "unix_ms"]), "How {time}, {now} and {since} are written where no filter says it. rfc3339_ms: 2024-10-05T10:30:00.000Z. rfc3339: 2024-10-05T10:30:00Z. naive: 2024-10-05T10:30:00, in UTC. unix, unix_ms: seconds or milliseconds since 1970, as a number."),
];

#[rustfmt::skip]
const SAID: &[Key] = &[
    Key::required("send", Kind::Shared("template"), "The message."),
];

/// `[heartbeat]`.
#[rustfmt::skip]
pub(crate) const HEARTBEAT: &[Key] = &[
    Key::optional("by", Kind::Words(&["client", "server", "both"]), "client: a rule answers it. server, both: ping is sent."),
    Key::optional("every", Kind::Text(0, 0), "How often the server pings, in seconds: \"30s\", at most \"3600s\". Left out: limits.ping_interval_s."),
    Key::optional("ping", Kind::Shared("template"), "What the server sends."),
    Key::optional("pong", Kind::Shared("match"), "What the client answers; such messages are ignored."),
];

/// `[unknown]`.
#[rustfmt::skip]
pub(crate) const UNKNOWN: &[Key] = &[
    Key::optional("do", Kind::Words(&["ignore"]), "Nothing is done and nothing said."),
    Key::optional("code", Kind::Shared("error_name"), "As which error it counts; unknown_type where it is left out."),
    Key::optional("message", Kind::Shared("text"), "What is wrong."),
];

/// `[error]`.
#[rustfmt::skip]
pub const ERROR: &[Key] = &[
    Key::optional("send", Kind::Shared("template"), "The message: {code}, {message}, {channel}, and what the client sent. Left out: errors are silent."),
    Key::optional("codes", Kind::Codes, "What {code} becomes."),
    Key::optional("close", Kind::ClosingCodes, "Errors that are not sent: they end the session with this code."),
];

#[rustfmt::skip]
const CLOSE: &[Key] = &[
    Key::optional("send", Kind::Shared("template"), "A message before the close frame: {close_code}, {reason}, {retry_after_ms}."),
];

/// `[[path]]`.
#[rustfmt::skip]
pub const PATH: &[Key] = &[
    Key::required("name", Kind::Text(1, 0), "Its name, for rules and statistics."),
    Key::required("path", Kind::Text(1, 0), "The path of the handshake. {name} stands for one whole segment."),
    Key::optional("token_query", Kind::Text(1, 0), "The query parameter that may hold a credential. It never reaches a placeholder."),
    Key::optional("token_field", Kind::Text(1, 0), "The member of a message that may hold a credential, or the path to it, \"data.token\"."),
    Key::optional("label", Kind::Shared("text"), "What statistics call a session: any text of at most 128 bytes. It opens nothing."),
    Key::optional("require", Kind::Shared("require"), ""),
    Key::optional("greeting", Kind::Shared("template"), "What a client is sent when it is known who it is, in place of [greeting]."),
    Key::optional("on_connect", Kind::Tables("on_connect", 0, MAX_ON_CONNECT), "What is done for it then."),
];

/// `[[deliver]]`.
#[rustfmt::skip]
pub(crate) const DELIVER: &[Key] = &[
    Key::required("pattern", Kind::Text(1, 0), "Which subjects."),
    Key::optional("path", Kind::Shared("names"), "The names of the paths for which this holds. Left out: all of them."),
    Key::optional("when", Kind::Shared("match"), "What must hold of the publication: data.x, nats.Name, subject.N."),
    Key::required("send", Kind::Shared("template"), "The message. {data}, {subject}, {subject.N}, {capture.N}, {time}, {nats.Name}, {sub.x} and the session's placeholders but {var.x}."),
];

/// What each error means, in the order of the code.
#[rustfmt::skip]
pub(crate) const ERRORS: &[(&str, &str)] = &[
    ("bad_request", "A field is missing or of the wrong type."),
    ("not_json", "No text message, no JSON object, or a member twice."),
    ("unknown_type", "No rule takes the message."),
    ("unsupported", "Known, and not possible for this channel."),
    ("unauthorized", "No identity yet, or a credential that is refused."),
    ("token_expired", "A token that was good and has ended."),
    ("forbidden", "The roles do not allow it, or `require` does not hold."),
    ("bad_channel", "A value that cannot be one token, or no valid subject."),
    ("already_subscribed", "`unique`, and the group holds something."),
    ("not_subscribed", "A filter of a channel that is not held."),
    ("limit_exceeded", "Too many channels, or requests that wait."),
    ("rate_limited", "Too many messages in too short a time."),
    ("bad_data", "Data or a header is too large or not allowed."),
    ("no_responders", "No service listens on the subject."),
    ("service", "The service says that it has failed (header Nats-Service-Error)."),
    ("timeout", "No answer came in time."),
    ("unavailable", "NATS is away."),
    ("try_again", "The node is busy."),
    ("default", "All others."),
];
