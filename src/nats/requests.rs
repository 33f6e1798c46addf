//! The NATS connection for publishing, request/reply and queries between nodes. It uses the same reader as the
//! subscriptions, so no malformed reply can break the connection.
//!
//! A `PONG` confirms everything published before its `PING`: the server reads in order, and reports denied messages
//! before the `PONG`. One subscription receives all replies. The last token of a reply's subject finds its request; no
//! one can guess it.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::subject::Pattern;
use tidegate_protocol::trace_context::TraceParent;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::config::nats::NatsConfig;
use crate::nats::acknowledgement::Acknowledgement;
use crate::nats::error::NatsError;
use crate::nats::incoming::Incoming;
use crate::nats::incoming::SubscriptionKey;
use crate::nats::link_driver::LinkDriver;
use crate::nats::message::Message;
use crate::nats::message_queue::MessageQueue;
use crate::nats::outgoing::Confirmation;
use crate::nats::outgoing::OutgoingMessage;
use crate::nats::partial_denials::PartialDenials;
use crate::nats::permissions::USER_INFO;
use crate::telemetry::limit::LogLimit;

/// Events taken at a time.
const BATCH: usize = 256;
/// How many publishes and requests may await the server's confirmation.
const MAX_UNCONFIRMED: usize = 64 * 1024;
/// How many requests may await replies before no further publish may await a stream's acknowledgement.
const MAX_UNACKNOWLEDGED: usize = 8 * 1024;
/// The status that a server sends when no service subscribes to a subject.
const NO_RESPONDERS: &[u8] = b"503";

static SUBSCRIBE_DENIED: LogLimit = LogLimit::per_second(1);
static PUBLISH_DENIED: LogLimit = LogLimit::per_second(1);
static SUBSCRIBED: LogLimit = LogLimit::per_second(1);
static OPTIONAL_DENIED: LogLimit = LogLimit::every(3600, 1);

/// The connection, shared by everything on one thread.
#[derive(Debug)]
pub(super) struct Requests {
    state: RefCell<RequestsState>,
    /// Notified when there is something to send.
    to_send: Notify,
    /// Notifies all waiters when [`Requests::is_ready`] may have changed.
    pub(super) changed: Notify,
    /// How many times [`Requests::is_ready`] has become true.
    pub(super) times_ready: Cell<u64>,
    closed: CancellationToken,
}

#[derive(Debug)]
struct RequestsState {
    driver: LinkDriver,
    inbox: ReplyInbox,
    /// The messages that await confirmation, in the order in which they were sent.
    unconfirmed: VecDeque<Unconfirmed>,
    /// Subjects that were denied since the last confirmation.
    denied: HashSet<String>,
    /// A publish was denied since the last confirmation, and the server's message does not name its subject.
    has_unnamed_denial: bool,
    /// Requests that await replies, by the last token of their reply subject.
    pending_replies: HashMap<Box<str>, PendingReply>,
    /// Subscribers to subjects on this connection, by subscription.
    listeners: HashMap<SubscriptionKey, QueryListener>,
    partial_denials: PartialDenials,
}

/// A subscriber to subjects on this connection.
#[derive(Debug)]
struct QueryListener {
    pattern: Pattern,
    queue: Rc<MessageQueue>,
    need: Need,
}

/// Whether a node works without a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    Required,
    Optional,
}

/// The subscription for replies.
#[derive(Debug)]
struct ReplyInbox {
    /// What all reply subjects begin with: `_INBOX_tidegate.<random>.`
    prefix: String,
    pattern: Pattern,
    key: SubscriptionKey,
    is_open: bool,
    hasher: RandomState,
    tokens_issued: u64,
}

#[derive(Debug)]
struct Unconfirmed {
    ping: u64,
    subject: Box<str>,
    trace: Option<TraceParent>,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    Publish(oneshot::Sender<Result<(), NatsError>>),
    /// The token of the request.
    Request(Box<str>),
}

