//! `NumberHasher`: a fast hash for numbers that this node assigns.

use std::hash::BuildHasher;
use std::hash::Hasher;
use std::hash::RandomState;

/// An odd number whose bits look random: the fractional part of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes numbers that this node assigns one after the other, with a random key. It does not resist clients that choose
/// the numbers: for what clients choose, such as patterns, use [`RandomState`].
#[derive(Clone, Debug)]
pub(super) struct NumberHasher {
    key: u64,
}

impl Default for NumberHasher {
    fn default() -> Self {
        Self { key: RandomState::new().hash_one(0) }
    }
}

impl BuildHasher for NumberHasher {
    type Hasher = NumberHash;

    fn build_hasher(&self) -> NumberHash {
        NumberHash(self.key)
    }
}

/// The hash of the numbers so far.
#[derive(Debug)]
pub(super) struct NumberHash(u64);

impl Hasher for NumberHash {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * u128::from(FACTOR);
        let [low, high] = [product, product >> 64].map(|half| (half & u128::from(u64::MAX)) as u64);
        self.0 = low ^ high;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A hash table finds its entries by the last bits, and compares the first seven.
    #[test]
    fn consecutive_numbers_are_spread_over_a_table() {
        let hasher = NumberHasher::default();
        let hashes: Vec<u64> = (1..=4096_u64).map(|number| hasher.hash_one(number)).collect();
        let places: HashSet<_> = hashes.iter().map(|hash| hash % 4096).collect();
        assert!(places.len() > 2000, "{} places, and 2589 are expected of a random hash", places.len());
        let marks: HashSet<_> = hashes.iter().map(|hash| hash >> 57).collect();
        assert_eq!(marks.len(), 128);
    }

    #[test]
    fn tables_have_different_keys() {
        let [one, other] = [NumberHasher::default(), NumberHasher::default()];
        assert_ne!(one.hash_one(1_u64), other.hash_one(1_u64));
        assert_eq!(one.hash_one(7_u32), one.hash_one(7_u64));
    }
}
