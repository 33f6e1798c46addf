//! Connection: ties a session, its subscriptions with their outbox, and its transport together. What a session says is done here, and
//! whatever happens on the shard reaches it through `apply`.

pub mod clock;
pub mod context;
pub mod deadlines;
mod driving;
mod echo;
#[cfg(feature = "event-stream")]
pub mod event_stream;
pub mod flushes;
mod joins;
mod log;
pub mod orders;
mod reading;
pub mod table;
pub mod tallies;
pub mod trace;
pub mod transport;
mod unread;
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
use std::time::SystemTime;

use bytes::Bytes;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::echo::Echo;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::figures::SessionStats;
use tidegate_protocol::session::phase::Verified;
use tidegate_protocol::subject::Subject;
use tracing::debug;
use tracing::error;

use crate::auth::error::AuthError;
use crate::auth::policy::Policy;
use crate::auth::policy::Via;
use crate::connection::context::Context;
use crate::connection::trace::Trace;
use crate::connection::trace::Whence;
use crate::connection::transport::Transport;
use crate::hub::Subscribe;
use crate::hub::subscriber::ConnectionId;
use crate::hub::subscriber::Subscriber;
use crate::node::guard::ConnectionGuard;
use crate::telemetry::limit::LogLimit;

static FAULTS: LogLimit = LogLimit::per_second(1);

/// How long a closing connection waits for the peer to close too.
const LINGER: Duration = Duration::from_secs(2);

/// What the handshake has shown.
pub struct Opening {
    /// Where the client is.
    pub whence: Whence,
    /// What the handshake is called in logs.
    pub request: Box<str>,
    /// The language of the endpoint.
    pub dialect: Arc<dyn Dialect>,
    /// Who comes in there.
    pub policy: Arc<Policy>,
    /// How publications are put into bytes for it. A client that is sent deflated ones may send them too.
    pub encoding: Encoding,
    /// Who it is, if a credential came with the handshake or none is needed.
    pub identity: Option<Arc<Identity>>,
    /// Counts it.
    pub guard: ConnectionGuard,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The close frame is in the outbox; nothing is heard or said any more.
    Closing,
    /// The close frame is out; the peer has until then to close too.
    Lingering(Instant),
    /// Over.
    Closed,
}

/// One client's session, its subscriptions with their outbox, and its transport.
pub struct Connection {
    context: Rc<Context>,
    /// Its subscriptions, and what waits for the client.
    pub subscriber: Rc<Subscriber>,
    session: RefCell<Session>,
    transport: Transport,
    encoding: Encoding,
    policy: Arc<Policy>,
    guard: ConnectionGuard,
    /// Whether what it says goes back.
    echo: Option<Echo>,
    stage: Cell<Stage>,
    /// Since when the transport has taken nothing of what waits for it.
    blocked_since: Cell<Option<Instant>>,
    /// When what waits for company goes.
    flush_due: Cell<Option<Instant>>,
    /// The earliest of its deadlines that the shard's queue knows.
    scheduled: Cell<Option<Instant>>,
    /// Whether there may be an earlier one.
    unscheduled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    trace: Box<Trace>,
}

impl Connection {
    /// A connection whose handshake is done.
    fn new(context: &Rc<Context>, owner: ConnectionId, transport: Transport, opening: Opening) -> Rc<Self> {
        let now = Instant::now();
        let Opening { whence, request, dialect, policy, encoding, identity, guard } = opening;
        let trace = Trace::new(whence, identity.clone(), now);
        let session = Session::new(
            context.session_id(),
            Arc::clone(&dialect),
            Rc::clone(&context.settings),
            identity.map(|identity| Verified::at(identity, context.clock.at(now))),
            context.clock.at(now),
        );
        let echo = dialect.traits().echo;
        let subscriber = Rc::new(Subscriber::new(owner, dialect, context.node.limits.connection.outbox));
        if let Some(preface) = transport.preface() {
            subscriber.push_reply(preface, Priority::High);
        }
        let connection = Rc::new(Self {
            context: Rc::clone(context),
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
            scheduled: Cell::default(),
            unscheduled: Cell::default(),
            waker: RefCell::default(),
            trace,
        });
        connection.log_begin(&request);
        connection
    }

