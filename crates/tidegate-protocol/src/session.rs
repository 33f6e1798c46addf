//! Session: one client's conversation, whatever its transport. It is told what happened and says what to do.

mod authentication;
mod channels;
pub mod checks;
mod command;
mod ending;
pub mod figures;
mod heartbeat;
pub mod limits;
pub mod now;
mod orders;
pub mod phase;
mod queries;
mod requests;
pub mod settings;
pub mod subscription;
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
use crate::identity::Identity;
use crate::message::Filter;
use crate::message::GapCause;
use crate::message::Push;
use crate::message::Query;
use crate::message::QueryResult;
use crate::message::Reply;
use crate::message::Variables;
use crate::payload::Payload;
use crate::publication::Delivery;
use crate::session::heartbeat::Beat;
use crate::session::heartbeat::Heartbeat;
use crate::session::limits::Bucket;
use crate::session::now::Now;
use crate::session::orders::Requests;
use crate::session::phase::Pending;
use crate::session::phase::Phase;
use crate::session::phase::Verified;
use crate::session::settings::Settings;
use crate::session::subscription::State;
use crate::session::subscription::SubscriptionId;
use crate::session::subscription::Subscriptions;
use crate::subject::Pattern;
use crate::subject::Subject;
use crate::subscription_context::SubscriptionContext;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A whole text or binary message came.
    Received(ClientMessage),
    /// A control frame came: a sign of life.
    Alive,
    /// The credential of an [`Output::Authenticate`] was looked at.
    Authenticated(Result<Verified, ClientError>),
    /// An [`Output::Join`] is done: the last values, and since when the channel is silent, if it is.
    Joined { subscription: SubscriptionId, snapshot: Vec<Frame>, stale: Option<SystemTime> },
    /// An [`Output::Join`] failed.
    Unjoined { subscription: SubscriptionId, refusal: ClientError },
    /// A publication for a subscription that is held.
    Publication { subscription: SubscriptionId, delivery: Rc<Delivery> },
    /// Publications are missing at this place.
    Lost { subscription: SubscriptionId, cause: GapCause, dropped: Option<u64> },
    /// Nothing has come since then.
    Stale { subscription: SubscriptionId, since: SystemTime },
    /// An [`Output::Publish`] is done.
    Published { request: u32, result: Result<(), ClientError> },
    /// An [`Output::Request`] is done.
    Replied { request: u32, result: Result<Payload, ClientError> },
    /// An [`Output::Query`] is answered.
    Queried { request: u32, result: Result<QueryResult, ClientError> },
    /// The transport cannot go on.
    Failed(Disconnect),
    /// The system's clock was set: the time of day is not what it was thought to be.
    ClockSet,
    /// The node drains; come back after that long.
    Drain { retry_after: Duration },
}

/// When a session takes the client's next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Now.
    Now,
    /// Then: the client has sent commands faster than it may.
    At(Instant),
    /// When one of its publishes or requests is answered.
    AfterAnswer,
    /// Not any more.
    Never,
}

/// What the caller must do, in this order.
#[derive(Debug)]
pub enum Output {
    /// Append the frame to the outbox.
    Send { frame: Frame, priority: Priority },
    /// Append a publication to the outbox, as its class says.
    Deliver { subscription: SubscriptionId, delivery: Rc<Delivery> },
    /// Ping on the transport's own level too, where it has one.
    Ping,
    /// Verify the credential; answer with [`Input::Authenticated`].
    Authenticate { token: String },
    /// Make an identity of a user that the client names without a credential; answer with [`Input::Authenticated`].
    TrustClientIdentity { user: String },
    /// Ask for the channel; answer with [`Input::Joined`] and enter it as held, or with [`Input::Unjoined`].
    Join {
        subscription: SubscriptionId,
        pattern: Pattern,
        format: Format,
        class: Arc<Class>,
        max_rate: Option<Duration>,
        subscription_context: Option<Rc<SubscriptionContext>>,
    },
    /// Of a subscription's publications, only these from now on.
    Filter { subscription: SubscriptionId, filter: Filter },
    /// Move the subscription from held to live.
    GoLive { subscription: SubscriptionId },
    /// Append what waits of it for its turn: a newer one takes its place.
    Release { subscription: SubscriptionId },
    /// Take it out of the hub.
    Leave { subscription: SubscriptionId },
    /// Publish on NATS; answer with [`Input::Published`].
    Publish { request: u32, subject: Subject, data: Bytes, headers: Vec<(String, String)> },
    /// Request on NATS; answer with [`Input::Replied`].
    Request { request: u32, subject: Subject, data: Bytes, timeout: Duration },
    /// Find out what is known; answer with [`Input::Queried`].
    Query { request: u32, query: Query },
    /// Send what the outbox holds, then end with this code.
    Close { code: u16, reason: Box<str> },
}

