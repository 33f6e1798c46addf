//! Parses the bytes from a nats-server, without I/O: the caller fills the buffer.
//!
//! Messages are slices of that buffer; nothing is copied, and headers are not parsed here. A message whose subject is
//! not UTF-8, which the server should reject but forwards, is skipped, and the connection goes on.

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use thiserror::Error;

use crate::nats::message::Message;
use crate::nats::message::Parts;

/// The longest line. The server limits lines of clients to 4,096 bytes by default, but that is a setting, and the lines
/// that it sends are longer: with a lower limit here, any producer could cause a disconnect.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// The largest message: nats-server accepts no `max_payload` above 64 MiB, and `RePublish` adds headers to that. Memory
/// is reserved as bytes arrive, not when a line announces them.
const MAX_MESSAGE_BYTES: usize = 65 * 1024 * 1024;
/// Longer error texts of servers are truncated.
const MAX_ERROR_BYTES: usize = 4096;
/// Messages with longer subjects are parsed in general.
const MAX_PLAIN_SUBJECT: usize = 256;
const END: &[u8] = b"\r\n";

/// A protocol operation that a server sends.
#[derive(Debug)]
pub(super) enum ServerOp {
    /// `INFO`, with its JSON.
    Info(Bytes),
    /// A message for this `sid`.
    Message(u64, Message),
    /// A message for this `sid` whose subject is not UTF-8.
    Malformed(u64),
    /// `PING`, to be answered with `PONG`.
    Ping,
    /// `PONG`: the server has read everything before the `PING`.
    Pong,
    /// `-ERR`: the server rejects something, or closes the connection.
    Error(String),
    /// `+OK`, which has no meaning here.
    Ok,
}

/// The bytes are not the NATS protocol: the connection cannot be used any more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum WireError {
    #[error("nats-server sent an unknown operation")]
    UnknownOp,
    /// The arguments of an operation are invalid.
    #[error("nats-server sent an operation with invalid arguments")]
    BadArguments,
    /// A line is longer than [`MAX_LINE_BYTES`].
    #[error("nats-server sent a line that is too long")]
    LineTooLong,
    /// A message is larger than [`MAX_MESSAGE_BYTES`].
    #[error("nats-server sent a message that is too large")]
    MessageTooLarge,
    /// A message does not end with a line end.
    #[error("nats-server sent a message without its line end")]
    MissingLineEnd,
}

/// Parses the operations of a server incrementally.
#[derive(Debug, Default)]
pub(super) struct WireParser {
    /// A message whose line has been parsed, and whose body has not arrived completely.
    head: Option<MessageHead>,
    /// How many bytes of the buffer are known to contain no line end.
    searched: usize,
}

#[derive(Clone, Copy, Debug)]
struct MessageHead {
    sid: u64,
    parts: Parts,
    /// The size with the line, the body and all line ends.
    size: usize,
}

impl WireParser {
    /// The next complete operation. `None` if more bytes are needed.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<ServerOp>, WireError> {
        let head = match self.head {
            Some(head) => head,
            None => match plain_message_head(buffer) {
                Some(head) => {
                    self.searched = 0;
                    head
                }
                None => {
                    let Some(line) = self.line_length(buffer)? else { return Ok(None) };
                    match self.parse_line(buffer, line)? {
                        Parsed::Op(op) => return Ok(Some(op)),
                        Parsed::Head(head) => head,
                    }
                }
            },
        };
        if buffer.len() < head.size {
            self.head = Some(head);
            return Ok(None);
        }
        self.head = None;
        let whole = buffer.split_to(head.size).freeze();
        if !whole.ends_with(END) {
            return Err(WireError::MissingLineEnd);
        }
        let message = Message::new(whole, head.parts);
        Ok(Some(match message {
            Some(message) => ServerOp::Message(head.sid, message),
            None => ServerOp::Malformed(head.sid),
        }))
    }

    /// How many bytes of the next message are known to be missing from `buffer`.
    pub(super) fn missing_bytes(&self, buffer: &BytesMut) -> usize {
        self.head.map_or(0, |head| head.size.saturating_sub(buffer.len()))
    }

    /// The length of the first line, with its end.
    fn line_length(&mut self, buffer: &BytesMut) -> Result<Option<usize>, WireError> {
        let end = memchr::memchr(b'\n', &buffer[self.searched..]).map(|at| self.searched + at + 1);
        self.searched = if end.is_some() { 0 } else { buffer.len() };
        if end.unwrap_or(buffer.len()) > MAX_LINE_BYTES {
            return Err(WireError::LineTooLong);
        }
        Ok(end)
    }

    fn parse_line(&self, buffer: &mut BytesMut, line: usize) -> Result<Parsed, WireError> {
        let text = without_end(&buffer[..line]);
        let verb = text.iter().position(|byte| is_space(*byte)).unwrap_or(text.len());
        let (is, arguments) = (|word: &[u8]| text[..verb].eq_ignore_ascii_case(word), verb..text.len());
        if is(b"MSG") {
            return message_head(&text[arguments], verb, line, Headers::Without).map(Parsed::Head);
        }
        if is(b"HMSG") {
            return message_head(&text[arguments], verb, line, Headers::With).map(Parsed::Head);
        }
        let op = if is(b"PING") {
            ServerOp::Ping
        } else if is(b"PONG") {
            ServerOp::Pong
        } else if is(b"+OK") {
            ServerOp::Ok
        } else if is(b"-ERR") {
            // The text is logged, and names one subject at most.
            let message = String::from_utf8_lossy(&text[verb..text.len().min(verb + MAX_ERROR_BYTES)]);
            ServerOp::Error(message.trim_matches([' ', '\t', '\'']).to_owned())
        } else if is(b"INFO") {
            ServerOp::Info(Bytes::copy_from_slice(&text[arguments]))
        } else {
            return Err(WireError::UnknownOp);
        };
        buffer.advance(line);
        Ok(Parsed::Op(op))
    }
}

