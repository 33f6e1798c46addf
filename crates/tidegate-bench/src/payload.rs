//! Payloads that look like market quotes, each with the number of its publication, and templates of publications.

use std::fmt::Write as _;

use fastrand::Rng;

use crate::wire;

/// The first bytes of every payload. The number of the publication follows.
pub const MARK: &[u8] = br#"{"n":""#;
/// The byte before the number in messages of vocabularies that send the number in a separate field.
pub const QUOTE: &[u8] = b"\"";
/// Number of digits of a publication's number, with leading zeros.
pub const DIGITS: usize = 10;

/// A JSON object of `size` bytes, or the shortest possible one if that is longer. The fields have random numbers, so
/// that it does not compress better than real quotes.
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

/// The offset of the payload in a message.
pub fn find(message: &[u8]) -> Option<usize> {
    message.windows(MARK.len()).position(|part| part == MARK)
}

/// The offset in a message of a string that is just a number: for vocabularies that send fields instead of payloads.
pub fn find_alone(message: &[u8]) -> Option<usize> {
    let is_number = |text: &[u8]| text.ends_with(QUOTE) && digits(text, QUOTE).is_some();
    message.windows(DIGITS + 2).position(is_number)
}

/// The number of the publication whose payload is at the start of `bytes`.
pub fn number(bytes: &[u8]) -> Option<u64> {
    digits(bytes, MARK)
}

/// The number that follows `prefix` at the start of `bytes`.
pub fn digits(bytes: &[u8], prefix: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(prefix)?.get(..DIGITS)?;
    digits.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'9' => Some(sum * 10 + u64::from(digit - b'0')),
        _ => None,
    })
}

/// The bytes of a publication for each subject, except for its number.
#[derive(Clone, Debug)]
pub struct Template {
    /// By subject: the bytes, and the offset of the number in them.
    bytes: Vec<(Vec<u8>, usize)>,
}

impl Template {
    /// Publications in the NATS protocol: `PUB` with a payload of `size` bytes.
    pub fn for_nats(subjects: &[String], size: usize) -> Self {
        let body = payload(size);
        let bytes = subjects.iter().map(|subject| {
            let line = format!("PUB {subject} {}\r\n", body.len());
            (format!("{line}{body}\r\n").into_bytes(), line.len() + MARK.len())
        });
        Self { bytes: bytes.collect() }
    }

    /// Records for the baseline: the number of the subject, the length of the frame, and the frame that Tidegate would
    /// send.
    pub fn for_baseline(subjects: &[String], size: usize) -> Self {
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

    /// Appends the publication with this number. The subjects take turns: its subject is `number` modulo their count.
    pub fn append(&self, number: u64, out: &mut Vec<u8>) {
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
    fn a_payload_is_json_of_the_requested_size() {
        for size in [64, 65, 200, 1024, 8192] {
            let text = payload(size);
            assert_eq!(text.len(), size);
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["n"], "0000000000");
            assert_eq!(number(text.as_bytes()), Some(0));
        }
        assert!(
            serde_json::from_str::<serde_json::Value>(&payload(1)).is_ok(),
            "the shortest possible payload"
        );
    }

    #[test]
    fn the_number_of_a_publication_can_be_read_back() {
        let subjects = ["a".to_owned(), "b".to_owned()];
        let mut out = Vec::new();
        Template::for_nats(&subjects, 200).append(1_234_567_891, &mut out);
        assert!(out.starts_with(b"PUB b 200\r\n{\"n\":\"1234567891\""), "{}", String::from_utf8_lossy(&out));
        out.clear();
        Template::for_baseline(&subjects, 200).append(42, &mut out);
        assert_eq!(out[..4], 0_u32.to_le_bytes());
        assert_eq!(out[4..8], u32::try_from(out.len() - 8).unwrap().to_le_bytes());
        let mut numbers = Vec::new();
        wire::FrameReader::default().parse(&out[8..], |frame| {
            let text: serde_json::Value = serde_json::from_slice(frame.payload).unwrap();
            assert_eq!(text["channel"], "a");
            let at = find(frame.payload).unwrap();
            numbers.push(number(&frame.payload[at..]));
        });
        assert_eq!(numbers, [Some(42)]);
    }

    #[test]
    fn bytes_without_a_complete_number_give_none() {
        for bytes in
            [&b""[..], b"{\"n\":\"", b"{\"n\":\"12345", b"{\"n\":\"12345x7890\"", b"x{\"n\":\"1234567890"]
        {
            assert_eq!(number(bytes), None);
        }
    }
}
