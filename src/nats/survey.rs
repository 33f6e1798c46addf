//! Survey: one question, and the answers of all who listen to its subject.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::subject::Pattern;
use tokio::time::timeout;

use crate::nats::Nats;
use crate::nats::error::NatsError;
use crate::nats::mailbox::Mailbox;
use crate::nats::message::Message;
use crate::nats::outgoing::Outgoing;
use crate::nats::requests::Ticket;

/// The answers to a question, as they come.
#[derive(Debug)]
pub struct PeerAnswers {
    mailbox: Rc<Mailbox>,
    _ticket: Ticket,
}

/// One answer.
#[derive(Debug)]
pub struct Answer(Message);

/// What listens to questions.
#[derive(Debug)]
pub struct Respondent {
    mailbox: Rc<Mailbox>,
    nats: Nats,
}

/// One question.
#[derive(Debug)]
pub struct PeerQuestion {
    /// Its body.
    pub data: Bytes,
    reply: Box<str>,
    nats: Nats,
}

impl Nats {
    /// Asks whoever listens.
    pub fn survey(&self, subject: &str, question: &[u8]) -> Result<PeerAnswers, NatsError> {
        let (ticket, mailbox) = self.requests.survey(subject, question)?;
        Ok(PeerAnswers { mailbox, _ticket: ticket })
    }

    /// Listens to questions from now on, as soon as NATS is there and allows it.
    pub fn respondent(&self, subject: Pattern) -> Respondent {
        Respondent { mailbox: self.requests.listen(subject), nats: self.clone() }
    }
}

impl PeerAnswers {
    /// The next one. `None` if none comes in this time, or no one listens at all.
    pub async fn next(&mut self, patience: Duration) -> Option<Answer> {
        timeout(patience, self.mailbox.next()).await.ok()?.map(Answer)
    }
}

impl Answer {
    /// Its body.
    pub fn data(&self) -> Bytes {
        self.0.payload()
    }

    /// A header of it, if it is one line that can be read.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.0.header(name) {
            Ok(Some(Cow::Borrowed(value))) => Some(value),
            Ok(Some(Cow::Owned(_)) | None) | Err(_) => None,
        }
    }
}

impl Respondent {
    /// The next question; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<PeerQuestion> {
        loop {
            let message = self.mailbox.next().await?;
            if let Some(reply) = message.reply() {
                let (data, reply) = (message.payload(), reply.into());
                return Some(PeerQuestion { data, reply, nats: self.nats.clone() });
            }
        }
    }
}

impl PeerQuestion {
    /// Answers it; that can be done several times. While NATS is away nothing is kept for later.
    pub fn answer(&self, data: &[u8], headers: &[(&str, &str)]) -> Result<(), NatsError> {
        self.nats.requests.post(&Outgoing { subject: &self.reply, reply: None, headers, data })
    }
}
