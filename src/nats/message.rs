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
pub struct HeaderValue<'m>(&'m [u8]);

impl<'m> HeaderValue<'m> {
    /// Its text, on one line.
    pub fn read(self) -> Result<Cow<'m, str>, Malformed> {
        readable(self.0)
    }
}

impl Message {
    /// The message in these bytes, with its protocol line and final line end. `None` if the subject is not UTF-8.
    pub(super) fn new(whole: Bytes, parts: Parts) -> Option<Self> {
        let message = Self { whole, parts };
        std::str::from_utf8(message.part(parts.subject)).is_ok().then_some(message)
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
    pub(super) fn status(&self) -> Option<&[u8]> {
        let block = self.part((self.parts.headers, self.parts.payload));
        let first = &block[..memchr::memchr(b'\n', block).unwrap_or(block.len())];
        let status = first.strip_prefix(b"NATS/1.0")?.trim_ascii_start();
        status.split(u8::is_ascii_whitespace).next().filter(|status| !status.is_empty())
    }

    /// A copy that does not share the read buffer.
    pub(super) fn detached(&self) -> Self {
        Self { whole: Bytes::copy_from_slice(&self.whole), parts: self.parts }
    }

    /// The size of the whole message in bytes.
    pub(super) fn size(&self) -> usize {
        self.whole.len()
    }

    pub fn payload_size(&self) -> usize {
        self.whole.len() - 2 - self.parts.payload as usize
    }

    /// The last value of this header. Its name is compared without regard to case.
    pub fn header(&self, name: &str) -> Result<Option<Cow<'_, str>>, Malformed> {
        let named =
            |line: &Line<'_>| line.name.is_some_and(|known| known.eq_ignore_ascii_case(name.as_bytes()));
        match self.lines().filter(named).last() {
            Some(line) => readable(line.value).map(Some),
            None => Ok(None),
        }
    }

    /// The last value of each of these headers, found in one pass.
    pub fn last_headers<const N: usize>(&self, names: [&str; N]) -> [Option<HeaderValue<'_>>; N] {
        let mut found = [None; N];
        if self.parts.headers == self.parts.payload {
            return found;
        }
        for Line { name, value } in self.lines() {
            let Some(name) = name else { continue };
            for (found, wanted) in found.iter_mut().zip(names) {
                if name.eq_ignore_ascii_case(wanted.as_bytes()) {
                    *found = Some(HeaderValue(value));
                }
            }
        }
        found
    }

    /// The headers with these names (`*` means all), sorted by name; repeated headers stay in order. Names are compared
    /// without regard to case, and returned as they are in `names`, or with `*` as the producer wrote them.
    pub fn headers(&self, names: &[String]) -> Result<Vec<(String, String)>, Malformed> {
        let all = names.iter().any(|name| name == "*");
        let mut found: Vec<(String, String)> = Vec::new();
        for Line { name, value } in self.lines() {
            match name.filter(|name| is_name(name)).map(std::str::from_utf8) {
                Some(Ok(name)) => {
                    let wanted = names.iter().find(|wanted| wanted.eq_ignore_ascii_case(name));
                    if let Some(name) = wanted.map(String::as_str).or_else(|| all.then_some(name)) {
                        found.push((name.to_owned(), readable(value)?.into_owned()));
                    }
                }
                // A header without a valid name matters only if all headers are requested.
                Some(Err(_)) | None if all => return Err(Malformed),
                Some(Err(_)) | None => {}
            }
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }

    fn part(&self, (start, end): (u32, u32)) -> &[u8] {
        &self.whole[start as usize..end as usize]
    }

    /// The header lines after the first, which has the version and sometimes a status.
    fn lines(&self) -> HeaderLines<'_> {
        let block = self.part((self.parts.headers, self.parts.payload));
        let first = memchr::memchr(b'\n', block).map_or(block.len(), |end| end + 1);
        HeaderLines { rest: &block[first..] }
    }
}

/// One header; folded lines are part of the value.
struct Line<'m> {
    /// `None` for a line without a colon.
    name: Option<&'m [u8]>,
    value: &'m [u8],
}

struct HeaderLines<'m> {
    rest: &'m [u8],
}

impl<'m> Iterator for HeaderLines<'m> {
    type Item = Line<'m>;

    fn next(&mut self) -> Option<Line<'m>> {
        while !self.rest.is_empty() {
            let mut end = line_end(self.rest);
            // A line that begins with a space continues the value before it.
            while matches!(self.rest.get(end), Some(b' ' | b'\t')) {
                end += line_end(&self.rest[end..]);
            }
            let (line, rest) = self.rest.split_at(end);
            self.rest = rest;
            let line = line.trim_ascii_end();
            if !line.is_empty() {
                let colon = memchr::memchr(b':', line);
                let (name, value) = colon.map_or((None, line), |at| (Some(&line[..at]), &line[at + 1..]));
                return Some(Line { name, value: value.trim_ascii() });
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

/// The value as text, unfolded.
fn readable(value: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let text = std::str::from_utf8(value).map_err(|_| Malformed)?;
    if memchr::memchr(b'\n', value).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    Ok(Cow::Owned(text.lines().collect()))
}

#[cfg(any(test, feature = "instructions"))]
impl Message {
    /// A message without headers, as if NATS had delivered it.
    pub fn plain(subject: &str, payload: &[u8]) -> Self {
        Self::with_headers(subject, b"", payload)
    }

    /// A message with this header block, as if NATS had delivered it.
    pub fn with_headers(subject: &str, headers: &[u8], payload: &[u8]) -> Self {
        let whole = [subject.as_bytes(), headers, payload, b"\r\n"].concat();
        let parts = Parts::new(0, subject.len(), subject.len(), headers.len());
        Self::new(whole.into(), parts.expect("a small message")).expect("a subject that can be read")
    }
}

#[cfg(test)]
mod tests;
