//! The keys and actions of `[[receive]]`, `[[path.on_connect]]` and `[[http]]`.

use crate::language::key::ActionSpec;
use crate::language::key::Key;
use crate::language::key::Kind;

/// The most tables of one kind in a file.
pub(crate) const MAX_TABLES: u32 = 256;
/// The most `[[path.on_connect]]` of one path.
pub(crate) const MAX_ON_CONNECT: u32 = 16;
pub(crate) const METHODS: &[&str] = &["GET", "POST", "PUT", "DELETE"];

/// The documentation of `if` and `unless`.
pub(super) const IF: &str = "The switch that must be on. Otherwise the rule is left out.";
pub(super) const UNLESS: &str = "The switch that must be off. Otherwise the rule is left out.";

/// `[[receive]]`.
#[rustfmt::skip]
pub(crate) const RECEIVE: &[Key] = &[
    Key::required("do", Kind::Action, "The action."),
    Key::optional("path", Kind::Shared("names"), "The names of the paths to which the rule belongs. Default: all paths."),
    Key::optional("if", Kind::Shared("switch"), IF),
    Key::optional("unless", Kind::Shared("switch"), UNLESS),
    Key::optional("when", Kind::Shared("match"), "The messages that it matches. The first rule that matches, in the order of the file, is used. Default: any object."),
    Key::optional("require", Kind::Shared("require"), ""),
    Key::optional("confirm", Kind::Shared("template"), "The message on success. Default: none."),
    Key::optional("refuse", Kind::Shared("template"), "The message on an error, in place of [error] send. It may read {code}, {message} and {channel}."),
    Key::optional("set", Kind::Shared("templates"), "Values for {var.name} in this session, set when the message is accepted."),
    Key::optional("channel", Kind::Shared("subjects"), "The subject or pattern."),
    Key::optional("channels", Kind::Shared("subjects"), "Several subjects or patterns."),
    Key::optional("each", Kind::Shared("each"), ""),
    Key::optional("group", Kind::Shared("text"), "The group of the subscriptions. Each group receives a publication once. Default: \"\"."),
    Key::optional("unique", Kind::Boolean, "Fails with already_subscribed if the group is not empty."),
    Key::optional("keep", Kind::Shared("templates"), "Values to store with the subscription, for {sub.name} in later messages."),
    Key::optional("max_rate_ms", Kind::Shared("rate"), "The minimum time between two publications of a key, for channels of class latest."),
    Key::optional("field", Kind::Text(1, 0), "The field of publications to compare, without braces: \"data.type\", \"subject.2\" or \"nats.Name\"."),
    Key::optional("in", Kind::Shared("placeholder"), "A placeholder with the list of wanted values: at most 64 texts or numbers of at most 128 bytes."),
    Key::optional("not", Kind::Shared("placeholder"), "A placeholder with the list of unwanted values, like `in`."),
    Key::optional("min", Kind::Shared("placeholder"), "A placeholder with the least number. The value passes if it is a number, or a text that is one."),
    Key::optional("max", Kind::Shared("placeholder"), "A placeholder with the greatest number. The value passes if it is a number, or a text that is one."),
    Key::optional("change", Kind::OneOf(&["add", "remove"]), "Changes the lists of the filter before instead of replacing it: adds these values, or removes them."),
    Key::optional("subject", Kind::Shared("subject"), "The NATS subject, without wildcards."),
    Key::optional("data", Kind::Shared("template"), "The payload, as JSON."),
    Key::optional("headers", Kind::Shared("headers"), ""),
    Key::optional("timeout_ms", Kind::Shared("millis"), "How long to wait for the reply. Default: nats.request_timeout_ms."),
    Key::optional("send", Kind::Shared("template"), "The answer to the client."),
    Key::optional("token", Kind::Shared("placeholder"), "The placeholder with the credential."),
    Key::optional("code", Kind::RuleCode, "For do = \"error\": the error; default: bad_request. For do = \"close\": the close code; default: 1000."),
    Key::optional("message", Kind::Shared("text"), "The text of the error."),
    Key::optional("reason", Kind::Text(0, 123), "The reason in the close frame, at most 123 bytes."),
];

