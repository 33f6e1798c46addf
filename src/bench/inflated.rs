//! Inflated: which publications compressed messages are. Each is inflated once, however many clients hear it.

use std::collections::HashMap;

use crate::bench::payload;
use crate::protocol::deflate::Inflater;

/// So many are remembered, far more than are in flight.
const REMEMBERED: usize = 16_384;
/// The longest message, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

/// The numbers of the compressed publications that came last.
#[derive(Debug, Default)]
pub struct Inflated {
    inflater: Inflater,
    numbers: HashMap<Box<[u8]>, u64>,
}

impl Inflated {
    /// The number of a compressed publication. `None` if it cannot be inflated, or is none.
    pub fn number(&mut self, compressed: &[u8]) -> Option<u64> {
        if let Some(number) = self.numbers.get(compressed) {
            return Some(*number);
        }
        let message = self.inflater.inflate(compressed, LONGEST).ok()?;
        let at = payload::find(&message)?;
        let number = payload::number(&message[at..])?;
        if self.numbers.len() == REMEMBERED {
            self.numbers.clear();
        }
        self.numbers.insert(compressed.into(), number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::deflate::Deflater;

    #[test]
    fn a_publication_is_known_however_often_it_comes() {
        let (mut inflated, mut deflater) = (Inflated::default(), Deflater::new(1));
        for number in [7, 8, 7] {
            let message =
                payload::payload(200).replace(&"0".repeat(payload::DIGITS), &format!("{number:010}"));
            let message = format!(r#"{{"type":"message","data":{message}}}"#).replace("x", " ");
            let compressed = deflater.deflate(message.repeat(3).as_bytes()).unwrap();
            assert_eq!(inflated.number(compressed), Some(number));
        }
        assert_eq!(inflated.numbers.len(), 2);
        assert_eq!(inflated.number(b"no deflated data"), None);
        assert_eq!(inflated.number(b""), None, "an empty message is no publication");
    }
}
