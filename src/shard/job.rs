//! `ShardJob`: work of a shard that does not belong to one of its connections.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::native::publish_call::PublishCall;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::trace_context::TraceContext;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::statistics::Statistics;
use tokio::sync::oneshot;

use crate::auth::revocation::message::RevocationMessage;
use crate::connection::auditing::CallRecord;
use crate::connection::counts::ShardCountsReport;
use crate::connection::events::report::EventFilter;
use crate::connection::events::report::EventList;
use crate::connection::events::report::SessionHistory;
use crate::connection::report::ConnectionFilter;
use crate::connection::report::ConnectionList;
use crate::connection::report::ConnectionReport;
use crate::connection::user_change::UserChange;
use crate::lane::counts::LaneReport;
use crate::nats::acknowledgement::Acknowledgement;
use crate::node::answer_budget::HeldAnswer;
use crate::node::call_limiter::Caller;
use crate::node::refusals::Refused;
use crate::node::services::ChannelReader;
use crate::shard::channels::ChannelFilter;
use crate::shard::channels::ChannelList;

/// A job, and where its answer goes.
#[derive(Debug)]
pub enum ShardJob {
    /// Run a session for one message, and return what it sends.
    Message { message: Box<OneMessage>, answer: oneshot::Sender<CallAnswer> },
    /// Publish the messages of an HTTP call, in their order, and return the result of each.
    Publish { call: Box<PublishMessages>, answer: oneshot::Sender<Vec<PublishResult>> },
    /// Return the statistics of all versions of a vocabulary on this shard, in pieces.
    Statistics {
        versions: Arc<[VocabularyId]>,
        vocabulary: Arc<CompiledVocabulary>,
        with_names: bool,
        answer: oneshot::Sender<Vec<Statistics>>,
    },
    /// Check all connections of this shard against the node's revocations. The answer is how many have ended, or may do
    /// less.
    CheckRevocations { answer: oneshot::Sender<usize> },
    /// Change the sessions of a user on this shard. The answer is how many there are.
    ChangeLocalSessions { change: Arc<UserChange>, answer: oneshot::Sender<usize> },
    /// Change the sessions of a user on all nodes. The answer is an error if nothing was done.
    ChangeUser {
        change: UserChange,
        by: Box<ChangeAuthor>,
        answer: oneshot::Sender<Result<UserChanged, ClientError>>,
    },
    /// Revoke credentials or permissions on all nodes. The answer is an error if nothing was done.
    Revoke {
        message: Box<RevocationMessage>,
        by: Box<ChangeAuthor>,
        answer: oneshot::Sender<Result<Revoked, ClientError>>,
    },
    /// Return the connections that a filter selects, at most this many of them.
    ListConnections { filter: Arc<ConnectionFilter>, most: usize, answer: oneshot::Sender<ConnectionList> },
    /// Return what is known of this session, which may have ended.
    DescribeSession { session: Arc<str>, answer: oneshot::Sender<SessionDetails> },
    /// Return the events that a filter selects, at most this many of them.
    ListEvents { filter: Arc<EventFilter>, most: usize, answer: oneshot::Sender<EventList> },
    /// Return the channels that a filter selects, at most this many of them.
    ListChannels { filter: Arc<ChannelFilter>, most: usize, answer: oneshot::Sender<ChannelList> },
    /// Return the subscriptions to each of these channels.
    CountSubscriptions { channels: Arc<[Pattern]>, answer: oneshot::Sender<Vec<usize>> },
    /// Return what the shard and its lane have counted.
    Count { answer: oneshot::Sender<ShardReport> },
}

/// Who changes sessions or revokes. The job logs and records the change, because its caller may go before the answer.
#[derive(Clone, Debug)]
pub struct ChangeAuthor {
    pub record: CallRecord,
    /// The id of the request's trace, for the log.
    pub trace_id: Option<String>,
}

/// The sessions of a user that were changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UserChanged {
    pub sessions: usize,
    /// The nodes that have answered, this one included.
    pub nodes: usize,
    /// The nodes that answered before, and not this time.
    pub missing_nodes: usize,
}

