//! Session: one client's conversation, whatever its transport. It is told what happened and says what to do.

pub mod command;
pub mod heartbeat;
pub mod limits;
pub mod subscription;
#[cfg(any(test, feature = "test-hooks"))]
pub mod transcript;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use bytes::Bytes;

use crate::protocol::class::Class;
use crate::protocol::class::Classes;
use crate::protocol::class::Priority;
use crate::protocol::disconnect::Disconnect;
use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::frame::Format;
use crate::protocol::frame::Frame;
use crate::protocol::identity::Identity;
use crate::protocol::message::Connected;
use crate::protocol::message::GapCause;
use crate::protocol::message::Push;
use crate::protocol::message::Reply;
use crate::protocol::message::RequestId;
use crate::protocol::payload::Payload;
use crate::protocol::permissions::Operation;
use crate::protocol::publication::Delivery;
use crate::protocol::session::heartbeat::Beat;
use crate::protocol::session::heartbeat::Heartbeat;
use crate::protocol::session::limits::Bucket;
use crate::protocol::session::limits::Rate;
use crate::protocol::session::subscription::State;
use crate::protocol::session::subscription::SubscriptionId;
use crate::protocol::session::subscription::Subscriptions;
use crate::protocol::subject::Pattern;
use crate::protocol::subject::Subject;
use crate::protocol::subject::SubjectLimits;
use crate::protocol::vocabulary::Vocabulary;
use crate::protocol::websocket::Event;

/// The same end of a token, read at two times from a clock that is set by others, differs by less than this.
const CLOCK_STEP: Duration = Duration::from_millis(500);

/// What holds for every session of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub node: Arc<str>,
    /// How publications are delivered, by channel.
    pub classes: Classes,
    /// How long a channel may be.
    pub subjects: SubjectLimits,
    /// Largest message that a client may send, in bytes.
    pub max_message: usize,
    /// Channels a session may have.
    pub max_subscriptions: usize,
    /// Refused commands before the session ends.
    pub max_errors: u32,
    /// Commands a client may send.
    pub commands: Rate,
    /// Publishes and requests of one session that wait for their answer.
    pub requests_in_flight: usize,
    /// How long a request waits when the client does not say.
    pub request_timeout: Duration,
    /// How long a request may wait at most.
    pub request_timeout_max: Duration,
    /// Largest `data` of a publish or request, in bytes.
    pub publish_max: usize,
    /// How long a session may be without an identity.
    pub auth_timeout: Duration,
    /// How often to ping.
    pub ping_interval: Duration,
    /// How long to wait for a sign of life after a ping.
    pub pong_timeout: Duration,
    /// How long before its end a credential is said to expire.
    pub expiring: Duration,
    /// Keep every subscription held, to prove that nobody can tell.
    #[cfg(feature = "test-hooks")]
    pub hold: bool,
}

/// A verified identity, and its end on the session's own clock.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// When the credential ends.
    pub expires: Option<Instant>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A whole text or binary message came.
    Received(Event),
    /// A control frame came: a sign of life.
    Alive,
    /// The credential of an [`Output::Authenticate`] was looked at.
    Authenticated(Result<Verified, Refusal>),
    /// An [`Output::Join`] is done: the last values, and since when the channel is silent, if it is.
    Joined { subscription: SubscriptionId, snapshot: Vec<Frame>, stale: Option<SystemTime> },
    /// An [`Output::Join`] failed.
    Unjoined { subscription: SubscriptionId, refusal: Refusal },
    /// A publication for a subscription that is held.
    Publication { subscription: SubscriptionId, delivery: Rc<Delivery> },
    /// Publications are missing at this place.
    Lost { subscription: SubscriptionId, cause: GapCause, dropped: Option<u64> },
    /// Nothing has come since then.
    Stale { subscription: SubscriptionId, since: SystemTime },
    /// An [`Output::Publish`] is done.
    Published { request: u32, result: Result<(), Refusal> },
    /// An [`Output::Request`] is done.
    Replied { request: u32, result: Result<Payload, Refusal> },
    /// The transport cannot go on.
    Failed(Disconnect),
    /// The node drains; come back after that long.
    Drain { retry_after: Duration },
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
    /// Ask for the channel; answer with [`Input::Joined`] and enter it as held, or with [`Input::Unjoined`].
    Join {
        subscription: SubscriptionId,
        pattern: Pattern,
        format: Format,
        class: Arc<Class>,
        max_rate: Option<Duration>,
    },
    /// Move the subscription from held to live.
    GoLive { subscription: SubscriptionId },
    /// Take it out of the hub.
    Leave { subscription: SubscriptionId },
    /// Publish on NATS; answer with [`Input::Published`].
    Publish { request: u32, subject: Subject, data: Bytes, headers: Vec<(String, String)> },
    /// Request on NATS; answer with [`Input::Replied`].
    Request { request: u32, subject: Subject, data: Bytes, timeout: Duration },
    /// Send what the outbox holds, then end with this code.
    Close(Disconnect),
}

