//! The neutral messages between a session and its dialect. They are not serialisable: only dialects encode.

use std::cell::Cell;
use std::cmp::Ordering;
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
use crate::gap_cause::GapCause;
use crate::json::list::JsonList;
use crate::json::paths::JsonSpans;
use crate::list_element::ListElement;
use crate::payload::Payload;
use crate::position::Position;
use crate::position::SequenceRange;
use crate::subject::Pattern;

/// What the dialect needs of a client's message to reply to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestContext {
    /// The client's request id: JSON text, which is echoed unchanged.
    Id(Box<str>),
    /// The original message with its context.
    Message(Rc<OriginalMessage>),
}

impl RequestContext {
    /// Counts one more channel to join. Returns true for the first pending channel of a vocabulary's message, whose
    /// size now counts.
    pub fn join_started(&self) -> bool {
        match self {
            Self::Id(_) => false,
            Self::Message(original) => original.join_started(),
        }
    }

    /// Counts one channel as joined or failed.
    pub fn join_ended(&self, join: JoinOutcome) -> JoinReply {
        match (self, join) {
            (Self::Id(_), JoinOutcome::Joined) => JoinReply::Confirm,
            (Self::Id(_), JoinOutcome::Left | JoinOutcome::Refused) => JoinReply::Nothing,
            (Self::Message(original), join) => original.join_ended(join),
        }
    }

    /// The message is all or nothing: it is not confirmed if one of its joins is refused.
    pub(crate) fn join_all_or_nothing(&self) {
        if let Self::Message(original) = self {
            original.progress.update(|progress| Progress { is_all_or_nothing: true, ..progress });
        }
    }

    /// One of its channels was refused without a join.
    pub(crate) fn refuse_join(&self) {
        if let Self::Message(original) = self {
            original.progress.update(Progress::refused);
        }
    }

    /// The memory that this takes until the reply, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Id(id) => id.len(),
            Self::Message(original) => original.text.len(),
        }
    }

    /// Marks its channels as delayed. Returns true the first time.
    pub(crate) fn mark_overdue(&self) -> bool {
        match self {
            Self::Id(_) => true,
            Self::Message(original) => original.mark_overdue(),
        }
    }

    /// Counts one more error. Returns whether it may still be sent.
    pub(crate) fn count_error(&self) -> bool {
        match self {
            Self::Id(_) => true,
            Self::Message(original) => original.count_error(),
        }
    }
}

/// A rule of a vocabulary. Only the vocabulary knows what the number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(pub u16);

/// A message from a client of a vocabulary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginalMessage {
    /// The number of the rule that matched it, if any.
    pub rule: Option<RuleId>,
    /// The text of the message if its reply needs it, otherwise empty.
    pub text: Box<str>,
    /// Where the fields that the vocabulary reads are in the text.
    pub spans: JsonSpans,
    /// The session's variables when the message arrived.
    pub variables: Variables,
    /// The variables to set when the message is accepted.
    pub set: Pairs,
    pub progress: Cell<Progress>,
}

/// The joins that one message waits for. The message is confirmed once, after the last of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pending joins.
    joining: u32,
    is_any_joined: bool,
    is_all_or_nothing: bool,
    /// Whether the message is all or nothing, and one of them was refused.
    is_refused: bool,
    /// Whether the client was told that they are delayed.
    is_overdue: bool,
    /// Errors that were sent.
    errors: u32,
}

/// The end of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinOutcome {
    /// The channel is live.
    Joined,
    /// The client left the channel first.
    Left,
    /// The channel was refused, or all channels of its message were, because another one was.
    Refused,
}

/// Which reply is due after a join has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinReply {
    /// Other channels of the message are still pending.
    NotYet,
    /// Confirm the message.
    Confirm,
    /// None: all its channels failed, each with its own error, or one of a message that is all or nothing.
    Nothing,
}

/// Errors that one message may cause. Each may repeat the message.
const MAX_ERRORS: u32 = 64;

impl Progress {
    fn refused(self) -> Self {
        Self { is_refused: self.is_all_or_nothing, ..self }
    }
}

impl OriginalMessage {
    fn join_started(&self) -> bool {
        let progress = self.progress.get();
        self.progress.set(Progress { joining: progress.joining + 1, ..progress });
        progress.joining == 0
    }