#[derive(Debug)]
enum PendingReply {
    /// One reply.
    Request(oneshot::Sender<Result<Message, NatsError>>),
    /// Any number of replies.
    ScatterGather(Rc<MessageQueue>),
    /// The acknowledgement of a stream. Other replies are ignored: a service may subscribe to the subject too.
    Acknowledgement(oneshot::Sender<Result<Acknowledgement, NatsError>>),
    /// The permissions of this node's user.
    UserInfo,
}

/// Keeps a request's replies coming: dropping it cancels the request.
#[derive(Debug)]
pub(super) struct ReplyGuard {
    requests: Rc<Requests>,
    token: Box<str>,
}

impl Drop for ReplyGuard {
    fn drop(&mut self) {
        if let Ok(mut state) = self.requests.state.try_borrow_mut() {
            state.pending_replies.remove(&self.token);
        }
    }
}

impl Requests {
    /// Does not connect yet: [`Requests::run`] does. `None` if the inbox prefix is not a valid subject.
    pub(super) fn new(config: &Arc<NatsConfig>, name: &str) -> Option<Self> {
        let hasher = RandomState::new();
        let random = [hasher.hash_one("inbox"), RandomState::new().hash_one(name)];
        let prefix = format!("{}.{:016x}{:016x}.", config.inbox_prefix, random[0], random[1]);
        let pattern = Pattern::parse(&format!("{prefix}*")).ok()?;
        let mut driver = LinkDriver::new(Arc::clone(config), format!("{name}/requests").into());
        let key = driver.link.subscribe(&pattern);
        let inbox = ReplyInbox { prefix, pattern, key, is_open: false, hasher, tokens_issued: 0 };
        let state = RequestsState {
            driver,
            inbox,
            unconfirmed: VecDeque::new(),
            denied: HashSet::new(),
            has_unnamed_denial: false,
            pending_replies: HashMap::new(),
            listeners: HashMap::new(),
            partial_denials: PartialDenials::default(),
        };
        Some(Self {
            state: RefCell::new(state),
            to_send: Notify::new(),
            changed: Notify::new(),
            times_ready: Cell::default(),
            closed: CancellationToken::new(),
        })
    }

    /// Connects, and reconnects without end, until [`Requests::close`].
    pub(super) async fn run(&self) {
        let mut closed = pin!(self.closed.cancelled());
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = &mut closed => return,
                () = poll_fn(|context| self.state.borrow_mut().driver.poll_ready(context)) => {}
                () = self.to_send.notified() => {}
            }
            if self.process(&mut batch) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Handles what the connection has received. Returns whether there may be more.
    fn process(&self, batch: &mut Vec<Incoming>) -> bool {
        let state = &mut *self.state.borrow_mut();
        let was_ready = state.is_ready();
        state.driver.take(BATCH, batch);
        batch.drain(..).for_each(|incoming| state.on_incoming(incoming));
        while let Some(confirmation) = state.driver.link.confirmation() {
            state.confirm(confirmation);
        }
        if state.is_ready() != was_ready {
            self.times_ready.set(self.times_ready.get() + u64::from(!was_ready));
            self.changed.notify_waiters();
        }
        state.driver.may_have_more()
    }

    /// Whether it can publish and receive replies.
    pub(super) fn is_ready(&self) -> bool {
        self.state.borrow().is_ready()
    }

    /// Publishes. The receiver gets the outcome when the server confirms the message.
    pub(super) fn publish(
        &self,
        message: &OutgoingMessage<'_>,
    ) -> Result<oneshot::Receiver<Result<(), NatsError>>, NatsError> {
        let (sender, outcome) = oneshot::channel();
        self.to_send.notify_one();
        self.state.borrow_mut().send(message, Some(Origin::Publish(sender)))?;
        Ok(outcome)
    }

    /// The receiver gets a value when the server has read everything sent before.
    pub(super) fn flush_roundtrip(&self) -> Result<oneshot::Receiver<Result<(), NatsError>>, NatsError> {
        let (sender, seen) = oneshot::channel();
        let state = &mut *self.state.borrow_mut();
        let ping = state.driver.link.flush_roundtrip()?;
        let origin = Origin::Publish(sender);
        state.unconfirmed.push_back(Unconfirmed { ping, subject: Box::default(), trace: None, origin });
        self.to_send.notify_one();
        Ok(seen)
    }

