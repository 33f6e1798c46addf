//! Requests: the connection for publishing, for requests and for what nodes ask each other. It is read by the same reader as
//! the subscriptions, so nothing that a service answers can end it.
//!
//! What is published is confirmed by the `PONG` to a `PING` behind it: the server reads in order, and says in front of that
//! what it does not allow. Answers come to one subscription on the inbox, and find whoever asked by the last token of
//! their subject, which no one can guess.

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
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::config::nats::NatsConfig;
use crate::nats::driver::Driver;
use crate::nats::error::NatsError;
use crate::nats::incoming::Incoming;
use crate::nats::incoming::SubscriptionKey;
use crate::nats::mailbox::Mailbox;
use crate::nats::message::Message;
use crate::nats::outgoing::Confirmation;
use crate::nats::outgoing::Outgoing;
use crate::nats::permissions::USER_INFO;
use crate::nats::withheld::Withheld;
use crate::telemetry::limit::LogLimit;

/// Messages taken at a time.
const BATCH: usize = 256;
/// Publications and requests that may wait for the server to confirm them.
const MAX_UNCONFIRMED: usize = 64 * 1024;
/// How a server says that no one serves a subject.
const NO_RESPONDERS: &[u8] = b"503";

static DENIED: LogLimit = LogLimit::per_second(1);
static NOT_SENT: LogLimit = LogLimit::per_second(1);
static LISTENING: LogLimit = LogLimit::per_second(1);

/// The connection, shared by all on a thread who use it.
#[derive(Debug)]
pub(super) struct Requests {
    state: RefCell<RequestsState>,
    /// There is something to send.
    to_send: Notify,
    /// Whether it is ready may have changed.
    pub(super) changed: Notify,
    closed: CancellationToken,
}

#[derive(Debug)]
struct RequestsState {
    driver: Driver,
    inbox: ReplyInbox,
    /// What is not confirmed yet, in the order in which it was sent.
    unconfirmed: VecDeque<Unconfirmed>,
    /// Subjects that were denied since the last confirmation.
    denied: HashSet<String>,
    /// Something was denied since then, and no one can say what.
    denied_unread: bool,
    /// Whoever waits for answers, by the last token of the subject that they come to.
    asking: HashMap<Box<str>, Asking>,
    /// Whoever hears what is published to a subject.
    listening: HashMap<SubscriptionKey, (Pattern, Rc<Mailbox>)>,
    withheld: Withheld,
}

/// Where answers come.
#[derive(Debug)]
struct ReplyInbox {
    /// What their subjects begin with: `_INBOX_tidegate.<random>.`
    prefix: String,
    pattern: Pattern,
    key: SubscriptionKey,
    is_open: bool,
    tokens: RandomState,
    made: u64,
}

#[derive(Debug)]
struct Unconfirmed {
    round: u64,
    subject: Box<str>,
    by: Sender,
}

#[derive(Debug)]
enum Sender {
    Publisher(oneshot::Sender<Result<(), NatsError>>),
    /// Whoever waits for answers to this token.
    Asker(Box<str>),
}

#[derive(Debug)]
enum Asking {
    /// For one answer.
    Request(oneshot::Sender<Result<Message, NatsError>>),
    /// For any number.
    Survey(Rc<Mailbox>),
    /// For what this node may do.
    Permissions,
}

/// The right to answers. They are not waited for any more when it goes.
#[derive(Debug)]
pub(super) struct Ticket {
    requests: Rc<Requests>,
    token: Box<str>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Ok(mut state) = self.requests.state.try_borrow_mut() {
            state.asking.remove(&self.token);
        }
    }
}

