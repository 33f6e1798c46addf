//! Key sets (JWKS, RFC 7517 §5) and discovery documents (OpenID Connect Discovery 1.0 §3) as issuers publish them.

use serde_json::Map;
use serde_json::Value;
use thiserror::Error;

use crate::auth::claims::parse_object;
use crate::auth::keys::ClaimRules;
use crate::auth::keys::VerificationKey;
use crate::auth::keys::VerificationKeys;
use crate::auth::keys::public_key::PublicKey;
use crate::auth::keys::public_key::PublicKeyError;
use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::algorithm::KeyFamily;
use crate::config::auth::remote_keys::KeyUrl;

/// The most keys of a set that are used. Issuers have a handful.
pub const MAX_KEYS: usize = 100;

/// The longest `kid` in logs, in characters.
const SHOWN_KID: usize = 64;

/// The usable keys of a key set, and why others are not used.
#[derive(Debug)]
pub struct KeySet {
    pub keys: VerificationKeys,
    pub skipped: Vec<SkippedKey>,
}

/// A key that is not used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SkippedKey {
    /// The beginning of its `kid`, for logs; empty if it has none.
    pub kid: String,
    pub reason: SkipReason,
}

/// Why a key of a set is not used.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum SkipReason {
    #[error("is not a JSON object")]
    NotAnObject,
    #[error(transparent)]
    Key(#[from] PublicKeyError),
    #[error("has an \"alg\" that does not sign tokens, or is no algorithm of this kind of key")]
    Algorithm,
    #[error("is for {0}, which is not in `algorithms`")]
    NotAllowed(KeyAlgorithm),
    #[error("has no \"alg\", and `algorithms` has several for this kind of key; list one")]
    Ambiguous,
    #[error("has the kid of an earlier key of the set")]
    Duplicate,
    #[error("comes after {MAX_KEYS} others")]
    TooMany,
}

/// Why a document cannot be used.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum DocumentError {
    #[error("its contents {0}")]
    Json(&'static str),
    #[error("it has no list \"keys\", so it is not a JSON Web Key Set")]
    NoKeys,
    #[error("its \"issuer\" is not the configured issuer; the two must be equal, even in a slash at the end")]
    OtherIssuer,
    #[error("it has no \"jwks_uri\"")]
    NoKeySetUrl,
    #[error("its \"jwks_uri\" {0}")]
    KeySetUrl(&'static str),
}

/// Reads a key set. `allowed` are the algorithms that its keys may have; empty for all with public keys.
pub fn parse_key_set(
    document: &[u8],
    allowed: &[KeyAlgorithm],
    rules: &ClaimRules,
) -> Result<KeySet, DocumentError> {
    let document = parse_object(document).map_err(DocumentError::Json)?;
    let listed = document.get("keys").and_then(Value::as_array).ok_or(DocumentError::NoKeys)?;
    let mut set = KeySet { keys: VerificationKeys::default(), skipped: Vec::new() };
    for jwk in listed {
        let kid = jwk.get("kid").and_then(Value::as_str).unwrap_or_default();
        let key = if set.keys.len() >= MAX_KEYS {
            Err(SkipReason::TooMany)
        } else {
            jwk.as_object().ok_or(SkipReason::NotAnObject).and_then(|jwk| key(jwk, allowed, rules))
        };
        let result = key
            .and_then(|key| set.keys.insert(kid.to_owned(), key).then_some(()).ok_or(SkipReason::Duplicate));
        if let Err(reason) = result {
            set.skipped.push(SkippedKey { kid: kid.chars().take(SHOWN_KID).collect(), reason });
        }
    }
    set.skipped.truncate(MAX_KEYS);
    Ok(set)
}

/// The URL of the key set in a discovery document of this issuer.
pub fn parse_discovery(document: &[u8], issuer: &str) -> Result<KeyUrl, DocumentError> {
    let document = parse_object(document).map_err(DocumentError::Json)?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(DocumentError::OtherIssuer);
    }
    let url = document.get("jwks_uri").and_then(Value::as_str).ok_or(DocumentError::NoKeySetUrl)?;
    KeyUrl::parse(url).map_err(DocumentError::KeySetUrl)
}

fn key(
    jwk: &Map<String, Value>,
    allowed: &[KeyAlgorithm],
    rules: &ClaimRules,
) -> Result<VerificationKey, SkipReason> {
    let key = PublicKey::from_jwk(jwk)?;
    let algorithm = match jwk.get("alg") {
        None => default_algorithm(key.family(), allowed)?,
        Some(name) => name.as_str().and_then(KeyAlgorithm::from_name).ok_or(SkipReason::Algorithm)?,
    };
    if algorithm.family() != key.family() {
        return Err(SkipReason::Algorithm);
    }
    if !allowed.is_empty() && !allowed.contains(&algorithm) {
        return Err(SkipReason::NotAllowed(algorithm));
    }
    Ok(VerificationKey::from_public(algorithm, &key, rules))
}

/// The algorithm of a key without `alg`. OpenID Connect Core 1.0 §15.1 makes RS256 the one that every provider has.
fn default_algorithm(family: KeyFamily, allowed: &[KeyAlgorithm]) -> Result<KeyAlgorithm, SkipReason> {
    let mut candidates = allowed.iter().filter(|algorithm| algorithm.family() == family);
    match (candidates.next(), candidates.next()) {
        (Some(one), None) => return Ok(*one),
        (Some(_), Some(_)) if !allowed.contains(&KeyAlgorithm::Rs256) => return Err(SkipReason::Ambiguous),
        (Some(_) | None, _) => {}
    }
    match family {
        KeyFamily::Rsa => Ok(KeyAlgorithm::Rs256),
        KeyFamily::P256 => Ok(KeyAlgorithm::Es256),
        KeyFamily::P384 => Ok(KeyAlgorithm::Es384),
        KeyFamily::Ed25519 => Ok(KeyAlgorithm::EdDsa),
        KeyFamily::Secret => Err(SkipReason::Algorithm),
    }
}

#[cfg(test)]
mod tests;
