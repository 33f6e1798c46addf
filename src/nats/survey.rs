//! Survey: one question, and the answers of all who listen to its subject.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::Message;
use async_nats::StatusCode;
use async_nats::Subject;
use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::nats::Nats;
use crate::nats::NatsError;
use crate::nats::publish::headers;
use crate::nats::refused;

/// The answers to a question, as they come.
#[derive(Debug)]
pub struct Answers(Subscriber);

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// Its body. It shares a read buffer, which lives as long.
    pub data: Bytes,
    headers: HeaderMap,
}

/// What listens to questions.
#[derive(Debug)]
pub struct Respondent {
    questions: Subscriber,
    nats: Nats,
}

/// One question.
#[derive(Debug)]
pub struct Enquiry {
    /// Its body.
    pub data: Bytes,
    reply: Subject,
    nats: Nats,
}

impl Nats {
    /// Asks whoever listens.
    pub async fn survey(&self, subject: &str, question: Bytes) -> Result<Answers, NatsError> {
        if !self.is_connected() {
            return Err(NatsError::Away);
        }
        let inbox = self.client.new_inbox();
        let answers = self.client.subscribe(inbox.clone()).await.map_err(refused)?;
        self.client.publish_with_reply(subject.to_owned(), inbox, question).await.map_err(refused)?;
        Ok(Answers(answers))
    }

    /// Listens to questions from now on.
    pub async fn respondent(&self, subject: &'static str) -> Result<Respondent, NatsError> {
        let questions = self.client.subscribe(subject).await.map_err(refused)?;
        Ok(Respondent { questions, nats: self.clone() })
    }
}

impl Answers {
    /// The next one. `None` if none comes in this time, or nobody listens at all.
    pub async fn next(&mut self, patience: Duration) -> Option<Answer> {
        let answer = timeout(patience, self.0.next()).await.ok()??;
        let is_one = answer.status != Some(StatusCode::NO_RESPONDERS);
        is_one.then(|| Answer { data: answer.payload, headers: answer.headers.unwrap_or_default() })
    }
}

impl Answer {
    /// A header of it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.as_str())
    }
}

impl Respondent {
    /// The next question; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Enquiry> {
        loop {
            let Message { payload, reply, .. } = self.questions.next().await?;
            if let Some(reply) = reply {
                return Some(Enquiry { data: payload, reply, nats: self.nats.clone() });
            }
        }
    }
}

impl Enquiry {
    /// Answers it; that can be done several times. While NATS is away nothing is kept for later.
    pub async fn answer(&self, data: Bytes, lines: &[(&str, &str)]) -> Result<(), NatsError> {
        if !self.nats.is_connected() {
            return Err(NatsError::Away);
        }
        let headers = headers(lines.iter().copied())?;
        let client = &self.nats.client;
        client.publish_with_headers(self.reply.clone(), headers, data).await.map_err(refused)
    }
}
