//! WebSocket frames (RFC 6455) as a server has them: a client's bytes become whole messages and control
//! frames, with every limit; headers and control frames go out. Not the handshake, and no socket.

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

/// What one message may cost. They may change between calls, and hold for the frames that begin from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssemblerLimits {
    /// Bytes of one message's payload, over all its frames; of a deflated one, before and after inflating.
    pub max_message: usize,
    /// Frames of one message, empty ones too. One frame is always allowed.
    pub max_fragments: u32,
}

/// Assembles one client's frames. Between messages it is one empty pointer: there is one for every socket.
#[derive(Debug, Default)]
pub struct Assembler {
    /// There exactly while something is unfinished.
    partial: Option<Box<Partial>>,
}

/// What a client has sent: a message, or a control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Message(ClientMessage),
    /// To be answered by [`IncomingFrame::pong`](crate::frame::Frame::pong) with the same payload.
    Ping(Bytes),
    Pong(Bytes),
    /// The code, which is one that may be sent, and the reason. What follows does not count (RFC 6455, 1.4).
    Close(Option<(u16, String)>),
}

/// Why a client is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the client breaks the WebSocket protocol: {0}")]
    Protocol(&'static str),
    #[error("the client sent text that is not UTF-8; other bytes belong into a binary message")]
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
            InflateError::Corrupt => Self::Protocol("a compressed message is no deflated data"),
        }
    }
}

impl Violation {
    /// The code of the close frame that answers it (RFC 6455, 7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::Utf8 => 1007,
            Self::TooManyFragments => 1008,
            Self::TooBig => 1009,
        }
    }
}

/// What a frame to a client carries.
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

    /// Reads `bytes` from `*at` on, unmasks what it reads in place, and moves `*at` behind it.
    ///
    /// The caller repeats the call until it says `None`, which means that all is read and more is needed, and
    /// stops for good after a [`Violation`] or [`Event::Close`]. `inflater` is there for a client with which
    /// permessage-deflate was agreed, and with it every time.
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

    /// Whether a frame or a fragmented message has begun and not ended. The caller limits how long it lasts.
    pub fn is_unfinished(&self) -> bool {
        self.partial.is_some()
    }
}

/// Appends the header of an unmasked frame that is a whole message; `payload_len` bytes must follow.
pub fn put_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    let written = header(opcode).format(payload_len as u64, out);
    debug_assert!(written.is_ok(), "writing into a vector cannot fail");
}

/// RFC 6455, 5.5: all control frames have at most 125 bytes.
pub(crate) const MAX_CONTROL: usize = 125;

/// The longest header: two bytes, an eight-byte length, the mask.
const MAX_HEADER: usize = 14;

/// No buffer can be longer. This also refuses lengths whose top bit is set (RFC 6455, 5.2).
const MAX_BUFFER: usize = isize::MAX.unsigned_abs();

/// How far a buffer may run ahead of the bytes that have arrived, on the word of a header.
const AHEAD: usize = 4096;

/// What is kept while a frame or a message is unfinished.
#[derive(Debug, Default)]
struct Partial {
    stage: Stage,
    /// The payload so far of a control frame. Apart from `message`, for it may be between fragments.
    control: Vec<u8>,
    message: Option<Message>,
}

/// Where in a frame the bytes ended.
#[derive(Debug, Default, Clone, Copy)]
enum Stage {
    /// Between the fragments of a message.
    #[default]
    Between,
    Header(Held<MAX_HEADER>),
    Payload(IncomingFrame),
}

/// A frame whose header was accepted.
#[derive(Debug, Clone, Copy)]
struct IncomingFrame {
    /// Of a frame that continues a message, the message's.
    opcode: Opcode,
    is_final: bool,
    /// Whether a deflated message begins with it.
    is_deflated: bool,
    /// Turned so that it begins with the key of the next byte.
    mask: [u8; 4],
    /// Bytes of the payload that have not been read.
    left: usize,
}

