//! WebSocket frames (RFC 6455) for a server: assembles a client's bytes into messages and control frames, within
//! limits, and writes headers. The handshake and the sockets are elsewhere.

use std::io::Cursor;
use std::mem;
use std::slice;

use bytes::Bytes;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::Control as ControlCode;
use tungstenite::protocol::frame::coding::Data as DataCode;
use tungstenite::protocol::frame::coding::OpCode;

use crate::client_message::ClientMessage;
use crate::deflate::InflateError;
use crate::deflate::Inflater;

/// Limits on one message. They may change between calls, and apply to frames that begin afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssemblerLimits {
    /// Bytes of a message's payload over all its frames; for a compressed message, before and after decompression.
    pub max_message: usize,
    /// Frames of a message, including empty ones. One frame is always allowed.
    pub max_fragments: u32,
}

/// Assembles the frames of one client. Each socket has one; between messages it is a single null pointer.
#[derive(Debug, Default)]
pub struct Assembler {
    /// Set only while a frame or message is unfinished.
    partial: Option<Box<Partial>>,
}

/// A message or control frame from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Message(ClientMessage),
    /// Reply with [`Frame::pong`](crate::frame::Frame::pong) and the same payload.
    Ping(Bytes),
    Pong(Bytes),
    /// The code, which is valid in a close frame, and the reason. RFC 6455 §1.4: data after a close frame is
    /// discarded.
    Close(Option<(u16, String)>),
}

/// Why a client is disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the client breaks the WebSocket protocol: {0}")]
    Protocol(&'static str),
    #[error("the client sent text that is not UTF-8; send other bytes in a binary message")]
    Utf8,
    #[error("the client sent a message longer than `max_message`; send less, or raise the limit")]
    TooBig,
    #[error("the client sent a message in more frames than `max_fragments`; send fewer, or raise the limit")]
    TooManyFragments,
}

impl From<InflateError> for Violation {
    fn from(error: InflateError) -> Self {
        match error {
            InflateError::TooBig => Self::TooBig,
            InflateError::Corrupt => Self::Protocol("a compressed message is not valid deflate data"),
        }
    }
}

impl Violation {
    /// RFC 6455 §7.4.1: the code of the close frame for this violation.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::Utf8 => 1007,
            Self::TooManyFragments => 1008,
            Self::TooBig => 1009,
        }
    }
}

/// The opcode of a frame to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
}