/// The actions of `[[receive]]`.
#[rustfmt::skip]
pub(crate) const RECEIVE_ACTIONS: &[ActionSpec] = &[
    ActionSpec { name: "subscribe", doc: "Joins the channels that the roles allow.", keys: &["confirm", "set", "channel", "channels", "each", "group", "unique", "keep", "max_rate_ms"], required: &[], takes_channels: true },
    ActionSpec { name: "replace", doc: "Joins channels and leaves all others of the group, if the roles allow all of them.", keys: &["confirm", "set", "channel", "channels", "each", "group", "keep", "max_rate_ms"], required: &["group"], takes_channels: true },
    ActionSpec { name: "unsubscribe", doc: "Leaves channels, or all channels of the group.", keys: &["confirm", "set", "channel", "channels", "each", "group"], required: &[], takes_channels: false },
    ActionSpec { name: "filter", doc: "Receives only some publications of a channel from now on.", keys: &["confirm", "set", "channel", "field", "in", "not", "min", "max", "change"], required: &["channel", "field"], takes_channels: false },
    ActionSpec { name: "publish", doc: "Publishes on NATS.", keys: &["confirm", "set", "subject", "data", "headers"], required: &["subject", "data"], takes_channels: false },
    ActionSpec { name: "request", doc: "Sends a request to a service on NATS. send may read its {reply}.", keys: &["set", "subject", "data", "headers", "timeout_ms", "send"], required: &["subject", "data", "send"], takes_channels: false },
    ActionSpec { name: "auth", doc: "Authenticates with a credential.", keys: &["confirm", "set", "token"], required: &["token"], takes_channels: false },
    ActionSpec { name: "send", doc: "Only answers.", keys: &["set", "send"], required: &["send"], takes_channels: false },
    ActionSpec { name: "pong", doc: "Answers a ping. The client needs no identity.", keys: &["set", "send"], required: &[], takes_channels: false },
    ActionSpec { name: "ignore", doc: "Does nothing and does not answer.", keys: &[], required: &[], takes_channels: false },
    ActionSpec { name: "error", doc: "Answers with an error.", keys: &["code", "message"], required: &["message"], takes_channels: false },
    ActionSpec { name: "close", doc: "Closes the session.", keys: &["code", "reason"], required: &[], takes_channels: false },
];

/// The actions of `[[path.on_connect]]`. They need no message of the client.
pub(crate) const ON_CONNECT: [&str; 3] = ["subscribe", "replace", "filter"];

/// `[[http]]`.
#[rustfmt::skip]
pub const HTTP: &[Key] = &[
    Key::required("method", Kind::OneOf(METHODS), "The HTTP method."),
    Key::required("path", Kind::Text(1, 0), "The path, such as \"/orders/{id}\"."),
    Key::required("do", Kind::Action, "The action."),
    Key::optional("if", Kind::Shared("switch"), IF),
    Key::optional("unless", Kind::Shared("switch"), UNLESS),
    Key::optional("when", Kind::Shared("match"), "Conditions on the request: path.x, query.x, header.x and msg.x. Of the rules with the same method and path, the first one that matches, in the order of the file, is used. Default: any request."),
    Key::optional("require", Kind::Shared("require"), ""),
    Key::optional("send", Kind::Shared("template"), "The body of the response. Default: empty."),
    Key::optional("status", Kind::Integer(200, 599), "The status of the response. Default: 200."),
    Key::optional("subject", Kind::Shared("subject"), "The NATS subject, without wildcards."),
    Key::optional("data", Kind::Shared("template"), "The payload, as JSON."),
    Key::optional("headers", Kind::Shared("headers"), ""),
    Key::optional("timeout_ms", Kind::Shared("millis"), "How long to wait for the reply. Default: nats.request_timeout_ms."),
    Key::optional("channel", Kind::Shared("subjects"), "The subject or pattern."),
    Key::optional("channels", Kind::Shared("subjects"), "Several subjects or patterns."),
    Key::optional("each", Kind::Shared("each"), ""),
];

/// The actions of `[[http]]`.
#[rustfmt::skip]
pub(crate) const HTTP_ACTIONS: &[ActionSpec] = &[
    ActionSpec { name: "publish", doc: "Publishes on NATS.", keys: &["subject", "data", "headers"], required: &["subject", "data"], takes_channels: false },
    ActionSpec { name: "request", doc: "Sends a request to a service on NATS. send may read its {reply}.", keys: &["subject", "data", "headers", "timeout_ms"], required: &["subject", "data"], takes_channels: false },
    ActionSpec { name: "last", doc: "Returns the last values of channels: {list} and {count}, or {data} of one channel.", keys: &["channel", "channels", "each"], required: &[], takes_channels: true },
    ActionSpec { name: "stats", doc: "Returns statistics of this vocabulary on all nodes: {stats.x}.", keys: &[], required: &[], takes_channels: false },
    ActionSpec { name: "receive", doc: "Handles the body as a message of a client, by [[receive]].", keys: &[], required: &[], takes_channels: false },
    ActionSpec { name: "send", doc: "Returns a fixed response.", keys: &[], required: &[], takes_channels: false },
    ActionSpec { name: "health", doc: "Returns the {status} of the node.", keys: &[], required: &[], takes_channels: false },
    ActionSpec { name: "console", doc: "Returns a page for trying the vocabulary, if http.console is on.", keys: &[], required: &[], takes_channels: false },
];
