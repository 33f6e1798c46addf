//! Payloads that look like quotes, each with its number at a known place; and publications ready to be sent.

use std::fmt::Write as _;

use fastrand::Rng;

use crate::wire;

/// What the payload of every publication begins with; its number follows.
pub const MARK: &[u8] = br#"{"n":""#;
/// The bytes before the number, in a vocabulary that shows the number as a separate field.
pub const QUOTE: &[u8] = b"\"";
/// Digits of the number.
pub const DIGITS: usize = 10;

/// JSON of `size` bytes, or of as many as it needs at least. The text differs from field to field, as that of real
/// quotes does: what is compressed must not be easier than life.
pub fn payload(size: usize) -> String {
    let mut text = String::from_utf8_lossy(MARK).into_owned() + &"0".repeat(DIGITS) + "\"";
    let end = r#","pad":""}"#;
    let mut rng = Rng::with_seed(1);
    for index in 1_u64.. {
        let names = ["bid", "ask", "last", "volume", "high", "low", "open", "close"];
        let name = names[(index % 8) as usize];
        let (whole, cents) = (rng.u32(..10_000), rng.u32(..10_000));
        let field = format!(r#","{name}{}":{whole}.{cents:04}"#, index / 8);
        if text.len() + field.len() + end.len() > size {
            break;
        }
        text += &field;
    }
    let pad = size.saturating_sub(text.len() + end.len());
    let _ = write!(text, r#","pad":"{}"}}"#, "x".repeat(pad));
    text
}

/// Where in a message the payload begins.
pub fn find(message: &[u8]) -> Option<usize> {
    message.windows(MARK.len()).position(|part| part == MARK)
}

/// Where in a message a number is alone, as a text: what is left of a payload where its fields are shown.
pub fn find_alone(message: &[u8]) -> Option<usize> {
    let is_number = |text: &[u8]| text.ends_with(QUOTE) && digits(text, QUOTE).is_some();
    message.windows(DIGITS + 2).position(is_number)
}

/// The number of a publication whose payload begins at the start of `bytes`.
pub fn number(bytes: &[u8]) -> Option<u64> {
    digits(bytes, MARK)
}

/// The number that is behind `mark` at the start of `bytes`.
pub fn digits(bytes: &[u8], mark: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(mark)?.get(..DIGITS)?;
    digits.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'9' => Some(sum * 10 + u64::from(digit - b'0')),
        _ => None,
    })
}

/// Publications but for their numbers, one for each subject.
#[derive(Clone, Debug)]
pub struct Template {
    /// By subject: its bytes, and where the number is in them.
    bytes: Vec<(Vec<u8>, usize)>,
}

impl Template {
    /// As nats-server takes them.
    pub fn for_nats(subjects: &[String], size: usize) -> Self {
        let body = payload(size);
        let bytes = subjects.iter().map(|subject| {
            let line = format!("PUB {subject} {}\r\n", body.len());
            (format!("{line}{body}\r\n").into_bytes(), line.len() + MARK.len())
        });
        Self { bytes: bytes.collect() }
    }

    /// As the floor takes them: the subject's number, the length of the frame, and the frame that Tidegate would
    /// send.
    pub fn for_floor(subjects: &[String], size: usize) -> Self {
        let body = payload(size);
        let bytes = subjects.iter().enumerate().map(|(number, subject)| {
            let head = format!(r#"{{"type":"message","channel":"{subject}","data":"#);
            let text = format!(r#"{head}{body},"time":"2026-01-01T00:00:00.000Z"}}"#);
            let mut frame = Vec::new();
            wire::put_plain(0x81, text.as_bytes(), &mut frame);
            let header = frame.len() - text.len();
            let mut record = u32::try_from(number).unwrap_or_default().to_le_bytes().to_vec();
            record.extend_from_slice(&u32::try_from(frame.len()).unwrap_or_default().to_le_bytes());
            let at = record.len() + header + head.len() + MARK.len();
            record.append(&mut frame);
            (record, at)
        });
        Self { bytes: bytes.collect() }
    }

    /// Appends the publication of this number; subjects take turns.
    pub fn put(&self, number: u64, out: &mut Vec<u8>) {
        let (bytes, at) = &self.bytes[(number % self.bytes.len() as u64) as usize];
        let start = out.len() + at;
        out.extend_from_slice(bytes);
        let mut left = number;
        for digit in out[start..start + DIGITS].iter_mut().rev() {
            *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
            left /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_the_wanted_size() {
        for size in [64, 65, 200, 1024, 8192] {
            let text = payload(size);
            assert_eq!(text.len(), size);
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["n"], "0000000000");
            assert_eq!(number(text.as_bytes()), Some(0));
        }
        assert!(serde_json::from_str::<serde_json::Value>(&payload(1)).is_ok(), "as short as it can be");
    }

    #[test]
    fn a_number_that_is_put_is_read() {
        let subjects = ["a".to_owned(), "b".to_owned()];
        let mut out = Vec::new();
        Template::for_nats(&subjects, 200).put(1_234_567_891, &mut out);
        assert!(out.starts_with(b"PUB b 200\r\n{\"n\":\"1234567891\""), "{}", String::from_utf8_lossy(&out));
        out.clear();
        Template::for_floor(&subjects, 200).put(42, &mut out);
        assert_eq!(out[..4], 0_u32.to_le_bytes());
        assert_eq!(out[4..8], u32::try_from(out.len() - 8).unwrap().to_le_bytes());
        let mut numbers = Vec::new();
        wire::Frames::default().walk(&out[8..], |frame| {
            let text: serde_json::Value = serde_json::from_slice(frame.payload).unwrap();
            assert_eq!(text["channel"], "a");
            let at = find(frame.payload).unwrap();
            numbers.push(number(&frame.payload[at..]));
        });
        assert_eq!(numbers, [Some(42)]);
    }

    #[test]
    fn what_has_no_number_gives_none() {
        for bytes in
            [&b""[..], b"{\"n\":\"", b"{\"n\":\"12345", b"{\"n\":\"12345x7890\"", b"x{\"n\":\"1234567890"]
        {
            assert_eq!(number(bytes), None);
        }
    }
}
