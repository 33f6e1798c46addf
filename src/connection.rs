//! `Connection`: connects one client's session with its subscriber (subscriptions and outbox) and its transport.
//! `apply` passes every event to the session, and `perform` carries out the session's outputs.

pub mod auditing;
pub mod client_address;
pub mod client_error;
pub mod client_name;
pub mod clock;
pub mod context;
mod counting;
pub mod counts;
pub mod deadlines;
mod deciding;
pub mod delivery_totals;
mod echo;
mod event_loop;
#[cfg(feature = "event-stream")]
pub mod event_stream;
pub mod events;
pub mod flush_queue;
mod join_queues;
pub mod log;
mod log_context;
pub mod outbox_levels;
mod pending_decisions;
mod pending_input;
mod reading;
pub mod recoveries;
pub mod report;
mod revoking;
pub mod sending;
mod session_numbers;
pub mod settings;
pub mod table;
pub mod transport;
pub mod upstream;
pub mod user_change;
pub mod websocket;
mod writing;

use std::cell::Cell;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::echo::Echo;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::moment::Moment;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::phase::Verified;
use tidegate_protocol::session::stats::SessionStats;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Subject;
use tokio::task::AbortHandle;
use tracing::debug;
use tracing::error;

use crate::auth::policy::Policy;
use crate::connection::client_address::ClientAddress;
use crate::connection::client_name::ClientName;
use crate::connection::context::Context;
use crate::connection::deadlines::NextDeadlines;
use crate::connection::deadlines::Scheduled;
use crate::connection::events::SessionMark;
use crate::connection::log_context::LogContext;
use crate::connection::pending_decisions::DecisionAbout;
use crate::connection::settings::ConnectionSettings;
use crate::connection::transport::Transport;
use crate::hub::Subscribe;
use crate::hub::subscriber::ConnectionId;
use crate::hub::subscriber::Subscriber;
use crate::node::audit::event::AuditKind;
use crate::node::connection_guard::ConnectionGuard;
use crate::telemetry::limit::LogLimit;

static PANICS: LogLimit = LogLimit::per_second(1);

/// How long the node waits for the peer to close the socket after the close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a connection is created with, besides its transport.
pub struct ConnectionSetup {
    pub client_address: ClientAddress,
    /// What the client says of itself.
    pub client_name: ClientName,
    /// The id of the handshake, for logs.
    pub request: Box<str>,
    /// The dialect of the endpoint.
    pub dialect: Arc<dyn Dialect>,
    /// How the endpoint authenticates clients.
    pub policy: Arc<Policy>,
    /// How publications are encoded for the client. With compression, the client may send compressed messages too.
    pub encoding: Encoding,
    /// The client's identity, if the handshake had a credential or none is needed.
    pub identity: Option<Arc<Identity>>,
    /// Its place in the limits on connections.
    pub guard: ConnectionGuard,
    /// When its handshake began: with the socket, or with a later request on it.
    pub began: Instant,
}

/// The phases of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The close frame is in the outbox. Input is discarded, and nothing else is sent.
    Closing,
    /// The close frame is sent. The peer has until then to close the socket.
    CloseSent(Instant),
    Closed,
}

/// One client's session, its subscriptions with their outbox, and its transport.
pub struct Connection {
    context: Rc<Context>,
    settings: Rc<ConnectionSettings>,
    pub subscriber: Rc<Subscriber>,
    session: RefCell<Session>,
    transport: Transport,
    encoding: Encoding,
    policy: Arc<Policy>,
    guard: ConnectionGuard,
    /// Set for the test vocabulary `echo`.
    echo: Option<Echo>,
    stage: Cell<Stage>,
    /// Since when the transport has had no room for the waiting frames.
    blocked_since: Cell<Option<Moment>>,
    /// When to flush frames that wait for more (`batch_ms`).
    flush_due: Cell<Option<Moment>>,
    /// The deadlines that are in the shard's queue.
    scheduled: Scheduled,
    /// Whether there may be an earlier deadline, which is not in the queue yet.
    needs_scheduling: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The publications that the client was sent, and those that it was not.
    delivery_counts: Cell<DeliveryCounts>,
    /// The bytes that wait because the socket takes no more, as the shard has counted them.
    waiting: Cell<u32>,
    /// Whether the client has missed publications.
    has_gap: Cell<bool>,
    mark: SessionMark,
    log_context: Box<LogContext>,
}

