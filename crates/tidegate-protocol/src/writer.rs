//! Writes a JSON object into a buffer member by member, without building it first.

use std::time::Duration;
use std::time::SystemTime;

use crate::payload::Payload;

/// An object that is being written. The result is always valid JSON: `serde_json` escapes strings, and raw members
/// must be JSON already.
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

    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        put_string(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub fn text(&mut self, key: &str, value: &str) {
        put_string(self.key(key), value);
    }

    pub fn number(&mut self, key: &str, value: u64) {
        self.raw(key, value.to_string().as_bytes());
    }

    /// A member whose value is JSON already.
    pub fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key).extend_from_slice(json);
    }

    /// A time, as RFC 3339 in UTC with milliseconds.
    pub fn time(&mut self, key: &str, time: SystemTime) {
        self.text(key, &humantime::format_rfc3339_millis(time).to_string());
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
    pub fn array<'j>(&mut self, key: &str, values: impl Iterator<Item = &'j [u8]>) {
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

    pub fn object(&mut self, key: &str, write: impl FnOnce(&mut ObjectWriter<'_>)) {
        let mut inner = ObjectWriter::begin(self.key(key));
        write(&mut inner);
        inner.end();
    }
}

/// Appends a JSON string.
pub fn put_string(out: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok(), "a string always fits into a buffer that grows");
}

/// A duration in whole milliseconds, as messages have it.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