    fn join_ended(&self, join: JoinOutcome) -> JoinReply {
        self.progress.update(|progress| {
            let progress = Progress { joining: progress.joining.saturating_sub(1), ..progress };
            match join {
                JoinOutcome::Joined => Progress { is_any_joined: true, ..progress },
                JoinOutcome::Left => progress,
                JoinOutcome::Refused => progress.refused(),
            }
        });
        match self.progress.get() {
            Progress { joining: 0, is_any_joined: true, is_refused: false, .. } => JoinReply::Confirm,
            Progress { joining: 0, .. } => JoinReply::Nothing,
            Progress { .. } => JoinReply::NotYet,
        }
    }

    fn mark_overdue(&self) -> bool {
        let progress = self.progress.get();
        self.progress.set(Progress { is_overdue: true, ..progress });
        !progress.is_overdue
    }

    fn count_error(&self) -> bool {
        let progress = self.progress.get();
        self.progress.set(Progress { errors: progress.errors.saturating_add(1), ..progress });
        progress.errors < MAX_ERRORS
    }
}

/// Names with their values as JSON text.
pub type Pairs = Box<[(Box<str>, Box<str>)]>;

/// The variables of one session, which the rules of its vocabulary set: names with their values as JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(Option<Rc<BTreeMap<Box<str>, Box<str>>>>);

impl Variables {
    /// The value of a variable, as JSON text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(|value| &**value)
    }

    /// Sets variables. Existing clones keep the old values.
    pub fn set(&mut self, values: &[(Box<str>, Box<str>)]) {
        if !values.is_empty() {
            Rc::make_mut(self.0.get_or_insert_default()).extend(values.iter().cloned());
        }
    }
}

/// A request to subscribe to channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// The channel names; an error for each that could not be determined.
    pub channels: Vec<Result<String, ClientError>>,
    /// The element of a list for which each channel is named, in the same order. Empty if there is no list.
    pub elements: Vec<Option<Rc<ListElement>>>,
    /// At most one publication per key in this time.
    pub max_rate: Option<Duration>,
    /// The group that the subscriptions belong to.
    pub group: Box<str>,
    /// What to do with subscriptions that the group has already.
    pub joining: JoinMode,
    /// Values that later messages about these channels need.
    pub kept: Pairs,
    /// Where the client was on the channel: it wants what it has missed since then.
    pub since: Option<Position>,
}

/// How channels are added to a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JoinMode {
    /// Subscribe again to channels that the group has already.
    #[default]
    Again,
    /// Skip channels that the group has already.
    Add,
    /// Fail if the group has any channel.
    Unique,
    /// Leave the channels of the group that the request does not name, if all that it names are permitted.
    Replace,
}

/// Commands of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A credential: the first one, or a newer one.
    Auth { request_context: Option<RequestContext>, token: String },
    /// Subscribe to channels. The native protocol confirms each; a vocabulary confirms the whole message once.
    Subscribe { request_context: Option<RequestContext>, wanted: SubscribeRequest },
    /// Unsubscribe from these channels, or from all of the group.
    Unsubscribe {
        request_context: Option<RequestContext>,
        channels: Option<Vec<Result<String, ClientError>>>,
        group: Box<str>,
    },
    /// From now on, deliver only publications of this channel that pass the filter, or what it makes of the filter
    /// before it.
    Filter { request_context: Option<RequestContext>, channel: String, filter: Filter, change: FilterChange },
    /// Publish a message.
    Publish {
        request_context: Option<RequestContext>,
        channel: String,
        data: Bytes,
        headers: Vec<(String, String)>,
    },
    /// Send a request and wait for one reply.
    Request {
        request_context: Option<RequestContext>,
        channel: String,
        data: Bytes,
        headers: Vec<(String, String)>,
        timeout: Option<Duration>,
    },
    /// Get the last values of channels without subscribing.
    LastValues { request_context: Option<RequestContext>, channels: Vec<String> },
    /// Get statistics: who is connected, and how much is delivered.
    Statistics { request_context: Option<RequestContext> },
    /// A ping of the client; needs a pong.
    Ping { request_context: Option<RequestContext> },
    /// A pong, or another message that needs no reply.
    Pong,
    /// Only confirm the message; the vocabulary defines the reply.
    Acknowledge { request_context: Option<RequestContext> },
    /// Close the session with this code.
    Close { code: u16, reason: Box<str> },
    /// Send the same message back.
    Echo(Echo, Frame),
}

