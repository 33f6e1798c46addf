//! Request and reply, with a deadline.

use std::time::Duration;

use async_nats::Request;
use async_nats::RequestErrorKind;
use bytes::Bytes;

use crate::nats::Nats;
use crate::nats::NatsError;
use crate::nats::refused;
use crate::protocol::subject::Subject;

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
        timeout: Duration,
    ) -> Result<Bytes, NatsError> {
        if !self.is_connected() {
            return Err(NatsError::Away);
        }
        let request = Request::new().payload(data).timeout(Some(timeout));
        let denials = self.signals.denials.count();
        let answer = self.client.send_request(subject.as_str().to_owned(), request).await;
        let answer = answer.map_err(|error| match error.kind() {
            // A request that the server drops is one that nobody answers.
            RequestErrorKind::TimedOut if self.signals.denials.since(denials, subject.as_str()) => {
                NatsError::Denied
            }
            RequestErrorKind::TimedOut => NatsError::Timeout,
            RequestErrorKind::NoResponders => NatsError::NoResponders,
            RequestErrorKind::InvalidSubject
            | RequestErrorKind::MaxPayloadExceeded
            | RequestErrorKind::Other => refused(error),
        })?;
        // As the services of NATS micro say that they have failed.
        let failed = answer.headers.as_ref().and_then(|headers| headers.get(SERVICE_ERROR));
        match failed {
            Some(words) => Err(NatsError::Service(words.as_str().chars().take(MAX_WORDS).collect())),
            None => Ok(answer.payload),
        }
    }
}
