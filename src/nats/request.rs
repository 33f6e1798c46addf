//! Request and reply, with a deadline.

use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::subject::Subject;
use tokio::time::timeout;

use crate::nats::Nats;
use crate::nats::error::NatsError;

/// The header in which a service says that it has failed (NATS ADR-32).
const SERVICE_ERROR: &str = "Nats-Service-Error";
/// So much of what it says is passed on, in characters.
const MAX_WORDS: usize = 200;

impl Nats {
    /// Sends a request and waits for its one answer.
    pub async fn request(
        &self,
        subject: &Subject,
        data: Bytes,
        patience: Duration,
    ) -> Result<Bytes, NatsError> {
        let (_ticket, answer) = self.requests.request(subject.as_str(), &data)?;
        let answer = match timeout(patience, answer).await {
            Ok(answer) => answer.unwrap_or(Err(NatsError::Lost))?,
            Err(_) => return Err(NatsError::Timeout),
        };
        // As the services of NATS micro say that they have failed.
        match answer.header(SERVICE_ERROR) {
            Ok(Some(words)) => Err(NatsError::Service(words.chars().take(MAX_WORDS).collect())),
            Ok(None) | Err(_) => Ok(Bytes::copy_from_slice(&answer.payload())),
        }
    }
}
