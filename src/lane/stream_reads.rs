//! `StreamReads`: the requests of a lane to JetStream, on the connection of its subscriptions: a stream that gets a
//! subscription and then a read answers them in this order.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::subject::Pattern;

use crate::nats::direct_get::AnswerEnd;
use crate::nats::direct_get::AnswerKind;
use crate::nats::direct_get::DirectGetPart;
use crate::nats::direct_get::NoFacts;
use crate::nats::direct_get::ReadMessage;
use crate::nats::direct_get::StreamFacts;
use crate::nats::direct_get::StreamRequest;
use crate::nats::incoming::SubscriptionKey;
use crate::nats::link::Link;
use crate::nats::message::Message;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many requests of a lane the server answers at a time. More would only be late.
const MAX_IN_FLIGHT: usize = 256;

/// The answer to a request.
#[derive(Debug)]
pub enum Outcome {
    Messages {
        messages: Vec<ReadMessage>,
        end: AnswerEnd,
    },
    State(StreamFacts),
    /// There is no such stream, for this reason.
    NoStream(String),
    /// There is no answer in time, or it cannot be read.
    Unavailable,
}

/// The requests that await answers, each with what its caller has to know then.
#[derive(Debug)]
pub struct StreamReads<C> {
    /// What reply subjects begin with: `_INBOX_tidegate.<random>.`
    prefix: String,
    inbox: Option<SubscriptionKey>,
    pending: HashMap<u64, Pending<C>>,
    started: u64,
}

#[derive(Debug)]
struct Pending<C> {
    context: C,
    kind: AnswerKind,
    messages: Vec<ReadMessage>,
    deadline: Instant,
}

impl<C> StreamReads<C> {
    /// `inbox_prefix` is what the subjects of all replies to this node begin with.
    pub fn new(inbox_prefix: &str) -> Self {
        // No one else can guess it.
        let random = [RandomState::new().hash_one(inbox_prefix), RandomState::new().hash_one(0)];
        let prefix = format!("{inbox_prefix}.{:016x}{:016x}.", random[0], random[1]);
        Self { prefix, inbox: None, pending: HashMap::new(), started: 0 }
    }

    /// Sends a request. Returns the context at once if that is impossible now.
    pub fn start(
        &mut self,
        link: &mut Link,
        request: &StreamRequest,
        context: C,
        now: Instant,
    ) -> Result<(), C> {
        if self.inbox.is_none() {
            let Ok(pattern) = Pattern::parse(&format!("{}*", self.prefix)) else { return Err(context) };
            self.inbox = Some(link.subscribe(&pattern));
        }
        self.started += 1;
        let reply = format!("{}{:x}", self.prefix, self.started);
        if link.request(&request.subject, &reply, &request.body).is_err() {
            return Err(context);
        }
        let pending = Pending { context, kind: request.kind, messages: Vec::new(), deadline: now + TIMEOUT };
        self.pending.insert(self.started, pending);
        Ok(())
    }

    /// Whether the messages of this subscription are answers.
    pub fn is_inbox(&self, key: SubscriptionKey) -> bool {
        self.inbox == Some(key)
    }

    /// Handles a message of the inbox. Returns the answer to a request if it is complete.
    pub fn on_message(&mut self, message: &Message) -> Option<(C, Outcome)> {
        let number = u64::from_str_radix(message.subject().strip_prefix(&self.prefix)?, 16).ok()?;
        let pending = self.pending.get_mut(&number)?;
        let outcome = match pending.kind {
            AnswerKind::Messages => match DirectGetPart::of_direct_get(message) {
                Some(DirectGetPart::Message(read)) => {
                    pending.messages.push(read);
                    return None;
                }
                Some(DirectGetPart::End(end)) => {
                    Outcome::Messages { messages: std::mem::take(&mut pending.messages), end }
                }
                // No channel can have it.
                None => return None,
            },
            AnswerKind::State if message.status().is_some() => {
                Outcome::NoStream("there is no JetStream".to_owned())
            }
            AnswerKind::OneMessage if message.status().is_some() => Outcome::Unavailable,
            AnswerKind::OneMessage => match DirectGetPart::of_leader(&message.payload()) {
                Some(DirectGetPart::Message(read)) => {
                    let end = AnswerEnd::Complete { up_to: None, pending: 0 };
                    Outcome::Messages { messages: vec![read], end }
                }
                Some(DirectGetPart::End(end)) => Outcome::Messages { messages: Vec::new(), end },
                None => Outcome::Unavailable,
            },
            AnswerKind::State => match StreamFacts::parse(&message.payload()) {
                Some(Ok(facts)) => Outcome::State(facts),
                Some(Err(NoFacts::NoStream(reason))) => Outcome::NoStream(reason),
                Some(Err(NoFacts::NotNow(_))) | None => Outcome::Unavailable,
            },
        };
        let Pending { context, .. } = self.pending.remove(&number)?;
        Some((context, outcome))
    }

    /// Whether requests await answers.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether so many requests await answers that others should wait.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= MAX_IN_FLIGHT
    }

    /// Forgets the requests whose answers are late, and returns them.
    pub fn take_late(&mut self, now: Instant) -> Vec<C> {
        let mut late: Vec<u64> =
            self.pending.iter().filter(|(_, one)| one.deadline <= now).map(|(number, _)| *number).collect();
        late.sort_unstable();
        late.into_iter().filter_map(|number| Some(self.pending.remove(&number)?.context)).collect()
    }

    /// The connection is lost, and with it all answers.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// The server does not allow the inbox: the next request subscribes again.
    pub fn lose_inbox(&mut self) {
        self.inbox = None;
    }
}
