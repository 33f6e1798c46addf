//! Rules and calls: the keys of each, and which of them each word for `do` takes.

use crate::language::key::Key;
use crate::language::key::Kind;
use crate::language::key::Word;

/// Tables of one kind in a file: paths, rules for messages, rules for publications.
pub(crate) const MAX_TABLES: u32 = 256;
/// Tables `[[path.on_connect]]` of one path.
pub(crate) const MAX_ON_CONNECT: u32 = 16;
/// The methods that a route may have.
pub(crate) const METHODS: &[&str] = &["GET", "POST", "PUT", "DELETE"];

/// `[[receive]]`.
#[rustfmt::skip]
pub(crate) const RECEIVE: &[Key] = &[
    Key::required("do", Kind::Do, "What is done."),
    Key::optional("path", Kind::Shared("names"), "The names of the paths for which this holds. Left out: all of them."),
    Key::optional("when", Kind::Shared("match"), "Which messages it takes. The first rule that takes a message, in the order of the file, decides. Left out: any object."),
    Key::optional("require", Kind::Shared("require"), ""),
    Key::optional("confirm", Kind::Shared("template"), "What the client is sent when it is done. Left out: nothing."),
    Key::optional("refuse", Kind::Shared("template"), "What the client is sent when it is refused, in place of [error] send. Here {code}, {message} and {channel} are known."),
    Key::optional("set", Kind::Shared("templates"), "Sets {var.name} for the session when the message is accepted."),
    Key::optional("channel", Kind::Shared("subjects"), "The subject or pattern that is meant."),
    Key::optional("channels", Kind::Shared("subjects"), "The same, for several."),
    Key::optional("each", Kind::Shared("each"), ""),
    Key::optional("group", Kind::Shared("text"), "The set of subscriptions that is meant; \"\" where it is left out. In one group a publication comes once."),
    Key::optional("unique", Kind::Boolean, "Refused with already_subscribed if the group holds anything."),
    Key::optional("keep", Kind::Shared("templates"), "What later messages of this subscription may say, as {sub.name}."),
    Key::optional("max_rate_ms", Kind::Shared("rate"), "At most one publication of each key in this time; for channels of class latest."),
    Key::optional("field", Kind::Text(1, 0), "The field of publications that is looked at, without braces: \"data.type\", \"subject.2\" or \"nats.Name\"."),
    Key::optional("in", Kind::Shared("placeholder"), "The placeholder with the list of values that are wanted from now on: at most 64 texts or numbers of at most 128 bytes."),
    Key::optional("subject", Kind::Shared("subject"), "Where the message goes: one subject, without wildcards."),
    Key::optional("data", Kind::Shared("template"), "What is sent there, as JSON."),
    Key::optional("headers", Kind::Shared("headers"), ""),
    Key::optional("timeout_ms", Kind::Shared("millis"), "How long to wait for the answer. Left out: nats.request_timeout_ms."),
    Key::optional("send", Kind::Shared("template"), "The answer."),
    Key::optional("token", Kind::Shared("placeholder"), "The placeholder with the credential."),
    Key::optional("code", Kind::CodeOfRule, "For do = \"error\": as which error it counts, bad_request where it is left out. For do = \"close\": the close code, 1000 where it is left out."),
    Key::optional("message", Kind::Shared("text"), "What is wrong."),
    Key::optional("reason", Kind::Text(0, 123), "The reason in the close frame, at most 123 bytes."),
];