impl Assembler {
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `bytes` from `*at` on, unmasks them in place, and advances `*at`.
    ///
    /// Repeat the call until it returns `None`: then all bytes are consumed. Stop for good after a [`Violation`] or
    /// [`Event::Close`]. Pass `inflater` with every call if permessage-deflate was agreed with the client, otherwise
    /// never.
    pub fn next_event(
        &mut self,
        bytes: &mut [u8],
        at: &mut usize,
        limits: AssemblerLimits,
        mut inflater: Option<&mut Inflater>,
    ) -> Result<Option<Event>, Violation> {
        while *at < bytes.len() {
            let Some(mut frame) = self.current_frame(bytes, at, limits, inflater.as_deref())? else {
                return Ok(None);
            };
            let chunk = frame.take(bytes, at);
            let event = match frame.opcode {
                Opcode::Text | Opcode::Binary => {
                    self.read_data(frame, chunk, limits.max_message, inflater.as_deref_mut())?
                }
                Opcode::Ping | Opcode::Pong | Opcode::Close => self.read_control(frame, chunk)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Whether a frame or a fragmented message is unfinished. The caller limits for how long.
    pub fn is_unfinished(&self) -> bool {
        self.partial.is_some()
    }
}

/// Appends the header of an unmasked, final frame, before `payload_len` bytes of payload.
///
/// RFC 6455 §5.1: a server does not mask its frames.
pub fn put_header(out: &mut impl std::io::Write, opcode: Opcode, payload_len: usize) {
    let written = header(opcode).format(payload_len as u64, out);
    debug_assert!(written.is_ok(), "a buffer has room for the header");
}

/// RFC 6455 §5.5: control frames are at most 125 bytes and not fragmented.
pub(crate) const MAX_CONTROL: usize = 125;

/// The longest header: two bytes, an eight-byte length, and the masking key.
const MAX_HEADER: usize = 14;

/// The longest possible buffer. RFC 6455 §5.2: the top bit of a 64-bit length must be 0; this limit rejects it too.
const MAX_BUFFER: usize = isize::MAX.unsigned_abs();

/// How much a buffer may be larger than the data that has arrived, because a header announced more.
const MAX_AHEAD: usize = 4096;

/// The state of an unfinished frame or message.
#[derive(Debug, Default)]
struct Partial {
    stage: Stage,
    /// The payload of a control frame. RFC 6455 §5.4: control frames may come between the fragments of a message.
    control: Vec<u8>,
    message: Option<Message>,
}

/// Where the bytes ended within a frame.
#[derive(Debug, Default, Clone, Copy)]
enum Stage {
    /// Between the fragments of a message.
    #[default]
    Between,
    Header(PartialBytes<MAX_HEADER>),
    Payload(IncomingFrame),
}

/// A frame with a valid header.
#[derive(Debug, Clone, Copy)]
struct IncomingFrame {
    /// For a continuation frame, the opcode of its message.
    opcode: Opcode,
    is_final: bool,
    /// Whether it begins a compressed message.
    is_deflated: bool,
    /// The masking key, rotated to the next byte of the payload.
    mask: [u8; 4],
    /// Bytes of the payload that are still to be read.
    left: usize,
}

impl Assembler {
    /// The unfinished frame, or the next one.
    fn current_frame(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        limits: AssemblerLimits,
        inflater: Option<&Inflater>,
    ) -> Result<Option<IncomingFrame>, Violation> {
        let mut held = match self.partial.as_deref().map(|partial| partial.stage) {
            Some(Stage::Payload(frame)) => return Ok(Some(frame)),
            Some(Stage::Header(held)) => held,
            Some(Stage::Between) | None => PartialBytes::EMPTY,
        };
        let known = held.len;
        held.fill(&bytes[*at..]);
        let mut cursor = Cursor::new(held.as_slice());
        // When the parser reads from memory, it can only fail for the opcode.
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| RESERVED_OPCODE)?;
        let Some((header, length)) = parsed else {
            *at += held.len - known;
            self.set_stage(Stage::Header(held));
            return Ok(None);
        };
        // RFC 6455 §5.2: a length is encoded in the shortest form.
        let size = header.len(length);
        if cursor.position() != size as u64 {
            return Err(Violation::Protocol("a payload length is not in its shortest form"));
        }
        *at += size - known;
        self.set_stage(Stage::Between);
        self.check_header(&header, length, limits, inflater).map(Some)
    }

    /// Checks all rules about headers, so that a rejected frame takes no memory.
    fn check_header(
        &mut self,
        header: &FrameHeader,
        length: u64,
        max: AssemblerLimits,
        inflater: Option<&Inflater>,
    ) -> Result<IncomingFrame, Violation> {
        // RFC 6455 §5.2: reserved bits are 0 unless an extension defines them.
        if header.rsv2 || header.rsv3 || header.rsv1 && inflater.is_none() {
            return Err(RESERVED_BIT);
        }
        // RFC 7692 §6.1: RSV1 marks a compressed message on its first frame, and is not set on any other frame.
        if header.rsv1 && !matches!(header.opcode, OpCode::Data(DataCode::Text | DataCode::Binary)) {
            return Err(Violation::Protocol("a control or continuation frame is marked as compressed"));
        }
        // RFC 6455 §5.1: a client masks all its frames.
        let Some(mask) = header.mask else {
            return Err(Violation::Protocol("a frame is not masked"));
        };
        let message = self.partial.as_mut().and_then(|partial| partial.message.as_mut());
        let opcode = match header.opcode {
            OpCode::Control(code) => control_opcode(code, header.is_final, length)?,
            OpCode::Data(code) => data_opcode(code, message, length, max)?,
        };
        Ok(IncomingFrame {
            opcode,
            is_final: header.is_final,
            is_deflated: header.rsv1,
            mask,
            left: usize::try_from(length).map_err(|_| Violation::TooBig)?,
        })
    }

    fn read_data(
        &mut self,
        frame: IncomingFrame,
        chunk: &[u8],
        max_message: usize,
        inflater: Option<&mut Inflater>,
    ) -> Result<Option<Event>, Violation> {
        let ends = frame.is_final && frame.left == 0;
        let mut message = match self.partial.as_mut().and_then(|partial| partial.message.take()) {
            // The usual case: a whole message in one read needs no buffer.
            None if ends && frame.is_deflated => {
                return inflated_event(frame.opcode, chunk, max_message, inflater).map(Some);
            }
            None if ends => return whole_event(frame.opcode, chunk).map(Some),
            None => Message::new(frame),
            Some(message) => message,
        };
        message.push(chunk, frame, max_message)?;
        if ends {
            self.partial = None;
            return message.finish(max_message, inflater).map(Some);
        }
        self.partial.get_or_insert_default().message = Some(message);
        self.set_stage(frame.stage());
        Ok(None)
    }

    fn read_control(&mut self, frame: IncomingFrame, chunk: &[u8]) -> Result<Option<Event>, Violation> {
        if frame.left > 0 {
            self.partial.get_or_insert_default().control.extend_from_slice(chunk);
            self.set_stage(frame.stage());
            return Ok(None);
        }
        let held = self.partial.as_mut().map(|partial| mem::take(&mut partial.control));
        self.set_stage(Stage::Between);
        match held {
            Some(held) if !held.is_empty() => whole_event(frame.opcode, &[&held, chunk].concat()),
            Some(_) | None => whole_event(frame.opcode, chunk),
        }
        .map(Some)
    }

    /// Stores where the bytes ended, and frees the memory if nothing is unfinished.
    fn set_stage(&mut self, stage: Stage) {
        let has_message = self.partial.as_ref().is_some_and(|partial| partial.message.is_some());
        match stage {
            Stage::Between if !has_message => self.partial = None,
            Stage::Between | Stage::Header(_) | Stage::Payload(_) => {
                self.partial.get_or_insert_default().stage = stage;
            }
        }
    }
}

impl IncomingFrame {
    /// Returns the available part of the payload, unmasked.
    fn take<'bytes>(&mut self, bytes: &'bytes mut [u8], at: &mut usize) -> &'bytes [u8] {
        let len = self.left.min(bytes.len() - *at);
        let chunk = &mut bytes[*at..*at + len];
        unmask(chunk, self.mask);
        self.mask.rotate_left(len % 4);
        self.left -= len;
        *at += len;
        chunk
    }

