//! JSON Web Tokens: check one against a key, and mint one. No clock, no I/O.
//!
//! jsonwebtoken verifies the signature and validates the claims. What it does not check, or not strictly enough, is
//! checked here before and by `Claims` after: sizes, duplicate names, `crit` and `cty`, the only algorithm of a key,
//! and times.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use jsonwebtoken::errors::ErrorKind;
use serde_json::Map;
use serde_json::Value;

use crate::auth::claims::Claims;
use crate::auth::claims::parse_object;
use crate::auth::error::AuthError;
use crate::auth::keys::VerificationKey;
use crate::auth::keys::library_algorithm;
use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::secret::Secret;

/// A signed token (RFC 7515, compact) whose header is well-formed. Nothing of it is verified.
#[derive(Debug)]
pub struct Jws<'t> {
    token: &'t str,
    header: Map<String, Value>,
    claims: &'t str,
    signature: &'t str,
}

/// The claims of a token with a valid signature.
#[derive(Debug)]
pub struct SignedClaims {
    pub claims: Claims,
    /// What jsonwebtoken objects to. `Claims` finds the same and says it more exactly.
    pub objection: Option<AuthError>,
}

impl<'t> Jws<'t> {
    /// Splits a token of at most `max` bytes and checks its header. Keys and URLs in the header (`jwk`, `jku`, `x5u`,
    /// `x5c`) are ignored.
    pub fn parse(token: &'t str, max: usize) -> Result<Self, AuthError> {
        if token.len() > max {
            return Err(AuthError::TooLong { max });
        }
        let (message, signature) = token.rsplit_once('.').ok_or_else(not_three_segments)?;
        let (header, claims) = message.split_once('.').ok_or_else(not_three_segments)?;
        if claims.contains('.') {
            return Err(not_three_segments());
        }
        let header = parse_object(&decode(header)?);
        let header = header.map_err(|how| AuthError::Unreadable { part: "header fields", how })?;
        // RFC 7515 §4.1.11: a token with a critical extension that is not understood is invalid; Tidegate understands
        // none. jsonwebtoken 12 would accept `b64`.
        if header.contains_key("crit") {
            return Err(AuthError::CriticalHeader);
        }
        if header_text(&header, "cty")?.is_some_and(|cty| is_media_type(cty, "JWT")) {
            return Err(AuthError::NestedToken);
        }
        Ok(Self { token, header, claims, signature })
    }

    /// The claims, which anyone may have written.
    pub fn unverified_claims(&self) -> Result<Claims, AuthError> {
        Claims::parse(&decode(self.claims)?)
    }

    pub fn kid(&self) -> Result<Option<&str>, AuthError> {
        header_text(&self.header, "kid")
    }

    /// The header `typ` must be one of these types. Empty: any.
    pub fn check_type(&self, types: &[String]) -> Result<(), AuthError> {
        let typ = header_text(&self.header, "typ")?;
        let is_accepted = |typ: &str| types.iter().any(|accepted| is_media_type(typ, accepted));
        if types.is_empty() || typ.is_some_and(is_accepted) {
            return Ok(());
        }
        Err(AuthError::WrongTokenType { name: "typ".to_owned() })
    }

