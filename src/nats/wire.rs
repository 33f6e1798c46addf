//! Wire: bytes from a nats-server → what it says. Pure: whoever has the socket fills the buffer.
//!
//! Messages are slices of that buffer; nothing is copied, and of headers nothing is read here. What no one should send and
//! the server passes on all the same (a subject that is no UTF-8) costs that message alone.

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use thiserror::Error;

use crate::nats::message::Message;
use crate::nats::message::Parts;

/// The longest line. The server's own limit for what clients send is 4,096 by default, but it is a setting, and what
/// comes out is longer than what went in: a cut here would be one that any producer could cause.
const MAX_LINE: usize = 64 * 1024;
/// The largest message: nats-server accepts no `max_payload` above 64 MiB, and `RePublish` adds headers to that. Room
/// is made as bytes arrive, not because a line announces them.
const MAX_BODY: usize = 65 * 1024 * 1024;
/// Of what a server complains about, so much is read.
const MAX_WORDS: usize = 4096;
const END: &[u8] = b"\r\n";

/// What a server says.
#[derive(Debug)]
pub(super) enum Said {
    /// About itself, in JSON.
    Info(Bytes),
    /// A message for this subscription.
    Message(u64, Message),
    /// A message for this subscription whose subject cannot be read.
    Malformed(u64),
    /// It wants a `PONG`.
    Ping,
    /// It has read everything in front of a `PING`.
    Pong,
    /// It does not want something, or ends the connection.
    Error(String),
    /// Nothing that anybody waits for.
    Ok,
}

/// Bytes that are not the NATS protocol: the connection is of no more use.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum WireError {
    /// No such operation.
    #[error("nats-server says something that is not its protocol")]
    Unknown,
    /// An operation with arguments that make no sense.
    #[error("nats-server announces a message in a way that is not its protocol")]
    Arguments,
    /// Longer than [`MAX_LINE`].
    #[error("nats-server says a line without an end")]
    Line,
    /// Larger than [`MAX_BODY`].
    #[error("nats-server announces a message larger than it may be")]
    Body,
    /// No line end behind a message.
    #[error("a message from nats-server does not end where it should")]
    End,
}

/// Reads what a server says, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// A message whose line has been read, and whose rest has not come yet.
    announced: Option<Announced>,
    /// So many bytes at the beginning are no whole line.
    searched: usize,
}

#[derive(Clone, Copy, Debug)]
struct Announced {
    sid: u64,
    parts: Parts,
    /// With everything, line ends too.
    size: usize,
}

impl Wire {
    /// The next that is there as a whole. `None`: more bytes are needed.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Said>, WireError> {
        let announced = match self.announced {
            Some(announced) => announced,
            None => {
                let Some(line) = self.line(buffer)? else { return Ok(None) };
                match self.operation(buffer, line)? {
                    Read::Said(said) => return Ok(Some(said)),
                    Read::Announced(announced) => announced,
                }
            }
        };
        if buffer.len() < announced.size {
            self.announced = Some(announced);
            return Ok(None);
        }
        self.announced = None;
        let whole = buffer.split_to(announced.size).freeze();
        if !whole.ends_with(END) {
            return Err(WireError::End);
        }
        let message = Message::new(whole, announced.parts);
        Ok(Some(match message {
            Some(message) => Said::Message(announced.sid, message),
            None => Said::Malformed(announced.sid),
        }))
    }

    /// How many bytes are known to be missing from `buffer` for the next message.
    pub(super) fn missing(&self, buffer: &BytesMut) -> usize {
        self.announced.map_or(0, |announced| announced.size.saturating_sub(buffer.len()))
    }

    /// How long the first line is, with its end.
    fn line(&mut self, buffer: &BytesMut) -> Result<Option<usize>, WireError> {
        let end = memchr::memchr(b'\n', &buffer[self.searched..]).map(|at| self.searched + at + 1);
        self.searched = if end.is_some() { 0 } else { buffer.len() };
        if end.unwrap_or(buffer.len()) > MAX_LINE {
            return Err(WireError::Line);
        }
        Ok(end)
    }

    fn operation(&self, buffer: &mut BytesMut, line: usize) -> Result<Read, WireError> {
        let text = without_end(&buffer[..line]);
        let verb = text.iter().position(|byte| is_blank(*byte)).unwrap_or(text.len());
        let (is, arguments) = (|word: &[u8]| text[..verb].eq_ignore_ascii_case(word), verb..text.len());
        if is(b"MSG") {
            return announced(&text[arguments], verb, line, Headers::Without).map(Read::Announced);
        }
        if is(b"HMSG") {
            return announced(&text[arguments], verb, line, Headers::With).map(Read::Announced);
        }
        let said = if is(b"PING") {
            Said::Ping
        } else if is(b"PONG") {
            Said::Pong
        } else if is(b"+OK") {
            Said::Ok
        } else if is(b"-ERR") {
            // They go into logs, and name a subject at most.
            let words = String::from_utf8_lossy(&text[verb..text.len().min(verb + MAX_WORDS)]);
            Said::Error(words.trim_matches([' ', '\t', '\'']).to_owned())
        } else if is(b"INFO") {
            Said::Info(Bytes::copy_from_slice(&text[arguments]))
        } else {
            return Err(WireError::Unknown);
        };
        buffer.advance(line);
        Ok(Read::Said(said))
    }
}

enum Read {
    Said(Said),
    Announced(Announced),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Headers {
    With,
    Without,
}

/// `subject sid [reply] [bytes of headers] bytes of all`, behind a verb of so many bytes in a line of so many.
fn announced(arguments: &[u8], verb: usize, line: usize, headers: Headers) -> Result<Announced, WireError> {
    let mut words = [(0, &[][..]); 5];
    let mut count = 0;
    let mut at = 0;
    while let Some(start) = arguments[at..].iter().position(|byte| !is_blank(*byte)) {
        let start = at + start;
        let length = arguments[start..].iter().position(|byte| is_blank(*byte));
        at = length.map_or(arguments.len(), |length| start + length);
        *words.get_mut(count).ok_or(WireError::Arguments)? = (start, &arguments[start..at]);
        count += 1;
    }
    let sizes = if headers == Headers::With { 2 } else { 1 };
    if !(2 + sizes..=3 + sizes).contains(&count) {
        return Err(WireError::Arguments);
    }
    let size_at = |place: usize| number(words[place].1).and_then(|size| usize::try_from(size).ok());
    let sid = number(words[1].1).ok_or(WireError::Arguments)?;
    let all = size_at(count - 1).ok_or(WireError::Arguments)?;
    let header_size =
        if headers == Headers::With { size_at(count - 2).ok_or(WireError::Arguments)? } else { 0 };
    if header_size > all {
        return Err(WireError::Arguments);
    }
    if all > MAX_BODY {
        return Err(WireError::Body);
    }
    let subject = verb + words[0].0;
    let parts = Parts::new(subject, words[0].1.len(), line, header_size).ok_or(WireError::Arguments)?;
    Ok(Announced { sid, parts, size: line + all + END.len() })
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests;