    fn stage(self) -> Stage {
        if self.left == 0 { Stage::Between } else { Stage::Payload(self) }
    }
}

const RESERVED_BIT: Violation = Violation::Protocol("a reserved bit is set without an extension");
/// RFC 6455 §5.2: an unknown opcode fails the connection.
const RESERVED_OPCODE: Violation = Violation::Protocol("the opcode of a frame is reserved");

/// RFC 6455 §5.5: control frames are at most 125 bytes and not fragmented.
fn control_opcode(code: ControlCode, is_final: bool, length: u64) -> Result<Opcode, Violation> {
    if !is_final {
        return Err(Violation::Protocol("a control frame is fragmented"));
    }
    if length > MAX_CONTROL as u64 {
        return Err(Violation::Protocol("a control frame is longer than 125 bytes"));
    }
    match code {
        ControlCode::Close => Ok(Opcode::Close),
        ControlCode::Ping => Ok(Opcode::Ping),
        ControlCode::Pong => Ok(Opcode::Pong),
        ControlCode::Reserved(_) => Err(RESERVED_OPCODE),
    }
}

/// RFC 6455 §5.4: fragments of different messages are not interleaved. `message` is the unfinished one.
fn data_opcode(
    code: DataCode,
    message: Option<&mut Message>,
    length: u64,
    max: AssemblerLimits,
) -> Result<Opcode, Violation> {
    let gathered = message.as_ref().map_or(0, |message| message.len());
    let opcode = match (code, message) {
        (DataCode::Text, None) => Opcode::Text,
        (DataCode::Binary, None) => Opcode::Binary,
        (DataCode::Continue, Some(message)) => message.count_fragment(max.max_fragments)?,
        (DataCode::Continue, None) => {
            return Err(Violation::Protocol("a continuation frame has no message to continue"));
        }
        (DataCode::Text | DataCode::Binary, Some(_)) => {
            return Err(Violation::Protocol("a message begins before the last one has ended"));
        }
        (DataCode::Reserved(_), _) => return Err(RESERVED_OPCODE),
    };
    // RFC 6455 §10.4: limits apply to whole messages, and to a frame before its payload arrives.
    let room = max.max_message.min(MAX_BUFFER).saturating_sub(gathered);
    if length > room as u64 { Err(Violation::TooBig) } else { Ok(opcode) }
}