/// Words for `do` in `[[receive]]`.
#[rustfmt::skip]
pub(crate) const RECEIVE_WORDS: &[Word] = &[
    Word { name: "subscribe", doc: "Joins channels, as far as the roles allow.", keys: &["confirm", "set", "channel", "channels", "each", "group", "unique", "keep", "max_rate_ms"], required: &[], takes_channels: true },
    Word { name: "replace", doc: "Joins channels and leaves all others of the group; all must be permitted.", keys: &["confirm", "set", "channel", "channels", "each", "group", "keep", "max_rate_ms"], required: &["group"], takes_channels: true },
    Word { name: "unsubscribe", doc: "Leaves channels; without channel, all of the group.", keys: &["confirm", "set", "channel", "channels", "each", "group"], required: &[], takes_channels: false },
    Word { name: "filter", doc: "Only some publications of a channel from now on.", keys: &["confirm", "set", "channel", "field", "in"], required: &["channel", "field", "in"], takes_channels: false },
    Word { name: "publish", doc: "Publishes on NATS.", keys: &["confirm", "set", "subject", "data", "headers"], required: &["subject", "data"], takes_channels: false },
    Word { name: "request", doc: "Asks a service on NATS; send is made of its {reply}.", keys: &["set", "subject", "data", "timeout_ms", "send"], required: &["subject", "data", "send"], takes_channels: false },
    Word { name: "auth", doc: "Shows a credential.", keys: &["confirm", "set", "token"], required: &["token"], takes_channels: false },
    Word { name: "send", doc: "Answers, and asks nobody.", keys: &["set", "send"], required: &["send"], takes_channels: false },
    Word { name: "pong", doc: "The same; needs no identity.", keys: &["set", "send"], required: &[], takes_channels: false },
    Word { name: "ignore", doc: "Nothing is done and nothing is said.", keys: &[], required: &[], takes_channels: false },
    Word { name: "error", doc: "Refuses.", keys: &["code", "message"], required: &["message"], takes_channels: false },
    Word { name: "close", doc: "Ends the session.", keys: &["code", "reason"], required: &[], takes_channels: false },
];

/// Words for `do` in `[[path.on_connect]]`: what can be done before a client has said anything.
pub(crate) const ON_CONNECT: [&str; 3] = ["subscribe", "replace", "filter"];

/// `[[http]]`.
#[rustfmt::skip]
pub const HTTP: &[Key] = &[
    Key::required("method", Kind::Words(METHODS), "The method."),
    Key::required("path", Kind::Text(1, 0), "The path, such as \"/orders/{id}\"."),
    Key::required("do", Kind::Do, "What is done."),
    Key::optional("require", Kind::Shared("require"), ""),
    Key::optional("send", Kind::Shared("template"), "The body of the answer. Left out: an empty one."),
    Key::optional("status", Kind::Whole(200, 599), "The status of the answer; 200 where it is left out."),
    Key::optional("subject", Kind::Shared("subject"), "Where the message goes: one subject, without wildcards."),
    Key::optional("data", Kind::Shared("template"), "What is sent there, as JSON."),
    Key::optional("headers", Kind::Shared("headers"), ""),
    Key::optional("timeout_ms", Kind::Shared("millis"), "How long to wait for the answer. Left out: nats.request_timeout_ms."),
    Key::optional("channel", Kind::Shared("subjects"), "The subject or pattern that is meant."),
    Key::optional("channels", Kind::Shared("subjects"), "The same, for several."),
    Key::optional("each", Kind::Shared("each"), ""),
];

/// Words for `do` in `[[http]]`.
#[rustfmt::skip]
pub(crate) const HTTP_WORDS: &[Word] = &[
    Word { name: "publish", doc: "Publishes on NATS.", keys: &["subject", "data", "headers"], required: &["subject", "data"], takes_channels: false },
    Word { name: "request", doc: "Asks a service on NATS; send is made of its {reply}.", keys: &["subject", "data", "timeout_ms"], required: &["subject", "data"], takes_channels: false },
    Word { name: "last", doc: "The last values of channels: {list}, {count}; of one channel {data}.", keys: &["channel", "channels", "each"], required: &[], takes_channels: true },
    Word { name: "stats", doc: "Figures of this vocabulary, of all nodes together: {stats.x}.", keys: &[], required: &[], takes_channels: false },
    Word { name: "receive", doc: "The body is one message, and [[receive]] says what becomes of it.", keys: &[], required: &[], takes_channels: false },
    Word { name: "send", doc: "A fixed answer.", keys: &[], required: &[], takes_channels: false },
    Word { name: "health", doc: "{status} of the node.", keys: &[], required: &[], takes_channels: false },
    Word { name: "console", doc: "A page to try the vocabulary with, where http.console is on.", keys: &[], required: &[], takes_channels: false },
];