impl Connection {
    fn new(
        context: &Rc<Context>,
        owner: ConnectionId,
        transport: Transport,
        setup: ConnectionSetup,
        now: Instant,
    ) -> Rc<Self> {
        let ConnectionSetup {
            client_address,
            client_name,
            request,
            dialect,
            policy,
            encoding,
            identity,
            guard,
            began,
        } = setup;
        context.counts.count_opened(transport.kind(), now.saturating_duration_since(began));
        let client_name = context.client_names.share(client_name);
        let log_context = LogContext::new(client_address, client_name, identity.clone(), now);
        let settings = context.settings();
        let number = context.new_session();
        let session = Session::new(
            context.session_id(number),
            Arc::clone(&dialect),
            Arc::clone(&settings.session),
            identity.map(|identity| Verified::at(identity, context.clock.at(now))),
            context.clock.at(now),
        );
        let echo = dialect.traits().echo;
        let subscriber = Rc::new(Subscriber::new(owner, dialect, settings.limits.outbox));
        if let Some(preface) = transport.preface() {
            subscriber.push_reply(preface, Priority::High);
        }
        let connection = Rc::new(Self {
            context: Rc::clone(context),
            settings,
            subscriber,
            session: RefCell::new(session),
            transport,
            encoding,
            policy,
            guard,
            echo,
            stage: Cell::new(Stage::Open),
            blocked_since: Cell::default(),
            flush_due: Cell::default(),
            scheduled: Scheduled::default(),
            needs_scheduling: Cell::default(),
            waker: RefCell::default(),
            delivery_counts: Cell::default(),
            waiting: Cell::default(),
            has_gap: Cell::default(),
            mark: SessionMark::new(number),
            log_context,
        });
        connection.log_start(&request);
        // Elsewhere the handshake has taken the user's slot.
        if connection.policy.one_connection_at.is_some()
            && let Some(identity) = connection.log_context.identity()
        {
            connection.count_user(&identity, now);
        }
        connection
    }

    /// Passes an event to the session and carries out its outputs. This never waits and writes nothing to the
    /// transport: callers flush once, after the last event.
    pub fn apply(self: &Rc<Self>, input: Input, now: Instant) {
        self.needs_scheduling.set(true);
        self.catch_panics(|| {
            self.session.borrow_mut().handle_input(input, self.context.clock.at(now));
            self.perform_all(now);
        });
    }

    /// Statistics of the session, if it speaks a vocabulary in one of these versions.
    pub fn session_stats(&self, versions: &[VocabularyId], with_names: bool) -> Option<SessionStats> {
        self.session.borrow().stats(versions, with_names)
    }

    /// Handles all deadlines that have passed.
    pub fn on_deadline(self: &Rc<Self>, now: Instant) {
        self.scheduled.forget_earliest();
        self.needs_scheduling.set(true);
        let limits = &self.settings.limits;
        let has_passed =
            |since: Option<Moment>, limit| since.is_some_and(|since| now >= Instant::from(since) + limit);
        match self.stage.get() {
            Stage::Closed => return,
            Stage::CloseSent(until) if now >= until => return self.end(),
            Stage::CloseSent(_) | Stage::Closing | Stage::Open => {}
        }
        let is_late = || has_passed(self.transport.unfinished_since(), limits.fragment_timeout);
        // One turn may not read all of a long message that has arrived.
        while self.stage.get() == Stage::Open && is_late() && self.read(now) {}
        if has_passed(self.blocked_since.get(), limits.write_timeout) {
            self.note_slow_consumer("limits.write_timeout_s");
            self.transport.abort();
            return self.end();
        }
        if is_late() {
            self.transport.forget_unfinished();
            self.disconnect(Disconnect::PolicyViolation, Some("limits.fragment_timeout_s"), now);
        }
        self.resume_reading(now);
        if self.has_pending_input() {
            // The client's answer to a ping may be among the unread bytes, so it is not timed out.
            self.apply(Input::Alive, now);
        }
        self.catch_panics(|| {
            self.session.borrow_mut().handle_timeout(self.context.clock.at(now));
            self.perform_all(now);
            self.subscriber.release_due(now);
        });
        self.count_all_conflated();
        self.flush(now);
        self.subscriber.free_capacity();
    }

