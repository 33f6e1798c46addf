//! The neutral messages between a session and a vocabulary. None of them is serialisable: only vocabularies are.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;

use crate::disconnect::Disconnect;
use crate::echo::Echo;
use crate::error::ClientError;
use crate::frame::Frame;
use crate::json::paths::JsonSpans;
use crate::payload::Payload;
use crate::subject::Pattern;

/// What a client has asked, as far as its vocabulary needs it for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestContext {
    /// What the client calls its request: JSON text, echoed as it came.
    Id(Box<str>),
    /// The message itself, and what was known when it came.
    Message(Rc<Question>),
}

impl RequestContext {
    /// One more channel is joined for it. True if it is the first that is not answered.
    pub fn begins(&self) -> bool {
        match self {
            Self::Id(_) => false,
            Self::Message(question) => question.begins(),
        }
    }

    /// One of its channels is joined, or will not be.
    pub fn ended(&self, join: JoinEnd) -> Answered {
        match (self, join) {
            (Self::Id(_), JoinEnd::Joined) => Answered::Confirm,
            (Self::Id(_), JoinEnd::Failed) => Answered::Silently,
            (Self::Message(question), join) => question.ended(join),
        }
    }

    /// Bytes that are kept for the answer.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Id(id) => id.len(),
            Self::Message(question) => question.text.len(),
        }
    }

    /// Whether it is said now that its channels take long.
    pub(crate) fn becomes_overdue(&self) -> bool {
        match self {
            Self::Id(_) => true,
            Self::Message(question) => question.becomes_overdue(),
        }
    }

    /// Whether one more error is said in answer to it.
    pub(crate) fn takes_error(&self) -> bool {
        match self {
            Self::Id(_) => true,
            Self::Message(question) => question.takes_error(),
        }
    }
}

/// A rule of a vocabulary. Only the vocabulary knows what the number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(pub u16);

/// A message of a client whose vocabulary is described in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The rule that took it, by its place in the vocabulary; `None` if none did.
    pub rule: Option<RuleId>,
    /// The message, if its answer needs it; else empty.
    pub text: Box<str>,
    /// Where in it is what its vocabulary looks at, for all that is said of it.
    pub spans: JsonSpans,
    /// The session's variables when it came.
    pub variables: Variables,
    /// What becomes of them when it is accepted.
    pub set: Pairs,
    /// What has become of the channels that it asks for.
    pub progress: Cell<Progress>,
}

/// How far the channels have come that one message asks for: it is confirmed once, behind the last of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Joins that are not answered.
    joining: u32,
    /// Whether one of them has been answered with yes.
    is_any_joined: bool,
    /// Whether it was said that they take long.
    is_overdue: bool,
    /// Errors that were said.
    errors: u32,
}

/// How a join has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinEnd {
    /// The channel is live.
    Joined,
    /// It was refused, or left before.
    Failed,
}

/// What is left to say of a message that joins channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Others of its channels are not joined yet.
    NotYet,
    /// It is to be confirmed now.
    Confirm,
    /// Nothing: no channel is joined, which was said of each.
    Silently,
}

/// Errors that one message is answered with; more of them would say nothing new, and each may show the message again.
const MAX_ERRORS_SAID: u32 = 64;

impl Question {
    fn begins(&self) -> bool {
        let progress = self.progress.get();
        self.progress.set(Progress { joining: progress.joining + 1, ..progress });
        progress.joining == 0
    }

    fn ended(&self, join: JoinEnd) -> Answered {
        self.progress.update(|progress| Progress {
            joining: progress.joining.saturating_sub(1),
            is_any_joined: progress.is_any_joined || join == JoinEnd::Joined,
            ..progress
        });
        match self.progress.get() {
            Progress { joining: 0, is_any_joined: true, .. } => Answered::Confirm,
            Progress { joining: 0, .. } => Answered::Silently,
            Progress { .. } => Answered::NotYet,
        }
    }

