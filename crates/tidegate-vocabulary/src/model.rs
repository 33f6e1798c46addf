//! Model: a compiled vocabulary, as tables without behaviour. It never changes, and all threads share it.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::elements::CollectionId;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::json::Step;
use tidegate_protocol::json::paths::JsonPaths;
use tidegate_protocol::message::FieldIndex;
use tidegate_protocol::message::FilterChange;
use tidegate_protocol::message::JoinMode;
use tidegate_protocol::message::RuleId;
use tidegate_protocol::subject::Pattern;

use crate::channel::Channel;
use crate::json_template::JsonTemplate;
use crate::json_template::TemplateSlot;
use crate::placeholder::Placeholder;
use crate::route::DeliverIndex;
use crate::route::PayloadPaths;

/// A compiled vocabulary: the message format of one frontend.
#[derive(Debug, Default)]
pub struct CompiledVocabulary {
    /// Its name. It is also a subprotocol.
    pub name: Box<str>,
    pub description: Box<str>,
    /// What its file can turn on and off.
    pub switches: Box<[Switch]>,
    /// The subprotocols that select it. The last one is its name.
    pub subprotocols: Box<[Box<str>]>,
    /// Whether a client must offer one of them.
    pub is_subprotocol_required: bool,
    /// Where clients connect.
    pub paths: Box<[PathRule]>,
    pub(super) rules: Box<[Rule]>,
    pub(super) deliver_rules: Box<[DeliverRule]>,
    /// The values that differ by client, for the slots of all `deliver_rules` and notices. Slot numbers start at 1.
    pub(super) slots: Box<[TemplateSlot]>,
    /// The fields by which clients may filter.
    pub(super) fields: Box<[Field]>,
    /// The parts of payloads that placeholders read, by route.
    pub(super) data: PayloadPaths,
    /// The parts of client messages and HTTP bodies that placeholders read.
    pub(super) messages: JsonPaths,
    pub(super) server_messages: ServerMessages,
    pub(super) codes: ErrorCodes,
    pub(super) closes: Box<[(Disconnect, u16)]>,
    pub(super) heartbeat: Heartbeat,
    pub(super) unknown: UnknownMessage,
    /// The HTTP requests that it answers.
    pub http_routes: Box<[HttpRoute]>,
    /// The groups whose items statistics list.
    pub counted: Box<[Box<str>]>,
    /// The query parameters that placeholders read.
    pub(super) queries: Box<[Box<str>]>,
    /// Those query parameters that placeholders read as lists.
    pub(super) query_lists: Box<[Box<str>]>,
    /// The headers of handshakes and HTTP requests that placeholders read.
    pub headers: Box<[Box<str>]>,
    /// Whether error messages contain parts of the client's message.
    pub(super) errors_name_message: bool,
    /// The claims that placeholders read.
    pub claims: Box<[Box<str>]>,
    /// Whether the names of users are encoded in subjects. The configuration says so, not the file.
    pub encodes_users: bool,
    /// The text of its file, and the switches that are on.
    pub(super) source: (Box<str>, Box<[Box<str>]>),
}

impl CompiledVocabulary {
    /// Notes what it was compiled from.
    pub(super) fn with_source(self, text: &str, switches: &[&str]) -> Self {
        let switches = switches.iter().map(|&switch| switch.into()).collect();
        Self { source: (text.into(), switches), ..self }
    }

    /// Whether it was compiled from the same text with the same switches, for the same kind of users.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (&self.source, self.encodes_users) == (&other.source, other.encodes_users)
    }
}

/// One of `[switches]`: it turns rules on and off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    pub name: Box<str>,
    /// What it does, and which frontend needs it.
    pub description: Box<str>,
    pub is_on: bool,
}

/// A kind of HTTP request, by its place in [`CompiledVocabulary::http_routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpIndex(pub u16);