    /// Schedules a flush after `wait`, unless an earlier one is due.
    pub fn flush_after(&self, wait: Duration, now: Instant) {
        let due = Moment::from(now + wait);
        if self.flush_due.get().is_none_or(|earlier| due < earlier) {
            self.flush_due.set(Some(due));
            self.needs_scheduling.set(true);
        }
        self.schedule(now);
    }

    /// Carries out the session's outputs until there are none. Inputs that result from them are passed on in this loop,
    /// never by recursion: so the depth of the stack does not depend on how much a client asks for.
    fn perform_all(self: &Rc<Self>, now: Instant) {
        while let Some(output) = self.next_output() {
            if let Some(input) = self.perform(output, now) {
                self.session.borrow_mut().handle_input(input, self.context.clock.at(now));
            }
        }
    }

    fn next_output(&self) -> Option<Output> {
        self.session.borrow_mut().poll_output()
    }

    /// Carries out one output. Returns the input that results at once, if any.
    fn perform(self: &Rc<Self>, output: Output, now: Instant) -> Option<Input> {
        let context = &self.context;
        match output {
            Output::Send { frame, priority } => {
                let frame = match self.echo {
                    Some(echo) => context.echo_encoder.encode(echo, frame, self.encoding),
                    None => frame,
                };
                self.send(frame, priority);
            }
            Output::Deliver { subscription, delivery } => {
                if let Some(class) = self.subscriber.with_member(subscription, |member| member.class.clone())
                {
                    self.subscriber.offer(&delivery, subscription, &class, now);
                }
            }
            Output::DeliverSnapshot { subscription, snapshot } => {
                self.subscriber.push_snapshot(snapshot, subscription);
            }
            Output::Ping => return self.ping(),
            Output::TrustIdentity { user } => {
                return Some(self.on_identified(
                    context.node.authenticator().trust_client_identity(&self.policy, &user),
                    &user,
                    now,
                ));
            }
            Output::Authenticate { token } => return self.authenticate(token, now),
            Output::Join { subscription, pattern, format, class, max_rate, subscription_context } => {
                let subscribe =
                    Subscribe { subscription, pattern, format, class, max_rate, subscription_context };
                return self.authorize_and_join(subscribe);
            }
            Output::Recover { subscription, pattern, format, after } => {
                context.recover((&self.subscriber, subscription), (pattern, format), after);
            }
            // The hub shares the context in which the session has set the filter.
            Output::Filter { subscription, .. } => self.subscriber.note_filtered(subscription),
            Output::GoLive { subscription } => {
                context.hub.borrow_mut().go_live(&self.subscriber, subscription)
            }
            Output::Release { subscription } => self.subscriber.release_all(subscription, now),
            Output::Leave { subscription } => self.leave(subscription),
            Output::Publish { request, subject, data, headers } => {
                self.note_channel(AuditKind::Published, subject.as_str(), Some(data.len()));
                self.publish(request, subject, data, headers)
            }
            Output::Request { request, subject, data, headers, timeout } => {
                self.note_channel(AuditKind::Requested, subject.as_str(), Some(data.len()));
                self.request(request, subject, (data, headers), timeout)
            }
            Output::Query { request, .. } => return Some(upstream::unsupported(request)),
            Output::Denied(denied) => self.log_denied(&denied),
            Output::Refused(refused) => self.count_refused(&refused),
            Output::Close { code, reason } => {
                self.log_context.set_end(code, log_context::known_reason(&reason));
                self.close_with(Frame::close(code, &reason));
            }
        }
        None
    }

    /// Leaves a channel.
    fn leave(&self, subscription: SubscriptionId) {
        let context = &self.context;
        context.pending_decisions.let_go(self.subscriber.owner, subscription);
        self.count_ended(self.subscriber.drop_delayed(subscription));
        self.count_all_conflated();
        self.subscriber.with_member(subscription, |member| {
            let channel = member.pattern.as_str();
            debug!(session = &**self.session.borrow().id(), channel, "unsubscribe");
            self.note_channel(AuditKind::Unsubscribed, channel, None);
        });
        let left = context.hub.borrow_mut().leave(&self.subscriber, subscription);
        if let Some(pattern) = left {
            context.leave(pattern);
        }
    }

