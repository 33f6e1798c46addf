//! Writes a JSON object into a buffer member by member, without building it first.

use std::time::Duration;

use crate::payload::Payload;
use crate::timestamp::Timestamp;

/// An object that is being written. The result is always valid JSON: strings are escaped, and raw members must be JSON
/// already.
pub struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Opens the object; [`ObjectWriter::end`] closes it.
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    /// Continues an object that has a member already.
    pub fn resume(out: &'a mut Vec<u8>) -> Self {
        Self { out, first: false }
    }

    /// Begins a member whose name needs no escapes. Inlined, so that the length of the name is known.
    #[inline]
    fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        debug_assert!(is_plain(key.as_bytes()), "{key} needs escapes");
        self.out.extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.first = false;
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Begins a member with any name.
    fn any_key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        put_string(self.out, key);
        self.out.push(b':');
        self.out
    }

    #[inline]
    pub fn text(&mut self, key: &'static str, value: &str) {
        put_string(self.key(key), value);
    }

    /// A member with any name, whose value is a string, or an array if there are several.
    pub fn texts<'t>(&mut self, key: &str, mut values: impl Iterator<Item = &'t str>) {
        let out = self.any_key(key);
        let first = values.next().unwrap_or_default();
        let Some(second) = values.next() else { return put_string(out, first) };
        out.push(b'[');
        put_string(out, first);
        for value in std::iter::once(second).chain(values) {
            out.push(b',');
            put_string(out, value);
        }
        out.push(b']');
    }

    pub fn number(&mut self, key: &'static str, value: u64) {
        self.raw(key, itoa::Buffer::new().format(value).as_bytes());
    }

    /// A member whose value is JSON already.
    #[inline]
    pub fn raw(&mut self, key: &'static str, json: &[u8]) {
        self.key(key).extend_from_slice(json);
    }

    /// An instant, as a string.
    #[inline]
    pub fn timestamp(&mut self, key: &'static str, timestamp: &Timestamp) {
        let out = self.key(key);
        out.push(b'"');
        out.extend_from_slice(timestamp.as_bytes());
        out.push(b'"');
    }

    /// A payload: `data`, or `data_base64` if it is neither JSON nor text.
    pub fn payload(&mut self, payload: &Payload) {
        match payload {
            Payload::Json(bytes) => self.raw("data", bytes),
            Payload::Text(bytes) => self.text("data", &String::from_utf8_lossy(bytes)),
            Payload::Binary(bytes) => {
                let out = self.key("data_base64");
                out.push(b'"');
                Payload::put_base64(bytes, out);
                out.push(b'"');
            }
        }
    }

    /// A member that is an array of JSON values.
    pub fn array<'j>(&mut self, key: &'static str, values: impl Iterator<Item = &'j [u8]>) {
        let out = self.key(key);
        out.push(b'[');
        for (at, value) in values.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(value);
        }
        out.push(b']');
    }

    #[inline]
    pub fn object(&mut self, key: &'static str, write: impl FnOnce(&mut ObjectWriter<'_>)) {
        let mut inner = ObjectWriter::begin(self.key(key));
        write(&mut inner);
        inner.end();
    }
}

/// Appends a JSON string.
pub fn put_string(out: &mut Vec<u8>, text: &str) {
    if is_plain(text.as_bytes()) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        return out.push(b'"');
    }
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok(), "a string always fits into a buffer that grows");
}

/// Whether text needs no escapes in a JSON string: it has no quotes, backslashes and control characters (RFC 8259 §7).
pub fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks();
    let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
    match text.last_chunk() {
        Some(last) => words.iter().all(|word| is_plain_word(*word)) && is_plain_word(*last),
        None => rest.iter().all(is_plain),
    }
}

/// The same for eight bytes at once. A subtraction sets the top bit of each byte that was smaller than what was
/// subtracted. It may borrow from the next byte, but only if it has set such a bit.
fn is_plain_word(word: [u8; 8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let word = u64::from_le_bytes(word);
    let below = |word: u64, byte: u8| word.wrapping_sub(ONES * u64::from(byte)) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, b' ') | is(b'"') | is(b'\\')) & TOPS == 0
}

/// A duration in whole milliseconds, as messages have it.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) {
        let mut out = b"before".to_vec();
        put_string(&mut out, text);
        let expected = serde_json::to_string(text).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), format!("before{expected}"));
        assert_eq!(is_plain(text.as_bytes()), expected.len() == text.len() + 2, "{text:?}");
    }

    #[test]
    fn every_character_is_escaped_as_serde_json_does_it_in_every_place() {
        for character in (0..0x180).filter_map(char::from_u32).chain(['\u{2028}', '\u{ffff}', '\u{10ffff}']) {
            for (before, after) in (0..20).flat_map(|before| [0, 1, 7, 8, 9].map(|after| (before, after))) {
                check(&format!("{}{character}{}", "x".repeat(before), "~".repeat(after)));
            }
        }
    }

    proptest! {
        #[test]
        fn strings_are_those_of_serde_json(text in any::<String>(), long in "[ -~]{0,60}") {
            check(&text);
            check(&long);
        }
    }
}
