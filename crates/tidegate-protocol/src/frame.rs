//! Encoded bytes that any thread may hold, and what they were encoded for.

use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::slots;
use crate::slots::SLOT;
use crate::slots::Slots;
use crate::websocket;
use crate::websocket::MAX_CONTROL;
use crate::websocket::Opcode;

/// Room for what goes into the slots of most messages, in bytes.
const INSERTS: usize = 32;

/// The number of a dialect on a node: 0 is the native protocol, and those of files count from 1, in the order of their
/// endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VocabularyId(pub u16);

impl VocabularyId {
    /// The native protocol.
    pub const NATIVE: Self = Self(0);
}

/// Which rules of a vocabulary render the publications of a subscription. Only the vocabulary knows what the number
/// means; the native protocol has the one route 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u16);

/// What one frame is encoded for. Everybody with the same format gets the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// Which vocabulary.
    pub vocabulary: VocabularyId,
    /// Which of that vocabulary's rules render publications.
    pub route: RouteId,
    /// How the rendered message is put into bytes.
    pub encoding: Encoding,
}

/// How a rendered message is put into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// What the message is.
    pub body: Body,
    /// For a client that inflates (RFC 7692): its window is two to the power of this. A message is deflated where that
    /// pays, and not if it is longer than the window. `None` for a client that does not inflate.
    pub deflate: Option<u8>,
}

/// What a message is before it is deflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// JSON text, in a text frame.
    Json,
}

impl Encoding {
    /// JSON text as it is.
    pub const JSON: Self = Self { body: Body::Json, deflate: None };

    /// JSON text, deflated for a window of two to the power of this.
    pub fn deflated(window_bits: u8) -> Self {
        Self { deflate: Some(window_bits), ..Self::JSON }
    }
}

impl Format {
    /// The same message as it is.
    pub fn plain(self) -> Self {
        Self { encoding: Encoding { deflate: None, ..self.encoding }, ..self }
    }
}

/// A message with its WebSocket header in front: unmasked and final, so the same for every socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One piece of memory of just this size: threads free what others have made, and with what costs them time.
    bytes: Arc<[u8]>,
    header: u8,
    /// How many slots there are: places where each client gets its own text.
    slots: u8,
    /// Bytes behind the message that are never sent: the slots, and a note for those who choose what a client is sent.
    behind: u32,
}

impl Frame {
    /// The longest header of a server's frame.
    const HEADER_ROOM: usize = 10;
    const RSV1: u8 = 0x40;
    /// Set in the opcode of control frames (RFC 6455 §5.5).
    const CONTROL: u8 = 0x08;
    /// A ping without payload.
    const PING: &[u8] = b"\x89\0";

    /// A text frame; `write` appends the message to the buffer that it is given.
    pub fn text(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::build(Opcode::Text, capacity, write)
    }