/// The event for a complete payload.
fn whole_event(opcode: Opcode, payload: &[u8]) -> Result<Event, Violation> {
    match opcode {
        Opcode::Text => {
            // RFC 6455 §8.1: text that is not UTF-8 fails the connection.
            let text = str::from_utf8(payload).map_err(|_| Violation::Utf8)?;
            Ok(text_event(text.to_owned()))
        }
        Opcode::Binary => Ok(binary_event(Bytes::copy_from_slice(payload))),
        Opcode::Ping => Ok(Event::Ping(Bytes::copy_from_slice(payload))),
        Opcode::Pong => Ok(Event::Pong(Bytes::copy_from_slice(payload))),
        Opcode::Close => close_event(payload),
    }
}

/// The event for a complete compressed payload.
fn inflated_event(
    opcode: Opcode,
    payload: &[u8],
    max_message: usize,
    inflater: Option<&mut Inflater>,
) -> Result<Event, Violation> {
    let message = inflater.ok_or(RESERVED_BIT)?.inflate(payload, max_message)?;
    match opcode {
        Opcode::Text => String::from_utf8(message).map(text_event).map_err(|_| Violation::Utf8),
        Opcode::Binary | Opcode::Ping | Opcode::Pong | Opcode::Close => {
            Ok(binary_event(Bytes::from(message)))
        }
    }
}

fn text_event(text: String) -> Event {
    Event::Message(ClientMessage::Text(text))
}

fn binary_event(bytes: Bytes) -> Event {
    Event::Message(ClientMessage::Binary(bytes))
}

/// RFC 6455 §5.5.1: a close frame has no body, or a two-byte code and a reason in UTF-8.
fn close_event(payload: &[u8]) -> Result<Event, Violation> {
    if payload.is_empty() {
        return Ok(Event::Close(None));
    }
    let Some((code, reason)) = payload.split_first_chunk() else {
        return Err(Violation::Protocol("a close frame has a body of one byte"));
    };
    let code = u16::from_be_bytes(*code);
    if !is_valid_close_code(code) {
        return Err(Violation::Protocol("a close frame has an invalid code"));
    }
    let reason = str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
    Ok(Event::Close(Some((code, reason.to_owned()))))
}

/// RFC 6455 §7.4: codes that a close frame may have, and those that were registered with IANA since.
fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// RFC 6455 §5.3: the masking key is applied to each byte with XOR, here to eight bytes at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// An unfinished message.
#[derive(Debug)]
struct Message {
    fragments: u32,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// `incomplete` is a character whose end has not arrived.
    Text {
        text: String,
        incomplete: PartialBytes<4>,
    },
    Binary(Vec<u8>),
    /// RFC 7692 §6.2: the fragments of a compressed message are joined, then decompressed. So sockets need no window of
    /// their own.
    Deflated {
        opcode: Opcode,
        payload: Vec<u8>,
    },
}

impl Message {
    fn new(begin: IncomingFrame) -> Self {
        let content = match begin.opcode {
            opcode if begin.is_deflated => Content::Deflated { opcode, payload: Vec::new() },
            Opcode::Text => Content::Text { text: String::new(), incomplete: PartialBytes::EMPTY },
            Opcode::Binary | Opcode::Ping | Opcode::Pong | Opcode::Close => Content::Binary(Vec::new()),
        };
        Self { fragments: 1, content }
    }

    fn len(&self) -> usize {
        match &self.content {
            Content::Text { text, incomplete } => text.len() + incomplete.len,
            Content::Binary(payload) | Content::Deflated { payload, .. } => payload.len(),
        }
    }

