//! Publishing: done when the server has the message, refused while NATS is away, and never queued.

use async_nats::HeaderMap;
use async_nats::HeaderValue;
use bytes::Bytes;

use crate::nats::Nats;
use crate::nats::NatsError;
use crate::nats::refused;
use crate::protocol::subject::Subject;

impl Nats {
    /// Publishes, and waits until the server has seen it.
    pub async fn publish(
        &self,
        subject: &Subject,
        data: Bytes,
        headers: &[(String, String)],
    ) -> Result<(), NatsError> {
        let (link, denials) = (self.reading().connects, self.signals.denials.count());
        self.post(subject, data, headers).await?;
        self.settle().await?;
        if self.signals.denials.since(denials, subject.as_str()) {
            return Err(NatsError::Denied);
        }
        // What was sent over a link that is gone may be gone with it.
        if self.reading().connects == link { Ok(()) } else { Err(NatsError::Away) }
    }

    /// Publishes without waiting for the server.
    pub async fn post(
        &self,
        subject: &Subject,
        data: Bytes,
        headers: &[(String, String)],
    ) -> Result<(), NatsError> {
        if !self.is_connected() {
            return Err(NatsError::Away);
        }
        let subject = subject.as_str().to_owned();
        if headers.is_empty() {
            return self.client.publish(subject, data).await.map_err(refused);
        }
        let lines = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.client.publish_with_headers(subject, self::headers(lines)?, data).await.map_err(refused)
    }
}

/// Headers of these names and values.
pub(super) fn headers<'l>(lines: impl Iterator<Item = (&'l str, &'l str)>) -> Result<HeaderMap, NatsError> {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let value: HeaderValue = value
            .parse()
            .map_err(|_| NatsError::Refused(format!("the value of `{name}` is no header value")))?;
        map.append(name, value);
    }
    Ok(map)
}