    /// What goes in front of all frames and is none: the answer to the handshake.
    pub fn preface(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), header: 0, slots: 0, behind: 0 }
    }

    /// A text frame with slots and a note. `write` appends the message and gives its slots.
    pub fn tailored(capacity: usize, write: impl FnOnce(&mut Vec<u8>) -> Slots, note: &[u8]) -> Self {
        Self::put(Opcode::Text, capacity, write, note)
    }

    /// A text frame with a note.
    pub fn noted(capacity: usize, write: impl FnOnce(&mut Vec<u8>), note: &[u8]) -> Self {
        Self::put(Opcode::Text, capacity, without_slots(write), note)
    }

    /// A ping without payload.
    pub fn ping() -> Self {
        Self::build(Opcode::Ping, 0, |_| {})
    }

    /// The answer to a ping. `payload` is the ping's, so it has at most 125 bytes.
    pub fn pong(payload: &[u8]) -> Self {
        debug_assert!(payload.len() <= MAX_CONTROL, "a ping has no more");
        Self::build(Opcode::Pong, payload.len(), |out| out.extend_from_slice(payload))
    }

    /// A close frame (RFC 6455 §5.5.1). The caller gives a code that may be sent; the reason is cut to what a frame
    /// can hold.
    pub fn close(code: u16, reason: &str) -> Self {
        let code = code.to_be_bytes();
        let end = reason.floor_char_boundary(MAX_CONTROL - code.len());
        Self::build(Opcode::Close, code.len() + end, |out| {
            out.extend_from_slice(&code);
            out.extend_from_slice(&reason.as_bytes()[..end]);
        })
    }

    /// A frame whose header is right in front of the message, whatever its length, without moving the message.
    pub fn build(opcode: Opcode, capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::put(opcode, capacity, without_slots(write), &[])
    }

    fn put(opcode: Opcode, capacity: usize, write: impl FnOnce(&mut Vec<u8>) -> Slots, note: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(Self::HEADER_ROOM + capacity + note.len());
        buffer.resize(Self::HEADER_ROOM, 0);
        let slots = write(&mut buffer);
        let mut header = Vec::with_capacity(Self::HEADER_ROOM);
        websocket::put_header(&mut header, opcode, buffer.len() - Self::HEADER_ROOM);
        let start = Self::HEADER_ROOM - header.len();
        buffer[start..Self::HEADER_ROOM].copy_from_slice(&header);
        let header = u8::try_from(header.len()).unwrap_or_default();
        let message_end = buffer.len();
        let count = slots.as_bytes().len() / SLOT;
        buffer.extend_from_slice(slots.as_bytes());
        buffer.extend_from_slice(note);
        let behind = u32::try_from(buffer.len() - message_end).unwrap_or_default();
        let slots = u8::try_from(count).unwrap_or_default();
        Self { bytes: buffer[start..].into(), header, slots, behind }
    }

    /// The frame of the same message, which is `deflated` when it is deflated (RFC 7692 §6.1: RSV1).
    pub fn deflated(&self, deflated: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(Self::HEADER_ROOM + deflated.len());
        websocket::put_header(&mut bytes, Opcode::Text, deflated.len());
        let header = u8::try_from(bytes.len()).unwrap_or_default();
        if let (Some(first), Some(plain)) = (bytes.first_mut(), self.bytes.first()) {
            *first = plain | Self::RSV1;
        }
        bytes.extend_from_slice(deflated);
        Self { bytes: bytes.into(), header, slots: 0, behind: 0 }
    }

    /// Whether it is a message, of text or bytes.
    pub fn is_message(&self) -> bool {
        self.header > 0 && self.bytes.first().is_some_and(|first| first & Self::CONTROL == 0)
    }

    /// Whether it is a ping of ours, which has no payload.
    pub fn is_ping(&self) -> bool {
        self.as_bytes() == Self::PING
    }

    /// Whether the message in it is deflated.
    pub fn is_deflated(&self) -> bool {
        self.bytes.first().is_some_and(|first| first & Self::RSV1 != 0)
    }

    /// Header and message: what goes onto a WebSocket.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// The message alone, deflated where [`Frame::is_deflated`] says so.
    pub fn message(&self) -> &[u8] {
        &self.bytes[usize::from(self.header)..self.len()]
    }

    /// What those want to know who choose what a client is sent.
    pub fn note(&self) -> &[u8] {
        &self.bytes[self.len() + usize::from(self.slots) * SLOT..]
    }

    /// Whether each client gets its own text somewhere in it.
    pub fn has_slots(&self) -> bool {
        self.slots > 0
    }

    /// The same message with what `insert` gives for the number of each slot at its place; `null` where it gives nothing.
    pub fn filled<'i>(&self, insert: impl Fn(u8) -> Option<&'i [u8]>) -> Self {
        let message = self.message();
        let slots = &self.bytes[self.len()..][..usize::from(self.slots) * SLOT];
        Self::text(message.len() + INSERTS, |out| {
            let mut from = 0;
            for (place, number) in slots::read(slots) {
                out.extend_from_slice(&message[from..place]);
                out.extend_from_slice(insert(number).unwrap_or(b"null"));
                from = place;
            }
            out.extend_from_slice(&message[from..]);
        })
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.behind as usize
    }

    /// Never true: a frame has a header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

fn without_slots(write: impl FnOnce(&mut Vec<u8>)) -> impl FnOnce(&mut Vec<u8>) -> Slots {
    |out| {
        write(out);
        Slots::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_stands_right_before_the_message() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = Frame::text(0, |out| out.resize(out.len() + length, b'x'));
            assert_eq!(frame.len(), length + header);
            assert_eq!(frame.message().len(), length);
            assert_eq!(frame.as_bytes()[0], 0x81);
        }
    }

    #[test]
    fn each_slot_gets_its_own_text_and_the_message_has_none_of_it() {
        let text = br#"{"id":,"to":"","of":}"#;
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(text);
            let mut slots = Slots::default();
            [(6, 2), (13, 1), (20, 3), (20, 2)]
                .into_iter()
                .for_each(|(place, number)| slots.add(place, number));
            slots
        };
        let frame = Frame::tailored(0, write, b"note");
        assert_eq!((frame.message(), frame.note(), frame.has_slots()), (&text[..], &b"note"[..], true));
        let texts = [None, Some(&b"alice"[..]), Some(b"7"), None];
        let filled = frame.filled(|number| texts[usize::from(number)]);
        assert_eq!(filled.message(), br#"{"id":7,"to":"alice","of":null7}"#);
        assert_eq!((filled.note(), filled.has_slots()), (&b""[..], false));
    }

    #[test]
    fn control_frames_out() {
        assert_eq!(Frame::ping().as_bytes()[..], b"\x89\0"[..]);
        assert!(Frame::ping().is_ping() && !Frame::pong(b"").is_ping());
        assert_eq!(Frame::pong(b"abc").as_bytes()[..], b"\x8a\x03abc"[..]);
        assert_eq!(Frame::pong(&[1; 125]).as_bytes()[..2], b"\x8a\x7d"[..]);
        assert_eq!(Frame::close(1000, "").as_bytes()[..], b"\x88\x02\x03\xe8"[..]);
        assert_eq!(Frame::close(4001, "expired").as_bytes()[..], b"\x88\x09\x0f\xa1expired"[..]);
        for (character, count, kept) in [("x", 123, 123), ("x", 124, 123), ("€", 42, 123), ("😀", 31, 120)]
        {
            let reason = character.repeat(count);
            let close = Frame::close(1000, &reason);
            let sent = close.as_bytes();
            assert_eq!(sent[..2], [0x88, kept as u8 + 2]);
            assert_eq!(sent[4..], reason.as_bytes()[..kept]);
        }
    }
}
