//! From when to when a certificate is valid. rustls checks this for a peer's certificate, not for one's own.

use std::time::SystemTime;

use humantime::parse_rfc3339;

/// Tags of DER (X.690) that are used here.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::net) struct Validity {
    pub(in crate::net) not_before: SystemTime,
    pub(in crate::net) not_after: SystemTime,
}

impl Validity {
    /// Reads it from a certificate in DER (RFC 5280 §4.1). `None` if this is no certificate.
    pub(in crate::net) fn of(certificate: &[u8]) -> Option<Self> {
        let (mut signed, _) = element(element(certificate, SEQUENCE)?.0, SEQUENCE)?;
        if let Some((_, rest)) = element(signed, VERSION) {
            signed = rest;
        }
        // Its serial number, the algorithm of its signature, and its issuer.
        for _ in 0..3 {
            signed = any_element(signed)?.2;
        }
        let (validity, _) = element(signed, SEQUENCE)?;
        let (start_tag, start, rest) = any_element(validity)?;
        let (end_tag, end, _) = any_element(rest)?;
        Some(Self { not_before: time(start_tag, start)?, not_after: time(end_tag, end)? })
    }
}

/// The contents of the first element, which has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    any_element(der).filter(|(found, _, _)| *found == tag).map(|(_, contents, rest)| (contents, rest))
}

/// The tag and the contents of the first element, and what follows it.
fn any_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// A time in the forms that RFC 5280 §4.1.2.5 allows: `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (century, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) if digits < "50" => ("20", digits),
        (UTC_TIME, 12) => ("19", digits),
        (GENERALIZED_TIME, 14) => digits.split_at(2),
        _ => return None,
    };
    let field = |at: usize| &rest[2 * at..2 * at + 2];
    let [year, month, day, hour, minute, second] = std::array::from_fn(field);
    parse_rfc3339(&format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(tag: u8, text: &str) -> Option<u64> {
        Some(time(tag, text.as_bytes())?.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn times_are_read_in_both_forms() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "261130065413Z", 1_796_021_653),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (GENERALIZED_TIME, "20000229000000Z", 951_782_400),
            (GENERALIZED_TIME, "20000301000000Z", 951_868_800),
            (GENERALIZED_TIME, "21000301000000Z", 4_107_542_400),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(seconds(tag, text), Some(expected), "{text}");
        }
        for (tag, text) in [
            (UTC_TIME, ""),
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "700101000000"),
            (UTC_TIME, "701301000000Z"),
            (UTC_TIME, "690101000000Z"),
            (UTC_TIME, "20000229000000Z"),
            (GENERALIZED_TIME, "20000229000000+0100"),
            (0x02, "700101000000Z"),
        ] {
            assert_eq!(seconds(tag, text), None, "{text}");
        }
    }

    #[test]
    fn no_bytes_that_are_no_certificate_are_read_as_one() {
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let der = certificate.der();
        let whole = Validity::of(der).unwrap();
        assert!(whole.not_before < whole.not_after);
        for cut in 0..der.len() {
            assert_eq!(Validity::of(&der[..cut]), None);
        }
        // With any byte changed, it is read or not; it does not panic.
        for at in 0..der.len() {
            let mut changed = der.to_vec();
            changed[at] = !changed[at];
            let _ = Validity::of(&changed);
        }
    }
}