/// What a revocation has changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Revoked {
    /// The nodes that have answered, at least one.
    pub nodes: Vec<NodeRevocation>,
    /// The nodes that answered before, and not this time.
    pub missing_nodes: usize,
}

impl Revoked {
    /// The nodes that have done it, and the connections that have ended there, or may do less.
    pub fn accepted(&self) -> (usize, usize) {
        let accepted = self.nodes.iter().filter_map(|node| node.outcome.as_ref().ok());
        (accepted.clone().count(), accepted.sum())
    }
}

/// What a revocation has changed on one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRevocation {
    /// The name of the node.
    pub node: Box<str>,
    /// The connections that have ended, or may do less; or why the node has refused it.
    pub outcome: Result<usize, String>,
    /// Where it is kept: `bucket`, or only in `memory`.
    pub kept_in: Option<Box<str>>,
}

/// What is known of a session on its shard.
#[derive(Debug)]
pub struct SessionDetails {
    /// `None` if it has ended, or is on another shard.
    pub connection: Option<ConnectionDetails>,
    pub history: SessionHistory,
}

/// A connection and the channels of all its subscriptions.
#[derive(Debug)]
pub struct ConnectionDetails {
    pub report: ConnectionReport,
    pub channels: Vec<Pattern>,
}

/// The numbers of a shard and of the lane on its thread, at one moment.
#[derive(Debug)]
pub struct ShardReport {
    pub counts: ShardCountsReport,
    /// The subscriptions of its clients.
    pub subscriptions: u64,
    pub lane: LaneReport,
    pub runtime: RuntimeReport,
}

/// What the runtime of a shard's thread has counted.
#[derive(Debug)]
pub struct RuntimeReport {
    /// The tasks on it.
    pub tasks: u64,
    /// How long the thread has worked.
    pub busy: Duration,
    /// How often it had nothing to do.
    pub parks: u64,
}

/// The message of an HTTP call, and who sent it.
#[derive(Debug)]
pub struct OneMessage {
    /// Who the caller is.
    pub reader: ChannelReader,
    /// The same for the audit feed.
    pub record: CallRecord,
    /// The caller as fair queuing sees it, when many calls ask other nodes.
    pub caller: Caller,
    /// Counts the bytes of the answer.
    pub held: HeldAnswer,
    /// Decodes the message and encodes the answer.
    pub dialect: Arc<dyn Dialect>,
    pub text: String,
    /// The trace of the call.
    pub trace: Option<TraceContext>,
}

/// The messages of an HTTP call that publishes.
#[derive(Debug)]
pub struct PublishMessages {
    /// Who the caller is.
    pub record: CallRecord,
    /// The messages: texts, and what decodes them.
    pub messages: Vec<(PublishCall, String)>,
    /// The trace of the call, for messages without one.
    pub trace: Option<TraceContext>,
}

/// What has become of one message: the acknowledgement of its stream, or `None` if no stream stores its subject.
pub type PublishResult = Result<Option<Acknowledgement>, PublishError>;

/// Why a message was not published, or may not have been.
#[derive(Debug, Error)]
pub enum PublishError {
    /// It was not published.
    #[error("{}", .0.message)]
    Refused(ClientError),
    /// It was sent, and may have been published.
    #[error("{0}")]
    Unknown(String),
    /// Its stream did not store it. Subscribers may have got it.
    #[error("{0}")]
    NotStored(String),
    /// The same, and it never will.
    #[error("{0}")]
    NeverStored(String),
}

/// The answer to an HTTP call.
#[derive(Debug)]
pub struct CallAnswer {
    /// The frames of the session.
    pub frames: Vec<Frame>,
    /// Counts their bytes until they are sent.
    pub held: HeldAnswer,
    /// The limit that the call exceeded, if that is why it has no result.
    pub limited: Option<LimitedCall>,
}

/// A call that exceeded a limit.
#[derive(Clone, Copy, Debug)]
pub struct LimitedCall {
    pub by: Refused,
    /// When the caller may call again.
    pub retry_after: Duration,
}
