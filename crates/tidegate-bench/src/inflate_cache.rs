//! Finds the numbers of compressed publications. A cache inflates each one only once for all clients.

use std::collections::HashMap;

use flate2::Decompress;
use flate2::FlushDecompress;
use flate2::Status;

use crate::payload;

/// The most entries of the cache: far more than there are publications in flight. A full cache is cleared.
const CACHE_SIZE: usize = 16_384;
/// The longest inflated message in bytes.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// The bytes that compressed messages leave out at their end (RFC 7692 §7.2.1).
const END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The numbers of recent publications, by their compressed bytes.
#[derive(Debug)]
pub struct InflateCache {
    decompress: Decompress,
    numbers: HashMap<Box<[u8]>, u64>,
}

impl Default for InflateCache {
    fn default() -> Self {
        Self { decompress: Decompress::new(false), numbers: HashMap::new() }
    }
}

impl InflateCache {
    /// The number of a compressed publication. `None` if the message is corrupt or has no number.
    pub fn number(&mut self, compressed: &[u8]) -> Option<u64> {
        if let Some(number) = self.numbers.get(compressed) {
            return Some(*number);
        }
        let message = self.inflate(compressed)?;
        let number = match payload::find(&message) {
            Some(at) => payload::number(&message[at..])?,
            None => payload::digits(&message[payload::find_alone(&message)?..], payload::QUOTE)?,
        };
        if self.numbers.len() == CACHE_SIZE {
            self.numbers.clear();
        }
        self.numbers.insert(compressed.into(), number);
        Some(number)
    }

    /// Inflates a message that was compressed without context takeover (RFC 7692 §7.2.2). `None` if it is corrupt or
    /// too long.
    fn inflate(&mut self, compressed: &[u8]) -> Option<Vec<u8>> {
        self.decompress.reset(false);
        let mut message = Vec::with_capacity(compressed.len().saturating_mul(4));
        for mut input in [compressed, &END] {
            loop {
                if message.len() == message.capacity() {
                    message.reserve(message.len().max(256));
                }
                let before = self.decompress.total_in();
                let status =
                    self.decompress.decompress_vec(input, &mut message, FlushDecompress::Sync).ok()?;
                let read = usize::try_from(self.decompress.total_in() - before).ok()?;
                input = input.get(read..)?;
                if message.len() > MAX_MESSAGE {
                    return None;
                }
                if status == Status::StreamEnd {
                    return Some(message);
                }
                // The output has room left, so this input is used up.
                if message.len() < message.capacity() {
                    break;
                }
            }
        }
        Some(message)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use flate2::Compress;
    use flate2::Compression;
    use flate2::FlushCompress;

    use super::*;

    /// Compresses a message as a server without context takeover does.
    pub(crate) fn deflated(message: &[u8]) -> Vec<u8> {
        let mut compressed = Vec::with_capacity(message.len() + 64);
        let mut compress = Compress::new(Compression::fast(), false);
        compress.compress_vec(message, &mut compressed, FlushCompress::Sync).unwrap();
        assert!(compress.total_in() == message.len() as u64 && compressed.ends_with(&END));
        compressed.truncate(compressed.len() - END.len());
        compressed
    }

    #[test]
    fn a_repeated_publication_is_found_in_the_cache() {
        let mut inflate_cache = InflateCache::default();
        for number in [7, 8, 7] {
            let message =
                payload::payload(200).replace(&"0".repeat(payload::DIGITS), &format!("{number:010}"));
            let message = format!(r#"{{"type":"message","data":{message}}}"#).replace("x", " ");
            let compressed = deflated(message.repeat(3).as_bytes());
            assert_eq!(inflate_cache.number(&compressed), Some(number));
        }
        assert_eq!(inflate_cache.numbers.len(), 2);
        assert_eq!(inflate_cache.number(b"no deflated data"), None);
        assert_eq!(inflate_cache.number(b""), None, "an empty message is no publication");
    }

    #[test]
    fn a_message_is_inflated_however_well_it_compresses() {
        let mut inflate_cache = InflateCache::default();
        let long = vec![b'a'; MAX_MESSAGE + 1];
        for message in [&b"short"[..], &long[..100_000], &long[..MAX_MESSAGE]] {
            assert!(
                inflate_cache.inflate(&deflated(message)).as_deref() == Some(message),
                "{}",
                message.len()
            );
        }
        assert_eq!(inflate_cache.inflate(&deflated(&long)), None, "one byte too many");
    }
}