    /// Checks algorithm and signature. The claims must still be checked.
    pub fn verify(&self, key: &VerificationKey) -> Result<SignedClaims, AuthError> {
        if header_text(&self.header, "alg")? != Some(key.algorithm.name()) {
            return Err(AuthError::WrongAlgorithm);
        }
        let checked = jsonwebtoken::decode::<Claims>(self.token, &key.decoding, &key.validation);
        let error = match checked {
            Ok(token) => return Ok(SignedClaims { claims: token.claims, objection: None }),
            Err(error) => error.into_kind(),
        };
        // Its error for a signature that is no base64 is the same as for other parts.
        decode(self.signature)?;
        let objection = match error {
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
                return Err(AuthError::WrongAlgorithm);
            }
            // These come after the signature.
            ErrorKind::InvalidIssuer => AuthError::WrongIssuer,
            ErrorKind::InvalidAudience => AuthError::WrongAudience,
            ErrorKind::MissingRequiredClaim(claim) => AuthError::MissingClaim { claim },
            ErrorKind::InvalidClaimFormat(claim) => AuthError::BadClaim { claim },
            // The header comes before the signature, and the claims after it.
            ErrorKind::InvalidToken => return Err(bad_header()),
            ErrorKind::Json(_) | ErrorKind::Utf8(_) | ErrorKind::Base64(_) => {
                if jsonwebtoken::decode_header(self.token).is_err() {
                    return Err(bad_header());
                }
                AuthError::Malformed { problem: "a registered claim has the wrong type" }
            }
            ErrorKind::InvalidSignature
            | ErrorKind::InvalidEcdsaKey
            | ErrorKind::InvalidEddsaKey
            | ErrorKind::InvalidRsaKey(_)
            | ErrorKind::RsaFailedSigning
            | ErrorKind::Signing(_)
            | ErrorKind::UnsupportedAlgorithm
            | ErrorKind::InvalidKeyFormat
            | ErrorKind::ExpiredSignature
            | ErrorKind::InvalidSubject
            | ErrorKind::ImmatureSignature
            | ErrorKind::MissingAlgorithm
            | ErrorKind::Provider(_)
            | _ => return Err(AuthError::BadSignature),
        };
        Ok(SignedClaims { claims: self.unverified_claims()?, objection: Some(objection) })
    }
}

/// The `sub` of a token, valid or not. Only for logs.
pub fn claimed_user(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, claims) = (parts.next()?, parts.next()?);
    let claims = Claims::parse(&decode(claims).ok()?).ok()?;
    claims.subject().ok().map(str::to_owned)
}

/// A token for development and tests.
pub fn mint_hs256(secret: &Secret, kid: Option<&str>, claims: &Value) -> Result<String, AuthError> {
    mint_as(KeyAlgorithm::Hs256, None, secret, kid, claims)
}

/// The same with any algorithm that takes a secret, and with another `typ` than `JWT`.
pub fn mint_as(
    algorithm: KeyAlgorithm,
    typ: Option<&str>,
    secret: &Secret,
    kid: Option<&str>,
    claims: &Value,
) -> Result<String, AuthError> {
    let mut header = Header::new(library_algorithm(algorithm));
    header.typ = typ.map(str::to_owned).or(header.typ);
    header.kid = kid.map(str::to_owned);
    EncodingKey::from_secret(secret.expose().as_bytes())
        .and_then(|key| jsonwebtoken::encode(&header, claims, &key))
        .map_err(|error| AuthError::Signing { problem: error.to_string() })
}

fn header_text<'h>(header: &'h Map<String, Value>, name: &str) -> Result<Option<&'h str>, AuthError> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(AuthError::Malformed { problem: "its \"alg\", \"kid\", \"typ\" or \"cty\" is not a string" })
        }
    }
}

/// RFC 7515 §4.1.9: `application/` may be omitted. Media types are case-insensitive (RFC 2045 §5.1).
fn is_media_type(named: &str, accepted: &str) -> bool {
    short_media_type(named).eq_ignore_ascii_case(short_media_type(accepted))
}

fn short_media_type(name: &str) -> &str {
    const PREFIX: &str = "application/";
    match name.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) && !rest.contains('/') => rest,
        _ => name,
    }
}

pub(super) fn decode(segment: &str) -> Result<Vec<u8>, AuthError> {
    let problem = "a segment is not base64url without padding";
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| AuthError::Malformed { problem })
}

fn bad_header() -> AuthError {
    AuthError::Malformed { problem: "a field of its header has the wrong type" }
}

fn not_three_segments() -> AuthError {
    AuthError::Malformed { problem: "it does not have three segments between dots" }
}

#[cfg(test)]
mod tests;
