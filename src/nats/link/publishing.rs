//! Publishing: how a link writes what is published.

use std::io::Write;

use crate::nats::error::NatsError;
use crate::nats::link::Link;
use crate::nats::link::Phase;
use crate::nats::outgoing::Confirmation;
use crate::nats::outgoing::Outgoing;

/// Of what the server does not take, so much is kept. What is more is refused.
const MAX_WAITING: usize = 16 * 1024 * 1024;

impl Link {
    /// Publishes, or says why nothing was sent. The server has the message when it has seen the round of this number.
    pub(in crate::nats) fn publish(&mut self, message: &Outgoing<'_>) -> Result<u64, NatsError> {
        if self.phase != Phase::Up || self.cut.is_some() {
            return Err(NatsError::Away);
        }
        if self.outbound.len() - self.sent > MAX_WAITING {
            return Err(NatsError::Full);
        }
        let headers = block(message.headers)?;
        let (size, max) = (headers.len() + message.data.len(), self.info.max_payload);
        if max > 0 && size > max {
            return Err(NatsError::TooLarge { size, max });
        }
        write(message, &headers, &mut self.outbound);
        Ok(self.table.publish())
    }

    /// Publishes nothing: the server has all that was sent before when it has seen the round of this number.
    pub(in crate::nats) fn settle(&mut self) -> Result<u64, NatsError> {
        if self.phase == Phase::Up && self.cut.is_none() {
            Ok(self.table.publish())
        } else {
            Err(NatsError::Away)
        }
    }

    /// What the server has said of what was published.
    pub(in crate::nats) fn confirmation(&mut self) -> Option<Confirmation> {
        self.confirmations.pop_front()
    }
}

/// The header block; empty if there are no headers.
fn block(headers: &[(&str, &str)]) -> Result<Vec<u8>, NatsError> {
    let mut block = Vec::new();
    for (name, value) in headers {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !is_name || value.contains(['\r', '\n']) {
            let words = format!("`{}` is no header, or its value is none", name.escape_debug());
            return Err(NatsError::Refused(words));
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

fn write(message: &Outgoing<'_>, headers: &[u8], out: &mut Vec<u8>) {
    let Outgoing { subject, reply, data, .. } = *message;
    let (verb, all) = (if headers.is_empty() { "PUB" } else { "HPUB" }, headers.len() + data.len());
    out.reserve(subject.len() + all + 64);
    // Writing to memory does not fail.
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
