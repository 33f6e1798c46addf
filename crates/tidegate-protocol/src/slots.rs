//! Slots: places in a rendered message where each client gets its own text. They are kept outside the message, so that
//! no byte in it needs a special meaning.

/// The size of an encoded slot: four bytes for its place in the message, and one for its number.
pub(super) const SLOT: usize = 5;

/// The slots of one message, in the order of their places; at most 255.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Slots(Vec<u8>);

impl Slots {
    /// Adds a slot with this number, from 1, at this offset in the message.
    pub fn add(&mut self, place: usize, number: u8) {
        self.0.extend_from_slice(&u32::try_from(place).unwrap_or(u32::MAX).to_le_bytes());
        self.0.push(number);
    }

    /// The encoded slots.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Decodes slots into their places and numbers.
pub(super) fn read(bytes: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let (slots, _) = bytes.as_chunks::<SLOT>();
    slots.iter().map(|[a, b, c, d, number]| (u32::from_le_bytes([*a, *b, *c, *d]) as usize, *number))
}