impl Requests {
    /// No connection yet: [`Requests::run`] makes it. `None` if the prefix for inboxes is none.
    pub(super) fn new(config: &Arc<NatsConfig>, name: &str) -> Option<Self> {
        let tokens = RandomState::new();
        let random = [tokens.hash_one("inbox"), RandomState::new().hash_one(name)];
        let prefix = format!("{}.{:016x}{:016x}.", config.inbox_prefix, random[0], random[1]);
        let pattern = Pattern::parse(&format!("{prefix}*")).ok()?;
        let mut driver = Driver::new(Arc::clone(config), format!("{name}/requests").into());
        let key = driver.link.subscribe(&pattern);
        let inbox = ReplyInbox { prefix, pattern, key, is_open: false, tokens, made: 0 };
        let state = RequestsState {
            driver,
            inbox,
            unconfirmed: VecDeque::new(),
            denied: HashSet::new(),
            denied_unread: false,
            asking: HashMap::new(),
            listening: HashMap::new(),
            withheld: Withheld::default(),
        };
        Some(Self {
            state: RefCell::new(state),
            to_send: Notify::new(),
            changed: Notify::new(),
            closed: CancellationToken::new(),
        })
    }

    /// Keeps the connection until it is closed.
    pub(super) async fn run(&self) {
        let mut closed = pin!(self.closed.cancelled());
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = &mut closed => return,
                () = poll_fn(|context| self.state.borrow_mut().driver.poll_ready(context)) => {}
                () = self.to_send.notified() => {}
            }
            if self.turn(&mut batch) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Does what follows from what has come. Whether there may be more.
    fn turn(&self, batch: &mut Vec<Incoming>) -> bool {
        let state = &mut *self.state.borrow_mut();
        let was_ready = state.is_ready();
        state.driver.take(BATCH, batch);
        batch.drain(..).for_each(|incoming| state.hear(incoming));
        while let Some(confirmation) = state.driver.link.confirmation() {
            state.confirm(confirmation);
        }
        if state.is_ready() != was_ready {
            self.changed.notify_one();
        }
        state.driver.may_have_more()
    }

    /// Whether it can publish and hear answers.
    pub(super) fn is_ready(&self) -> bool {
        self.state.borrow().is_ready()
    }

    /// Publishes. What comes of it is known when the server confirms it.
    pub(super) fn publish(
        &self,
        message: &Outgoing<'_>,
    ) -> Result<oneshot::Receiver<Result<(), NatsError>>, NatsError> {
        let (sender, outcome) = oneshot::channel();
        self.to_send.notify_one();
        self.state.borrow_mut().send(message, Some(Sender::Publisher(sender)))?;
        Ok(outcome)
    }

    /// Answers when the server has seen all that was sent before.
    pub(super) fn settle(&self) -> Result<oneshot::Receiver<Result<(), NatsError>>, NatsError> {
        let (sender, seen) = oneshot::channel();
        let state = &mut *self.state.borrow_mut();
        let round = state.driver.link.settle()?;
        let by = Sender::Publisher(sender);
        state.unconfirmed.push_back(Unconfirmed { round, subject: Box::default(), by });
        self.to_send.notify_one();
        Ok(seen)
    }

    /// Publishes, and does not want to know what comes of it.
    pub(super) fn post(&self, message: &Outgoing<'_>) -> Result<(), NatsError> {
        self.state.borrow_mut().send(message, None)?;
        self.to_send.notify_one();
        Ok(())
    }

    /// Asks for one answer.
    pub(super) fn request(
        self: &Rc<Self>,
        subject: &str,
        data: &[u8],
    ) -> Result<(Ticket, oneshot::Receiver<Result<Message, NatsError>>), NatsError> {
        let (sender, answer) = oneshot::channel();
        Ok((self.ask(subject, data, Asking::Request(sender))?, answer))
    }

    /// Asks for any number of answers.
    pub(super) fn survey(
        self: &Rc<Self>,
        subject: &str,
        data: &[u8],
    ) -> Result<(Ticket, Rc<Mailbox>), NatsError> {
        let mailbox = Rc::new(Mailbox::default());
        Ok((self.ask(subject, data, Asking::Survey(Rc::clone(&mailbox)))?, mailbox))
    }

    fn ask(self: &Rc<Self>, subject: &str, data: &[u8], asking: Asking) -> Result<Ticket, NatsError> {
        self.to_send.notify_one();
        let token = self.state.borrow_mut().ask(subject, data, asking)?;
        Ok(Ticket { requests: Rc::clone(self), token })
    }

