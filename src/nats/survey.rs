//! Survey: one question, and the answers of all who listen to its subject. Who they are and how many is not known, so it
//! ends when nobody has said anything for a while.

use std::time::Duration;

use async_nats::Client;
use async_nats::HeaderMap;
use async_nats::HeaderValue;
use async_nats::Message;
use async_nats::StatusCode;
use async_nats::Subject;
use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tracing::warn;

use crate::nats::Nats;
use crate::nats::NatsError;

/// So long nobody has answered when it ends.
const QUIET: Duration = Duration::from_millis(250);
/// It ends after so long even if answers still come.
const LONGEST: Duration = Duration::from_secs(1);

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// Its body. It shares a read buffer, which lives as long.
    pub data: Bytes,
    headers: HeaderMap,
}

impl Answer {
    /// A header of it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.as_str())
    }
}

/// What listens to questions.
#[derive(Debug)]
pub struct Respondent {
    questions: Subscriber,
    client: Client,
}

/// One question.
#[derive(Debug)]
pub struct Enquiry {
    /// Its body.
    pub data: Bytes,
    reply: Subject,
    client: Client,
}

impl Nats {
    /// Asks. `take` is given each answer, and says whether more are wanted.
    pub async fn survey(
        &self,
        subject: &str,
        question: Bytes,
        mut take: impl FnMut(Answer) -> bool,
    ) -> Result<(), NatsError> {
        if !self.is_connected() {
            return Err(NatsError::Away);
        }
        let refused = |error: &dyn std::error::Error| NatsError::Refused(error.to_string());
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|error| refused(&error))?;
        let asked = self.client.publish_with_reply(subject.to_owned(), inbox, question).await;
        asked.map_err(|error| refused(&error))?;
        let end = Instant::now() + LONGEST;
        while let Ok(Some(answer)) = timeout_at(end.min(Instant::now() + QUIET), answers.next()).await {
            // Nobody listens at all.
            if answer.status == Some(StatusCode::NO_RESPONDERS) {
                break;
            }
            let answer = Answer { data: answer.payload, headers: answer.headers.unwrap_or_default() };
            if !take(answer) {
                break;
            }
        }
        Ok(())
    }

    /// Listens to questions from now on.
    pub async fn respondent(&self, subject: &'static str) -> Result<Respondent, NatsError> {
        let questions = self.client.subscribe(subject).await;
        let questions = questions.map_err(|error| NatsError::Refused(error.to_string()))?;
        Ok(Respondent { questions, client: self.client.clone() })
    }
}

impl Respondent {
    /// The next question; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Enquiry> {
        loop {
            let Message { payload, reply, .. } = self.questions.next().await?;
            if let Some(reply) = reply {
                return Some(Enquiry { data: payload, reply, client: self.client.clone() });
            }
        }
    }
}

impl Enquiry {
    /// Answers it; that can be done several times.
    pub async fn answer(&self, data: Bytes, headers: &[(&str, &str)]) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            // What no header can say is left out, and the answer is incomplete.
            if let Ok(value) = value.parse::<HeaderValue>() {
                map.insert(*name, value);
            }
        }
        if let Err(error) = self.client.publish_with_headers(self.reply.clone(), map, data).await {
            warn!(%error, "cannot answer another node");
        }
    }
}