enum Parsed {
    Op(ServerOp),
    Head(MessageHead),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Headers {
    With,
    Without,
}

/// Parses `subject sid [reply] [header bytes] total bytes`, which follow a verb of `verb` bytes in a line of `line`
/// bytes.
fn message_head(
    arguments: &[u8],
    verb: usize,
    line: usize,
    headers: Headers,
) -> Result<MessageHead, WireError> {
    let mut fields = [(0, &[][..]); 5];
    let mut count = 0;
    let mut at = 0;
    while let Some(start) = arguments[at..].iter().position(|byte| !is_space(*byte)) {
        let start = at + start;
        let length = arguments[start..].iter().position(|byte| is_space(*byte));
        at = length.map_or(arguments.len(), |length| start + length);
        *fields.get_mut(count).ok_or(WireError::BadArguments)? = (start, &arguments[start..at]);
        count += 1;
    }
    let sizes = if headers == Headers::With { 2 } else { 1 };
    if !(2 + sizes..=3 + sizes).contains(&count) {
        return Err(WireError::BadArguments);
    }
    let size_at = |place: usize| number(fields[place].1).and_then(|size| usize::try_from(size).ok());
    let sid = number(fields[1].1).ok_or(WireError::BadArguments)?;
    let all = size_at(count - 1).ok_or(WireError::BadArguments)?;
    let header_size =
        if headers == Headers::With { size_at(count - 2).ok_or(WireError::BadArguments)? } else { 0 };
    if header_size > all {
        return Err(WireError::BadArguments);
    }
    if all > MAX_MESSAGE_BYTES {
        return Err(WireError::MessageTooLarge);
    }
    let subject = verb + fields[0].0;
    let parts = Parts::new(subject, fields[0].1.len(), line, header_size).ok_or(WireError::BadArguments)?;
    Ok(MessageHead { sid, parts, size: line + all + END.len() })
}

/// Parses `MSG subject sid bytes\r\n` with single spaces, as nats-server writes it: most of what arrives. `None` if the
/// line is anything else, or has not arrived: the caller then parses it in general.
fn plain_message_head(buffer: &[u8]) -> Option<MessageHead> {
    const VERB: &[u8] = b"MSG ";
    let arguments = buffer.strip_prefix(VERB)?;
    let subject = memchr::memchr(b' ', &arguments[..arguments.len().min(MAX_PLAIN_SUBJECT)])?;
    // Without a branch for each byte.
    let has_control = arguments[..subject].iter().fold(false, |found, byte| found | (*byte < b' '));
    if subject == 0 || has_control {
        return None;
    }
    let (sid, sid_size) = digits(&arguments[subject + 1..])?;
    let at_size = subject + 1 + sid_size + 1;
    let (all, all_size) = digits(arguments.get(at_size..)?)?;
    let end = at_size + all_size;
    if arguments[at_size - 1] != b' ' || arguments.get(end..end + 2)? != END {
        return None;
    }
    let all = usize::try_from(all).ok().filter(|all| *all <= MAX_MESSAGE_BYTES)?;
    let line = VERB.len() + end + END.len();
    let parts = Parts::new(VERB.len(), subject, line, 0)?;
    Some(MessageHead { sid, parts, size: line + all + END.len() })
}

/// A decimal number of at most 18 digits, and how many these are.
fn digits(bytes: &[u8]) -> Option<(u64, usize)> {
    let count = bytes.iter().take(19).take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=18).contains(&count) {
        return None;
    }
    let number = bytes[..count].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some((number, count))
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_space(byte: u8) -> bool {
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