/// One client's conversation.
pub struct Session {
    id: Arc<str>,
    dialect: Arc<dyn Dialect>,
    settings: Rc<Settings>,
    phase: Phase,
    expiring_said: bool,
    heartbeat: Option<Heartbeat>,
    /// Whether it was said that the session has an identity.
    greeted: bool,
    /// Whether a message may bring a credential: a session of one message has no time for another identity.
    takes_credentials: bool,
    pending: Option<Box<Pending>>,
    variables: Variables,
    /// When what is happening happens.
    now: Now,
    subscriptions: Subscriptions,
    commands: Bucket,
    /// What the client has caused since that was last asked, in commands.
    work: u32,
    /// Refused commands that are not forgiven yet.
    errors: Bucket,
    /// Whether something was refused of the message at hand.
    is_refused: bool,
    requests: Requests,
    /// Bytes of messages that wait for joins.
    asked_bytes: usize,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session that begins at `now`; `verified` is what the handshake has shown, if it has.
    pub fn new(
        id: Arc<str>,
        dialect: Arc<dyn Dialect>,
        settings: Rc<Settings>,
        verified: Option<Verified>,
        now: Now,
    ) -> Self {
        let mut session = Self::build(id, dialect, settings, verified, now);
        if session.dialect.traits().has_sessions {
            session.greet();
        }
        session
    }

    /// One that hears a single message: it says nothing unasked, and begins nothing.
    pub fn of_one_message(
        id: Arc<str>,
        dialect: Arc<dyn Dialect>,
        settings: Rc<Settings>,
        verified: Verified,
        now: Now,
    ) -> Self {
        Self {
            heartbeat: None,
            takes_credentials: false,
            ..Self::build(id, dialect, settings, Some(verified), now)
        }
    }

