//! The session of one client, on any transport: a state machine that takes [`Input`] and returns [`Output`].

mod authentication;
mod change;
mod changing;
mod channels;
pub mod checks;
mod command;
pub mod denied;
mod ending;
mod heartbeat;
pub mod joined_channels;
mod joins;
mod leaving;
pub mod limits;
mod names;
pub mod now;
pub mod phase;
mod queries;
pub mod recovery;
pub mod refused;
mod request_queue;
mod requests;
pub mod settings;
pub mod stats;
pub mod subscription;
mod surplus;
mod wildcards;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use bytes::Bytes;

use crate::class::Class;
use crate::class::Priority;
use crate::client_message::ClientMessage;
use crate::dialect::Dialect;
use crate::dialect::SessionScope;
use crate::disconnect::Disconnect;
use crate::error::ClientError;
use crate::frame::Format;
use crate::frame::Frame;
use crate::gap_cause::GapCause;
use crate::identity::Identity;
use crate::message::Filter;
use crate::message::Push;
use crate::message::Query;
use crate::message::QueryResult;
use crate::message::Reply;
use crate::message::Variables;
use crate::payload::Payload;
use crate::position::Position;
use crate::position::SequenceRange;
use crate::publication::Delivery;
use crate::session::denied::Denied;
use crate::session::heartbeat::Heartbeat;
use crate::session::heartbeat::HeartbeatAction;
use crate::session::limits::Bucket;
use crate::session::now::Now;
use crate::session::phase::PendingAuth;
use crate::session::phase::Phase;
use crate::session::phase::Verified;
use crate::session::recovery::Recovery;
use crate::session::refused::RefusedMessage;
use crate::session::request_queue::RequestQueue;
use crate::session::settings::Settings;
use crate::session::subscription::State;
use crate::session::subscription::SubscriptionId;
use crate::session::subscription::Subscriptions;
use crate::subject::Pattern;
use crate::subject::Subject;
use crate::subscription_context::SubscriptionContext;

/// Events that a session handles.
#[derive(Debug)]
pub enum Input {
    /// The client sent a whole text or binary message.
    Received(ClientMessage),
    /// The client sent a control frame, so it is alive.
    Alive,
    /// The result of an [`Output::Authenticate`] or [`Output::TrustIdentity`].
    Authenticated(Result<Verified, ClientError>),
    /// The same user may do less from now on.
    Narrowed(Arc<Identity>),
    /// A backend ends the subscriptions to channels that these patterns cover.
    Unsubscribed { patterns: Arc<[Pattern]> },
    /// An [`Output::Join`] succeeded: the last values, since when the channel is stale, if it is, and where it is in its
    /// stream, if it has one.
    Joined {
        subscription: SubscriptionId,
        snapshot: Vec<Delivery>,
        stale: Option<SystemTime>,
        position: Option<Position>,
    },
    /// The result of an [`Output::Recover`].
    Recovered { subscription: SubscriptionId, recovery: Box<Recovery> },
    /// A lane has read this many last values because of an [`Output::Join`] of this session, which may have left the
    /// channel meanwhile.
    SnapshotRead { values: usize },
    /// A service does not allow an [`Output::Join`], or gives no answer. `denied` is for operators.
    JoinDenied { subscription: SubscriptionId, error: ClientError, denied: Box<Denied> },
    /// An [`Output::Join`] failed.
    JoinFailed { subscription: SubscriptionId, error: ClientError },
    /// A publication for a subscription in the state [`State::Held`].
    Publication { subscription: SubscriptionId, delivery: Rc<Delivery> },
    /// Publications are missing here: see [`Push::Gap`].
    Lost { subscription: SubscriptionId, cause: GapCause, dropped: Option<u64>, range: Option<SequenceRange> },
    /// The channel has had no publications since then.
    Stale { subscription: SubscriptionId, since: SystemTime },
    /// The result of an [`Output::Publish`].
    Published { request: u32, result: Result<(), ClientError> },
    /// The result of an [`Output::Request`].
    Replied { request: u32, result: Result<Payload, ClientError> },
    /// The result of an [`Output::Query`].
    Queried { request: u32, result: Result<QueryResult, ClientError> },
    /// The caller ends the session for this reason, such as a protocol violation or a limit.
    Disconnect(Disconnect),
    /// The system clock was set, so the time of day has jumped.
    ClockSet,
    /// The node drains; the client should reconnect after this time.
    Drain { retry_after: Duration },
}