impl Assembler {
    /// The frame whose payload is due: one that an earlier call began, or the next.
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
            Some(Stage::Between) | None => Held::EMPTY,
        };
        let known = held.len;
        held.fill(&bytes[*at..]);
        let mut cursor = Cursor::new(held.as_slice());
        // Of bytes in memory, the parser refuses nothing but the opcode.
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| RESERVED_OPCODE)?;
        let Some((header, length)) = parsed else {
            *at += held.len - known;
            self.enter(Stage::Header(held));
            return Ok(None);
        };
        let size = header.len(length);
        if cursor.position() != size as u64 {
            return Err(Violation::Protocol("a length is not in its shortest form"));
        }
        *at += size - known;
        self.enter(Stage::Between);
        self.accept(&header, length, limits, inflater).map(Some)
    }

    /// Every rule that a header alone can break, so that nothing is kept for a frame that is refused.
    fn accept(
        &mut self,
        header: &FrameHeader,
        length: u64,
        max: AssemblerLimits,
        inflater: Option<&Inflater>,
    ) -> Result<IncomingFrame, Violation> {
        if header.rsv2 || header.rsv3 || header.rsv1 && inflater.is_none() {
            return Err(RESERVED_BIT);
        }
        // RFC 7692, 6.1: the bit is the message's, and says that it is deflated.
        if header.rsv1 && !matches!(header.opcode, OpCode::Data(DataCode::Text | DataCode::Binary)) {
            return Err(Violation::Protocol("a frame that begins no message is marked as compressed"));
        }
        let Some(mask) = header.mask else {
            return Err(Violation::Protocol("a frame of the client is not masked"));
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
            // The usual case: a whole message in one read never sees a buffer of ours.
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
        self.enter(frame.stage());
        Ok(None)
    }

    fn read_control(&mut self, frame: IncomingFrame, chunk: &[u8]) -> Result<Option<Event>, Violation> {
        if frame.left > 0 {
            self.partial.get_or_insert_default().control.extend_from_slice(chunk);
            self.enter(frame.stage());
            return Ok(None);
        }
        let held = self.partial.as_mut().map(|partial| mem::take(&mut partial.control));
        self.enter(Stage::Between);
        match held {
            Some(held) if !held.is_empty() => whole_event(frame.opcode, &[&held, chunk].concat()),
            Some(_) | None => whole_event(frame.opcode, chunk),
        }
        .map(Some)
    }

    /// Notes where the bytes have ended, and gives the memory back where nothing is unfinished.
    fn enter(&mut self, stage: Stage) {
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
    /// As much of the payload as is there, unmasked.
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
const RESERVED_OPCODE: Violation = Violation::Protocol("the opcode of a frame is reserved");

/// RFC 6455, 5.5: control frames are whole and short.
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

/// RFC 6455, 5.4: one message at a time. `message` is the one that has begun.
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
        (DataCode::Continue, Some(message)) => message.continued(max.max_fragments)?,
        (DataCode::Continue, None) => {
            return Err(Violation::Protocol("a frame continues no message"));
        }
        (DataCode::Text | DataCode::Binary, Some(_)) => {
            return Err(Violation::Protocol("a message begins inside another one"));
        }
        (DataCode::Reserved(_), _) => return Err(RESERVED_OPCODE),
    };
    let room = max.max_message.min(MAX_BUFFER).saturating_sub(gathered);
    if length > room as u64 { Err(Violation::TooBig) } else { Ok(opcode) }
}

/// The event of a payload that is there as a whole.
fn whole_event(opcode: Opcode, payload: &[u8]) -> Result<Event, Violation> {
    match opcode {
        Opcode::Text => {
            let text = str::from_utf8(payload).map_err(|_| Violation::Utf8)?;
            Ok(text_event(text.to_owned()))
        }
        Opcode::Binary => Ok(binary_event(Bytes::copy_from_slice(payload))),
        Opcode::Ping => Ok(Event::Ping(Bytes::copy_from_slice(payload))),
        Opcode::Pong => Ok(Event::Pong(Bytes::copy_from_slice(payload))),
        Opcode::Close => close_event(payload),
    }
}

/// The event of a deflated payload that is there as a whole.
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

/// RFC 6455, 5.5.1: nothing, or a code and a reason in UTF-8.
fn text_event(text: String) -> Event {
    Event::Message(ClientMessage::Text(text))
}

fn binary_event(bytes: Bytes) -> Event {
    Event::Message(ClientMessage::Binary(bytes))
}