/// One `[[path]]`: where clients connect, and their rules.
#[derive(Debug)]
pub struct PathRule {
    /// Its name, for rules and statistics.
    pub name: Box<str>,
    /// As in the file: `/ws/{symbol}`.
    pub template: Box<str>,
    pub(super) segments: Box<[Segment]>,
    /// The parameters that become part of subjects.
    pub(super) parameters: Box<[SubjectParameter]>,
    /// The query parameter that may hold a credential.
    pub token_query: Option<Box<str>>,
    /// The member of a message that may hold a credential, as a path into the message.
    pub(super) token_field: Option<Box<[Step]>>,
    pub(super) require: Box<[Require]>,
    pub(super) label: Option<JsonTemplate>,
    pub(super) greeting: Option<JsonTemplate>,
    pub(super) on_connect: Box<[RuleId]>,
    pub(super) dispatch: Dispatch,
    /// Its rules for publications, in the order of the file.
    pub(super) deliver_rules: Box<[DeliverIndex]>,
    /// Whether a client can authenticate with a message.
    pub(super) has_auth: bool,
}

/// A parameter of a path that becomes part of subjects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SubjectParameter {
    pub(super) name: Box<str>,
    /// Whether it may be several tokens, with dots between them.
    pub(super) is_dotted: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    Parameter(Box<str>),
}

/// A `require`: both sides must be the same text.
#[derive(Debug)]
pub(super) struct Require {
    pub(super) left: Placeholder,
    pub(super) right: JsonTemplate,
}

/// Finds the rules to try for a message, by the text of the member that most rules test.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    pub(super) field: Box<str>,
    pub(super) arms: BTreeMap<Box<str>, Box<[RuleId]>>,
    /// The rules for all other texts.
    pub(super) rest: Box<[RuleId]>,
}

/// One `[[receive]]` or `[[path.on_connect]]`: what happens with one kind of message.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) when: Box<[MessageTest]>,
    pub(super) require: Box<[Require]>,
    pub(super) action: RuleAction,
    /// What the client is sent when the action succeeds. For a request, the reply.
    pub(super) answer: Option<JsonTemplate>,
    /// What the client is sent when the action fails, in place of the vocabulary's error.
    pub(super) refuse: Option<JsonTemplate>,
    pub(super) set: Box<[(Box<str>, JsonTemplate)]>,
    /// The field of a filter, as in the file.
    pub(super) filter_name: Box<str>,
    /// Whether an answer, also a later one, needs the client's message.
    pub(super) keeps_message: bool,
    /// Whether its answer lists the elements whose channels are joined.
    pub(super) lists_joined: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct MessageTest {
    pub(super) path: Box<[Step]>,
    pub(super) matcher: Matcher,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Matcher {
    Present,
    Absent,
    OneOf(Box<[Literal]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    Text(Box<str>),
    Integer(i64),
    Boolean(bool),
    /// A list without elements.
    EmptyList,
}

#[derive(Debug)]
pub(super) enum RuleAction {
    Subscribe(SubscribeSpec),
    Unsubscribe {
        each: Option<Each>,
        channels: Box<[Channel]>,
        group: Option<JsonTemplate>,
    },
    Filter {
        channel: Channel,
        field: FieldIndex,
        tests: Box<FilterTests>,
        change: FilterChange,
    },
    Publish {
        subject: Channel,
        data: JsonTemplate,
        headers: Box<[(Box<str>, JsonTemplate)]>,
    },
    Request {
        subject: Channel,
        data: JsonTemplate,
        headers: Box<[(Box<str>, JsonTemplate)]>,
        timeout: Option<Millis>,
    },
    Auth(Placeholder),
    Send,
    Pong,
    Ignore,
    Error {
        code: ErrorCode,
        message: JsonTemplate,
    },
    Close {
        code: u16,
        reason: Box<str>,
    },
}

/// What a filter compares a field with. At least one is there.
#[derive(Debug, Default)]
pub(super) struct FilterTests {
    /// The list of values, one of which it must be.
    pub(super) values: Option<Placeholder>,
    /// The list of values, none of which it may be.
    pub(super) not: Option<Placeholder>,
    /// The least and the greatest number.
    pub(super) min: Option<Placeholder>,
    pub(super) max: Option<Placeholder>,
}

#[derive(Debug)]
pub(super) struct SubscribeSpec {
    pub(super) each: Option<Each>,
    pub(super) channels: Box<[Channel]>,
    pub(super) group: Option<JsonTemplate>,
    pub(super) joining: JoinMode,
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

/// One `[[deliver]]`: how publications of a pattern are rendered.
#[derive(Debug)]
pub(super) struct DeliverRule {
    pub(super) pattern: Pattern,
    pub(super) when: Box<[Condition]>,
    pub(super) json_template: JsonTemplate,
    /// How it takes publications apart, if it does.
    pub(super) each: Option<EachRule>,
    /// Whether it needs a payload that is text or JSON.
    pub(super) needs_text: bool,
    /// Its slots in [`CompiledVocabulary::slots`].
    pub(super) slots: std::ops::Range<usize>,
}

/// The part of a `[[deliver]]` with `each`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EachRule {
    /// The list.
    pub(super) each: Placeholder,
    /// The channel of an element. Without it, that is the subject of the publication.
    pub(super) channel: Option<Channel>,
    /// The collection of the elements, and the placeholder for their keys. `None`: each element is sent as a separate
    /// message.
    pub(super) collect: Option<Collect>,
}

/// `collect` of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collect {
    /// Rules with the same `by` and `send` share a collection.
    pub(super) collection: CollectionId,
    pub(super) by: Placeholder,
}

/// A condition on a publication or on an HTTP request.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) placeholder: Placeholder,
    pub(super) matcher: Matcher,
}