    /// Says in the log which part of a wildcard NATS keeps from this node, if it does.
    pub(super) fn look_for_withheld(&self, pattern: &Pattern) {
        let state = &mut *self.state.borrow_mut();
        if state.is_ready() && state.withheld.look(pattern, Instant::now()) {
            if state.ask(USER_INFO, &[], Asking::Permissions).is_err() {
                state.withheld.answered(None, Instant::now());
            }
            self.to_send.notify_one();
        }
    }

    /// Hears from now on what is published to these subjects, as soon as NATS allows it.
    pub(super) fn listen(&self, pattern: Pattern) -> Rc<Mailbox> {
        let (state, mailbox) = (&mut *self.state.borrow_mut(), Rc::new(Mailbox::default()));
        let key = state.driver.link.subscribe(&pattern);
        state.listening.insert(key, (pattern, Rc::clone(&mailbox)));
        self.to_send.notify_one();
        mailbox
    }

    /// Ends it.
    pub(super) fn close(&self) {
        self.closed.cancel();
        let state = &mut *self.state.borrow_mut();
        state.forget();
        state.listening.drain().for_each(|(_, (_, mailbox))| mailbox.close());
    }
}

impl RequestsState {
    fn is_ready(&self) -> bool {
        self.driver.link.is_answering() && self.inbox.is_open
    }

    fn send(&mut self, message: &Outgoing<'_>, by: Option<Sender>) -> Result<(), NatsError> {
        if self.unconfirmed.len() >= MAX_UNCONFIRMED {
            return Err(NatsError::Full);
        }
        let round = match self.driver.link.publish(message) {
            Err(error) => {
                if matches!(error, NatsError::TooLarge { .. }) {
                    self.driver.look();
                }
                return Err(error);
            }
            Ok(round) => round,
        };
        let unconfirmed = by.map(|by| Unconfirmed { round, subject: message.subject.into(), by });
        self.unconfirmed.extend(unconfirmed);
        Ok(())
    }

    /// Asks, and says by which token the answer is found.
    fn ask(&mut self, subject: &str, data: &[u8], asking: Asking) -> Result<Box<str>, NatsError> {
        if !self.driver.link.is_up() {
            return Err(NatsError::Away);
        }
        if !self.inbox.is_open {
            return Err(NatsError::Deaf);
        }
        let token = self.inbox.token();
        let reply = format!("{}{token}", self.inbox.prefix);
        let message = Outgoing { subject, reply: Some(&reply), headers: &[], data };
        self.send(&message, Some(Sender::Asker(token.clone())))?;
        self.asking.insert(token.clone(), asking);
        Ok(token)
    }

