//! Payloads, classified once: JSON is embedded, other text becomes a string, other bytes become base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::IgnoredAny;

/// The deepest nesting of arrays and objects in embedded JSON. Parsers of clients have limits too, and would reject
/// the whole message.
pub const MAX_DEPTH: usize = 64;

/// The body of a publication, a reply, or a client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Valid JSON (RFC 8259) of at most [`MAX_DEPTH`] levels; embedded without parsing it again.
    Json(Bytes),
    /// Other UTF-8; clients get it as a JSON string.
    Text(Bytes),
    /// Anything else; clients get it as base64 under another name.
    Binary(Bytes),
}

impl Payload {
    /// Classifies `bytes` without copying them.
    pub fn classify(bytes: Bytes) -> Self {
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Self::Binary(bytes);
        };
        if is_embeddable(text) { Self::Json(bytes) } else { Self::Text(bytes) }
    }

    /// The original bytes.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }

    /// A copy with its own memory. A payload from NATS is a slice of a much larger read buffer, which would stay
    /// allocated with it.
    pub fn detached(&self) -> Self {
        let copy = Bytes::copy_from_slice(self.bytes());
        match self {
            Self::Json(_) => Self::Json(copy),
            Self::Text(_) => Self::Text(copy),
            Self::Binary(_) => Self::Binary(copy),
        }
    }

    pub fn from_base64(text: &str) -> Option<Bytes> {
        STANDARD.decode(text).ok().map(Bytes::from)
    }

    /// Appends `bytes` as base64.
    pub fn put_base64(bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
}

/// Whether a text is one JSON value.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Whether a text is one JSON value that may be embedded in messages.
pub fn is_embeddable(text: &str) -> bool {
    !is_deep(text.as_bytes()) && is_json(text)
}

/// Whether bytes are JSON with more than [`MAX_DEPTH`] levels.
pub(crate) fn is_deep_json(bytes: &[u8]) -> bool {
    is_deep(bytes) && std::str::from_utf8(bytes).is_ok_and(is_json)
}

/// Whether bytes have more than [`MAX_DEPTH`] levels, provided that they are JSON.
fn is_deep(bytes: &[u8]) -> bool {
    // Each level has two brackets. Most long payloads have at most [`MAX_DEPTH`] opening brackets in all, so they need
    // no closer look.
    if bytes.len() <= 2 * MAX_DEPTH || count_opening_brackets(bytes) <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for byte in bytes {
        if in_text {
            in_text = is_escaped || *byte != b'"';
            is_escaped = !is_escaped && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' if depth == MAX_DEPTH => return true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The number of `[` and `{`, which differ in one bit. The small sums let the compiler use vector instructions.
fn count_opening_brackets(bytes: &[u8]) -> usize {
    let of = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum + u8::from(*byte | 0x20 == b'{'));
    bytes.chunks(128).map(|chunk| usize::from(of(chunk))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_what_they_look_like() {
        for json in ["{}", " [1, 2] ", "190.1", "null", "\"text\"", "1e400", "true", "{\"a\":\"\u{2028}\"}"] {
            assert!(matches!(Payload::classify(Bytes::from(json)), Payload::Json(_)), "{json}");
        }
        for text in ["", "hello", "{", "{} {}", "NaN", "'a'", "{\"a\":1,}", "\u{feff}{}", "01"] {
            assert!(matches!(Payload::classify(Bytes::from(text)), Payload::Text(_)), "{text}");
        }
        for binary in [&b"\xff"[..], b"{\"a\":\"\xc3\x28\"}", b"\x80{}"] {
            assert!(matches!(Payload::classify(Bytes::from_static(binary)), Payload::Binary(_)));
        }
    }

    #[test]
    fn ws_07_deep_json_does_not_overflow_the_stack() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(is_json(&deep) && is_deep_json(deep.as_bytes()));
        assert!(matches!(Payload::classify(Bytes::from(deep)), Payload::Text(_)));
    }

    #[test]
    fn json_that_others_could_not_read_is_text() {
        let lists = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let objects = |depth: usize| r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth);
        for nest in [&lists as &dyn Fn(usize) -> String, &objects] {
            assert!(is_embeddable(&nest(MAX_DEPTH)) && !is_deep_json(nest(MAX_DEPTH).as_bytes()));
            assert!(!is_embeddable(&nest(MAX_DEPTH + 1)) && is_deep_json(nest(MAX_DEPTH + 1).as_bytes()));
        }
        let many = format!("[{}]", vec![r#"{"a":[1],"b":{}}"#; 1000].join(","));
        let in_text = format!(r#"["\"{0}",{{"{0}":"\\"}},"{0}\\\"{0}"]"#, "[{".repeat(100));
        for json in [many, in_text] {
            assert!(is_json(&json) && is_embeddable(&json), "{json}");
        }
        let one_too_many = format!(r#"{{"]]]}}}}":{}}}"#, lists(MAX_DEPTH));
        assert!(is_json(&one_too_many) && !is_embeddable(&one_too_many));
        assert!(!is_deep_json("[".repeat(1000).as_bytes()), "it is no JSON");
    }

    #[test]
    fn base64_goes_both_ways() {
        let mut out = b"x".to_vec();
        Payload::put_base64(&[0, 255, 7, 8], &mut out);
        assert_eq!(out, b"xAP8HCA==");
        assert_eq!(Payload::from_base64("AP8HCA=="), Some(Bytes::from_static(&[0, 255, 7, 8])));
        assert_eq!(Payload::from_base64("AP8HCA="), None);
    }
}