    /// Joins a channel. The encoding belongs to the transport, so it is added to the format here and not by the
    /// session. Returns an input if the channel has no room.
    fn join(&self, subscribe: Subscribe) -> Option<Input> {
        let channel = subscribe.pattern.clone();
        debug!(session = &**self.session.borrow().id(), channel = channel.as_str(), "subscribe");
        // Messages that are made for one client are not compressed: that would cost more than it saves.
        let is_tailored = subscribe.subscription_context.as_ref().is_some_and(|context| context.is_tailored);
        let encoding = if is_tailored { subscribe.format.encoding } else { self.encoding };
        let format = Format { encoding, ..subscribe.format };
        let (subscription, max) = (subscribe.subscription, subscribe.class.max_listeners);
        if !self.context.join(&self.subscriber, Subscribe { format, ..subscribe }) {
            self.log_full_channel(channel.as_str(), max);
            let message = format!(
                "this channel has as many listeners on this node as allowed ({max}): try again later, or use another one"
            );
            let error = ClientError::new(ErrorCode::LimitExceeded, message);
            return Some(Input::JoinFailed { subscription, error });
        }
        self.note_channel(AuditKind::Subscribed, channel.as_str(), None);
        if let Some(shared) = self.subscriber.with_member(subscription, |member| member.pattern.clone()) {
            self.session.borrow_mut().share_pattern(subscription, shared);
        }
        None
    }

    /// Sends a ping. A client that cannot answer counts as alive while it reads what it is sent.
    fn ping(&self) -> Option<Input> {
        self.send(Frame::ping(), Priority::High);
        (!self.transport.can_receive()).then_some(Input::Alive)
    }

    fn publish(self: &Rc<Self>, request: u32, subject: Subject, data: Bytes, headers: Vec<(String, String)>) {
        let context = Rc::clone(&self.context);
        self.spawn(
            async move { upstream::publish(&context, request, &subject, (data, headers), None).await },
        );
    }

    fn request(
        self: &Rc<Self>,
        request: u32,
        subject: Subject,
        (data, headers): (Bytes, Vec<(String, String)>),
        timeout: Duration,
    ) {
        let context = Rc::clone(&self.context);
        let work = async move {
            upstream::request(&context, request, &subject, (data, headers), timeout, None).await
        };
        self.spawn(work);
    }

    /// Runs work that takes time, and passes its result to the session.
    fn spawn(self: &Rc<Self>, work: impl Future<Output = Input> + 'static) {
        self.spawn_then(work, |_, input, _| input);
    }