    fn hear(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Message(key, message) if key == self.inbox.key => self.answer(message),
            Incoming::Message(key, message) => {
                if let Some((_, mailbox)) = self.listening.get(&key) {
                    mailbox.put(&message);
                }
            }
            Incoming::Opened(key) if key == self.inbox.key => self.inbox.is_open = true,
            Incoming::Opened(key) => {
                if let Some((pattern, _)) = self.listening.get(&key)
                    && let Some(suppressed) = LISTENING.pass()
                {
                    info!(subject = pattern.as_str(), suppressed, "listening to other nodes");
                }
            }
            Incoming::Failed(key, error) => self.failed(key, &error),
            Incoming::Interrupted(key) if key == self.inbox.key => {
                self.inbox.is_open = false;
                complain(&self.inbox.pattern, &NatsError::Denied);
            }
            Incoming::Interrupted(key) => {
                if let Some((pattern, _)) = self.listening.get(&key) {
                    complain(pattern, &NatsError::Denied);
                }
            }
            // No node sends such a thing, and what services answer comes to subjects of ours.
            Incoming::Malformed(_) => {}
            Incoming::LinkLost => {
                self.inbox.is_open = false;
                self.forget();
            }
        }
    }

    /// NATS does not make one of the subscriptions that everything else needs: it is asked again and again.
    fn failed(&mut self, key: SubscriptionKey, error: &NatsError) {
        self.driver.link.unsubscribe(key);
        if key == self.inbox.key {
            complain(&self.inbox.pattern, error);
            self.inbox.key = self.driver.link.subscribe_later(&self.inbox.pattern);
        } else if let Some((pattern, mailbox)) = self.listening.remove(&key) {
            complain(&pattern, error);
            let key = self.driver.link.subscribe_later(&pattern);
            self.listening.insert(key, (pattern, mailbox));
        }
    }

    /// An answer; one that no one waits for any more is no one's.
    fn answer(&mut self, message: Message) {
        let Some(token) = message.subject().strip_prefix(&self.inbox.prefix) else { return };
        let is_nobody = message.status() == Some(NO_RESPONDERS);
        match self.asking.remove_entry(token) {
            Some((_, Asking::Request(asker))) => {
                // Whoever has given up is not there to hear it.
                let _ = asker.send(if is_nobody { Err(NatsError::NoResponders) } else { Ok(message) });
            }
            Some((_, Asking::Permissions)) => {
                let payload = message.payload();
                self.withheld.answered((!is_nobody).then_some(&payload[..]), Instant::now());
            }
            Some((_, Asking::Survey(mailbox))) if is_nobody => mailbox.close(),
            Some((token, Asking::Survey(mailbox))) => {
                mailbox.put(&message);
                self.asking.insert(token, Asking::Survey(mailbox));
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
                self.denied_unread = true;
                return;
            }
            Confirmation::Seen(round) => round,
        };
        while let Some(sent) = self.unconfirmed.pop_front_if(|sent| sent.round <= seen) {
            let is_denied = self.denied_unread || self.denied.contains(&*sent.subject);
            if is_denied && let Some(suppressed) = NOT_SENT.pass() {
                let advice = "nats does not let this node publish: allow it to the node's user on nats, or forbid it in [[role]]";
                warn!(subject = &*sent.subject, suppressed, "{advice}");
            }
            match sent.by {
                Sender::Publisher(publisher) => {
                    // Whoever has given up is not there to hear it.
                    let _ = publisher.send(if is_denied { Err(NatsError::Denied) } else { Ok(()) });
                }
                Sender::Asker(token) if is_denied => self.fail(&token, NatsError::Denied),
                Sender::Asker(_) => {}
            }
        }
        self.denied.clear();
        self.denied_unread = false;
    }

    fn fail(&mut self, token: &str, error: NatsError) {
        match self.asking.remove(token) {
            Some(Asking::Request(asker)) => {
                // Whoever has given up is not there to hear it.
                let _ = asker.send(Err(error));
            }
            Some(Asking::Survey(mailbox)) => mailbox.close(),
            Some(Asking::Permissions) => self.withheld.answered(None, Instant::now()),
            None => {}
        }
    }

    /// The link is gone, and no one knows what has become of what went over it.
    fn forget(&mut self) {
        self.denied.clear();
        self.denied_unread = false;
        for Unconfirmed { by, .. } in self.unconfirmed.drain(..) {
            if let Sender::Publisher(publisher) = by {
                // Whoever has given up is not there to hear it.
                let _ = publisher.send(Err(NatsError::Lost));
            }
        }
        let tokens: Vec<_> = self.asking.keys().cloned().collect();
        tokens.iter().for_each(|token| self.fail(token, NatsError::Lost));
        self.withheld = Withheld::default();
    }
}

impl ReplyInbox {
    /// One that was never used, and that no one who has seen others can guess.
    fn token(&mut self) -> Box<str> {
        self.made += 1;
        format!("{:016x}", self.tokens.hash_one(self.made)).into()
    }
}

fn complain(pattern: &Pattern, error: &NatsError) {
    if let Some(suppressed) = DENIED.pass() {
        error!(
            subject = pattern.as_str(),
            %error,
            suppressed,
            "nats does not let this node subscribe: allow it to the node's user on nats"
        );
    }
}

#[cfg(test)]
mod tests;
