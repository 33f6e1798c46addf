//! Model: a vocabulary as its file says it, compiled: tables without behaviour. It never changes, and all threads share it.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::json::Step;
use tidegate_protocol::json::paths::JsonPaths;
use tidegate_protocol::message::FieldIndex;
use tidegate_protocol::message::Joining;
use tidegate_protocol::message::RuleId;
use tidegate_protocol::subject::Pattern;

use crate::channel::Channel;
use crate::json_template::JsonTemplate;
use crate::json_template::TemplateSlot;
use crate::placeholder::Placeholder;
use crate::route::PayloadPaths;

/// One frontend's language.
#[derive(Debug, Default)]
pub struct CompiledVocabulary {
    /// Its name, which is a subprotocol too.
    pub name: Box<str>,
    /// What it is for.
    pub description: Box<str>,
    /// The subprotocols that represent it; its name is the last of them.
    pub subprotocols: Box<[Box<str>]>,
    /// Whether a client has to offer one of them.
    pub is_subprotocol_required: bool,
    /// Where clients come in.
    pub paths: Box<[PathRule]>,
    pub(super) rules: Box<[Rule]>,
    pub(super) shows: Box<[DeliverRule]>,
    /// What each of the cuts of all `shows` holds, from number 1.
    pub(super) cuts: Box<[TemplateSlot]>,
    /// By which fields of which channels clients may choose.
    pub(super) fields: Box<[Field]>,
    /// What is looked at in payloads, by route.
    pub(super) data: PayloadPaths,
    /// What is looked at in messages of clients, and in bodies of calls.
    pub(super) messages: JsonPaths,
    pub(super) words: ServerMessages,
    pub(super) codes: Codes,
    pub(super) closes: Box<[(Disconnect, u16)]>,
    pub(super) heartbeat: Beats,
    pub(super) unknown: Unknown,
    /// What HTTP requests may ask for.
    pub calls: Box<[HttpRoute]>,
    /// Groups whose items statistics name.
    pub counted: Box<[Box<str>]>,
    /// The queries and headers that some placeholder names.
    pub(super) queries: Box<[Box<str>]>,
    pub(super) headers: Box<[Box<str>]>,
    /// Whether errors name the message that they answer.
    pub(super) errors_name_message: bool,
    /// The claims that placeholders name.
    pub claims: Box<[Box<str>]>,
}

/// A path, by its place in [`CompiledVocabulary::paths`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathIndex(pub u16);

/// A rule for publications, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliverIndex(pub u16);

/// A kind of HTTP request, by its place in [`CompiledVocabulary::calls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpIndex(pub u16);

/// One kind of place where clients come in.
#[derive(Debug)]
pub struct PathRule {
    /// Its name, for rules and statistics.
    pub name: Box<str>,
    /// As it is written, `/ws/{symbol}`.
    pub template: Box<str>,
    pub(super) segments: Box<[Segment]>,
    /// Parameters that go into subjects or are compared with who somebody is: each is one token.
    pub(super) tokens: Box<[Box<str>]>,
    /// The query parameter that may hold a credential.
    pub token_query: Option<Box<str>>,
    /// The member of a message that may; a path into it.
    pub(super) token_field: Option<Box<[Step]>>,
    pub(super) require: Box<[Require]>,
    pub(super) label: Option<JsonTemplate>,
    pub(super) greeting: Option<JsonTemplate>,
    pub(super) on_connect: Box<[RuleId]>,
    pub(super) dispatch: Dispatch,
    /// Its rules for publications, in order.
    pub(super) shows: Box<[DeliverIndex]>,
    /// Whether a client without an identity can get one by a message.
    pub(super) has_auth: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    Parameter(Box<str>),
}

/// Something that must be what the session knows: both sides as texts.
#[derive(Debug)]
pub(super) struct Require {
    pub(super) left: Placeholder,
    pub(super) right: JsonTemplate,
}

/// Which rules to try for a message: by the text of the member that most of them look at.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    pub(super) field: Box<str>,
    pub(super) arms: BTreeMap<Box<str>, Box<[RuleId]>>,
    /// For every other value.
    pub(super) rest: Box<[RuleId]>,
}