enum Phase {
    /// Without an identity, until the deadline.
    Waiting { until: Instant },
    /// With one.
    Open(Verified),
    /// Over; nothing is heard or said any more.
    Closed,
}

/// One client's conversation.
pub struct Session {
    id: Arc<str>,
    vocabulary: Vocabulary,
    settings: Rc<Settings>,
    phase: Phase,
    expiring_said: bool,
    heartbeat: Option<Heartbeat>,
    subscriptions: Subscriptions,
    commands: Bucket,
    errors: u32,
    requests: Vec<(u32, Option<RequestId>)>,
    requests_made: u32,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session that begins at `now`; `verified` is what the handshake has shown, if it has.
    pub fn new(
        id: Arc<str>,
        vocabulary: Vocabulary,
        settings: Rc<Settings>,
        verified: Option<Verified>,
        now: Instant,
    ) -> Self {
        let seed = id.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let heartbeat = vocabulary.has_sessions().then(|| Heartbeat::new(settings.ping_interval, seed, now));
        let phase = match verified {
            _ if !vocabulary.has_sessions() => {
                Phase::Open(Verified { identity: Arc::default(), expires: None })
            }
            Some(verified) => Phase::Open(verified),
            None => Phase::Waiting { until: now + settings.auth_timeout },
        };
        let mut session = Self {
            id,
            vocabulary,
            settings,
            phase,
            expiring_said: false,
            heartbeat,
            subscriptions: Subscriptions::default(),
            commands: Bucket::default(),
            errors: 0,
            requests: Vec::new(),
            requests_made: 0,
            outputs: VecDeque::new(),
        };
        if vocabulary.has_sessions() {
            session.greet(now);
        }
        session
    }

