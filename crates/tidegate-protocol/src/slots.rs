//! Slots: places in a rendered message where each client gets its own text.

use crate::frame::Frame;

/// Room for what goes into the slots of most messages, in bytes.
const INSERTS: usize = 32;

/// A message with what `insert` gives in place of each slot of that number, from 1, as a frame.
pub fn fill_slots<'i>(message: &[u8], insert: impl Fn(u8) -> Option<&'i [u8]>) -> Frame {
    Frame::text(message.len() + INSERTS, |out| {
        let mut rest = message;
        while let Some(at) = rest.iter().position(|byte| *byte == 0) {
            let (before, from) = rest.split_at(at);
            out.extend_from_slice(before);
            let number = from.get(1).copied().unwrap_or_default();
            out.extend_from_slice(insert(number).unwrap_or(b"null"));
            rest = from.get(2..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
    })
}
