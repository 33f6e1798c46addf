//! What comes from NATS: one message, its headers not read until somebody asks.

use async_nats::HeaderMap;
use bytes::Bytes;

/// One message as NATS delivered it.
#[derive(Debug)]
pub struct Message {
    subject: async_nats::Subject,
    headers: Option<HeaderMap>,
    size: usize,
    /// Its body: a slice of the connection's read buffer. Copy it to keep it.
    pub payload: Bytes,
}

impl Message {
    /// The subject that it was published to.
    pub fn subject(&self) -> &str {
        self.subject.as_str()
    }

    /// A header's last value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.as_ref()?.get_last(name).map(async_nats::HeaderValue::as_str)
    }

    /// The headers whose names stand in `names` (`*`: all), by name; values of one name in their order.
    pub fn headers(&self, names: &[String]) -> Vec<(String, String)> {
        let Some(headers) = &self.headers else {
            return Vec::new();
        };
        let wanted =
            |name: &str| names.iter().any(|wanted| wanted == "*" || wanted.eq_ignore_ascii_case(name));
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, values) in headers.iter() {
            let name: &str = name.as_ref();
            if wanted(name) {
                found.extend(values.iter().map(|value| (name.to_owned(), value.as_str().to_owned())));
            }
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found
    }

    /// Roughly what it takes in memory, its headers included.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl From<async_nats::Message> for Message {
    fn from(message: async_nats::Message) -> Self {
        let async_nats::Message { subject, headers, payload, length: size, .. } = message;
        Self { subject, headers, size, payload }
    }
}

#[cfg(test)]
impl Message {
    /// A message without headers, as if NATS had delivered it.
    pub(crate) fn plain(subject: &str, payload: &'static [u8]) -> Self {
        let size = subject.len() + payload.len();
        Self { subject: subject.into(), headers: None, size, payload: Bytes::from_static(payload) }
    }
}