fn close_event(payload: &[u8]) -> Result<Event, Violation> {
    if payload.is_empty() {
        return Ok(Event::Close(None));
    }
    let Some((code, reason)) = payload.split_first_chunk() else {
        return Err(Violation::Protocol("a close frame has half a code"));
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(Violation::Protocol("a close code is one that may not be sent"));
    }
    let reason = str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
    Ok(Event::Close(Some((code, reason.to_owned()))))
}

/// RFC 6455, 7.4, and the codes registered with IANA since.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// RFC 6455, 5.3, eight bytes at a time.
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

/// A message that has begun.
#[derive(Debug)]
struct Message {
    fragments: u32,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// `cut` is a character whose end has not arrived.
    Text {
        text: String,
        cut: Held<4>,
    },
    Binary(Vec<u8>),
    /// Inflated when it is whole, so that no socket needs a window of its own.
    Deflated {
        opcode: Opcode,
        payload: Vec<u8>,
    },
}

impl Message {
    fn new(begin: IncomingFrame) -> Self {
        let content = match begin.opcode {
            opcode if begin.is_deflated => Content::Deflated { opcode, payload: Vec::new() },
            Opcode::Text => Content::Text { text: String::new(), cut: Held::EMPTY },
            Opcode::Binary | Opcode::Ping | Opcode::Pong | Opcode::Close => Content::Binary(Vec::new()),
        };
        Self { fragments: 1, content }
    }

    fn len(&self) -> usize {
        match &self.content {
            Content::Text { text, cut } => text.len() + cut.len,
            Content::Binary(payload) | Content::Deflated { payload, .. } => payload.len(),
        }
    }

    /// Counts one more frame.
    fn continued(&mut self, max_fragments: u32) -> Result<Opcode, Violation> {
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

    /// Appends a part of `frame`'s payload; text is refused at the first byte that no text can contain.
    fn push(&mut self, chunk: &[u8], frame: IncomingFrame, max_message: usize) -> Result<(), Violation> {
        let arrived = self.len() + chunk.len();
        match &mut self.content {
            Content::Text { text, cut } => {
                text.reserve_exact(grown(arrived, text.capacity(), frame, max_message) - text.len());
                push_text(text, cut, chunk)
            }
            Content::Binary(payload) | Content::Deflated { payload, .. } => {
                payload.reserve_exact(grown(arrived, payload.capacity(), frame, max_message) - payload.len());
                payload.extend_from_slice(chunk);
                Ok(())
            }
        }
    }

    fn finish(self, max_message: usize, inflater: Option<&mut Inflater>) -> Result<Event, Violation> {
        match self.content {
            Content::Text { text, cut } if cut.len == 0 => Ok(text_event(text)),
            Content::Text { .. } => Err(Violation::Utf8),
            Content::Binary(payload) => Ok(binary_event(Bytes::from(payload))),
            Content::Deflated { opcode, payload } => inflated_event(opcode, &payload, max_message, inflater),
        }
    }
}

/// The capacity for `arrived` bytes: in proportion to what has arrived, never more than the message may need.
fn grown(arrived: usize, capacity: usize, frame: IncomingFrame, max_message: usize) -> usize {
    if arrived <= capacity {
        return capacity;
    }
    let limit = if frame.is_final { arrived + frame.left } else { max_message };
    let promised = arrived + frame.left.min(AHEAD);
    promised.max(capacity * 2).min(limit).max(arrived)
}

fn push_text(text: &mut String, cut: &mut Held<4>, chunk: &[u8]) -> Result<(), Violation> {
    let mut rest = chunk;
    while cut.len > 0
        && let Some((byte, after)) = rest.split_first()
    {
        rest = after;
        cut.fill(slice::from_ref(byte));
        let (character, _) = split_text(cut.as_slice())?;
        if !character.is_empty() {
            text.push_str(character);
            *cut = Held::EMPTY;
        }
    }
    let (whole, tail) = split_text(rest)?;
    text.push_str(whole);
    cut.fill(tail);
    Ok(())
}

/// Whole characters, and the beginning of one more whose end may still come.
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

/// A few bytes of something that was cut: a header, a character.
#[derive(Debug, Clone, Copy)]
struct Held<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Held<N> {
    const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    /// Takes as much of `from` as there is room for.
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