    /// Tells the session what happened and does what it answers. Nothing here waits, and nothing is written: whoever
    /// calls this flushes once, when there is no more to tell.
    pub fn apply(self: &Rc<Self>, input: Input, now: Instant) {
        self.unscheduled.set(true);
        self.guarded(|| {
            self.session.borrow_mut().handle_input(input, self.context.clock.at(now));
            self.perform_all(now);
        });
    }

    /// What statistics of a vocabulary may say of it.
    pub fn figures(&self, vocabulary: u16, with_names: bool) -> Option<SessionStats> {
        self.session.borrow().figures(vocabulary, with_names)
    }

    /// Does what the clock asks for.
    pub fn on_deadline(self: &Rc<Self>, now: Instant) {
        self.scheduled.set(None);
        self.unscheduled.set(true);
        let limits = &self.context.node.limits.connection;
        let passed = |since: Option<Instant>, limit| since.is_some_and(|since| now >= since + limit);
        match self.stage.get() {
            Stage::Closed => return,
            Stage::Lingering(until) if now >= until => return self.end(),
            Stage::Lingering(_) | Stage::Closing | Stage::Open => {}
        }
        let is_late = || passed(self.transport.unfinished_since(), limits.fragment_timeout);
        // One turn of reading may not be all that has come of a long message.
        while self.stage.get() == Stage::Open && is_late() && self.read(now) {}
        if passed(self.blocked_since.get(), limits.write_timeout) {
            self.cut_off();
            self.transport.abort();
            return self.end();
        }
        if is_late() {
            self.transport.give_up_unfinished();
            self.apply(Input::Failed(Disconnect::PolicyViolation), now);
        }
        self.read_on(now);
        if self.is_holding() {
            // Whether the client is there cannot be told from what is not read.
            self.apply(Input::Alive, now);
        }
        self.guarded(|| {
            self.session.borrow_mut().handle_timeout(self.context.clock.at(now));
            self.perform_all(now);
            self.subscriber.release_due(now);
        });
        self.flush(now);
        self.subscriber.free_capacity();
    }

    /// Lets what is in the outbox wait for company, unless it does already.
    pub fn flush_after(&self, wait: Duration, now: Instant) {
        let due = now + wait;
        if self.flush_due.get().is_none_or(|earlier| due < earlier) {
            self.flush_due.set(Some(due));
            self.unscheduled.set(true);
        }
        self.schedule();
    }

    /// Does what the session says until it says nothing more. What it is to be told of that is told here, never by a call
    /// from within: however much a client asks for, the stack is as deep.
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

