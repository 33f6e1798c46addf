//! What a message carries, looked at once: JSON as it is, other text as a string, other bytes as base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::IgnoredAny;

/// The body of a publication, a request's answer, or a client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Valid JSON text (RFC 8259); embedded without being parsed again.
    Json(Bytes),
    /// UTF-8 that is not JSON; clients see it as a JSON string.
    Text(Bytes),
    /// Anything else; clients see it as base64 under another name.
    Binary(Bytes),
}

impl Payload {
    /// Decides once what `bytes` are. Nothing is copied.
    pub fn classify(bytes: Bytes) -> Self {
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Self::Binary(bytes);
        };
        if is_json(text) { Self::Json(bytes) } else { Self::Text(bytes) }
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }

    /// The same payload in memory of its own: a payload received from NATS is a slice of a read buffer that is
    /// many times larger, and whoever keeps it would keep that buffer.
    pub fn detached(&self) -> Self {
        let copy = Bytes::copy_from_slice(self.bytes());
        match self {
            Self::Json(_) => Self::Json(copy),
            Self::Text(_) => Self::Text(copy),
            Self::Binary(_) => Self::Binary(copy),
        }
    }

    /// Decodes what a client sent as `data_base64`.
    pub fn from_base64(text: &str) -> Option<Bytes> {
        STANDARD.decode(text).ok().map(Bytes::from)
    }

    /// Appends the base64 text of `bytes`.
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
        assert!(matches!(Payload::classify(Bytes::from(deep)), Payload::Json(_)));
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
