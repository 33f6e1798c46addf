//! A message from NATS. Its headers are parsed only on request.

use std::borrow::Cow;

use bytes::Bytes;
use thiserror::Error;

/// One message as NATS delivered it: a slice of the connection's read buffer.
#[derive(Clone, Debug)]
pub struct Message {
    /// The protocol line, the header block, the payload and the final line end.
    whole: Bytes,
    parts: Parts,
}

/// The offsets of the parts of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    subject: (u32, u32),
    headers: u32,
    payload: u32,
}

/// A requested header is malformed, so the message cannot be delivered as its producer meant it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("malformed headers")]
pub struct Malformed;

impl Parts {
    /// The subject has `subject_size` bytes at `subject`; at `body` are `header_size` bytes of headers, then the
    /// payload.
    pub(super) fn new(subject: usize, subject_size: usize, body: usize, header_size: usize) -> Option<Self> {
        let narrow = |number: usize| u32::try_from(number).ok();
        Some(Self {
            subject: (narrow(subject)?, narrow(subject + subject_size)?),
            headers: narrow(body)?,
            payload: narrow(body + header_size)?,
        })
    }
}

/// The value of a header, which may be unreadable.
#[derive(Clone, Copy, Debug)]
pub struct HeaderValue<'m> {
    bytes: &'m [u8],
    is_folded: bool,
}

impl<'m> HeaderValue<'m> {
    /// Its text, on one line.
    pub fn read(self) -> Result<Cow<'m, str>, Malformed> {
        let text = std::str::from_utf8(self.bytes).map_err(|_| Malformed)?;
        Ok(if self.is_folded { Cow::Owned(text.lines().collect()) } else { Cow::Borrowed(text) })
    }
}

impl Message {
    /// The message in these bytes, with its protocol line and final line end. `None` if the subject is not UTF-8.
    pub(super) fn new(whole: Bytes, parts: Parts) -> Option<Self> {
        let message = Self { whole, parts };
        let subject = message.part(parts.subject);
        (subject.is_ascii() || std::str::from_utf8(subject).is_ok()).then_some(message)
    }

    pub fn subject(&self) -> &str {
        std::str::from_utf8(self.part(self.parts.subject)).unwrap_or_default()
    }

    /// The payload. It shares the read buffer and keeps it alive: copy it to keep it for long.
    pub fn payload(&self) -> Bytes {
        let end = self.whole.len() - 2;
        self.whole.slice(self.parts.payload as usize..end)
    }

    /// The reply subject.
    pub(super) fn reply(&self) -> Option<&str> {
        let (_, behind) = self.parts.subject;
        let line = std::str::from_utf8(self.part((behind, self.parts.headers))).ok()?;
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // The line continues with the `sid`, the optional reply subject, and one or two sizes.
        let has_headers = self.whole.first().is_some_and(|verb| verb.eq_ignore_ascii_case(&b'h'));
        (fields.len() == if has_headers { 4 } else { 3 }).then(|| fields[1])
    }

    /// The status in place of a reply, such as `503`. Servers and client libraries send it in the first header
    /// line.
    pub fn status(&self) -> Option<&[u8]> {
        let block = self.part((self.parts.headers, self.parts.payload));
        let first = &block[..memchr::memchr(b'\n', block).unwrap_or(block.len())];
        let status = first.strip_prefix(b"NATS/1.0")?.trim_ascii_start();
        status.split(u8::is_ascii_whitespace).next().filter(|status| !status.is_empty())
    }

    /// A message from its parts, as if NATS had delivered it. `None` if the subject is not UTF-8, or it is too large.
    pub(super) fn stored(subject: &str, headers: &[u8], payload: &[u8]) -> Option<Self> {
        let whole = [subject.as_bytes(), headers, payload, b"\r\n"].concat();
        Self::new(whole.into(), Parts::new(0, subject.len(), subject.len(), headers.len())?)
    }