/// When a session can take the client's next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputReadiness {
    Now,
    /// At this time: the client has sent commands faster than its rate allows.
    At(Instant),
    /// When one of its publishes, requests or queries has its result.
    AfterAnswer,
    /// Never: the session has ended.
    Never,
}

/// What the caller must do, in this order.
#[derive(Debug)]
pub enum Output {
    /// Append the frame to the outbox.
    Send { frame: Frame, priority: Priority },
    /// Append a publication to the outbox, according to its class.
    Deliver { subscription: SubscriptionId, delivery: Rc<Delivery> },
    /// Append the last values for a subscription that has just joined, according to its class: all at once, whatever its
    /// `max_rate`.
    DeliverSnapshot { subscription: SubscriptionId, snapshot: Vec<Delivery> },
    /// Also send a ping of the transport, if it has one.
    Ping,
    /// Verify the credential; reply with [`Input::Authenticated`] within a few seconds. Until then the session takes no
    /// message, and its `auth_timeout` does not run.
    Authenticate { token: String },
    /// Make an identity for a user that the endpoint trusts without a credential; reply with [`Input::Authenticated`].
    TrustIdentity { user: String },
    /// Ask the lane for the channel. On success, add the subscription to the hub as held and reply with
    /// [`Input::Joined`]; otherwise reply with [`Input::JoinFailed`].
    Join {
        subscription: SubscriptionId,
        pattern: Pattern,
        format: Format,
        class: Arc<Class>,
        max_rate: Option<Duration>,
        subscription_context: Option<Rc<SubscriptionContext>>,
    },
    /// Ask the lane for what the channel has had after this position; reply with [`Input::Recovered`] when all
    /// publications before the answer were passed to the session, which ignores them, and before the next one.
    Recover { subscription: SubscriptionId, pattern: Pattern, format: Format, after: Position },
    /// From now on, deliver only the publications of this subscription that pass the filter.
    Filter { subscription: SubscriptionId, filter: Filter },
    /// Move the subscription from held to live: the hub delivers without asking the session.
    GoLive { subscription: SubscriptionId },
    /// Append the publications of this subscription that `max_rate` holds back, because a newer subscription replaces
    /// it.
    Release { subscription: SubscriptionId },
    /// Remove the subscription from the hub.
    Leave { subscription: SubscriptionId },
    /// Publish on NATS; reply with [`Input::Published`].
    Publish { request: u32, subject: Subject, data: Bytes, headers: Vec<(String, String)> },
    /// Send a request on NATS; reply with [`Input::Replied`].
    Request { request: u32, subject: Subject, data: Bytes, headers: Vec<(String, String)>, timeout: Duration },
    /// Answer the query from what the lanes or nodes know; reply with [`Input::Queried`].
    Query { request: u32, query: Query },
    /// Log an operation that the client's permissions do not allow. The session sends the error to the client itself.
    Denied(Box<Denied>),
    /// Count a message that was answered with an error. The session sends the error itself.
    Refused(Box<RefusedMessage>),
    /// Send the rest of the outbox, then close the connection with this code.
    Close { code: u16, reason: Box<str> },
}