    fn build(
        id: Arc<str>,
        dialect: Arc<dyn Dialect>,
        settings: Rc<Settings>,
        verified: Option<Verified>,
        now: Now,
    ) -> Self {
        let seed = id.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let traits = dialect.traits();
        let interval = traits.ping_interval.unwrap_or(settings.ping_interval);
        let heartbeat = traits.has_sessions.then(|| Heartbeat::new(interval, seed, now.instant));
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
            expiring_said: false,
            heartbeat,
            greeted: false,
            takes_credentials: true,
            pending: None,
            variables: Variables::default(),
            now,
            subscriptions: Subscriptions::default(),
            commands: Bucket::default(),
            work: 0,
            errors: Bucket::default(),
            is_refused: false,
            requests: Requests::default(),
            asked_bytes: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Tells the session what happened.
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
            Input::Joined { subscription, snapshot, stale } => self.joined(subscription, snapshot, stale),
            Input::Unjoined { subscription, refusal } => self.unjoined(subscription, refusal),
            Input::Publication { subscription, delivery } => self.publication(subscription, delivery),
            Input::Lost { subscription, cause, dropped } => {
                self.tell(subscription, |channel| Push::Gap { channel, cause, dropped });
            }
            Input::Stale { subscription, since } => {
                self.tell(subscription, |channel| Push::Stale { channel, since });
            }
            Input::Published { request, result } => {
                self.answer(request, result, |asked, ()| Reply::Published { asked })
            }
            Input::Replied { request, result } => {
                self.answer(request, result, |asked, data| Reply::Replied { asked, data });
            }
            Input::Queried { request, result } => {
                self.answer(request, result, |asked, found| match found {
                    QueryResult::LastValues(values) => Reply::LastValues { asked, values },
                    QueryResult::Statistics(json) => Reply::Statistics { asked, json },
                });
            }
            Input::Failed(disconnect) => self.close(disconnect, disconnect.retry_after()),
            Input::ClockSet => self.clock_set(),
            Input::Drain { retry_after } => self.close(Disconnect::GoingAway, Some(retry_after)),
        }
    }

    /// What the client has caused since this was last asked, in commands: a message counts once, and once more for every
    /// few channels that it joins or leaves.
    pub fn take_work(&mut self) -> u32 {
        std::mem::take(&mut self.work)
    }

    /// Whether the client's next message may be given to the session. Messages that are not read wait where they are:
    /// nothing is refused because it comes too early.
    pub fn readiness(&self, now: Instant) -> Readiness {
        if matches!(self.phase, Phase::Ending(_) | Phase::Closed) {
            return Readiness::Never;
        }
        if self.requests.waiting_bytes() >= 2 * self.settings.max_message {
            return Readiness::AfterAnswer;
        }
        self.commands.ready_at(self.settings.commands, now).map_or(Readiness::Now, Readiness::At)
    }

    /// Tells the session that its [`Session::poll_timeout`] may have come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        let now = now.instant;
        match &self.phase {
            Phase::Closed => return,
            Phase::Ending(ending) if now >= ending.until => return self.end_now(),
            Phase::Ending(_) => return,
            Phase::Waiting { until } if now >= *until => return self.close(Disconnect::AuthTimeout, None),
            Phase::Waiting { .. } | Phase::Open(Verified { expires: None, .. }) => {}
            Phase::Open(Verified { expires: Some(expires), .. }) => {
                if now >= *expires {
                    return self.close(Disconnect::TokenExpired, None);
                }
                let within = *expires - now;
                if !self.expiring_said && within <= self.settings.expiring {
                    self.expiring_said = true;
                    self.push(&Push::Expiring { within }, Priority::High);
                }
            }
        }
        self.tell_overdue();
        let interval = self.dialect.traits().ping_interval.unwrap_or(self.settings.ping_interval);
        let timeout = self.settings.pong_timeout;
        match self.heartbeat.as_mut().map_or(Beat::Quiet, |heartbeat| heartbeat.beat(interval, timeout, now))
        {
            Beat::Quiet => {}
            Beat::Dead => self.close(Disconnect::NoPong, None),
            Beat::Ping => {
                self.push(&Push::Ping, Priority::High);
                self.outputs.push_back(Output::Ping);
            }
        }
    }

    /// The next thing to do. To be asked until it answers `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && matches!(self.phase, Phase::Open(_)) {
            self.ask_lanes();
        }
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > 0 {
            self.outputs = VecDeque::new();
        }
        output
    }

    /// When to call [`Session::handle_timeout`], unless something happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Closed => return None,
            Phase::Ending(ending) => return Some(ending.until),
            Phase::Waiting { until } => Some(*until),
            Phase::Open(Verified { expires, .. }) => expires.map(|expires| {
                if self.expiring_said {
                    expires
                } else {
                    expires.checked_sub(self.settings.expiring).unwrap_or(expires)
                }
            }),
        };
        let beat = self.heartbeat.map(|heartbeat| heartbeat.deadline());
        let overdue = self.subscriptions.waits_since().map(|since| since + self.settings.join_patience);
        [phase, beat, overdue].into_iter().flatten().min()
    }

    /// The user, once there is one; for logs.
    pub fn user(&self) -> Option<&Arc<str>> {
        match &self.phase {
            Phase::Open(verified) => Some(&verified.identity.user),
            Phase::Waiting { .. } | Phase::Ending(_) | Phase::Closed => None,
        }
    }

    fn alive(&mut self) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.alive();
        }
    }

    fn identity(&self) -> Option<&Arc<Identity>> {
        match &self.phase {
            Phase::Open(verified) => Some(&verified.identity),
            Phase::Waiting { .. } | Phase::Ending(_) | Phase::Closed => None,
        }
    }

    /// Its name, unique among all nodes.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// What the vocabulary calls the session of this user, if it has a name for it; for logs.
    pub fn label(&self, identity: &Identity) -> Option<String> {
        self.dialect.label(SessionScope { identity: Some(identity), ..self.scope() })
    }

    /// What a dialect may speak of.
    fn scope(&self) -> SessionScope<'_> {
        SessionScope {
            session: &self.id,
            node: &self.settings.node,
            identity: self.identity().map(Arc::as_ref),
            variables: Some(&self.variables),
            now: self.now.wall,
        }
    }

    fn publication(&mut self, id: SubscriptionId, delivery: Rc<Delivery>) {
        if self.subscriptions.find(id).is_some_and(|subscription| subscription.state == State::Held) {
            self.outputs.push_back(Output::Deliver { subscription: id, delivery });
        }
    }

    /// Says something about a subscription, in order with its publications.
    fn tell(&mut self, id: SubscriptionId, push: impl FnOnce(Arc<str>) -> Push) {
        let Some(subscription) = self.subscriptions.find(id) else {
            return;
        };
        if matches!(subscription.state, State::Joining(_)) {
            return;
        }
        let priority = subscription.class.priority;
        let push = push(subscription.pattern.as_str().into());
        let subscription_context = subscription.subscription_context.clone();
        self.say_of(&push, subscription_context.as_deref(), priority);
    }

    fn reply(&mut self, reply: &Reply, priority: Priority) {
        // One message may have several answers, of which the first may have ended the session.
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

    /// Says something of a channel.
    fn say_of(
        &mut self,
        push: &Push,
        subscription_context: Option<&SubscriptionContext>,
        priority: Priority,
    ) {
        let frame = self.dialect.channel_push(push, subscription_context);
        self.outputs.extend(frame.map(|frame| Output::Send { frame, priority }));
    }
}