    /// A copy that does not share the read buffer.
    pub fn detached(&self) -> Self {
        Self { whole: Bytes::copy_from_slice(&self.whole), parts: self.parts }
    }

    /// The size of the whole message in bytes.
    pub fn size(&self) -> usize {
        self.whole.len()
    }

    pub fn payload_size(&self) -> usize {
        self.whole.len() - 2 - self.parts.payload as usize
    }

    /// Whether it was published on this subject.
    pub fn is_on(&self, subject: &str) -> bool {
        self.part(self.parts.subject) == subject.as_bytes()
    }

    pub fn has_headers(&self) -> bool {
        self.parts.headers != self.parts.payload
    }

    /// The last value of this header. Its name is compared without regard to case.
    pub fn header(&self, name: &str) -> Result<Option<Cow<'_, str>>, Malformed> {
        self.header_lines().filter_map(|line| line.value_of(name)).last().map(HeaderValue::read).transpose()
    }

    /// The header lines after the first, which has the version and sometimes a status.
    pub fn header_lines(&self) -> impl Iterator<Item = HeaderLine<'_>> {
        const PLAIN: &[u8] = b"NATS/1.0\r\n";
        let block = self.part((self.parts.headers, self.parts.payload));
        HeaderLines { rest: block.strip_prefix(PLAIN).unwrap_or_else(|| &block[line_end(block)..]) }
    }

    fn part(&self, (start, end): (u32, u32)) -> &[u8] {
        &self.whole[start as usize..end as usize]
    }
}

/// One header, without the white space at its end. It has a line end only if it is folded.
#[derive(Clone, Copy, Debug)]
pub struct HeaderLine<'m> {
    line: &'m [u8],
    is_folded: bool,
}

impl<'m> HeaderLine<'m> {
    /// The value, if the header has this name, which is compared without regard to case and must have no colon.
    pub fn value_of(self, name: &str) -> Option<HeaderValue<'m>> {
        let (known, value) = self.line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        known.eq_ignore_ascii_case(name.as_bytes()).then_some(self.value(value))
    }

    /// The name and the value. `None` if the name is not valid, or missing.
    pub fn parts(self) -> Option<(&'m str, HeaderValue<'m>)> {
        let (name, value) = self.line.split_at(memchr::memchr(b':', self.line)?);
        let name = std::str::from_utf8(name).ok().filter(|name| is_name(name.as_bytes()))?;
        Some((name, self.value(&value[1..])))
    }

    fn value(self, value: &'m [u8]) -> HeaderValue<'m> {
        HeaderValue { bytes: value.trim_ascii(), is_folded: self.is_folded }
    }
}

struct HeaderLines<'m> {
    rest: &'m [u8],
}

impl<'m> Iterator for HeaderLines<'m> {
    type Item = HeaderLine<'m>;

    fn next(&mut self) -> Option<HeaderLine<'m>> {
        while !self.rest.is_empty() {
            let (mut end, mut is_folded) = (line_end(self.rest), false);
            // A line that begins with a space continues the value before it.
            while matches!(self.rest.get(end), Some(b' ' | b'\t')) {
                end += line_end(&self.rest[end..]);
                is_folded = true;
            }
            let (line, rest) = self.rest.split_at(end);
            self.rest = rest;
            let line = line.trim_ascii_end();
            if !line.is_empty() {
                return Some(HeaderLine { line, is_folded });
            }
        }
        None
    }
}

fn line_end(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1)
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| (33..=126).contains(byte))
}

#[cfg(any(test, feature = "instructions"))]
impl Message {
    /// A message without headers, as if NATS had delivered it.
    pub fn plain(subject: &str, payload: &[u8]) -> Self {
        Self::with_headers(subject, b"", payload)
    }

    /// A message with this header block, as if NATS had delivered it.
    pub fn with_headers(subject: &str, headers: &[u8], payload: &[u8]) -> Self {
        Self::stored(subject, headers, payload).expect("a small message")
    }
}

#[cfg(test)]
pub(crate) mod tests;
