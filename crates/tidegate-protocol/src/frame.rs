//! Frames: encoded messages, which threads share, and the formats that they are encoded for.

use std::sync::Arc;

use bytes::Bytes;

use crate::slots;
use crate::slots::SLOT;
use crate::slots::Slots;
use crate::websocket;
use crate::websocket::MAX_CONTROL;
use crate::websocket::Opcode;

/// Estimated size of the texts in a message's slots, in bytes.
const INSERT_ROOM: usize = 32;

/// The number of a dialect on a node: 0 is the native protocol, and vocabularies from files count from 1, in the order
/// of their endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VocabularyId(pub u16);

impl VocabularyId {
    /// The native protocol.
    pub const NATIVE: Self = Self(0);
}

/// Which rules of a vocabulary render the publications of a subscription. Only the vocabulary knows what the number
/// means; the native protocol has the one route 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u16);

/// What a frame is encoded for. Clients with the same format get the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// The number of the vocabulary on this node.
    pub vocabulary: VocabularyId,
    /// The rules of the vocabulary that render the publication.
    pub route: RouteId,
    /// How the rendered message becomes bytes.
    pub encoding: Encoding,
}

/// How a rendered message becomes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoding {
    pub body: Body,
    /// For clients that agreed on permessage-deflate (RFC 7692): the window size, as a power of two. A message is
    /// compressed if this saves enough and the message fits the window. `None` for other clients.
    pub deflate: Option<u8>,
}

/// The content of a message before compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// JSON, in text frames.
    Json,
}

impl Encoding {
    /// Uncompressed JSON.
    pub const JSON: Self = Self { body: Body::Json, deflate: None };

    /// JSON, compressed for a window of two to the power of `window_bits`.
    pub fn deflated(window_bits: u8) -> Self {
        Self { deflate: Some(window_bits), ..Self::JSON }
    }
}

impl Format {
    /// The same format without compression.
    pub fn plain(self) -> Self {
        Self { encoding: Encoding { deflate: None, ..self.encoding }, ..self }
    }
}

/// A WebSocket header and the message after it: unmasked and final, so the same for all sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// A single allocation of the exact size, because other threads free it, and each free costs time.
    bytes: Arc<[u8]>,
    header: u8,
    /// The number of slots: places where each client gets its own text.
    slots: u8,
    /// Bytes behind the message that are never sent: the slots, and the note for filters.
    trailer_len: u32,
}

impl Frame {
    /// The longest header of a server's frame, in bytes.
    const HEADER_ROOM: usize = 10;
    const RSV1: u8 = 0x40;
    /// RFC 6455 §5.5: this bit of the opcode marks control frames.
    const CONTROL: u8 = 0x08;
    /// A ping without payload.
    const PING: &[u8] = b"\x89\0";

    /// A text frame. `write` appends the message to the buffer.
    pub fn text(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::build(Opcode::Text, capacity, write)
    }

