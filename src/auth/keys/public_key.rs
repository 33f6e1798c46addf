//! `PublicKey`: a public key from PEM, a certificate or a JWK, checked before it is used.

use aws_lc_rs::signature;
use aws_lc_rs::signature::ParsedPublicKey;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::Map;
use serde_json::Value;
use thiserror::Error;

use crate::auth::claims::parse_object;
use crate::auth::keys::der::Der;
use crate::auth::keys::der::KeyInfo;
use crate::config::auth::algorithm::KeyFamily;

/// RFC 7518 §3.3: at least 2048 bits. aws-lc verifies with at most 8192.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const MAX_EXPONENT_BYTES: usize = 4;

/// Object identifiers in DER: RSA, RSA for PSS alone, elliptic curves, Ed25519, P-256, P-384.
const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A];
const ELLIPTIC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const ED25519: &[u8] = &[0x2B, 0x65, 0x70];
const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];

/// A public key that can verify signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why a public key cannot be used. Each message continues the sentence `the key "…" …`, and shows nothing of the key.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum PublicKeyError {
    #[error(
        "is a private key, and Tidegate needs only the public one: remove the private key from this machine, and write the \
         output of `openssl pkey -in private.pem -pubout`"
    )]
    Private,
    #[error(
        "has a secret (\"kty\" is \"oct\"); write a public key, or the secret as `secret` with \"HS256\""
    )]
    Symmetric,
    #[error(
        "is neither PEM (-----BEGIN PUBLIC KEY----- or -----BEGIN CERTIFICATE-----) nor a JWK; copy the whole key, with its \
         first and last line"
    )]
    Unknown,
    #[error(
        "contains several keys or certificates; keep the issuer's own, and list others as keys of their own"
    )]
    Several,
    #[error("is damaged: {0}; copy the whole key again")]
    Damaged(&'static str),
    #[error("is a key of the kind {kind}, which is not supported; use RSA, P-256, P-384 or Ed25519")]
    Unsupported { kind: String },
    #[error("is an RSA key of {bits} bits; it must have at least 2048 and at most 8192")]
    RsaSize { bits: usize },
    #[error("is not for signatures (its \"use\" or \"key_ops\"); copy the key that signs tokens")]
    NotForSignatures,
}

impl PublicKey {
    /// Reads PEM or a JWK.
    pub(crate) fn parse(text: &str) -> Result<Self, PublicKeyError> {
        let text = text.trim();
        let key = if text.starts_with('{') {
            let jwk = parse_object(text.as_bytes()).map_err(|_| PublicKeyError::Damaged("it is not JSON"))?;
            return Self::from_jwk(&jwk);
        } else {
            Self::from_pem(text)?
        };
        key.checked()
    }