    fn becomes_overdue(&self) -> bool {
        let progress = self.progress.get();
        self.progress.set(Progress { is_overdue: true, ..progress });
        !progress.is_overdue
    }

    fn takes_error(&self) -> bool {
        let progress = self.progress.get();
        self.progress.set(Progress { errors: progress.errors.saturating_add(1), ..progress });
        progress.errors < MAX_ERRORS_SAID
    }
}

/// Names, and values as JSON text.
pub type Pairs = Box<[(Box<str>, Box<str>)]>;

/// What the rules of a vocabulary remember in one session: names, and values as JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(Option<Rc<BTreeMap<Box<str>, Box<str>>>>);

impl Variables {
    /// The value of that name, as JSON text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(|value| &**value)
    }

    /// Gives values to names. Whoever has a copy still sees the old ones.
    pub fn set(&mut self, values: &[(Box<str>, Box<str>)]) {
        if !values.is_empty() {
            Rc::make_mut(self.0.get_or_insert_default()).extend(values.iter().cloned());
        }
    }
}

/// Channels that a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// Their names, or why one of them has none.
    pub channels: Vec<Result<String, ClientError>>,
    /// At most one publication of a key in this time.
    pub max_rate: Option<Duration>,
    /// Which of the session's subscriptions they belong to.
    pub group: Box<str>,
    /// What becomes of those that the group has already.
    pub joining: Joining,
    /// What later messages about these channels will need.
    pub kept: Pairs,
}

/// How channels are added to a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Joining {
    /// Who has one already gets it anew.
    #[default]
    Again,
    /// What is there already is passed over.
    Add,
    /// A mistake if the group holds anything.
    Unique,
    /// Those of the group that are not named again are left, if all that are named are permitted.
    Replace,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A credential for a session that has none, or a newer one.
    Auth { asked: Option<RequestContext>, token: String },
    /// Listen to channels; each is answered on its own.
    Subscribe { asked: Option<RequestContext>, wanted: SubscribeRequest },
    /// Stop listening: to these channels, or to all of the group.
    Unsubscribe {
        asked: Option<RequestContext>,
        channels: Option<Vec<Result<String, ClientError>>>,
        group: Box<str>,
    },
    /// Of a channel, only these publications from now on.
    Filter { asked: Option<RequestContext>, channel: String, filter: Filter },
    /// Put a message on a subject.
    Publish { asked: Option<RequestContext>, channel: String, data: Bytes, headers: Vec<(String, String)> },
    /// Put a message on a subject and wait for one answer.
    Request { asked: Option<RequestContext>, channel: String, data: Bytes, timeout: Option<Duration> },
    /// The last values of channels, without listening to them.
    LastValues { asked: Option<RequestContext>, channels: Vec<String> },
    /// Who is there, and how much is delivered.
    Statistics { asked: Option<RequestContext> },
    /// Are you there?
    Ping { asked: Option<RequestContext> },
    /// I am here; or something else that needs no answer.
    Pong,
    /// Something that the vocabulary itself answers.
    Say { asked: Option<RequestContext> },
    /// End the session with this code.
    Close { code: u16, reason: Box<str> },
    /// The same message back, as it came.
    Echo(Echo, Frame),
}

impl Command {
    /// What was asked by it.
    pub fn asked(&self) -> Option<&RequestContext> {
        match self {
            Self::Auth { asked, .. }
            | Self::Subscribe { asked, .. }
            | Self::Unsubscribe { asked, .. }
            | Self::Filter { asked, .. }
            | Self::Publish { asked, .. }
            | Self::Request { asked, .. }
            | Self::LastValues { asked, .. }
            | Self::Statistics { asked }
            | Self::Say { asked }
            | Self::Ping { asked } => asked.as_ref(),
            Self::Pong | Self::Close { .. } | Self::Echo(..) => None,
        }
    }
}

