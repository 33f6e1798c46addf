//! JSON Web Tokens: verify one with the configured keys, and mint one. No clock, no I/O.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use serde_json::Map;
use serde_json::Value;

use crate::auth::claims::Claims;
use crate::auth::claims::parse_object;
use crate::auth::error::AuthError;
use crate::auth::setup_error::KeyError;
use crate::auth::setup_error::MIN_SECRET_BYTES;
use crate::config::auth::AuthConfig;
use crate::config::auth::KeyAlgorithm;
use crate::config::auth::KeyConfig;
use crate::config::secret::Secret;

/// The verification keys by `kid`. Each key has one algorithm, whatever `alg` a token has (RFC 8725 §3.1).
pub struct VerificationKeys(HashMap<String, Key>);

struct Key {
    algorithm: KeyAlgorithm,
    decoding: DecodingKey,
}

impl VerificationKeys {
    /// Signs and verifies a token with each key, so that a missing crypto backend shows at startup.
    pub fn new(configs: Vec<KeyConfig>) -> Result<Self, KeyError> {
        let several = configs.len() > 1;
        let mut keys = HashMap::new();
        for KeyConfig { kid, algorithm, secret } in configs {
            if several && kid.is_empty() {
                return Err(KeyError::Unnamed);
            }
            let key = match algorithm {
                KeyAlgorithm::Hs256 => hs256_key(&kid, &secret)?,
            };
            if keys.insert(kid.clone(), key).is_some() {
                return Err(KeyError::Duplicate { kid });
            }
        }
        Ok(Self(keys))
    }

    /// The key with the token's `kid`; without `kid`, the only key there is. Keys and URLs in the token (`jwk`, `jku`,
    /// `x5u`, `x5c`) are ignored.
    fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match kid {
            Some(kid) => self.0.get(kid),
            None if self.0.len() == 1 => self.0.values().next(),
            None => None,
        }
    }
}

impl fmt::Debug for VerificationKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// Checks the header and the signature of a token, and returns its claims. The claims themselves are not checked.
pub fn verify(token: &str, keys: &VerificationKeys, config: &AuthConfig) -> Result<Claims, AuthError> {
    if token.len() > config.max_token_bytes {
        return Err(AuthError::TooLong { max: config.max_token_bytes });
    }
    let (message, signature) = token.rsplit_once('.').ok_or_else(not_three_segments)?;
    let (header, claims) = message.split_once('.').ok_or_else(not_three_segments)?;
    if claims.contains('.') {
        return Err(not_three_segments());
    }
    let header = parse_object(&decode(header)?);
    let header = header.map_err(|how| AuthError::Unreadable { part: "header fields", how })?;
    check_header(&header, config)?;
    let key = keys.find(header_text(&header, "kid")?).ok_or(AuthError::UnknownKey)?;
    if header_text(&header, "alg")? != Some(algorithm_name(key.algorithm)) {
        return Err(AuthError::WrongAlgorithm);
    }
    if !is_signed(message, signature, key)? {
        return Err(AuthError::BadSignature);
    }
    Claims::parse(&decode(claims)?)
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
    mint_hs256_as(None, secret, kid, claims)
}

/// The same with another `typ` than `JWT`.
pub fn mint_hs256_as(
    typ: Option<&str>,
    secret: &Secret,
    kid: Option<&str>,
    claims: &Value,
) -> Result<String, AuthError> {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = typ.map(str::to_owned).or(header.typ);
    header.kid = kid.map(str::to_owned);
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&header, claims, &key)
        .map_err(|error| AuthError::Signing { problem: error.to_string() })
}

fn hs256_key(kid: &str, secret: &Secret) -> Result<Key, KeyError> {
    let bytes = secret.expose().len();
    if bytes < MIN_SECRET_BYTES {
        return Err(KeyError::WeakSecret { kid: kid.to_owned(), bytes });
    }
    let key = Key {
        algorithm: KeyAlgorithm::Hs256,
        decoding: DecodingKey::from_secret(secret.expose().as_bytes()),
    };
    let failed = |problem: String| KeyError::SelfTest { kid: kid.to_owned(), problem };
    let token = mint_hs256(secret, None, &Value::Null).map_err(|error| failed(error.to_string()))?;
    let verified = match token.rsplit_once('.') {
        Some((message, signature)) => is_signed(message, signature, &key),
        None => Err(not_three_segments()),
    };
    match verified {
        Ok(true) => Ok(key),
        Ok(false) => Err(failed("the signature does not match".to_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Checks the header parameters other than `kid` and `alg`.
fn check_header(header: &Map<String, Value>, config: &AuthConfig) -> Result<(), AuthError> {
    // RFC 7515 §4.1.11: a token with a critical extension that is not understood is invalid; Tidegate understands none.
    if header.contains_key("crit") {
        return Err(AuthError::CriticalHeader);
    }
    if header_text(header, "cty")?.is_some_and(|cty| is_media_type(cty, "JWT")) {
        return Err(AuthError::NestedToken);
    }
    let typ = header_text(header, "typ")?;
    let types = &config.token_types;
    let is_header = config.token_type_claim.is_empty();
    if is_header
        && !types.is_empty()
        && !typ.is_some_and(|typ| types.iter().any(|accepted| is_media_type(typ, accepted)))
    {
        return Err(AuthError::WrongTokenType { name: "typ".to_owned() });
    }
    Ok(())
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

fn algorithm_name(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::Hs256 => "HS256",
    }
}

fn is_signed(message: &str, signature: &str, key: &Key) -> Result<bool, AuthError> {
    decode(signature)?;
    let algorithm = match key.algorithm {
        KeyAlgorithm::Hs256 => Algorithm::HS256,
    };
    jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.decoding, algorithm)
        .map_err(|_| AuthError::BadSignature)
}

pub(super) fn decode(segment: &str) -> Result<Vec<u8>, AuthError> {
    let problem = "a segment is not base64url without padding";
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| AuthError::Malformed { problem })
}

fn not_three_segments() -> AuthError {
    AuthError::Malformed { problem: "it does not have three segments between dots" }
}

#[cfg(test)]
mod tests;