    /// Publishes without waiting for a confirmation.
    pub(super) fn publish_unconfirmed(&self, message: &OutgoingMessage<'_>) -> Result<(), NatsError> {
        self.state.borrow_mut().send(message, None)?;
        self.to_send.notify_one();
        Ok(())
    }

    /// Sends a request for one reply.
    pub(super) fn request(
        self: &Rc<Self>,
        message: &OutgoingMessage<'_>,
    ) -> Result<(ReplyGuard, oneshot::Receiver<Result<Message, NatsError>>), NatsError> {
        let (sender, answer) = oneshot::channel();
        Ok((self.send_request(message, PendingReply::Request(sender))?, answer))
    }

    /// Publishes for one acknowledgement of the stream that stores the subject.
    pub(super) fn publish_acknowledged(
        self: &Rc<Self>,
        message: &OutgoingMessage<'_>,
    ) -> Result<(ReplyGuard, oneshot::Receiver<Result<Acknowledgement, NatsError>>), NatsError> {
        if self.state.borrow().pending_replies.len() >= MAX_UNACKNOWLEDGED {
            return Err(NatsError::Overloaded);
        }
        let (sender, answer) = oneshot::channel();
        Ok((self.send_request(message, PendingReply::Acknowledgement(sender))?, answer))
    }

    /// Sends a request for any number of replies.
    pub(super) fn scatter_gather(
        self: &Rc<Self>,
        subject: &str,
        data: &[u8],
    ) -> Result<(ReplyGuard, Rc<MessageQueue>), NatsError> {
        let queue = Rc::new(MessageQueue::default());
        let message = OutgoingMessage::plain(subject, data);
        Ok((self.send_request(&message, PendingReply::ScatterGather(Rc::clone(&queue)))?, queue))
    }

    fn send_request(
        self: &Rc<Self>,
        message: &OutgoingMessage<'_>,
        reply: PendingReply,
    ) -> Result<ReplyGuard, NatsError> {
        self.to_send.notify_one();
        let token = self.state.borrow_mut().send_request(message, reply)?;
        Ok(ReplyGuard { requests: Rc::clone(self), token })
    }

    /// Logs a warning if NATS denies a part of this wildcard.
    pub(super) fn warn_if_partly_denied(&self, pattern: &Pattern) {
        let state = &mut *self.state.borrow_mut();
        if state.is_ready() && state.partial_denials.check(pattern, Instant::now()) {
            let message = OutgoingMessage::plain(USER_INFO, &[]);
            if state.send_request(&message, PendingReply::UserInfo).is_err() {
                state.partial_denials.on_user_info(None, Instant::now());
            }
            self.to_send.notify_one();
        }
    }

    /// Subscribes to these subjects, and retries while NATS denies it.
    pub(super) fn subscribe(&self, pattern: Pattern, need: Need) -> Rc<MessageQueue> {
        let (state, queue) = (&mut *self.state.borrow_mut(), Rc::new(MessageQueue::default()));
        let key = state.driver.link.subscribe(&pattern);
        state.listeners.insert(key, QueryListener { pattern, queue: Rc::clone(&queue), need });
        self.to_send.notify_one();
        queue
    }

    /// Ends the connection. Pending requests fail.
    pub(super) fn close(&self) {
        self.closed.cancel();
        let state = &mut *self.state.borrow_mut();
        state.fail_all();
        state.listeners.drain().for_each(|(_, listener)| listener.queue.close());
    }
}

impl RequestsState {
    fn is_ready(&self) -> bool {
        self.driver.link.is_answering() && self.inbox.is_open
    }

    fn send(&mut self, message: &OutgoingMessage<'_>, origin: Option<Origin>) -> Result<(), NatsError> {
        if self.unconfirmed.len() >= MAX_UNCONFIRMED {
            return Err(NatsError::Overloaded);
        }
        let ping = match self.driver.link.publish(message) {
            Err(error) => {
                if matches!(error, NatsError::TooLarge { .. }) {
                    self.driver.refresh_info();
                }
                return Err(error);
            }
            Ok(ping) => ping,
        };
        let trace = message.trace();
        let unconfirmed =
            origin.map(|origin| Unconfirmed { ping, subject: message.subject.into(), trace, origin });
        self.unconfirmed.extend(unconfirmed);
        Ok(())
    }

