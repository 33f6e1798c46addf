//! Publishing with an answer that says whether a stream has stored the message.

use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::subject::Subject;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::nats::Nats;
use crate::nats::acknowledgement::Acknowledgement;
use crate::nats::error::NatsError;
use crate::nats::outgoing::OutgoingMessage;
use crate::nats::requests::ReplyGuard;
use crate::nats::storage_answers::Storage;

/// A message that was sent once, and whose outcome is not known yet.
#[derive(Debug)]
pub struct SentMessage {
    nats: Nats,
    subject: Subject,
    outcome: PendingOutcome,
}

#[derive(Debug)]
enum PendingOutcome {
    /// The stream acknowledges it.
    Acknowledged(ReplyGuard, oneshot::Receiver<Result<Acknowledgement, NatsError>>),
    /// The server confirms that it has read it.
    Confirmed(oneshot::Receiver<Result<(), NatsError>>),
}

impl Nats {
    /// Sends a message. An error means that it was not sent. Messages of one thread are sent in the order of the calls.
    pub fn send_to(
        &self,
        storage: Storage,
        subject: Subject,
        data: &Bytes,
        headers: &[(String, String)],
    ) -> Result<SentMessage, NatsError> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let message = OutgoingMessage { subject: subject.as_str(), reply: None, headers: &headers, data };
        let outcome = match storage {
            Storage::Stream => {
                let (guard, answer) = self.requests.publish_acknowledged(&message)?;
                PendingOutcome::Acknowledged(guard, answer)
            }
            Storage::None => PendingOutcome::Confirmed(self.requests.publish(&message)?),
        };
        Ok(SentMessage { nats: self.clone(), subject, outcome })
    }

    /// How long to wait for the outcome of a message.
    pub fn time_limit(&self) -> Duration {
        self.config.request_timeout
    }
}

impl SentMessage {
    /// Waits for the acknowledgement of the stream, or `None` for a subject that no stream stores: the server has then
    /// read the message. The outcome is unknown after [`NatsError::Unconfirmed`] and [`NatsError::ConnectionLost`].
    pub async fn outcome(self, time_limit: Duration) -> Result<Option<Acknowledgement>, NatsError> {
        let Self { nats, subject, outcome } = self;
        let outcome = timeout(time_limit, async {
            match outcome {
                PendingOutcome::Acknowledged(_guard, answer) => {
                    answer.await.unwrap_or(Err(NatsError::ConnectionLost)).map(Some)
                }
                PendingOutcome::Confirmed(answer) => {
                    answer.await.unwrap_or(Err(NatsError::ConnectionLost)).map(|()| None)
                }
            }
        });
        match outcome.await {
            Ok(Err(NatsError::NoResponders)) => {
                nats.forget_storage_of(subject.as_str());
                Err(NatsError::StreamAway)
            }
            Ok(outcome) => outcome,
            Err(_) => Err(NatsError::Unconfirmed),
        }
    }
}
