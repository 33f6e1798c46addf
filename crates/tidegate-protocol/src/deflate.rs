//! permessage-deflate (RFC 7692) without context takeover: each message is compressed and decompressed on its own, and
//! decompression has a limit.

use flate2::Compress;
use flate2::Compression;
use flate2::Decompress;
use flate2::FlushCompress;
use flate2::FlushDecompress;
use flate2::Status;

/// The smallest window that an offer can name, as a power of two (RFC 7692 §7.1.2).
pub const MIN_WINDOW_BITS: u8 = 8;
/// The largest window, and the default (RFC 7692 §7.1.2).
pub const MAX_WINDOW_BITS: u8 = 15;

/// RFC 7692 §7.2.1: the sender removes these four bytes from the end of each compressed message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// RFC 7692 §7.2.2: the receiver appends the tail again. The empty final block after it proves that the message was
/// complete.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];
/// Compression must save at least one byte in this many.
const MIN_SAVING: usize = 8;
/// Initial room for a decompressed message.
const MIN_ROOM: usize = 64;
/// The most that deflate adds to nine bits per byte: the headers and ends of blocks.
const SLACK: usize = 64;
/// The largest buffer that a deflater keeps between messages.
const MAX_KEPT: usize = 64 * 1024;

/// Compresses messages one by one.
///
/// RFC 7692 §7.1.1.1: with `server_no_context_takeover`, no message refers to an earlier one. So its length cannot
/// leak the content of earlier messages either.
#[derive(Debug)]
pub struct Deflater {
    compress: Compress,
    level: Compression,
    /// Larger than most messages need, so that it is zeroed only once.
    buffer: Vec<u8>,
}

impl Deflater {
    /// Creates a deflater with a level from 1 to 9. It takes about 300 KB.
    pub fn new(level: u32) -> Self {
        let level = Compression::new(level);
        Self { compress: Compress::new(level, false), level, buffer: Vec::new() }
    }

    /// Compresses `message` for a frame. `None` unless this saves an eighth at least: otherwise clients would
    /// decompress for nothing.
    pub fn deflate(&mut self, message: &[u8]) -> Option<&[u8]> {
        // The buffer always fits the whole output: in zlib-rs 0.6, output that is left over would take room from later
        // messages.
        let room = message.len() + message.len() / MIN_SAVING + message.len() / 64 + SLACK;
        let size = room.max(MAX_KEPT);
        if self.buffer.len() < size || self.buffer.len() > MAX_KEPT && size == MAX_KEPT {
            self.buffer = vec![0; size];
        }
        self.compress.reset();
        let status = self.compress.compress(message, &mut self.buffer, FlushCompress::Sync);
        let read = usize::try_from(self.compress.total_in()).ok()?;
        let written = usize::try_from(self.compress.total_out()).ok()?;
        if status.is_err() || read < message.len() || written == self.buffer.len() {
            self.compress = Compress::new(self.level, false);
            return None;
        }
        let deflated = self.buffer[..written].strip_suffix(&TAIL)?;
        (deflated.len() <= message.len() - message.len().div_ceil(MIN_SAVING)).then_some(deflated)
    }
}

/// Why a message cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The message is larger than the limit.
    #[error("the message is longer than the limit")]
    TooBig,
    /// The data is invalid or incomplete.
    #[error("the message is not valid deflate data")]
    Corrupt,
}

/// Decompresses messages one by one. It takes about 40 KB and serves any number of sockets.
///
/// RFC 7692 §7.1.1.2: with `client_no_context_takeover`, no message refers to an earlier one. The second message of
/// the example in §7.2.3.2 does, and is an error.
#[derive(Debug)]
pub struct Inflater {
    decompress: Decompress,
    expanded_bytes: usize,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { decompress: Decompress::new(false), expanded_bytes: 0 }
    }
}

impl Inflater {
    /// Decompresses the payload of a message. Stops once the output exceeds `max` bytes, and never allocates for more.
    pub fn inflate(&mut self, deflated: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        let mut message = Vec::new();
        // RFC 7692 §7.2.3.6: an empty message is one zero byte. Some clients send no byte at all.
        if deflated.is_empty() {
            return Ok(message);
        }
        self.decompress.reset(false);
        if let InputEnd::FinalBlock = self.feed(deflated, &mut message, max)? {
            // The client ended its message with a final block and left out the empty block after it.
            return Ok(self.count_expansion(deflated, message));
        }
        match self.feed(&END, &mut message, max)? {
            InputEnd::FinalBlock => Ok(self.count_expansion(deflated, message)),
            InputEnd::Open => Err(InflateError::Corrupt),
        }
    }

    /// Returns and resets the bytes that decompression has added: output minus input, over all messages.
    pub fn take_expanded_bytes(&mut self) -> usize {
        std::mem::take(&mut self.expanded_bytes)
    }

    fn count_expansion(&mut self, deflated: &[u8], message: Vec<u8>) -> Vec<u8> {
        self.expanded_bytes += message.len().saturating_sub(deflated.len());
        message
    }

    fn feed(
        &mut self,
        mut input: &[u8],
        message: &mut Vec<u8>,
        max: usize,
    ) -> Result<InputEnd, InflateError> {
        loop {
            if message.len() == message.capacity() {
                grow(message, input.len(), max);
            }
            let before = self.decompress.total_in();
            let status = self.decompress.decompress_vec(input, message, FlushDecompress::Sync);
            let read = usize::try_from(self.decompress.total_in() - before).unwrap_or(usize::MAX);
            input = input.get(read..).unwrap_or_default();
            if message.len() > max {
                return Err(InflateError::TooBig);
            }
            match status.map_err(|_| InflateError::Corrupt)? {
                Status::StreamEnd if input.is_empty() => return Ok(InputEnd::FinalBlock),
                // RFC 7692 §7.2.1: another block may follow a block with BFINAL set to 1.
                Status::StreamEnd => self.decompress.reset(false),
                Status::Ok | Status::BufError if message.len() == message.capacity() => {}
                Status::Ok | Status::BufError if input.is_empty() => return Ok(InputEnd::Open),
                Status::Ok => {}
                Status::BufError => return Err(InflateError::Corrupt),
            }
        }
    }
}

/// Where the input ended.
enum InputEnd {
    /// At the end of a block with BFINAL set to 1.
    FinalBlock,
    Open,
}

/// Makes room for more output: four times the input at first, then double, and at most one byte beyond `max`.
fn grow(message: &mut Vec<u8>, input: usize, max: usize) {
    let wanted = if message.capacity() == 0 { input.saturating_mul(4) } else { message.capacity() * 2 };
    let room = wanted.clamp(MIN_ROOM, max.max(MIN_ROOM)).max(message.len() + 1);
    message.reserve_exact(room - message.len());
}

#[cfg(test)]
mod tests;