impl Command {
    /// The context for the reply.
    pub fn request_context(&self) -> Option<&RequestContext> {
        match self {
            Self::Auth { request_context, .. }
            | Self::Subscribe { request_context, .. }
            | Self::Unsubscribe { request_context, .. }
            | Self::Filter { request_context, .. }
            | Self::Publish { request_context, .. }
            | Self::Request { request_context, .. }
            | Self::LastValues { request_context, .. }
            | Self::Statistics { request_context }
            | Self::Acknowledge { request_context }
            | Self::Ping { request_context } => request_context.as_ref(),
            Self::Pong | Self::Close { .. } | Self::Echo(..) => None,
        }
    }
}

/// A query whose permissions are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The last values of these channels.
    LastValues { channels: Vec<Pattern> },
    /// Statistics of the client's vocabulary; `with_names` adds users and their channels.
    Statistics { with_names: bool },
}

/// A last value of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastValue {
    /// The subject on which it was published.
    pub subject: Arc<str>,
    pub payload: Payload,
    /// When a node received it.
    pub time: SystemTime,
}

/// The result of a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryResult {
    /// The last values, as the vocabulary shows them.
    LastValues(JsonList),
    /// As JSON.
    Statistics(Box<str>),
}

/// Replies to commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The session has an identity, or a newer one.
    Connected(Connected),
    /// The channel is live, at this position of its stream, if it has one. `snapshot` has encoded messages. `recovered`
    /// says whether the client gets all that it has missed, if it has asked for that.
    Subscribed {
        request_context: Option<RequestContext>,
        channel: Arc<str>,
        snapshot: Vec<Frame>,
        position: Option<Position>,
        recovered: Option<bool>,
    },
    /// The client unsubscribed from the channel.
    Unsubscribed { request_context: Option<RequestContext>, channel: Arc<str> },
    /// NATS has accepted the message.
    Published { request_context: Option<RequestContext> },
    /// The reply of the service.
    Replied { request_context: Option<RequestContext>, data: Payload },
    /// The last values, as the vocabulary shows them.
    LastValues { request_context: Option<RequestContext>, values: JsonList },
    /// Statistics, as JSON.
    Statistics { request_context: Option<RequestContext>, json: Box<str> },
    /// The command failed and had no effect.
    Error { request_context: Option<RequestContext>, channel: Option<String>, error: ClientError },
    /// The channel is not live yet, and the error says why; the confirmation follows.
    Delayed { request_context: Option<RequestContext>, channel: Arc<str>, error: ClientError },
    /// The reply to a ping.
    Pong { request_context: Option<RequestContext> },
    /// The message is accepted; the vocabulary defines the reply.
    Acknowledged { request_context: Option<RequestContext> },
}

/// The session's identity and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The session's id, unique in the cluster.
    pub session: Arc<str>,
    /// The user name from the credential.
    pub user: Arc<str>,
    /// The name of the node.
    pub node: Arc<str>,
    pub ping_interval: Duration,
    /// How long the credential remains valid.
    pub expires_in: Option<Duration>,
    /// Largest message that a client may send, in bytes.
    pub max_message: usize,
    /// Channels per session.
    pub max_subscriptions: usize,
}

/// Messages that the server sends on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A ping of the server.
    Ping,
    /// The session missed publications: `dropped` of them, if known; `range` has their sequences in their stream.
    Gap { channel: Arc<str>, cause: GapCause, dropped: Option<u64>, range: Option<SequenceRange> },
    /// The channel has had no publications since then.
    Stale { channel: Arc<str>, since: SystemTime },
    /// The server ended the subscription.
    Unsubscribed { channel: Arc<str>, error: ClientError },
    /// The credential is about to expire.
    Expiring { within: Duration },
    /// The session ends now.
    Close { disconnect: Disconnect, retry_after: Option<Duration> },
}

/// A field by which a vocabulary filters, by its place in the notes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldIndex(pub u16);

/// A filter on publications of a channel: what one of their fields must be. All conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The number of the field in the notes of frames.
    pub field: FieldIndex,
    /// The name of the field in the vocabulary.
    pub name: Box<str>,
    /// The accepted values, as text. `None` accepts all.
    pub values: Option<Box<[Box<str>]>>,
    /// The rejected values, as text.
    pub not: Box<[Box<str>]>,
    /// The least and the greatest number. With one of them, a value that is no number is rejected.
    pub min: Option<FilterNumber>,
    pub max: Option<FilterNumber>,
}