    /// Gives what the session is to be told at once.
    fn perform(self: &Rc<Self>, output: Output, now: Instant) -> Option<Input> {
        let context = &self.context;
        match output {
            Output::Send { frame, priority } => {
                let frame = match self.echo {
                    Some(echo) => context.echoes.encode(echo, frame, self.encoding),
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
            Output::Ping => return self.ping(),
            Output::TrustClientIdentity { user } => {
                return Some(self.identified(
                    context.node.authenticator().trust_client_identity(&self.policy, &user),
                    &user,
                    now,
                ));
            }
            Output::Authenticate { token } => {
                let wall = SystemTime::now();
                let result = context.node.authenticator().admit(&self.policy, Via::Socket, &token, wall);
                return Some(self.identified(result, &token, now));
            }
            Output::Join { subscription, pattern, format, class, max_rate, subscription_context } => {
                let subscribe =
                    Subscribe { subscription, pattern, format, class, max_rate, subscription_context };
                self.join(subscribe);
            }
            Output::Filter { subscription, filter } => {
                self.subscriber.with_member(subscription, |member| {
                    if let Some(subscription_context) = member.subscription_context() {
                        subscription_context.set_filter(filter);
                    }
                });
            }
            Output::GoLive { subscription } => {
                context.hub.borrow_mut().go_live(&self.subscriber, subscription)
            }
            Output::Release { subscription } => self.subscriber.release_all(subscription, now),
            Output::Leave { subscription } => {
                self.count(DeliveryCounts::dropped(self.subscriber.forget_waiting(subscription)));
                self.subscriber.with_member(subscription, |member| {
                    let channel = member.pattern.as_str();
                    debug!(session = &**self.session.borrow().id(), channel, "unsubscribe");
                });
                let left = context.hub.borrow_mut().leave(&self.subscriber, subscription);
                if let Some(pattern) = left {
                    context.leave(pattern);
                }
            }
            Output::Publish { request, subject, data, headers } => {
                self.publish(request, subject, data, headers)
            }
            Output::Request { request, subject, data, timeout } => {
                self.request(request, subject, data, timeout)
            }
            Output::Query { request, .. } => return Some(orders::unsupported(request)),
            Output::Close { code, reason } => {
                self.trace.ends(code, trace::known(&reason));
                self.close_with(Frame::close(code, &reason));
            }
        }
        None
    }

    /// Whether frames are deflated is the transport's affair, of which the session knows nothing.
    fn join(&self, subscribe: Subscribe) {
        let (session, channel) = (self.session.borrow(), subscribe.pattern.as_str());
        debug!(session = &**session.id(), channel, "subscribe");
        drop(session);
        // What is made for each client alone is not deflated: that would cost more than it saves.
        let is_own = subscribe.subscription_context.as_ref().is_some_and(|context| context.is_tailored);
        let encoding = if is_own { subscribe.format.encoding } else { self.encoding };
        let format = Format { encoding, ..subscribe.format };
        self.context.join(&self.subscriber, Subscribe { format, ..subscribe });
    }

    /// Who cannot answer a ping is alive for as long as it takes what it is sent.
    fn ping(&self) -> Option<Input> {
        self.send(Frame::ping(), Priority::High);
        (!self.transport.hears()).then_some(Input::Alive)
    }

    /// Who the session is, unless that makes one socket too many.
    fn identified(&self, result: Result<Arc<Identity>, AuthError>, shown: &str, now: Instant) -> Input {
        match &result {
            Ok(identity) => self.trace.is(identity),
            Err(error) => self.log_refusal(error.reason(), shown),
        }
        if result.as_ref().is_ok_and(|identity| !self.sits(identity)) {
            return Input::Failed(Disconnect::TooManyConnections);
        }
        let result = result
            .map(|identity| Verified::at(identity, self.context.clock.at(now)))
            .map_err(|error| unauthorized(&error));
        Input::Authenticated(result)
    }

    /// Counts the socket as one of its user's, once: it never becomes another one's. False if the user has too many.
    fn sits(&self, identity: &Identity) -> bool {
        let counted = self.guard.count_user(&self.context.node.users, identity);
        counted.inspect_err(|error| debug!(%error, "user has too many sockets")).is_ok()
    }

    fn publish(self: &Rc<Self>, request: u32, subject: Subject, data: Bytes, headers: Vec<(String, String)>) {
        let context = Rc::clone(&self.context);
        self.spawn(async move { orders::publish(&context, request, &subject, data, &headers).await });
    }

    fn request(self: &Rc<Self>, request: u32, subject: Subject, data: Bytes, timeout: Duration) {
        let context = Rc::clone(&self.context);
        self.spawn(async move { orders::request(&context, request, &subject, data, timeout).await });
    }

    /// Does what takes time, and tells the session of its end. A connection that has ended does not wait for it: its socket
    /// and its place among those of its user are free.
    fn spawn(self: &Rc<Self>, work: impl Future<Output = Input> + 'static) {
        let connection = Rc::downgrade(self);
        self.context.tasks.spawn_local(async move {
            let input = work.await;
            let Some(connection) = connection.upgrade().filter(|connection| !connection.is_over()) else {
                return;
            };
            let now = Instant::now();
            connection.apply(input, now);
            connection.read_on(now);
            connection.flush(now);
        });
    }

    fn is_over(&self) -> bool {
        self.stage.get() == Stage::Closed
    }

    fn send(&self, frame: Frame, priority: Priority) {
        if self.stage.get() == Stage::Open && !self.subscriber.push_reply(frame, priority) {
            self.cut_off();
            self.transport.abort();
            self.end();
        }
    }

    /// It takes no close frame either, so that only the log says why.
    fn cut_off(&self) {
        self.trace.ends(Disconnect::SlowConsumer.code(), Disconnect::SlowConsumer.name());
    }

    fn count(&self, delivery_counts: DeliveryCounts) {
        if delivery_counts != DeliveryCounts::default() {
            self.trace.count(delivery_counts);
            self.context.tallies.add(self.subscriber.dialect.number(), delivery_counts);
        }
    }

    /// Ends the conversation: the close frame is behind all that is in the outbox.
    fn close_with(&self, frame: Frame) {
        if self.stage.get() == Stage::Open {
            self.send(frame, Priority::Low);
            if self.stage.get() == Stage::Open {
                self.stage.set(Stage::Closing);
            }
            // One that is closing is none of its user's: a page that is loaded again finds room.
            self.guard.release_user();
            self.leave_all();
        }
    }

    /// Over, whatever is unsent.
    fn end(&self) {
        self.stage.set(Stage::Closed);
        self.guard.release_user();
        self.leave_all();
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Nothing more is wanted, nor will be sent of what was slowed down.
    fn leave_all(&self) {
        self.count(DeliveryCounts::dropped(self.subscriber.withheld()));
        // The last one first: then none of the others is moved.
        for subscription in self.subscriber.member_ids().into_iter().rev() {
            let left = self.context.hub.borrow_mut().leave(&self.subscriber, subscription);
            if let Some(pattern) = left {
                self.context.leave(pattern);
            }
        }
    }

    /// A fault in one session ends that session, and no other. False if there was one.
    fn guarded(&self, work: impl FnOnce()) -> bool {
        let sound = catch_unwind(AssertUnwindSafe(work)).is_ok();
        if !sound {
            if let Some(suppressed) = FAULTS.pass() {
                let code = Disconnect::InternalError.code();
                error!(code, suppressed, "a fault of ours: this session ends, the others go on");
            }
            let fault = Disconnect::InternalError;
            self.trace.ends(fault.code(), fault.name());
            self.close_with(Frame::close(self.subscriber.dialect.close_code(fault), fault.name()));
        }
        sound
    }

    /// Tells the shard when to call [`Connection::on_deadline`], if that is earlier than what it knows.
    fn schedule(&self) {
        // Most publications move no deadline; whoever asks a session touches memory that is not at hand.
        if !self.unscheduled.take() && !self.subscriber.is_slowed() {
            return;
        }
        let limits = &self.context.node.limits.connection;
        let stage = match self.stage.get() {
            Stage::Closed => return,
            Stage::Lingering(until) => Some(until),
            Stage::Closing | Stage::Open => None,
        };
        let next = [
            stage,
            self.blocked_since.get().map(|since| since + limits.write_timeout),
            self.transport.unfinished_since().map(|since| since + limits.fragment_timeout),
            self.flush_due.get(),
            self.transport.reads_on_at(),
            self.session.borrow().poll_timeout(),
            self.subscriber.next_turn(),
        ];
        let Some(next) = next.into_iter().flatten().min() else {
            return;
        };
        if self.scheduled.get().is_none_or(|scheduled| next < scheduled) {
            self.scheduled.set(Some(next));
            self.context.deadlines.add(next, self.subscriber.owner);
        }
    }
}

fn unauthorized(error: &AuthError) -> ClientError {
    ClientError::new(error.code(), error.to_string())
}
