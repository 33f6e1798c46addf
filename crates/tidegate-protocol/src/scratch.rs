//! Scratch: the memory that an encoder reuses from message to message.

use std::time::SystemTime;

use crate::frame::Frame;
use crate::slots::Slots;
use crate::timestamp::Timestamp;
use crate::timestamp::TimestampCache;

/// The most memory that the buffer keeps after a frame, in bytes. Few messages are longer.
const MAX_SPARE: usize = 64 * 1024;

/// A buffer for messages while they are written, and the text of the last second.
#[derive(Debug, Default)]
pub struct Scratch {
    buffer: Vec<u8>,
    timestamps: TimestampCache,
    /// Whether the messages are sent to a client that has missed them.
    pub is_recovery: bool,
}

impl Scratch {
    /// For messages that are sent to a client that has missed them.
    pub fn of_recovery() -> Self {
        Self { is_recovery: true, ..Self::default() }
    }

    /// A text frame with slots and a note. `write` appends the message, of about `capacity` bytes, and returns its slots.
    pub fn frame(
        &mut self,
        capacity: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Slots,
        note: &[u8],
    ) -> Frame {
        let frame = Frame::with_slots(&mut self.buffer, capacity, write, note);
        if self.buffer.capacity() > MAX_SPARE {
            self.buffer = Vec::new();
        }
        frame
    }

    /// An instant as text.
    pub fn timestamp(&mut self, time: SystemTime) -> Timestamp {
        self.timestamps.timestamp(time)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::panic::catch_unwind;

    use super::*;

    fn frame_of(scratch: &mut Scratch, length: usize, note: &[u8]) -> Frame {
        let write = |out: &mut Vec<u8>| {
            out.resize(out.len() + length, b'x');
            Slots::default()
        };
        scratch.frame(0, write, note)
    }

    #[test]
    fn frames_have_nothing_of_the_frames_before_them() {
        let mut scratch = Scratch::default();
        for length in [0, 1, 125, 126, 70_000, 65_535, 65_536, 3, 0] {
            for note in [&b""[..], b"note"] {
                let fresh = frame_of(&mut Scratch::default(), length, note);
                assert_eq!(frame_of(&mut scratch, length, note), fresh);
            }
        }
    }

    #[test]
    fn a_message_that_is_never_finished_leaves_nothing_in_the_next() {
        let mut scratch = Scratch::default();
        let write = |out: &mut Vec<u8>| -> Slots {
            out.extend_from_slice(b"half a message");
            panic!("a fault while the message is written")
        };
        let fault = AssertUnwindSafe(|| scratch.frame(100, write, b"note"));
        assert!(catch_unwind(fault).is_err());
        assert_eq!(frame_of(&mut scratch, 3, b""), frame_of(&mut Scratch::default(), 3, b""));
    }

    #[test]
    fn the_buffer_stays_after_a_frame_unless_it_is_large() {
        let mut scratch = Scratch::default();
        frame_of(&mut scratch, 1000, b"");
        let kept = (scratch.buffer.as_ptr(), scratch.buffer.capacity());
        frame_of(&mut scratch, 900, b"");
        assert_eq!((scratch.buffer.as_ptr(), scratch.buffer.capacity()), kept);
        frame_of(&mut scratch, MAX_SPARE, b"");
        assert_eq!(scratch.buffer.capacity(), 0);
    }
}
