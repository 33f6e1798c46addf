//! Scatter-gather: one query, and the replies of all nodes that subscribe to its subject.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::subject::Pattern;
use tokio::time::timeout;

use crate::nats::Nats;
use crate::nats::error::NatsError;
use crate::nats::message::Message;
use crate::nats::message_queue::MessageQueue;
use crate::nats::outgoing::OutgoingMessage;
use crate::nats::requests::Need;
use crate::nats::requests::ReplyGuard;

/// The replies to a query, as they arrive.
#[derive(Debug)]
pub struct ScatterGather {
    queue: Rc<MessageQueue>,
    _guard: ReplyGuard,
}

/// The reply of one node.
#[derive(Debug)]
pub struct PeerReply(Message);

/// Receives the queries of other nodes.
#[derive(Debug)]
pub struct Responder {
    queue: Rc<MessageQueue>,
    nats: Nats,
}

/// A query of another node, or a message that needs no reply.
#[derive(Debug)]
pub struct Query {
    pub data: Bytes,
    message: Message,
    nats: Nats,
}

impl Nats {
    /// Sends a query to all nodes that subscribe to this subject.
    pub fn scatter_gather(&self, subject: &str, query: &[u8]) -> Result<ScatterGather, NatsError> {
        let (guard, queue) = self.requests.scatter_gather(subject, query)?;
        Ok(ScatterGather { queue, _guard: guard })
    }

    /// Subscribes to queries, and keeps trying while NATS is away or denies it.
    pub fn responder(&self, subject: Pattern) -> Responder {
        Responder { queue: self.requests.subscribe(subject, Need::Required), nats: self.clone() }
    }

    /// The same for queries that a node may also leave without an answer: it says less in the log.
    pub fn optional_responder(&self, subject: Pattern) -> Responder {
        Responder { queue: self.requests.subscribe(subject, Need::Optional), nats: self.clone() }
    }
}

impl ScatterGather {
    /// The next reply. `None` if none arrives in this time, or no node subscribes to the subject.
    pub async fn next(&mut self, time_limit: Duration) -> Option<PeerReply> {
        timeout(time_limit, self.queue.next()).await.ok()?.map(PeerReply)
    }
}

impl PeerReply {
    pub fn data(&self) -> Bytes {
        self.0.payload()
    }

    /// The status that JetStream sends in place of a message, such as `404`.
    pub fn status(&self) -> Option<&[u8]> {
        self.0.status()
    }

    /// The value of a header, if it is valid and not folded.
    pub fn header(&self, name: &str) -> Option<&str> {
        plain_header(&self.0, name)
    }
}

impl Responder {
    /// The next query. `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Query> {
        let message = self.queue.next().await?;
        Some(Query { data: message.payload(), message, nats: self.nats.clone() })
    }
}

impl Query {
    pub fn subject(&self) -> &str {
        self.message.subject()
    }

    /// The value of a header, if it is valid and not folded.
    pub fn header(&self, name: &str) -> Option<&str> {
        plain_header(&self.message, name)
    }

    /// Replies, if the sender waits for that. You can do that several times. While NATS is away the reply is not
    /// queued.
    pub fn reply(&self, data: &[u8], headers: &[(&str, &str)]) -> Result<(), NatsError> {
        let Some(subject) = self.message.reply() else { return Ok(()) };
        self.nats.requests.publish_unconfirmed(&OutgoingMessage { subject, reply: None, headers, data })
    }
}

fn plain_header<'m>(message: &'m Message, name: &str) -> Option<&'m str> {
    match message.header(name) {
        Ok(Some(Cow::Borrowed(value))) => Some(value),
        Ok(Some(Cow::Owned(_)) | None) | Err(_) => None,
    }
}
