//! Inflated: which publications compressed messages are. Each is inflated once, however many clients hear it.

use std::collections::HashMap;

use flate2::Decompress;
use flate2::FlushDecompress;
use flate2::Status;

use crate::payload;

/// How many compressed messages the cache holds: far more than are in flight.
const REMEMBERED: usize = 16_384;
/// The longest message, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;
/// What a compressed message leaves out at its end (RFC 7692 §7.2.1).
const END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The numbers of the compressed publications that came last.
#[derive(Debug)]
pub struct Inflated {
    decompress: Decompress,
    numbers: HashMap<Box<[u8]>, u64>,
}

impl Default for Inflated {
    fn default() -> Self {
        Self { decompress: Decompress::new(false), numbers: HashMap::new() }
    }
}

impl Inflated {
    /// The number of a compressed publication. `None` if it cannot be inflated, or is none.
    pub fn number(&mut self, compressed: &[u8]) -> Option<u64> {
        if let Some(number) = self.numbers.get(compressed) {
            return Some(*number);
        }
        let message = self.inflate(compressed)?;
        let number = match payload::find(&message) {
            Some(at) => payload::number(&message[at..])?,
            None => payload::digits(&message[payload::find_alone(&message)?..], payload::QUOTE)?,
        };
        if self.numbers.len() == REMEMBERED {
            self.numbers.clear();
        }
        self.numbers.insert(compressed.into(), number);
        Some(number)
    }

    /// The message that was compressed without a context (RFC 7692 §7.2.2). `None` if it is corrupt or too long.
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
                if message.len() > LONGEST {
                    return None;
                }
                if status == Status::StreamEnd {
                    return Some(message);
                }
                // There was room left, so there is nothing more to come out of this input.
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

    /// A message as a server compresses it, without a context.
    pub(crate) fn deflated(message: &[u8]) -> Vec<u8> {
        let mut compressed = Vec::with_capacity(message.len() + 64);
        let mut compress = Compress::new(Compression::fast(), false);
        compress.compress_vec(message, &mut compressed, FlushCompress::Sync).unwrap();
        assert!(compress.total_in() == message.len() as u64 && compressed.ends_with(&END));
        compressed.truncate(compressed.len() - END.len());
        compressed
    }

    #[test]
    fn a_publication_is_known_however_often_it_comes() {
        let mut inflated = Inflated::default();
        for number in [7, 8, 7] {
            let message =
                payload::payload(200).replace(&"0".repeat(payload::DIGITS), &format!("{number:010}"));
            let message = format!(r#"{{"type":"message","data":{message}}}"#).replace("x", " ");
            let compressed = deflated(message.repeat(3).as_bytes());
            assert_eq!(inflated.number(&compressed), Some(number));
        }
        assert_eq!(inflated.numbers.len(), 2);
        assert_eq!(inflated.number(b"no deflated data"), None);
        assert_eq!(inflated.number(b""), None, "an empty message is no publication");
    }

    #[test]
    fn a_message_comes_out_as_it_was_however_well_it_compresses() {
        let mut inflated = Inflated::default();
        let long = vec![b'a'; LONGEST + 1];
        for message in [&b"short"[..], &long[..100_000], &long[..LONGEST]] {
            assert!(inflated.inflate(&deflated(message)).as_deref() == Some(message), "{}", message.len());
        }
        assert_eq!(inflated.inflate(&deflated(&long)), None, "one byte too many");
    }
}