/// What a client wants to know once, checked: it may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The last values of these channels.
    LastValues { channels: Vec<Pattern> },
    /// Statistics of the client's vocabulary; with names also who is there, and what each one watches.
    Statistics { with_names: bool },
}

/// What is known, by the kind of [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryResult {
    /// The oldest of each channel first.
    LastValues(Vec<Payload>),
    /// As JSON.
    Statistics(Box<str>),
}

/// What answers a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The session has an identity (again).
    Connected(Connected),
    /// The channel is live; the last values are in `snapshot`, encoded as messages of the channel.
    Subscribed { asked: Option<RequestContext>, channel: Arc<str>, snapshot: Vec<Frame> },
    /// The channel is left, because the client asked for it.
    Unsubscribed { asked: Option<RequestContext>, channel: Arc<str> },
    /// The message is with NATS.
    Published { asked: Option<RequestContext> },
    /// The answer of whoever serves the subject.
    Replied { asked: Option<RequestContext>, data: Payload },
    /// The last values that are known, the oldest of each channel first.
    LastValues { asked: Option<RequestContext>, values: Vec<Payload> },
    /// Statistics, as JSON.
    Statistics { asked: Option<RequestContext>, json: Box<str> },
    /// The command was refused; nothing was done.
    Error { asked: Option<RequestContext>, channel: Option<String>, refusal: ClientError },
    /// The channel is not live yet, and the refusal says why; the answer will still come.
    Delayed { asked: Option<RequestContext>, channel: Arc<str>, refusal: ClientError },
    /// I am here.
    Pong { asked: Option<RequestContext> },
    /// What the vocabulary has to say.
    Said { asked: Option<RequestContext> },
}

/// Who the session is, and by which figures it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The session's own id, unique in the cluster.
    pub session: Arc<str>,
    /// The user that the credential names.
    pub user: Arc<str>,
    /// The node's name.
    pub node: Arc<str>,
    /// How often the server pings.
    pub ping_interval: Duration,
    /// How long the credential lasts from now on.
    pub expires_in: Option<Duration>,
    /// Largest message that a client may send, in bytes.
    pub max_message: usize,
    /// How many channels a session may have.
    pub max_subscriptions: usize,
}

/// What the server says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// Are you there?
    Ping,
    /// Publications that the session should have had and did not.
    Gap { channel: Arc<str>, cause: GapCause, dropped: Option<u64> },
    /// Nothing has come on this channel since then.
    Stale { channel: Arc<str>, since: SystemTime },
    /// The channel has ended, and not because the client asked for it.
    Unsubscribed { channel: Arc<str>, refusal: ClientError },
    /// The credential runs out.
    Expiring { within: Duration },
    /// The session ends now.
    Close { disconnect: Disconnect, retry_after: Option<Duration> },
}

/// Why there is a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapCause {
    /// The client was slower than the stream, and its outbox full.
    Slow,
    /// What waited for the client grew older than `max_age_ms`.
    Expired,
    /// The connection between this node and NATS was lost for a while.
    Nats,
    /// A message came from NATS whose subject, or a header that clients are shown, cannot be read.
    Malformed,
    /// A message came from NATS that is larger than this node delivers.
    TooLarge,
    /// The thread that serves this session could not take what was published.
    Overflow,
    /// A fault of ours while a publication was encoded.
    Internal,
}

impl GapCause {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Expired => "expired",
            Self::Nats => "nats",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Overflow => "overflow",
            Self::Internal => "internal",
        }
    }
}

/// A field by which a vocabulary filters, by its place in the notes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldIndex(pub u16);

/// Which publications of a channel are wanted: those whose field has one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Which of the vocabulary's fields, by its place in the notes of frames.
    pub field: FieldIndex,
    /// The field as the vocabulary writes it.
    pub name: Box<str>,
    /// The values, as texts.
    pub values: Box<[Box<str>]>,
}
