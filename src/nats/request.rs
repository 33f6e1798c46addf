//! Request and reply, with a time limit.

use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::subject::Subject;
use tokio::time::timeout;

use crate::nats::Nats;
use crate::nats::error::NatsError;
use crate::nats::outgoing::OutgoingMessage;

/// The header of an error reply (NATS ADR-32).
pub(super) const SERVICE_ERROR: &str = "Nats-Service-Error";
/// Longer error texts of services are truncated, in characters.
const MAX_ERROR_CHARS: usize = 200;

impl Nats {
    /// Sends a request and waits for one reply.
    pub async fn request(
        &self,
        subject: &Subject,
        data: Bytes,
        headers: &[(String, String)],
        time_limit: Duration,
    ) -> Result<Bytes, NatsError> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let message =
            OutgoingMessage { subject: subject.as_str(), reply: None, headers: &headers, data: &data };
        let (_guard, reply) = self.requests.request(&message)?;
        let reply = match timeout(time_limit, reply).await {
            Ok(reply) => reply.unwrap_or(Err(NatsError::ConnectionLost))?,
            Err(_) => return Err(NatsError::Timeout),
        };
        // NATS micro services report errors this way.
        match reply.header(SERVICE_ERROR) {
            Ok(Some(error)) => Err(NatsError::Service(error.chars().take(MAX_ERROR_CHARS).collect())),
            Ok(None) | Err(_) => Ok(Bytes::copy_from_slice(&reply.payload())),
        }
    }
}