    /// Bytes that come before all frames: the handshake response.
    pub fn preface(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), header: 0, slots: 0, trailer_len: 0 }
    }

    /// A text frame with slots and a note. `write` appends the message, of about `capacity` bytes, to the buffer, which
    /// may have any content, and returns its slots.
    pub fn with_slots(
        buffer: &mut Vec<u8>,
        capacity: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Slots,
        note: &[u8],
    ) -> Self {
        Self::put(buffer, Opcode::Text, capacity, write, note)
    }

    /// A text frame with a note.
    pub fn with_note(capacity: usize, write: impl FnOnce(&mut Vec<u8>), note: &[u8]) -> Self {
        Self::put(&mut Vec::new(), Opcode::Text, capacity, without_slots(write), note)
    }

    pub fn ping() -> Self {
        Self::build(Opcode::Ping, 0, |_| {})
    }

    /// RFC 6455 §5.5.3: a pong has the payload of its ping, so at most 125 bytes.
    pub fn pong(payload: &[u8]) -> Self {
        debug_assert!(payload.len() <= MAX_CONTROL, "a ping has no more");
        Self::build(Opcode::Pong, payload.len(), |out| out.extend_from_slice(payload))
    }

    /// RFC 6455 §5.5.1: a close frame has a code and a reason. `code` must be valid in a close frame; the reason is
    /// cut to the 123 bytes that fit.
    pub fn close(code: u16, reason: &str) -> Self {
        let code = code.to_be_bytes();
        let end = reason.floor_char_boundary(MAX_CONTROL - code.len());
        Self::build(Opcode::Close, code.len() + end, |out| {
            out.extend_from_slice(&code);
            out.extend_from_slice(&reason.as_bytes()[..end]);
        })
    }

    /// A frame with its header right before the message. The message is not moved, whatever its length.
    pub fn build(opcode: Opcode, capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::put(&mut Vec::new(), opcode, capacity, without_slots(write), &[])
    }

    fn put(
        buffer: &mut Vec<u8>,
        opcode: Opcode,
        capacity: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Slots,
        note: &[u8],
    ) -> Self {
        buffer.clear();
        buffer.reserve(Self::HEADER_ROOM + capacity + note.len());
        buffer.extend_from_slice(&[0; Self::HEADER_ROOM]);
        let slots = write(buffer);
        let mut header = [0; Self::HEADER_ROOM];
        let mut unused = &mut header[..];
        websocket::put_header(&mut unused, opcode, buffer.len() - Self::HEADER_ROOM);
        let start = unused.len();
        let header = &header[..Self::HEADER_ROOM - start];
        buffer[start..Self::HEADER_ROOM].copy_from_slice(header);
        let header = u8::try_from(header.len()).unwrap_or_default();
        let message_end = buffer.len();
        let count = slots.as_bytes().len() / SLOT;
        buffer.extend_from_slice(slots.as_bytes());
        buffer.extend_from_slice(note);
        let trailer_len = u32::try_from(buffer.len() - message_end).unwrap_or_default();
        let slots = u8::try_from(count).unwrap_or_default();
        Self { bytes: buffer[start..].into(), header, slots, trailer_len }
    }

    /// The same message, compressed. RFC 7692 §6.1: RSV1 is set on the first frame of a compressed message.
    pub fn deflated(&self, deflated: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(Self::HEADER_ROOM + deflated.len());
        websocket::put_header(&mut bytes, Opcode::Text, deflated.len());
        let header = u8::try_from(bytes.len()).unwrap_or_default();
        if let (Some(first), Some(plain)) = (bytes.first_mut(), self.bytes.first()) {
            *first = plain | Self::RSV1;
        }
        bytes.extend_from_slice(deflated);
        Self { bytes: bytes.into(), header, slots: 0, trailer_len: 0 }
    }

    /// Whether this is a text or binary message.
    pub fn is_message(&self) -> bool {
        self.header > 0 && self.bytes.first().is_some_and(|first| first & Self::CONTROL == 0)
    }

    /// Whether this is a ping of the server, which has no payload.
    pub fn is_ping(&self) -> bool {
        self.as_bytes() == Self::PING
    }

    /// Whether the message is compressed.
    pub fn is_deflated(&self) -> bool {
        self.bytes.first().is_some_and(|first| first & Self::RSV1 != 0)
    }

    /// Header and message, as sent on a WebSocket.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// The message without its header; compressed if [`Frame::is_deflated`].
    pub fn message(&self) -> &[u8] {
        &self.bytes[usize::from(self.header)..self.len()]
    }

    /// The message without its header, which keeps the frame's memory.
    pub fn into_message(self) -> Bytes {
        Bytes::from_owner(MessageOf(self))
    }

    /// The note, by which filters decide whether a client gets the frame. It is never sent.
    pub fn note(&self) -> &[u8] {
        &self.bytes[self.len() + usize::from(self.slots) * SLOT..]
    }

    /// Whether each client gets its own text in some places.
    pub fn has_slots(&self) -> bool {
        self.slots > 0
    }

    /// The message with the text from `insert` in each slot; `null` if there is none.
    pub fn fill_slots<'i>(&self, insert: impl Fn(u8) -> Option<&'i [u8]>) -> Self {
        let message = self.message();
        let slots = &self.bytes[self.len()..][..usize::from(self.slots) * SLOT];
        Self::text(message.len() + INSERT_ROOM, |out| {
            let mut from = 0;
            for (place, number) in slots::read(slots) {
                out.extend_from_slice(&message[from..place]);
                out.extend_from_slice(insert(number).unwrap_or(b"null"));
                from = place;
            }
            out.extend_from_slice(&message[from..]);
        })
    }

    /// The size on the wire, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.trailer_len as usize
    }

    /// Whether it has no bytes. No frame that is sent is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A frame as the owner of its message.
struct MessageOf(Frame);

impl AsRef<[u8]> for MessageOf {
    fn as_ref(&self) -> &[u8] {
        self.0.message()
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
    fn the_header_is_right_before_the_message() {
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
        let frame = Frame::with_slots(&mut b"old".to_vec(), 0, write, b"note");
        assert_eq!((frame.message(), frame.note(), frame.has_slots()), (&text[..], &b"note"[..], true));
        let texts = [None, Some(&b"alice"[..]), Some(b"7"), None];
        let filled = frame.fill_slots(|number| texts[usize::from(number)]);
        assert_eq!(filled.message(), br#"{"id":7,"to":"alice","of":null7}"#);
        assert_eq!((filled.note(), filled.has_slots()), (&b""[..], false));
        assert_eq!(frame.clone().into_message()[..], text[..]);
        assert_eq!(frame.clone().into_message().as_ptr(), frame.message().as_ptr(), "it is no copy");
    }

    /// RFC 7692 §6.1: RSV1 is set on the first frame of a compressed message.
    #[test]
    fn compressed_frames_have_rsv1() {
        let plain = Frame::text(0, |out| out.extend_from_slice(b"hello"));
        let deflated = plain.deflated(b"abc");
        assert_eq!(deflated.as_bytes()[..], b"\xc1\x03abc"[..]);
        assert!(deflated.is_deflated() && !plain.is_deflated());
    }

    /// RFC 6455 §5.5: control frames are at most 125 bytes and not fragmented.
    /// RFC 6455 §5.5.1: a close frame has a code and a reason.
    /// RFC 6455 §5.5.3: a pong has the payload of its ping.
    #[test]
    fn control_frames_of_the_server() {
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