    /// Sends a request, and returns the token of its replies. Its reply subject is that of the token.
    fn send_request(
        &mut self,
        message: &OutgoingMessage<'_>,
        pending: PendingReply,
    ) -> Result<Box<str>, NatsError> {
        if !self.driver.link.is_up() {
            return Err(NatsError::Disconnected);
        }
        if !self.inbox.is_open {
            return Err(NatsError::NoInbox);
        }
        let token = self.inbox.token();
        let reply = format!("{}{token}", self.inbox.prefix);
        self.send(
            &OutgoingMessage { reply: Some(&reply), ..*message },
            Some(Origin::Request(token.clone())),
        )?;
        self.pending_replies.insert(token.clone(), pending);
        Ok(token)
    }

    fn on_incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Message(key, message) if key == self.inbox.key => self.on_reply(message),
            Incoming::Message(key, message) => {
                if let Some(QueryListener { queue, .. }) = self.listeners.get(&key) {
                    queue.push(&message);
                }
            }
            Incoming::Opened(key) if key == self.inbox.key => self.inbox.is_open = true,
            Incoming::Opened(key) => {
                if let Some(QueryListener { pattern, need: Need::Required, .. }) = self.listeners.get(&key)
                    && let Some(suppressed) = SUBSCRIBED.pass()
                {
                    info!(subject = pattern.as_str(), suppressed, "subscribed to queries of other nodes");
                }
            }
            Incoming::Failed(key, error) => self.failed(key, &error),
            Incoming::Interrupted(key) if key == self.inbox.key => {
                self.inbox.is_open = false;
                log_denied(&self.inbox.pattern, &NatsError::Denied);
            }
            Incoming::Interrupted(key) => {
                if let Some(listener) = self.listeners.get(&key) {
                    listener.log_denied(&NatsError::Denied);
                }
            }
            // Replies have valid subjects, because this node chose them; nodes send no others.
            Incoming::Malformed(_) => {}
            Incoming::LinkLost => {
                self.inbox.is_open = false;
                self.fail_all();
            }
        }
    }

    /// NATS rejected the reply inbox or a subject for queries: retry until it accepts.
    fn failed(&mut self, key: SubscriptionKey, error: &NatsError) {
        self.driver.link.unsubscribe(key);
        if key == self.inbox.key {
            log_denied(&self.inbox.pattern, error);
            self.inbox.key = self.driver.link.subscribe_later(&self.inbox.pattern);
        } else if let Some(listener) = self.listeners.remove(&key) {
            listener.log_denied(error);
            let key = self.driver.link.subscribe_later(&listener.pattern);
            self.listeners.insert(key, listener);
        }
    }

    /// Handles a reply. A reply whose request is no longer pending is dropped.
    fn on_reply(&mut self, message: Message) {
        let Some(token) = message.subject().strip_prefix(&self.inbox.prefix) else { return };
        let has_no_responders = message.status() == Some(NO_RESPONDERS);
        match self.pending_replies.remove_entry(token) {
            Some((_, PendingReply::Request(requester))) => {
                // The caller may have stopped waiting.
                let _ = requester.send(if has_no_responders {
                    Err(NatsError::NoResponders)
                } else {
                    Ok(message)
                });
            }
            Some((_, PendingReply::UserInfo)) => {
                let payload = message.payload();
                self.partial_denials
                    .on_user_info((!has_no_responders).then_some(&payload[..]), Instant::now());
            }
            Some((_, PendingReply::Acknowledgement(publisher))) if has_no_responders => {
                // The caller may have stopped waiting.
                let _ = publisher.send(Err(NatsError::NoResponders));
            }
            Some((token, PendingReply::Acknowledgement(publisher))) => {
                match Acknowledgement::parse(&message.payload()) {
                    Some(outcome) => {
                        // The caller may have stopped waiting.
                        let _ = publisher.send(outcome);
                    }
                    None => {
                        self.pending_replies.insert(token, PendingReply::Acknowledgement(publisher));
                    }
                }
            }
            Some((_, PendingReply::ScatterGather(queue))) if has_no_responders => queue.close(),
            Some((token, PendingReply::ScatterGather(queue))) => {
                queue.push(&message);
                self.pending_replies.insert(token, PendingReply::ScatterGather(queue));
            }
            None => {}
        }
    }

    fn confirm(&mut self, confirmation: Confirmation) {
        let seen = match confirmation {
            Confirmation::Denied(Some(subject)) => {
                self.denied.insert(subject);
                return;
            }
            Confirmation::Denied(None) => {
                self.has_unnamed_denial = true;
                return;
            }
            Confirmation::Confirmed(ping) => ping,
        };
        while let Some(sent) = self.unconfirmed.pop_front_if(|sent| sent.ping <= seen) {
            let is_denied = self.has_unnamed_denial || self.denied.contains(&*sent.subject);
            if is_denied && let Some(suppressed) = PUBLISH_DENIED.pass() {
                let message =
                    "nats denied a publish: allow it for this node's nats user, or forbid it in [[role]]";
                let trace_id = sent.trace.map(TraceParent::trace_id_text);
                warn!(subject = &*sent.subject, trace_id, suppressed, "{message}");
            }
            match sent.origin {
                Origin::Publish(publisher) => {
                    // The caller may have stopped waiting.
                    let _ = publisher.send(if is_denied { Err(NatsError::Denied) } else { Ok(()) });
                }
                Origin::Request(token) if is_denied => self.fail(&token, NatsError::Denied),
                Origin::Request(_) => {}
            }
        }
        self.denied.clear();
        self.has_unnamed_denial = false;
    }

    fn fail(&mut self, token: &str, error: NatsError) {
        match self.pending_replies.remove(token) {
            Some(PendingReply::Request(requester)) => {
                // The caller may have stopped waiting.
                let _ = requester.send(Err(error));
            }
            Some(PendingReply::Acknowledgement(publisher)) => {
                // The caller may have stopped waiting.
                let _ = publisher.send(Err(error));
            }
            Some(PendingReply::ScatterGather(queue)) => queue.close(),
            Some(PendingReply::UserInfo) => self.partial_denials.on_user_info(None, Instant::now()),
            None => {}
        }
    }

    /// The connection is lost, so the outcome of everything sent over it is unknown.
    fn fail_all(&mut self) {
        self.denied.clear();
        self.has_unnamed_denial = false;
        for Unconfirmed { origin, .. } in self.unconfirmed.drain(..) {
            if let Origin::Publish(publisher) = origin {
                // The caller may have stopped waiting.
                let _ = publisher.send(Err(NatsError::ConnectionLost));
            }
        }
        let tokens: Vec<_> = self.pending_replies.keys().cloned().collect();
        tokens.iter().for_each(|token| self.fail(token, NatsError::ConnectionLost));
        self.partial_denials = PartialDenials::default();
    }
}

impl ReplyInbox {
    /// A new token, which no one can guess from earlier ones.
    fn token(&mut self) -> Box<str> {
        self.tokens_issued += 1;
        format!("{:016x}", self.hasher.hash_one(self.tokens_issued)).into()
    }
}

impl QueryListener {
    fn log_denied(&self, error: &NatsError) {
        match self.need {
            Need::Required => log_denied(&self.pattern, error),
            Need::Optional => {
                if let Some(suppressed) = OPTIONAL_DENIED.pass() {
                    info!(
                        subject = self.pattern.as_str(),
                        %error,
                        suppressed,
                        "nats denied a subscription for `nats micro` and /nodes, which do not show this node: allow it \
                         for this node's nats user"
                    );
                }
            }
        }
    }
}

fn log_denied(pattern: &Pattern, error: &NatsError) {
    if let Some(suppressed) = SUBSCRIBE_DENIED.pass() {
        error!(
            subject = pattern.as_str(),
            %error,
            suppressed,
            "nats denied a subscription that this node needs: allow it for this node's nats user"
        );
    }
}

#[cfg(test)]
mod tests;