    /// Tells the session what happened.
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        match input {
            Input::Received(event) => {
                self.alive();
                self.received(&event, now);
            }
            Input::Alive => self.alive(),
            Input::Authenticated(result) => self.authenticated(result, now),
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
                self.answer(request, result, |id, ()| Reply::Published { id })
            }
            Input::Replied { request, result } => {
                self.answer(request, result, |id, data| Reply::Replied { id, data });
            }
            Input::Failed(disconnect) => self.close(disconnect, None),
            Input::Drain { retry_after } => self.close(Disconnect::GoingAway, Some(retry_after)),
        }
    }

    /// Tells the session that its [`Session::poll_timeout`] may have come.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &self.phase {
            Phase::Closed => return,
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
        let (interval, timeout) = (self.settings.ping_interval, self.settings.pong_timeout);
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
        [phase, beat].into_iter().flatten().min()
    }

    /// The user, once there is one; for logs.
    pub fn user(&self) -> Option<&Arc<str>> {
        match &self.phase {
            Phase::Open(verified) => Some(&verified.identity.user),
            Phase::Waiting { .. } | Phase::Closed => None,
        }
    }

    fn alive(&mut self) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.alive();
        }
    }

    fn greet(&mut self, now: Instant) {
        let Phase::Open(Verified { identity, expires }) = &self.phase else {
            return;
        };
        let connected = Connected {
            session: Arc::clone(&self.id),
            user: Arc::clone(&identity.user),
            node: Arc::clone(&self.settings.node),
            ping_interval: self.settings.ping_interval,
            expires_in: expires.map(|expires| expires.saturating_duration_since(now)),
            max_message: self.settings.max_message,
            max_subscriptions: self.settings.max_subscriptions,
        };
        self.reply(&Reply::Connected(connected), Priority::High);
    }

    /// A first identity opens the session; a later one takes its place if it is the same user's.
    fn authenticated(&mut self, result: Result<Verified, Refusal>, now: Instant) {
        let verified = match (result, &self.phase) {
            (Ok(verified), _) => verified,
            (Err(refusal), Phase::Open(_)) => return self.refuse(None, None, refusal),
            (Err(refusal), Phase::Waiting { .. } | Phase::Closed) => {
                self.refuse(None, None, refusal);
                return self.close(Disconnect::Unauthorized, None);
            }
        };
        if let Phase::Open(Verified { identity, expires }) = &self.phase {
            let (old, new) = (identity.as_ref(), verified.identity.as_ref());
            if !old.anonymous && (old.user != new.user || old.issuer != new.issuer) {
                let words = "the new token is another user's: open a new connection for it";
                self.refuse(None, None, Refusal::new(ErrorCode::Unauthorized, words));
                return self.close(Disconnect::Unauthorized, None);
            }
            let earlier = |end: Instant| verified.expires.is_some_and(|new| new + CLOCK_STEP < end);
            if !old.anonymous && expires.is_some_and(earlier) {
                let words = "the token ends before the one in use, which goes on: send a newer one";
                return self.refuse(None, None, Refusal::new(ErrorCode::Unauthorized, words));
            }
        }
        let identity = Arc::clone(&verified.identity);
        self.phase = Phase::Open(verified);
        self.expiring_said = false;
        self.greet(now);
        let allowed =
            |pattern: &Pattern| identity.permissions.decide(Operation::Subscribe, pattern).is_allowed();
        for lost in self.subscriptions.split_off(|subscription| allowed(&subscription.pattern)) {
            self.outputs.push_back(Output::Leave { subscription: lost.id });
            let refusal = Refusal::new(ErrorCode::Forbidden, "the new token does not allow this channel");
            let channel = lost.pattern.as_str();
            match lost.state {
                State::Joining(id) => {
                    let channel = Some(channel.to_owned());
                    self.reply(&Reply::Error { id, channel, refusal }, Priority::High);
                }
                State::Held | State::Live => {
                    self.push(&Push::Unsubscribed { channel: channel.into(), refusal }, lost.class.priority);
                }
            }
        }
    }

    fn joined(&mut self, id: SubscriptionId, snapshot: Vec<Frame>, stale: Option<SystemTime>) {
        let Some(subscription) = self.subscriptions.find(id) else {
            return;
        };
        let State::Joining(request) = &mut subscription.state else {
            return;
        };
        let request = request.take();
        subscription.state = State::Held;
        let channel: Arc<str> = subscription.pattern.as_str().into();
        let priority = subscription.class.priority;
        self.reply(&Reply::Subscribed { id: request, channel: Arc::clone(&channel), snapshot }, priority);
        if let Some(since) = stale {
            self.push(&Push::Stale { channel, since }, priority);
        }
        #[cfg(feature = "test-hooks")]
        if self.settings.hold {
            return;
        }
        if let Some(subscription) = self.subscriptions.find(id) {
            subscription.state = State::Live;
            self.outputs.push_back(Output::GoLive { subscription: id });
        }
    }

    fn unjoined(&mut self, id: SubscriptionId, refusal: Refusal) {
        let Some(subscription) = self.subscriptions.remove(id) else {
            return;
        };
        self.outputs.push_back(Output::Leave { subscription: id });
        let channel = subscription.pattern.as_str().to_owned();
        let request = match subscription.state {
            State::Joining(request) => request,
            State::Held | State::Live => None,
        };
        self.reply(&Reply::Error { id: request, channel: Some(channel), refusal }, Priority::High);
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
        self.push(&push, priority);
    }

    fn answer<T>(
        &mut self,
        request: u32,
        result: Result<T, Refusal>,
        reply: impl FnOnce(Option<RequestId>, T) -> Reply,
    ) {
        let Some(at) = self.requests.iter().position(|(number, _)| *number == request) else {
            return;
        };
        let (_, id) = self.requests.swap_remove(at);
        let reply = match result {
            Ok(value) => reply(id, value),
            Err(refusal) => Reply::Error { id, channel: None, refusal },
        };
        self.reply(&reply, Priority::High);
    }

    /// Refuses a command; too many refusals end the session.
    fn refuse(&mut self, id: Option<RequestId>, channel: Option<String>, refusal: Refusal) {
        self.reply(&Reply::Error { id, channel, refusal }, Priority::High);
        self.errors += 1;
        if self.errors > self.settings.max_errors {
            self.close(Disconnect::TooManyErrors, None);
        }
    }

    fn close(&mut self, disconnect: Disconnect, retry_after: Option<Duration>) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.phase = Phase::Closed;
        if self.vocabulary.has_sessions() {
            self.push(&Push::Close { disconnect, retry_after }, Priority::Low);
        }
        self.outputs.push_back(Output::Close(disconnect));
    }

    fn reply(&mut self, reply: &Reply, priority: Priority) {
        let frame = self.vocabulary.reply(reply);
        self.outputs.push_back(Output::Send { frame, priority });
    }

    fn push(&mut self, push: &Push, priority: Priority) {
        let frame = self.vocabulary.push(push);
        self.outputs.push_back(Output::Send { frame, priority });
    }
}

#[cfg(test)]
mod tests;
