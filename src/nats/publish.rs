//! Publishing: it waits for the server's confirmation, fails while NATS is away, and never queues.

use bytes::Bytes;
use tidegate_protocol::subject::Subject;
use tokio::time::timeout;

use crate::nats::Nats;
use crate::nats::error::NatsError;
use crate::nats::outgoing::OutgoingMessage;

impl Nats {
    /// Publishes, and waits until the server has confirmed the message.
    pub async fn publish(
        &self,
        subject: &Subject,
        data: Bytes,
        headers: &[(String, String)],
    ) -> Result<(), NatsError> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let message =
            OutgoingMessage { subject: subject.as_str(), reply: None, headers: &headers, data: &data };
        let outcome = self.requests.publish(&message)?;
        match timeout(self.config.request_timeout, outcome).await {
            Ok(outcome) => outcome.unwrap_or(Err(NatsError::ConnectionLost)),
            Err(_) => Err(NatsError::Unconfirmed),
        }
    }
}