/// The conversation with one client.
pub struct Session {
    id: Arc<str>,
    dialect: Arc<dyn Dialect>,
    settings: Arc<Settings>,
    phase: Phase,
    expiring_sent: bool,
    heartbeat: Option<Heartbeat>,
    /// Whether the client was sent [`Reply::Connected`].
    connected_sent: bool,
    /// Whether messages may carry credentials. False for a session of one message, which has no time to verify them.
    accepts_credentials: bool,
    pending_auth: Option<Box<PendingAuth>>,
    variables: Variables,
    /// The time of the current input.
    now: Now,
    subscriptions: Subscriptions,
    commands: Bucket,
    /// Work that the client caused since the last [`Session::take_work`], in commands.
    work: u32,
    /// Rejected commands, which decay over time.
    errors: Bucket,
    /// Whether the current message caused an error already.
    has_rejected: bool,
    requests: RequestQueue,
    /// Total size of the messages that wait for joins, in bytes.
    waiting_message_bytes: usize,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session that begins at `now`. `verified` is the identity from the handshake, if it had a credential.
    pub fn new(
        id: Arc<str>,
        dialect: Arc<dyn Dialect>,
        settings: Arc<Settings>,
        verified: Option<Verified>,
        now: Now,
    ) -> Self {
        let mut session = Self::build(id, dialect, settings, verified, now);
        if session.dialect.traits().has_sessions {
            session.send_connected();
        }
        session
    }

    /// A session for a single message, such as an HTTP call: it sends no greeting and no pings.
    pub fn of_one_message(
        id: Arc<str>,
        dialect: Arc<dyn Dialect>,
        settings: Arc<Settings>,
        verified: Verified,
        now: Now,
    ) -> Self {
        Self {
            heartbeat: None,
            accepts_credentials: false,
            ..Self::build(id, dialect, settings, Some(verified), now)
        }
    }