/// The most values of each list of a filter.
pub const MAX_FILTER_VALUES: usize = 64;

/// What becomes of the filter that a subscription has when a client sends another one for the same field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilterChange {
    /// The new one replaces it.
    #[default]
    Replace,
    /// The values of the new one are added to its lists.
    Add,
    /// The values of the new one are taken from its lists.
    Remove,
}

/// A bound of a filter: a finite number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FilterNumber {
    /// Its value, if it is whole: exact if it is written as a whole number within the range of `i64` or `u64`, else that
    /// of `nearest`.
    whole: Option<i128>,
    /// The nearest `f64`.
    nearest: f64,
}

impl Eq for FilterNumber {}

impl std::fmt::Display for FilterNumber {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.whole {
            Some(whole) => whole.fmt(formatter),
            None => self.nearest.fmt(formatter),
        }
    }
}

impl PartialOrd for FilterNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.whole, other.whole) {
            (Some(mine), Some(other)) => Some(mine.cmp(&other)),
            _ => self.nearest.partial_cmp(&other.nearest),
        }
    }
}

/// Whole numbers from here on are compared as `f64`: 2^100.
const MAX_WHOLE: f64 = 1_267_650_600_228_229_401_496_703_205_376.0;

impl FilterNumber {
    /// Parses a number as JSON writes it. `None` for anything else, and if it is too large.
    pub fn parse(text: &str) -> Option<Self> {
        let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        let nearest = text.parse().ok().filter(|number: &f64| is_number && number.is_finite())?;
        let signed = || text.parse::<i64>().ok().map(i128::from);
        let unsigned = || text.parse::<u64>().ok().map(i128::from);
        let other = || (nearest.fract() == 0.0 && nearest.abs() < MAX_WHOLE).then_some(nearest as i128);
        Some(Self { whole: signed().or_else(unsigned).or_else(other), nearest })
    }
}

impl Filter {
    /// This filter after a change of the one `before` it, which counts only if it has the same field. `None` if a list
    /// would have more than [`MAX_FILTER_VALUES`].
    pub fn changed(&self, before: Option<&Self>, change: FilterChange) -> Option<Self> {
        let Some(before) = before.filter(|before| before.name == self.name) else {
            return Some(match change {
                FilterChange::Replace | FilterChange::Add => self.clone(),
                FilterChange::Remove => Self { values: None, not: Box::default(), ..self.clone() },
            });
        };
        let merged = |before: &[Box<str>], these: &[Box<str>]| -> Box<[Box<str>]> {
            let rest = before.iter().filter(|value| !these.contains(value)).cloned();
            match change {
                FilterChange::Replace => these.into(),
                FilterChange::Add => before
                    .iter()
                    .chain(these.iter().filter(|value| !before.contains(value)))
                    .cloned()
                    .collect(),
                FilterChange::Remove => rest.collect(),
            }
        };
        let values = match (&before.values, &self.values) {
            (_, None) if change == FilterChange::Replace => None,
            (None, these) if change != FilterChange::Remove => these.clone(),
            (before, these) => {
                before.as_deref().map(|before| merged(before, these.as_deref().unwrap_or_default()))
            }
        };
        let (min, max) = match change {
            FilterChange::Replace => (self.min, self.max),
            FilterChange::Add | FilterChange::Remove => (before.min, before.max),
        };
        let changed = Self { values, not: merged(&before.not, &self.not), min, max, ..self.clone() };
        let fits = |values: &[Box<str>]| values.len() <= MAX_FILTER_VALUES;
        (fits(&changed.not) && changed.values.as_deref().is_none_or(fits)).then_some(changed)
    }

    /// Whether a publication passes whose field has this text.
    pub fn passes(&self, value: &[u8]) -> bool {
        let has = |values: &[Box<str>]| values.iter().any(|wanted| wanted.as_bytes() == value);
        if self.values.as_deref().is_some_and(|values| !has(values)) || has(&self.not) {
            return false;
        }
        if self.min.is_none() && self.max.is_none() {
            return true;
        }
        let number = std::str::from_utf8(value).ok().and_then(FilterNumber::parse);
        number.is_some_and(|number| {
            self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
        })
    }
}

#[cfg(test)]
mod tests;