    /// Reads a JWK (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2). Other members than those of the key are not looked at, but
    /// for its use.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, PublicKeyError> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let missing = PublicKeyError::Damaged("a member is missing or not base64url");
        let bytes = |name: &str| {
            text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or_else(|| missing.clone())
        };
        let kind = text("kty").ok_or(PublicKeyError::Damaged("\"kty\" is missing or not a text"))?;
        if kind == "oct" {
            return Err(PublicKeyError::Symmetric);
        }
        if jwk.contains_key("d") {
            return Err(PublicKeyError::Private);
        }
        let verifies = |operations: &Value| {
            operations.as_array().is_some_and(|list| list.iter().any(|one| one.as_str() == Some("verify")))
        };
        if jwk.get("use").is_some_and(|usage| usage.as_str() != Some("sig"))
            || jwk.get("key_ops").is_some_and(|operations| !verifies(operations))
        {
            return Err(PublicKeyError::NotForSignatures);
        }
        let point = || Ok([vec![4], bytes("x")?, bytes("y")?].concat());
        let key = match (kind, text("crv").unwrap_or_default()) {
            ("RSA", _) => Self::rsa(&bytes("n")?, &bytes("e")?),
            ("EC", "P-256") => Self::P256(point()?),
            ("EC", "P-384") => Self::P384(point()?),
            ("OKP", "Ed25519") => Self::Ed25519(bytes("x")?),
            (kind, curve) => {
                let kind = [kind, curve].join(" ");
                let kind: String =
                    kind.trim().chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(32).collect();
                return Err(PublicKeyError::Unsupported { kind });
            }
        };
        key.checked()
    }

    fn from_pem(text: &str) -> Result<Self, PublicKeyError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(PublicKeyError::Private);
        }
        let (label, der) = pem_block(text)?;
        let der = Der::new(&der);
        let damaged = || PublicKeyError::Damaged("it is not valid DER");
        match label {
            "PUBLIC KEY" => Self::from_key_info(&der.key_info().ok_or_else(damaged)?),
            "CERTIFICATE" => Self::from_key_info(&der.certificate().ok_or_else(damaged)?),
            "RSA PUBLIC KEY" => {
                let (modulus, exponent) = der.rsa_key().ok_or_else(damaged)?;
                Ok(Self::rsa(modulus, exponent))
            }
            _ => Err(PublicKeyError::Unknown),
        }
    }

    fn from_key_info(info: &KeyInfo<'_>) -> Result<Self, PublicKeyError> {
        let unsupported = |kind: &str| PublicKeyError::Unsupported { kind: kind.to_owned() };
        match info.kind {
            RSA | RSA_PSS => {
                let damaged = PublicKeyError::Damaged("it is not valid DER");
                let (modulus, exponent) = Der::new(info.key).rsa_key().ok_or(damaged)?;
                Ok(Self::rsa(modulus, exponent))
            }
            ELLIPTIC => match info.curve {
                Some(P256) => Ok(Self::P256(info.key.to_vec())),
                Some(P384) => Ok(Self::P384(info.key.to_vec())),
                Some(_) | None => Err(unsupported("EC with another curve")),
            },
            ED25519 => Ok(Self::Ed25519(info.key.to_vec())),
            _ => Err(unsupported("that its object identifier names")),
        }
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        let without_zeros = |number: &[u8]| {
            let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
            number[start..].to_vec()
        };
        Self::Rsa { modulus: without_zeros(modulus), exponent: without_zeros(exponent) }
    }

    /// Lets the cryptographic library parse the key, so that one it would always reject shows at once.
    fn checked(self) -> Result<Self, PublicKeyError> {
        let is_valid = match &self {
            Self::Rsa { modulus, exponent } => {
                let unused = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
                let bits = 8 * modulus.len() - unused;
                if !RSA_BITS.contains(&bits) {
                    return Err(PublicKeyError::RsaSize { bits });
                }
                // An exponent of 1 would make everything a signature of itself. A long one would make each verification
                // slow; 65537 has three bytes.
                let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                is_odd(exponent)
                    && *exponent != [1]
                    && exponent.len() <= MAX_EXPONENT_BYTES
                    && is_odd(modulus)
                    && key.to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256).is_ok()
            }
            Self::P256(point) => {
                point.len() == 65 && ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).is_ok()
            }
            Self::P384(point) => {
                point.len() == 97 && ParsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).is_ok()
            }
            Self::Ed25519(key) => key.len() == 32 && ParsedPublicKey::new(&signature::ED25519, key).is_ok(),
        };
        if is_valid { Ok(self) } else { Err(PublicKeyError::Damaged("its numbers are no key")) }
    }

    pub(crate) fn family(&self) -> KeyFamily {
        match self {
            Self::Rsa { .. } => KeyFamily::Rsa,
            Self::P256(_) => KeyFamily::P256,
            Self::P384(_) => KeyFamily::P384,
            Self::Ed25519(_) => KeyFamily::Ed25519,
        }
    }

    pub(super) fn decoding_key(&self) -> DecodingKey {
        match self {
            Self::Rsa { modulus, exponent } => DecodingKey::from_rsa_raw_components(modulus, exponent),
            Self::P256(point) | Self::P384(point) => DecodingKey::from_ec_der(point),
            Self::Ed25519(key) => DecodingKey::from_ed_der(key),
        }
    }
}

/// The label and the contents of the only block.
fn pem_block(text: &str) -> Result<(&str, Vec<u8>), PublicKeyError> {
    let (_, rest) = text.split_once("-----BEGIN ").ok_or(PublicKeyError::Unknown)?;
    let (label, rest) = rest.split_once("-----").ok_or(PublicKeyError::Unknown)?;
    let end = format!("-----END {label}-----");
    let (body, rest) = rest.split_once(&end).ok_or(PublicKeyError::Damaged("its last line is missing"))?;
    if rest.contains("-----BEGIN ") {
        return Err(PublicKeyError::Several);
    }
    let body: String = body.split_ascii_whitespace().collect();
    let contents = STANDARD.decode(body).map_err(|_| PublicKeyError::Damaged("it is not base64"))?;
    Ok((label, contents))
}