/// What becomes of one kind of message.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) when: Box<[Test]>,
    pub(super) require: Box<[Require]>,
    pub(super) act: Act,
    /// What the client hears when it is done; of a request, the reply.
    pub(super) answer: Option<JsonTemplate>,
    /// What it hears when it is refused, in place of the vocabulary's error.
    pub(super) refuse: Option<JsonTemplate>,
    pub(super) set: Box<[(Box<str>, JsonTemplate)]>,
    /// The field by which a filter chooses, as it is written.
    pub(super) filter_name: Box<str>,
    /// Whether what is said later needs the message itself.
    pub(super) keeps_message: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) path: Box<[Step]>,
    pub(super) is: Is,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Is {
    There,
    Absent,
    OneOf(Box<[Literal]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    Text(Box<str>),
    Whole(i64),
    Truth(bool),
}

#[derive(Debug)]
pub(super) enum Act {
    Subscribe(SubscribeSpec),
    Unsubscribe { each: Option<Each>, channels: Box<[Channel]>, group: Option<JsonTemplate> },
    Filter { channel: Channel, field: FieldIndex, values: Placeholder },
    Publish { subject: Channel, data: JsonTemplate, headers: Box<[(Box<str>, JsonTemplate)]> },
    Request { subject: Channel, data: JsonTemplate, timeout: Option<Millis> },
    Auth(Placeholder),
    Send,
    Pong,
    Ignore,
    Error { code: ErrorCode, message: JsonTemplate },
    Close { code: u16, reason: Box<str> },
}

#[derive(Debug)]
pub(super) struct SubscribeSpec {
    pub(super) each: Option<Each>,
    pub(super) channels: Box<[Channel]>,
    pub(super) group: Option<JsonTemplate>,
    pub(super) joining: Joining,
    pub(super) keep: Box<[(Box<str>, JsonTemplate)]>,
    pub(super) max_rate: Option<Millis>,
}

#[derive(Debug)]
pub(super) enum Each {
    Placeholder(Placeholder),
    List(Box<[Box<str>]>),
}

#[derive(Debug)]
pub(super) enum Millis {
    Fixed(Duration),
    Placeholder(Placeholder),
}

/// How publications of a pattern are shown.
#[derive(Debug)]
pub(super) struct DeliverRule {
    pub(super) pattern: Pattern,
    pub(super) when: Box<[Condition]>,
    pub(super) json_template: JsonTemplate,
    /// Whether it shows the payload, or a part of it.
    pub(super) needs_text: bool,
    /// The places of its cuts among all of them.
    pub(super) cuts: std::ops::Range<usize>,
}

/// What must hold of a publication.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) placeholder: Placeholder,
    pub(super) is: Is,
}

/// A field by which clients may choose among the publications of some channels.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) pattern: Pattern,
    pub(super) placeholder: Placeholder,
}

/// What is said next to answers and publications; nothing where there is no shape.
#[derive(Debug, Default)]
pub(super) struct ServerMessages {
    pub(super) error: Option<JsonTemplate>,
    pub(super) gap: Option<JsonTemplate>,
    pub(super) stale: Option<JsonTemplate>,
    pub(super) unsubscribed: Option<JsonTemplate>,
    pub(super) expiring: Option<JsonTemplate>,
    pub(super) close: Option<JsonTemplate>,
}

/// What errors are called, and which of them end the session.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// As JSON.
    pub(super) names: Box<[(ErrorCode, Box<str>)]>,
    pub(super) default: Option<Box<str>>,
    pub(super) closing: Box<[(ErrorCode, u16)]>,
}

/// Who pings in messages.
#[derive(Debug, Default)]
pub(super) struct Beats {
    pub(super) ping: Option<JsonTemplate>,
    pub(super) every: Option<Duration>,
    pub(super) pong: Option<Box<[Test]>>,
}

/// What becomes of a message that no rule takes.
#[derive(Debug, Default)]
pub(super) enum Unknown {
    #[default]
    Plain,
    Ignore,
    Error {
        code: ErrorCode,
        message: Option<JsonTemplate>,
    },
}

/// A way into a vocabulary that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMatch {
    /// No path of this shape.
    Elsewhere,
    /// The path is there, and one of its values is none that may be there.
    BadValue,
}

/// One kind of HTTP request.
#[derive(Debug)]
pub struct HttpRoute {
    /// Its method.
    pub method: Box<str>,
    /// Its path as it is written.
    pub template: Box<str>,
    pub(super) segments: Box<[Segment]>,
    pub(super) tokens: Box<[Box<str>]>,
    pub(super) require: Box<[Require]>,
    pub(super) action: HttpAction,
    pub(super) send: Option<JsonTemplate>,
    pub(super) status: Option<u16>,
}

/// What an HTTP request asks for.
#[derive(Debug)]
pub(super) enum HttpAction {
    /// What a rule can ask for too: to publish, a request, or nothing but the answer.
    Act(Act),
    /// The last values of channels.
    Last { each: Option<Each>, channels: Box<[Channel]> },
    /// Who is there.
    Stats,
    /// What a session says to the body, as if it had come over a WebSocket.
    Receive,
    /// How the node is.
    Health,
    /// A page.
    Console,
}
