//! permessage-deflate (RFC 7692) without context: each message is deflated on its own, and inflated up to a limit.

use flate2::Compress;
use flate2::Compression;
use flate2::Decompress;
use flate2::FlushCompress;
use flate2::FlushDecompress;
use flate2::Status;

/// The smallest window that an offer can name, as a power of two (RFC 7692 §7.1.2).
pub const MIN_WINDOW_BITS: u8 = 8;
/// The largest, which is also what holds where none is named.
pub const MAX_WINDOW_BITS: u8 = 15;

/// What every deflated message ends with, and what is therefore not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The tail, and an empty last block: only a message that is whole ends with both.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];
/// What deflating has to save: one byte in so many.
const SAVES: usize = 8;
/// Room for a message that begins.
const MIN_ROOM: usize = 64;
/// What deflating adds at most next to nine bits for a byte: heads and ends of blocks.
const SLACK: usize = 64;
/// How much of its buffer a deflater keeps.
const KEPT: usize = 64 * 1024;

/// Deflates messages, one after the other and each by itself: what was before can neither be referred to nor be
/// guessed from a length.
#[derive(Debug)]
pub struct Deflater {
    compress: Compress,
    level: Compression,
    /// Longer than most messages need, so that it is cleared once.
    buffer: Vec<u8>,
}

impl Deflater {
    /// A deflater of that level, 1 to 9. It takes about 300 KB.
    pub fn new(level: u32) -> Self {
        let level = Compression::new(level);
        Self { compress: Compress::new(level, false), level, buffer: Vec::new() }
    }

    /// What is in the frame for `message`. `None` unless that is shorter by an eighth at least: a client would
    /// inflate for nothing.
    pub fn deflate(&mut self, message: &[u8]) -> Option<&[u8]> {
        // All of it always has room: what is left over in zlib-rs 0.6 takes room from the messages that follow.
        let room = message.len() + message.len() / SAVES + message.len() / 64 + SLACK;
        let size = room.max(KEPT);
        if self.buffer.len() < size || self.buffer.len() > KEPT && size == KEPT {
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
        (deflated.len() <= message.len() - message.len().div_ceil(SAVES)).then_some(deflated)
    }
}

/// Why a message cannot be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// More comes out than may.
    #[error("the message is longer than it may be")]
    TooBig,
    /// It is not what deflating makes, or not all of it.
    #[error("the message is no deflated data")]
    Corrupt,
}

/// Inflates messages, one after the other and each by itself. It takes about 40 KB, and serves any number of sockets.
#[derive(Debug)]
pub struct Inflater {
    decompress: Decompress,
    gained: usize,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { decompress: Decompress::new(false), gained: 0 }
    }
}

impl Inflater {
    /// The message that was in the frame as `deflated`. It ends as soon as more than `max` bytes come out, and never
    /// takes memory for more.
    pub fn inflate(&mut self, deflated: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        let mut message = Vec::new();
        // Some make nothing of an empty message, where RFC 7692 §7.2.3.6 asks for one byte.
        if deflated.is_empty() {
            return Ok(message);
        }
        self.decompress.reset(false);
        if let Ended::AtItsEnd = self.feed(deflated, &mut message, max)? {
            // The last block says that it is one, and the empty block behind it was left out.
            return Ok(self.gain(deflated, message));
        }
        match self.feed(&END, &mut message, max)? {
            Ended::AtItsEnd => Ok(self.gain(deflated, message)),
            Ended::Open => Err(InflateError::Corrupt),
        }
    }

    /// How many bytes more have come out than went in since this was last asked.
    pub fn take_gained(&mut self) -> usize {
        std::mem::take(&mut self.gained)
    }

    fn gain(&mut self, deflated: &[u8], message: Vec<u8>) -> Vec<u8> {
        self.gained += message.len().saturating_sub(deflated.len());
        message
    }

    fn feed(&mut self, mut input: &[u8], message: &mut Vec<u8>, max: usize) -> Result<Ended, InflateError> {
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
                Status::StreamEnd if input.is_empty() => return Ok(Ended::AtItsEnd),
                // RFC 7692 §7.2.3.4: a block that says it is the last need not be.
                Status::StreamEnd => self.decompress.reset(false),
                Status::Ok | Status::BufError if message.len() == message.capacity() => {}
                Status::Ok | Status::BufError if input.is_empty() => return Ok(Ended::Open),
                Status::Ok => {}
                Status::BufError => return Err(InflateError::Corrupt),
            }
        }
    }
}

/// How a part of a message has ended.
enum Ended {
    /// With the end of a block that says it is the last.
    AtItsEnd,
    Open,
}

/// Room for more: as much as is usual at first, then twice as much, and never more than one byte too many.
fn grow(message: &mut Vec<u8>, input: usize, max: usize) {
    let wanted = if message.capacity() == 0 { input.saturating_mul(4) } else { message.capacity() * 2 };
    let room = wanted.clamp(MIN_ROOM, max.max(MIN_ROOM)).max(message.len() + 1);
    message.reserve_exact(room - message.len());
}

#[cfg(test)]
mod tests;
