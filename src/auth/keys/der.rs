//! `Der`: reads the few structures of DER (X.690) that public keys and certificates are made of.

/// The tags of the elements that are read.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// The version of a certificate, `[0] EXPLICIT`. Certificates of version 1 have none.
const VERSION: u8 = 0xA0;

/// Reads elements one after another. All methods return `None` for anything that is not valid DER.
#[derive(Clone, Copy)]
pub(super) struct Der<'d>(&'d [u8]);

/// A `SubjectPublicKeyInfo` (RFC 5280 §4.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyInfo<'d> {
    /// The object identifier of the kind of key, in DER.
    pub(super) kind: &'d [u8],
    /// That of the curve, for keys that have one.
    pub(super) curve: Option<&'d [u8]>,
    pub(super) key: &'d [u8],
}

impl<'d> Der<'d> {
    pub(super) fn new(bytes: &'d [u8]) -> Self {
        Self(bytes)
    }

    /// The key of a certificate (RFC 5280 §4.1). Neither its signature nor its dates are checked.
    pub(super) fn certificate(mut self) -> Option<KeyInfo<'d>> {
        let mut contents = self.element(SEQUENCE).filter(|_| self.0.is_empty())?.element(SEQUENCE)?;
        if contents.0.first() == Some(&VERSION) {
            contents.element(VERSION)?;
        }
        contents.element(INTEGER)?;
        // The algorithm of the signature, the issuer, the dates and the subject.
        for _ in 0..4 {
            contents.element(SEQUENCE)?;
        }
        contents.key_info_of()
    }

    /// A public key with its kind.
    pub(super) fn key_info(mut self) -> Option<KeyInfo<'d>> {
        let info = self.key_info_of()?;
        self.0.is_empty().then_some(info)
    }

    /// The modulus and the exponent of an RSA key (RFC 8017 §A.1.1), without leading zeros.
    pub(super) fn rsa_key(mut self) -> Option<(&'d [u8], &'d [u8])> {
        let mut key = self.element(SEQUENCE).filter(|_| self.0.is_empty())?;
        let (modulus, exponent) = (key.unsigned()?, key.unsigned()?);
        key.0.is_empty().then_some((modulus, exponent))
    }

    fn key_info_of(&mut self) -> Option<KeyInfo<'d>> {
        let mut info = self.element(SEQUENCE)?;
        let mut kind = info.element(SEQUENCE)?;
        let bits = info.element(BIT_STRING)?.0;
        if !info.0.is_empty() {
            return None;
        }
        let name = kind.element(OBJECT_ID)?.0;
        let curve = kind.element(OBJECT_ID).map(|curve| curve.0);
        // The first byte is the number of unused bits.
        let (unused, key) = bits.split_first()?;
        (*unused == 0).then_some(KeyInfo { kind: name, curve, key })
    }

    fn unsigned(&mut self) -> Option<&'d [u8]> {
        let bytes = self.element(INTEGER)?.0;
        match bytes {
            [] => None,
            [0, rest @ ..] => Some(rest),
            [first, ..] => (*first < 0x80).then_some(bytes),
        }
    }

    /// The contents of the next element, if it has this tag.
    fn element(&mut self, tag: u8) -> Option<Self> {
        let [found, length, rest @ ..] = self.0 else { return None };
        if *found != tag {
            return None;
        }
        let (length, rest) = match usize::from(*length) {
            short @ 0..0x80 => (short, rest),
            long => {
                let (bytes, rest) =
                    rest.split_at_checked(long - 0x80).filter(|(bytes, _)| bytes.len() <= 4)?;
                let length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                // DER has one form for each length: the shortest.
                if length < 0x80 || bytes.first() == Some(&0) {
                    return None;
                }
                (length, rest)
            }
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Self(contents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_form_of_a_length_is_read() {
        let mut long = vec![INTEGER, 0x81, 0x80];
        long.extend([1; 0x80]);
        assert_eq!(Der::new(&long).element(INTEGER).unwrap().0.len(), 0x80);
        for bytes in [
            &[][..],
            &[INTEGER],
            &[INTEGER, 1],
            &[INTEGER, 0x80, 0, 0],
            &[INTEGER, 0x81, 1, 7],
            &[INTEGER, 0x82, 0, 1, 7],
            &[INTEGER, 0x85, 0, 0, 0, 0, 1, 7],
            &[INTEGER, 0xFF, 7],
            &[BIT_STRING, 1, 7],
        ] {
            assert!(Der::new(bytes).element(INTEGER).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn numbers_are_positive_and_have_no_leading_zeros() {
        for (bytes, number) in [
            (&[INTEGER, 1, 7][..], Some(&[7][..])),
            (&[INTEGER, 2, 0, 0x80], Some(&[0x80])),
            (&[INTEGER, 1, 0], Some(&[])),
            (&[INTEGER, 1, 0x80], None),
            (&[INTEGER, 0], None),
        ] {
            assert_eq!(Der::new(bytes).unsigned(), number, "{bytes:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut bytes = vec![SEQUENCE, 0x82, 0x01, 0x0A];
        for length in 0..40_u8 {
            bytes.extend([SEQUENCE, length, INTEGER, 1, length, BIT_STRING, 2, 0, OBJECT_ID]);
            for end in 0..bytes.len() {
                for start in 0..end.min(8) {
                    let der = Der::new(&bytes[start..end]);
                    assert_eq!(der.certificate(), None);
                    assert_eq!(der.key_info(), None);
                    assert_eq!(der.rsa_key(), None);
                }
            }
        }
    }
}