    fn build(
        id: Arc<str>,
        dialect: Arc<dyn Dialect>,
        settings: Arc<Settings>,
        verified: Option<Verified>,
        now: Now,
    ) -> Self {
        let traits = dialect.traits();
        let interval = traits.ping_interval.unwrap_or(settings.ping_interval);
        let heartbeat = traits.has_sessions.then(|| Heartbeat::new(interval, &id, now.instant));
        let phase = match verified {
            _ if !traits.has_sessions => Phase::Open(Verified { identity: Arc::default(), expires: None }),
            Some(verified) => Phase::Open(verified),
            None => Phase::Waiting { until: now.instant + settings.auth_timeout },
        };
        Self {
            id,
            dialect,
            settings,
            phase,
            expiring_sent: false,
            heartbeat,
            connected_sent: false,
            accepts_credentials: true,
            pending_auth: None,
            variables: Variables::default(),
            now,
            subscriptions: Subscriptions::default(),
            commands: Bucket::default(),
            work: 0,
            errors: Bucket::default(),
            has_rejected: false,
            requests: RequestQueue::default(),
            waiting_message_bytes: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Handles one event at the time `now`.
    pub fn handle_input(&mut self, input: Input, now: Now) {
        match self.phase {
            Phase::Closed => return,
            Phase::Ending(_) if !matches!(input, Input::Published { .. } | Input::Replied { .. }) => return,
            Phase::Ending(_) | Phase::Waiting { .. } | Phase::Open(_) => {}
        }
        self.now = now;
        match input {
            Input::Received(message) => {
                self.alive();
                self.received(message);
            }
            Input::Alive => self.alive(),
            Input::Authenticated(result) => self.authenticated(result),
            Input::Narrowed(identity) => self.narrowed(identity),
            Input::Unsubscribed { patterns } => self.end_covered(&patterns),
            Input::Joined { subscription, snapshot, stale, position } => {
                self.joined(subscription, snapshot, stale, position);
            }
            Input::Recovered { subscription, recovery } => self.recovered(subscription, *recovery),
            Input::SnapshotRead { values } => self.charge_values(values),
            Input::JoinFailed { subscription, error } => self.join_failed(subscription, error, None),
            Input::JoinDenied { subscription, error, denied } => {
                self.join_failed(subscription, error, Some(denied));
            }
            Input::Publication { subscription, delivery } => self.publication(subscription, delivery),
            Input::Lost { subscription, cause, dropped, range } => {
                let gap = |channel| Push::Gap { channel, cause, dropped, range };
                self.push_to_subscription(subscription, gap);
            }
            Input::Stale { subscription, since } => {
                self.push_to_subscription(subscription, |channel| Push::Stale { channel, since });
            }
            Input::Published { request, result } => {
                self.complete_request(request, result, |request_context, ()| Reply::Published {
                    request_context,
                })
            }
            Input::Replied { request, result } => {
                self.complete_request(request, result, |request_context, data| Reply::Replied {
                    request_context,
                    data,
                });
            }
            Input::Queried { request, result } => {
                self.complete_request(request, result, |request_context, found| match found {
                    QueryResult::LastValues(values) => Reply::LastValues { request_context, values },
                    QueryResult::Statistics(json) => Reply::Statistics { request_context, json },
                });
            }
            Input::Disconnect(disconnect) => self.close(disconnect, disconnect.retry_after()),
            Input::ClockSet => self.clock_set(),
            Input::Drain { retry_after } => self.close(Disconnect::GoingAway, Some(retry_after)),
        }
    }

    /// Returns and resets the work that the client has caused, in commands: one per message, one more per 16 channels
    /// that it joins or leaves, and one more per 64 last values that are read for it.
    pub fn take_work(&mut self) -> u32 {
        std::mem::take(&mut self.work)
    }

    /// When the caller may pass the client's next message. Until then, leave messages unread in the transport; none is
    /// rejected for coming too early.
    pub fn readiness(&self, now: Instant) -> InputReadiness {
        if matches!(self.phase, Phase::Ending(_) | Phase::Closed) {
            return InputReadiness::Never;
        }
        // What follows a credential depends on it.
        if self.pending_auth.is_some() || self.requests.waiting_bytes() >= 2 * self.settings.max_message {
            return InputReadiness::AfterAnswer;
        }
        self.commands.ready_at(self.settings.commands, now).map_or(InputReadiness::Now, InputReadiness::At)
    }

    /// Handles the deadlines that have passed. Call it at [`Session::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        let now = now.instant;
        match &self.phase {
            Phase::Closed => return,
            Phase::Ending(ending) if now >= ending.until => return self.end_now(),
            Phase::Ending(_) => return,
            // The client has sent its credential in time, and the caller answers soon.
            Phase::Waiting { until } if now >= *until && self.pending_auth.is_none() => {
                return self.close(Disconnect::AuthTimeout, None);
            }
            Phase::Waiting { .. } | Phase::Open(Verified { expires: None, .. }) => {}
            Phase::Open(Verified { expires: Some(expires), .. }) => {
                if now >= *expires {
                    return self.close(Disconnect::TokenExpired, None);
                }
                let within = *expires - now;
                if !self.expiring_sent && within <= self.settings.expiring {
                    self.expiring_sent = true;
                    self.push(&Push::Expiring { within }, Priority::High);
                }
            }
        }
        self.report_overdue_joins();
        let interval = self.dialect.traits().ping_interval.unwrap_or(self.settings.ping_interval);
        let timeout = self.settings.pong_timeout;
        match self
            .heartbeat
            .as_mut()
            .map_or(HeartbeatAction::Nothing, |heartbeat| heartbeat.poll(interval, timeout, now))
        {
            HeartbeatAction::Nothing => {}
            HeartbeatAction::TimedOut => self.close(Disconnect::NoPong, None),
            HeartbeatAction::Ping => {
                self.push(&Push::Ping, Priority::High);
                self.outputs.push_back(Output::Ping);
            }
        }
    }

    /// The next output. Call it until it returns `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && matches!(self.phase, Phase::Open(_)) {
            self.request_joins();
        }
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > 0 {
            self.outputs = VecDeque::new();
        }
        output
    }

    /// When to call [`Session::handle_timeout`], unless another event comes first.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Closed => return None,
            Phase::Ending(ending) => return Some(ending.until),
            Phase::Waiting { until } => Some(*until).filter(|_| self.pending_auth.is_none()),
            Phase::Open(Verified { expires, .. }) => expires.map(|expires| {
                if self.expiring_sent {
                    expires
                } else {
                    expires.checked_sub(self.settings.expiring).unwrap_or(expires)
                }
            }),
        };
        let beat = self.heartbeat.map(|heartbeat| heartbeat.deadline());
        let overdue = self.subscriptions.oldest_wait().map(|since| since + self.settings.join_notice_after);
        [phase, beat, overdue].into_iter().flatten().min()
    }

    /// When the credential expires and the session ends. [`Session::poll_timeout`] is never later.
    pub fn expires(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open(verified) => verified.expires,
            Phase::Waiting { .. } | Phase::Ending(_) | Phase::Closed => None,
        }
    }

    /// Whether this subscription waits for the result of its [`Output::Join`].
    pub fn is_joining(&self, subscription: SubscriptionId) -> bool {
        self.subscriptions.get(subscription).is_some_and(|subscription| subscription.join().is_some())
    }

    /// The user name, once known; for logs.
    pub fn user(&self) -> Option<&Arc<str>> {
        match &self.phase {
            Phase::Open(verified) => Some(&verified.identity.user),
            Phase::Waiting { .. } | Phase::Ending(_) | Phase::Closed => None,
        }
    }

    /// When the oldest ping was sent that the client has not answered.
    pub fn unanswered_ping(&self) -> Option<Instant> {
        self.heartbeat?.unanswered_ping(self.settings.pong_timeout)
    }

    fn alive(&mut self) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.alive();
        }
    }

    /// The identity, once known.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match &self.phase {
            Phase::Open(verified) => Some(&verified.identity),
            Phase::Waiting { .. } | Phase::Ending(_) | Phase::Closed => None,
        }
    }

    /// The session's id, unique in the cluster.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The label of this user's session in logs, if its vocabulary defines one.
    pub fn label(&self, identity: &Identity) -> Option<String> {
        self.dialect.label(SessionScope { identity: Some(identity), ..self.scope() })
    }

    /// What the dialect may read from this session.
    fn scope(&self) -> SessionScope<'_> {
        SessionScope {
            session: &self.id,
            node: &self.settings.node,
            identity: self.identity().map(Arc::as_ref),
            variables: Some(&self.variables),
            subscriptions: Some(&self.subscriptions),
            now: self.now.wall,
        }
    }

    fn publication(&mut self, id: SubscriptionId, delivery: Rc<Delivery>) {
        if self.subscriptions.find(id).is_some_and(|subscription| subscription.state == State::Held) {
            self.outputs.push_back(Output::Deliver { subscription: id, delivery });
        }
    }

    /// Sends a push about a subscription, in order with its publications.
    fn push_to_subscription(&mut self, id: SubscriptionId, push: impl FnOnce(Arc<str>) -> Push) {
        let Some(subscription) = self.subscriptions.find(id) else {
            return;
        };
        if matches!(subscription.state, State::Joining(_)) {
            return;
        }
        let priority = subscription.class.priority;
        let push = push(subscription.pattern.as_str().into());
        let subscription_context = subscription.subscription_context.clone();
        self.push_to_channel(&push, subscription_context.as_deref(), priority);
    }

    fn reply(&mut self, reply: &Reply, priority: Priority) {
        // A message can have several replies, and the first one may have closed the session.
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let frame = self.dialect.reply(self.scope(), reply);
        self.outputs.extend(frame.map(|frame| Output::Send { frame, priority }));
    }

    fn push(&mut self, push: &Push, priority: Priority) {
        let frame = self.dialect.push(self.scope(), push);
        self.outputs.extend(frame.map(|frame| Output::Send { frame, priority }));
    }

    /// Sends a push about a channel.
    fn push_to_channel(
        &mut self,
        push: &Push,
        subscription_context: Option<&SubscriptionContext>,
        priority: Priority,
    ) {
        let frame = self.dialect.channel_push(push, subscription_context);
        self.outputs.extend(frame.map(|frame| Output::Send { frame, priority }));
    }
}