    /// Asks a service: runs the work, and passes to the session what `finish` makes of its result. The work is let go when
    /// the client needs the answer no more.
    fn spawn_decision<T: 'static>(
        self: &Rc<Self>,
        about: DecisionAbout,
        work: impl Future<Output = T> + 'static,
        finish: impl FnOnce(&Rc<Self>, T, Instant) -> Option<Input> + 'static,
    ) {
        let task = self.spawn_then(work, move |connection, result, now| {
            connection.context.pending_decisions.end(connection.subscriber.owner, about);
            finish(connection, result, now)
        });
        self.context.pending_decisions.begin(self.subscriber.owner, about, task);
    }

    /// Runs work that takes time, and passes to the session the input that `finish` makes of its result, if any. The task holds no
    /// reference to the connection, so a connection that ends in the meantime is released at once.
    fn spawn_then<T: 'static, I: Into<Option<Input>>>(
        self: &Rc<Self>,
        work: impl Future<Output = T> + 'static,
        finish: impl FnOnce(&Rc<Self>, T, Instant) -> I + 'static,
    ) -> AbortHandle {
        let connection = Rc::downgrade(self);
        let task = self.context.tasks.spawn_local(async move {
            let result = work.await;
            // A connection that is closing has no use for the result, and counts for its user no more.
            let Some(connection) = connection.upgrade().filter(|connection| connection.is_open()) else {
                return;
            };
            let now = Instant::now();
            if let Some(input) = finish(&connection, result, now).into() {
                connection.apply(input, now);
            }
            connection.resume_reading(now);
            connection.flush(now);
        });
        task.abort_handle()
    }

    fn is_open(&self) -> bool {
        self.stage.get() == Stage::Open
    }

    fn send(&self, frame: Frame, priority: Priority) {
        if self.stage.get() == Stage::Open && !self.subscriber.push_reply(frame, priority) {
            self.note_slow_consumer("limits.outbox_bytes");
            self.transport.abort();
            self.end();
        }
    }

    /// Ends the session. `limit` is the key of the limit that the client exceeded, for the log.
    fn disconnect(self: &Rc<Self>, disconnect: Disconnect, limit: Option<&'static str>, now: Instant) {
        self.log_context.set_limit(limit);
        self.apply(Input::Disconnect(disconnect), now);
    }

    /// Notes the reason and the key of the limit for the log. The client gets no close frame, because it does not read.
    fn note_slow_consumer(&self, limit: &'static str) {
        self.log_context.set_exceeded(Disconnect::SlowConsumer, limit);
    }

    /// Ends the session: appends the close frame to the outbox, after all other frames.
    fn close_with(&self, frame: Frame) {
        if self.stage.get() == Stage::Open {
            self.send(frame, Priority::Low);
            if self.stage.get() == Stage::Open {
                self.stage.set(Stage::Closing);
                self.note_closing();
            }
            // A closing connection does not count for its user any more, so that a page can be reloaded at the limit.
            self.guard.release_user();
            self.leave_all();
        }
    }

    /// Ends the connection at once and discards unsent frames.
    fn end(&self) {
        self.stage.set(Stage::Closed);
        self.guard.release_user();
        self.note_waiting();
        self.leave_all();
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Leaves all channels, lets go of the questions to services, and drops the publications that `max_rate_ms` holds back.
    fn leave_all(&self) {
        self.context.pending_decisions.let_go_all(self.subscriber.owner);
        self.count_ended(self.subscriber.delayed());
        self.count_all_conflated();
        // The last one first, so that removing it moves none of the others.
        for subscription in self.subscriber.member_ids().into_iter().rev() {
            let left = self.context.hub.borrow_mut().leave(&self.subscriber, subscription);
            if let Some(pattern) = left {
                self.context.leave(pattern);
            }
        }
    }

    /// Runs work and catches panics: a panic ends this session and no other. Returns false if there was one.
    fn catch_panics(&self, work: impl FnOnce()) -> bool {
        let is_ok = catch_unwind(AssertUnwindSafe(work)).is_ok();
        if !is_ok {
            if let Some(suppressed) = PANICS.pass() {
                let code = Disconnect::InternalError.code();
                error!(code, suppressed, "internal error: this session is closed, all others continue");
            }
            let reason = Disconnect::InternalError;
            self.log_context.set_end(reason.code(), reason.name());
            self.close_with(Frame::close(self.subscriber.dialect.close_code(reason), reason.name()));
        }
        is_ok
    }

    /// Tells the shard when to call [`Connection::on_deadline`], if that is earlier than it was told before. Delayed
    /// publications are sent, and the session of an expired credential ends, at the exact time. Pings, `expiring` and
    /// timeouts may come up to 250 ms late.
    fn schedule(&self, now: Instant) {
        // Most publications change no deadline, and asking the session costs a cache miss.
        if !self.needs_scheduling.take() && !self.subscriber.is_rate_limited() {
            return;
        }
        let limits = &self.settings.limits;
        let stage = match self.stage.get() {
            Stage::Closed => return,
            Stage::CloseSent(until) => Some(until),
            Stage::Closing | Stage::Open => None,
        };
        let session = self.session.borrow();
        let exact = [
            self.flush_due.get().map(Instant::from),
            self.transport.resumes_reading_at(),
            self.subscriber.next_release(),
            session.expires(),
        ];
        let rounded = [
            stage,
            self.blocked_since.get().map(|since| Instant::from(since) + limits.write_timeout),
            self.transport.unfinished_since().map(|since| Instant::from(since) + limits.fragment_timeout),
            session.poll_timeout(),
        ];
        let next = NextDeadlines {
            exact: exact.into_iter().flatten().min(),
            rounded: rounded.into_iter().flatten().min(),
        };
        self.context.deadlines.schedule(self.subscriber.owner, &self.scheduled, next, now);
    }
}