/// A field by which clients may filter the publications of some channels.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) pattern: Pattern,
    pub(super) placeholder: Placeholder,
}

/// Messages of the server other than answers and publications. A missing template means that nothing is sent.
#[derive(Debug, Default)]
pub(super) struct ServerMessages {
    pub(super) error: Option<JsonTemplate>,
    pub(super) gap: Option<JsonTemplate>,
    pub(super) stale: Option<JsonTemplate>,
    pub(super) unsubscribed: Option<JsonTemplate>,
    pub(super) expiring: Option<JsonTemplate>,
    pub(super) close: Option<JsonTemplate>,
}

/// The vocabulary's names for errors, and the errors that end the session.
#[derive(Debug, Default)]
pub(super) struct ErrorCodes {
    pub(super) names: ErrorNames,
    /// The names in `refuse` of rules, if they differ.
    pub(super) of_refusals: Option<ErrorNames>,
    pub(super) closing: Box<[(ErrorCode, u16)]>,
}

/// Names for errors, as JSON.
#[derive(Debug, Default)]
pub(super) struct ErrorNames {
    pub(super) names: Box<[(ErrorCode, Box<str>)]>,
    pub(super) default: Option<Box<str>>,
}

/// Pings in messages.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    pub(super) ping: Option<JsonTemplate>,
    pub(super) every: Option<Duration>,
    pub(super) pong: Option<Box<[MessageTest]>>,
}

/// What happens with a message that no rule matches.
#[derive(Debug, Default)]
pub(super) enum UnknownMessage {
    #[default]
    Default,
    Ignore,
    Error {
        code: ErrorCode,
        message: Option<JsonTemplate>,
    },
}

/// Why a request matches no path of a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoMatch {
    /// No path has these segments.
    UnknownPath,
    /// A value in the path is not allowed there.
    BadValue,
    /// A query parameter or a header cannot be used: what is wrong with it.
    BadParameter(String),
}

/// One `[[http]]`: one kind of HTTP request.
#[derive(Debug)]
pub struct HttpRoute {
    pub method: Box<str>,
    /// As in the file: `/orders/{id}`.
    pub template: Box<str>,
    pub(super) segments: Box<[Segment]>,
    pub(super) parameters: Box<[SubjectParameter]>,
    /// The requests that it matches, of those with its method and path.
    pub(super) when: Box<[Condition]>,
    pub(super) require: Box<[Require]>,
    pub(super) action: HttpAction,
    pub(super) send: Option<JsonTemplate>,
    pub(super) status: Option<u16>,
}

/// What an HTTP request does.
#[derive(Debug)]
pub(super) enum HttpAction {
    /// An action that rules have too: publish, request or send.
    Rule(RuleAction),
    /// Returns the last values of channels.
    Last { each: Option<Each>, channels: Box<[Channel]> },
    /// Returns statistics.
    Stats,
    /// Passes the body to a session, like a message over a WebSocket.
    Receive,
    /// Returns the health of the node.
    Health,
    /// Returns the test page.
    Console,
}
