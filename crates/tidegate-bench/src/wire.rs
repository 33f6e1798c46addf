//! Parsers for the byte streams that clients receive: WebSocket frames, and the NATS protocol inside them. They accept
//! chunks of any size, and do as little as possible, so that the clients cost little.

#[cfg(test)]
mod tests;

/// A complete frame from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The first byte: FIN, RSV bits and opcode.
    pub first: u8,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// Whether RSV1 is set: the payload is compressed (RFC 7692 §6.1).
    pub fn is_compressed(&self) -> bool {
        self.first & 0x40 != 0
    }
}

/// Finds the WebSocket frames in a stream.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The start of an incomplete frame.
    buffered: Vec<u8>,
}

impl FrameReader {
    /// Calls `each` for every frame that these bytes complete, and keeps an incomplete frame for the next call.
    pub fn parse(&mut self, fresh: &[u8], mut each: impl FnMut(Frame<'_>)) {
        parse_buffered(&mut self.buffered, fresh, |bytes| {
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

/// An operation that nats-server sends to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsOp<'a> {
    /// `MSG`, with its payload.
    Message(&'a [u8]),
    Ping,
    Pong,
    /// The whole `-ERR` line, with its reason.
    Error(&'a [u8]),
}

/// Finds the operations in a stream of the NATS protocol. A frame may contain several operations, or a part of one.
#[derive(Debug, Default)]
pub struct NatsParser {
    /// The start of an incomplete operation.
    buffered: Vec<u8>,
}

impl NatsParser {
    /// Calls `each` for every operation that these bytes complete, and keeps an incomplete one for the next call.
    pub fn parse(&mut self, fresh: &[u8], mut each: impl FnMut(NatsOp<'_>)) {
        parse_buffered(&mut self.buffered, fresh, |bytes| {
            let mut at = 0;
            while let Some(end) = bytes[at..].iter().position(|&byte| byte == b'\n') {
                let line = bytes[at..at + end].trim_ascii_end();
                let mut next = at + end + 1;
                if line.starts_with(b"MSG ") {
                    let length = payload_size(line);
                    let Some(body) = bytes.get(next..next.saturating_add(length).saturating_add(2)) else {
                        break;
                    };
                    each(NatsOp::Message(&body[..length]));
                    next += body.len();
                } else if line == b"PING" {
                    each(NatsOp::Ping);
                } else if line == b"PONG" {
                    each(NatsOp::Pong);
                } else if line.starts_with(b"-ERR") {
                    each(NatsOp::Error(line));
                }
                at = next;
            }
            at
        });
    }
}

/// Calls `parse` with the buffered and the fresh bytes joined. It returns how many it has consumed; the rest stays
/// buffered.
fn parse_buffered(buffered: &mut Vec<u8>, fresh: &[u8], parse: impl FnOnce(&[u8]) -> usize) {
    if buffered.is_empty() {
        let done = parse(fresh);
        buffered.extend_from_slice(&fresh[done..]);
        return;
    }
    buffered.extend_from_slice(fresh);
    let done = parse(buffered);
    if done == buffered.len() {
        // Frees the memory: thousands of clients would otherwise keep an empty buffer each.
        *buffered = Vec::new();
    } else {
        buffered.drain(..done);
    }
}

/// The payload size in a line such as `MSG bench.fanout 1 200`.
fn payload_size(line: &[u8]) -> usize {
    let digits = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    digits.iter().fold(0, |sum: usize, digit| {
        sum.saturating_mul(10).saturating_add(usize::from(digit.saturating_sub(b'0')))
    })
}

/// The lengths of a frame's header and payload. `None` if the header is incomplete.
fn frame_size(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => Some((10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?)),
        length => Some((2, usize::from(length))),
    }
}

/// Appends a client's frame of at most 64 KiB. The masking key is zero: on loopback there is no proxy to protect.
pub fn put_masked(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    put_header(first, 0x80, payload.len(), out);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Appends a server's frame of at most 64 KiB.
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
