//! What a client reads, cut wherever TCP has cut it: WebSocket frames, and the NATS protocol inside them. It looks no
//! further than it must, so that the clients are not what is measured.

#[cfg(test)]
mod tests;

/// A server's frame, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its first byte: FIN, RSV bits, opcode.
    pub first: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// What kind of frame it is.
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// RSV1: the payload is compressed (RFC 7692 §6).
    pub fn is_compressed(&self) -> bool {
        self.first & 0x40 != 0
    }
}

/// Walks the frames of a stream.
#[derive(Debug, Default)]
pub struct Frames {
    /// The beginning of a frame.
    kept: Vec<u8>,
}

impl Frames {
    /// Shows each frame that is whole with these bytes, and keeps the beginning of the next.
    pub fn walk(&mut self, fresh: &[u8], mut each: impl FnMut(Frame<'_>)) {
        joined(&mut self.kept, fresh, |bytes| {
            let mut at = 0;
            while let Some((header, length)) = frame_size(&bytes[at..])
                && let Some(payload) = bytes.get(at + header..at + header + length)
            {
                each(Frame { first: bytes[at], payload });
                at += header + length;
            }
            at
        });
    }
}

/// What nats-server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// A message's payload.
    Message(&'a [u8]),
    Ping,
    Pong,
    /// `-ERR` and its reason.
    Error(&'a [u8]),
}

/// Walks the NATS protocol, which is a stream: a frame may hold several messages or a part of one.
#[derive(Debug, Default)]
pub struct Protocol {
    /// The beginning of a message.
    kept: Vec<u8>,
}

impl Protocol {
    /// Shows what is whole with these bytes, and keeps the rest.
    pub fn walk(&mut self, fresh: &[u8], mut each: impl FnMut(Said<'_>)) {
        joined(&mut self.kept, fresh, |bytes| {
            let mut at = 0;
            while let Some(end) = bytes[at..].iter().position(|&byte| byte == b'\n') {
                let line = bytes[at..at + end].trim_ascii_end();
                let mut next = at + end + 1;
                if line.starts_with(b"MSG ") {
                    let length = message_size(line);
                    let Some(body) = bytes.get(next..next.saturating_add(length).saturating_add(2)) else {
                        break;
                    };
                    each(Said::Message(&body[..length]));
                    next += body.len();
                } else if line == b"PING" {
                    each(Said::Ping);
                } else if line == b"PONG" {
                    each(Said::Pong);
                } else if line.starts_with(b"-ERR") {
                    each(Said::Error(line));
                }
                at = next;
            }
            at
        });
    }
}

/// Shows what was kept and what is fresh as one; `walk` says how much of it is done with, and the rest is kept.
fn joined(kept: &mut Vec<u8>, fresh: &[u8], walk: impl FnOnce(&[u8]) -> usize) {
    if kept.is_empty() {
        let done = walk(fresh);
        kept.extend_from_slice(&fresh[done..]);
        return;
    }
    kept.extend_from_slice(fresh);
    let done = walk(kept);
    if done == kept.len() {
        // Ten thousand clients keep nothing, rather than ten thousand empty buffers.
        *kept = Vec::new();
    } else {
        kept.drain(..done);
    }
}

/// The size in a line such as `MSG bench.fanout 1 200`.
fn message_size(line: &[u8]) -> usize {
    let digits = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    digits.iter().fold(0, |sum: usize, digit| {
        sum.saturating_mul(10).saturating_add(usize::from(digit.saturating_sub(b'0')))
    })
}

fn frame_size(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => Some((10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?)),
        length => Some((2, usize::from(length))),
    }
}

/// A client's frame of at most 64 KiB. The mask is zero: no one is between us and the server who could be fooled.
pub fn put_masked(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    put_header(first, 0x80, payload.len(), out);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// A server's frame of at most 64 KiB.
pub fn put_plain(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    put_header(first, 0, payload.len(), out);
    out.extend_from_slice(payload);
}

fn put_header(first: u8, mask: u8, length: usize, out: &mut Vec<u8>) {
    out.push(first);
    match u8::try_from(length) {
        Ok(short @ ..126) => out.push(mask | short),
        Ok(_) | Err(_) => {
            out.push(mask | 126);
            out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
}
