//! `TextRing`: the texts of events, in a ring of bytes. The oldest are overwritten.

/// Texts, one after the other. A place is counted in bytes since the first text, modulo 2^32.
#[derive(Debug)]
pub(super) struct TextRing {
    bytes: Vec<u8>,
    /// A power of two, so that places modulo 2^32 stay in order.
    capacity: usize,
    /// Where the next text begins.
    end: u32,
}

impl TextRing {
    /// A ring of this many bytes, which must be a power of two. Memory that has not been used yet is not touched.
    pub(super) fn new(capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self { bytes: Vec::new(), capacity, end: 0 }
    }

    /// Keeps texts in one piece, and returns its place. They must be much shorter than the ring.
    pub(super) fn push(&mut self, texts: [&str; 3]) -> u32 {
        let length: usize = texts.iter().map(|text| text.len()).sum();
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(self.capacity);
        }
        let left = self.capacity - self.index(self.end);
        if length > left {
            // A piece does not go around the end.
            self.end = self.end.wrapping_add(low(left));
        }
        let place = self.end;
        let mut at = self.index(place);
        if self.bytes.len() < at + length {
            self.bytes.resize(at + length, 0);
        }
        for text in texts {
            self.bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
            at += text.len();
        }
        self.end = place.wrapping_add(low(length));
        place
    }

    /// Whether the piece at this place has not been overwritten.
    pub(super) fn has(&self, place: u32) -> bool {
        self.end.wrapping_sub(place) as usize <= self.capacity
    }

    /// The texts with these lengths at this place, which must be one that [`TextRing::has`].
    pub(super) fn get(&self, place: u32, lengths: [u8; 3]) -> [&str; 3] {
        let mut at = self.index(place);
        lengths.map(|length| {
            let bytes = self.bytes.get(at..at + usize::from(length)).unwrap_or_default();
            at += usize::from(length);
            std::str::from_utf8(bytes).unwrap_or_default()
        })
    }

    fn index(&self, place: u32) -> usize {
        place as usize % self.capacity
    }
}

/// The lower 32 bits.
fn low(number: usize) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_until_the_ring_has_gone_around() {
        let mut ring = TextRing::new(16);
        let first = ring.push(["ab", "", "cd"]);
        let second = ring.push(["", "éf", ""]);
        assert_eq!(ring.get(first, [2, 0, 2]), ["ab", "", "cd"]);
        assert_eq!(ring.get(second, [0, 3, 0]), ["", "éf", ""]);
        // Nine bytes are left, so ten begin anew.
        let third = ring.push(["0123456789", "", ""]);
        assert_eq!((ring.has(first), ring.has(second), ring.has(third)), (false, false, true));
        assert_eq!(ring.get(third, [10, 0, 0])[0], "0123456789");
        let empty = ring.push(["", "", ""]);
        assert_eq!((ring.has(empty), ring.get(empty, [0; 3])), (true, [""; 3]));
    }

    #[test]
    fn places_go_around_too() {
        let mut ring = TextRing { end: u32::MAX - 3, ..TextRing::new(16) };
        ring.bytes.resize(12, 0);
        let last = ring.push(["abcd", "", ""]);
        let next = ring.push(["ef", "g", ""]);
        assert_eq!((last, next), (u32::MAX - 3, 0));
        assert_eq!((ring.get(last, [4, 0, 0])[0], ring.get(next, [2, 1, 0])[1]), ("abcd", "g"));
        assert!(ring.has(last) && ring.has(next));
        for _ in 0..3 {
            ring.push(["0123", "", ""]);
        }
        assert!(!ring.has(last) && ring.has(next));
    }
}
