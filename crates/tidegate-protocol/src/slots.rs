//! Slots: places in a rendered message where each client gets its own text. They are kept next to the message, and so no
//! byte of it has a meaning of its own.

/// A slot as it is kept: four bytes of its place in the message, and its number.
pub(super) const SLOT: usize = 5;

/// The slots of one message, in the order of their places; at most 255.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Slots(Vec<u8>);

impl Slots {
    /// Adds the slot of this number, from 1, where the message has so many bytes.
    pub fn add(&mut self, place: usize, number: u8) {
        self.0.extend_from_slice(&u32::try_from(place).unwrap_or(u32::MAX).to_le_bytes());
        self.0.push(number);
    }

    /// As they are kept.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The places and numbers of slots that are kept so.
pub(super) fn read(bytes: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let (slots, _) = bytes.as_chunks::<SLOT>();
    slots.iter().map(|[a, b, c, d, number]| (u32::from_le_bytes([*a, *b, *c, *d]) as usize, *number))
}