    /// Counts one more frame.
    fn count_fragment(&mut self, max_fragments: u32) -> Result<Opcode, Violation> {
        if self.fragments >= max_fragments {
            return Err(Violation::TooManyFragments);
        }
        self.fragments += 1;
        Ok(match self.content {
            Content::Text { .. } => Opcode::Text,
            Content::Binary(_) => Opcode::Binary,
            Content::Deflated { opcode, .. } => opcode,
        })
    }

    /// Appends a part of the payload. RFC 6455 §8.1: text that is not UTF-8 is rejected, here at its first invalid
    /// byte.
    fn push(&mut self, chunk: &[u8], frame: IncomingFrame, max_message: usize) -> Result<(), Violation> {
        let arrived = self.len() + chunk.len();
        match &mut self.content {
            Content::Text { text, incomplete } => {
                text.reserve_exact(new_capacity(arrived, text.capacity(), frame, max_message) - text.len());
                push_text(text, incomplete, chunk)
            }
            Content::Binary(payload) | Content::Deflated { payload, .. } => {
                payload.reserve_exact(
                    new_capacity(arrived, payload.capacity(), frame, max_message) - payload.len(),
                );
                payload.extend_from_slice(chunk);
                Ok(())
            }
        }
    }

    fn finish(self, max_message: usize, inflater: Option<&mut Inflater>) -> Result<Event, Violation> {
        match self.content {
            Content::Text { text, incomplete } if incomplete.len == 0 => Ok(text_event(text)),
            // RFC 6455 §5.6: a frame may end within a character, a message may not.
            Content::Text { .. } => Err(Violation::Utf8),
            Content::Binary(payload) => Ok(binary_event(Bytes::from(payload))),
            Content::Deflated { opcode, payload } => inflated_event(opcode, &payload, max_message, inflater),
        }
    }
}

/// The capacity for `arrived` bytes: in proportion to the data that has arrived, and no more than the message may
/// need.
fn new_capacity(arrived: usize, capacity: usize, frame: IncomingFrame, max_message: usize) -> usize {
    if arrived <= capacity {
        return capacity;
    }
    let limit = if frame.is_final { arrived + frame.left } else { max_message };
    let promised = arrived + frame.left.min(MAX_AHEAD);
    promised.max(capacity * 2).min(limit).max(arrived)
}

fn push_text(text: &mut String, incomplete: &mut PartialBytes<4>, chunk: &[u8]) -> Result<(), Violation> {
    let mut rest = chunk;
    while incomplete.len > 0
        && let Some((byte, after)) = rest.split_first()
    {
        rest = after;
        incomplete.fill(slice::from_ref(byte));
        let (character, _) = split_text(incomplete.as_slice())?;
        if !character.is_empty() {
            text.push_str(character);
            *incomplete = PartialBytes::EMPTY;
        }
    }
    let (whole, tail) = split_text(rest)?;
    text.push_str(whole);
    incomplete.fill(tail);
    Ok(())
}

/// Splits off a character at the end that may be incomplete.
fn split_text(bytes: &[u8]) -> Result<(&str, &[u8]), Violation> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok((text, &[])),
        Err(error) if error.error_len().is_some() => Err(Violation::Utf8),
        Err(error) => {
            let (whole, tail) = bytes.split_at(error.valid_up_to());
            Ok((str::from_utf8(whole).map_err(|_| Violation::Utf8)?, tail))
        }
    }
}

/// A few bytes of something that is incomplete: a header, or a character.
#[derive(Debug, Clone, Copy)]
struct PartialBytes<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> PartialBytes<N> {
    const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    /// Takes as many bytes of `from` as fit.
    fn fill(&mut self, from: &[u8]) {
        let len = from.len().min(N - self.len);
        self.bytes[self.len..self.len + len].copy_from_slice(&from[..len]);
        self.len += len;
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn header(opcode: Opcode) -> FrameHeader {
    let opcode = match opcode {
        Opcode::Text => OpCode::Data(DataCode::Text),
        Opcode::Binary => OpCode::Data(DataCode::Binary),
        Opcode::Ping => OpCode::Control(ControlCode::Ping),
        Opcode::Pong => OpCode::Control(ControlCode::Pong),
        Opcode::Close => OpCode::Control(ControlCode::Close),
    };
    FrameHeader { opcode, ..FrameHeader::default() }
}

#[cfg(test)]
mod tests;
