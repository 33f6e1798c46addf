//! Publishing on a link.

use std::io::Write;

use crate::nats::error::NatsError;
use crate::nats::link::Link;
use crate::nats::link::LinkState;
use crate::nats::outgoing::Confirmation;
use crate::nats::outgoing::OutgoingMessage;

/// Publishing fails when more than this is unsent.
const MAX_UNSENT_PUBLISHES: usize = 16 * 1024 * 1024;

impl Link {
    /// Publishes; an error means that nothing was sent. Returns the number of the `PING` that follows: its `PONG`
    /// confirms the message.
    pub(in crate::nats) fn publish(&mut self, message: &OutgoingMessage<'_>) -> Result<u64, NatsError> {
        self.send(message)?;
        Ok(self.table.mark_published())
    }

    /// Sends a request whose answers come on the subject `reply`, after all subscriptions that were made before. An error
    /// means that nothing was sent.
    pub fn request(&mut self, subject: &str, reply: &str, data: &[u8]) -> Result<(), NatsError> {
        self.send(&OutgoingMessage { subject, reply: Some(reply), headers: &[], data })
    }

    fn send(&mut self, message: &OutgoingMessage<'_>) -> Result<(), NatsError> {
        if self.state != LinkState::Connected || self.disconnecting.is_some() {
            return Err(NatsError::Disconnected);
        }
        if self.outbound.len() - self.sent > MAX_UNSENT_PUBLISHES {
            return Err(NatsError::Overloaded);
        }
        let headers = header_block(message.headers)?;
        let (size, max) = (headers.len() + message.data.len(), self.info.max_payload);
        if max > 0 && size > max {
            return Err(NatsError::TooLarge { size, max });
        }
        write(message, &headers, &mut self.outbound);
        Ok(())
    }

    /// Publishes nothing, and returns the number of the next `PING`: its `PONG` confirms everything sent before.
    pub(in crate::nats) fn flush_roundtrip(&mut self) -> Result<u64, NatsError> {
        if self.state == LinkState::Connected && self.disconnecting.is_none() {
            Ok(self.table.mark_published())
        } else {
            Err(NatsError::Disconnected)
        }
    }

    /// The server's next answer to what was published.
    pub(in crate::nats) fn confirmation(&mut self) -> Option<Confirmation> {
        self.confirmations.pop_front()
    }
}

/// Encodes the header block; empty without headers.
fn header_block(headers: &[(&str, &str)]) -> Result<Vec<u8>, NatsError> {
    let mut block = Vec::new();
    for (name, value) in headers {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !is_name || value.contains(['\r', '\n']) {
            let reason = format!("the header `{}` has an invalid name or value", name.escape_debug());
            return Err(NatsError::Refused(reason));
        }
        if block.is_empty() {
            block.extend_from_slice(b"NATS/1.0\r\n");
        }
        block.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !block.is_empty() {
        block.extend_from_slice(b"\r\n");
    }
    Ok(block)
}

fn write(message: &OutgoingMessage<'_>, headers: &[u8], out: &mut Vec<u8>) {
    let OutgoingMessage { subject, reply, data, .. } = *message;
    let (verb, all) = (if headers.is_empty() { "PUB" } else { "HPUB" }, headers.len() + data.len());
    out.reserve(subject.len() + all + 64);
    // Writing to a `Vec` never fails.
    let _ = write!(out, "{verb} {subject} ");
    if let Some(reply) = reply {
        let _ = write!(out, "{reply} ");
    }
    if !headers.is_empty() {
        let _ = write!(out, "{} ", headers.len());
    }
    let _ = write!(out, "{all}\r\n");
    out.extend_from_slice(headers);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}
