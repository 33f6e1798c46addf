//! Where a credential may be in a handshake, and in which order. Whether it is any good is not decided here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::config::secret::Secret;

/// Kubernetes' convention for browsers, which cannot set headers on a WebSocket.
const BEARER_ITEM: &str = "base64url.bearer.";

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credential {
    Token(Secret),
}

/// What a client presented when it connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    pub credential: Option<Credential>,
    /// The subprotocols on offer, in the client's order. The item that carries a token is not among them, so
    /// that an answer cannot echo it.
    pub subprotocols: Vec<String>,
}

impl Credentials {
    /// The token or key, if one was shown.
    pub fn token(&self) -> Option<&str> {
        match &self.credential {
            Some(Credential::Token(token)) => Some(token.expose()),
            _ => None,
        }
    }
}

/// Reads the `Authorization` header and all `Sec-WebSocket-Protocol` headers. `Authorization` comes first.
pub fn from_handshake<'h>(
    authorization: Option<&str>,
    subprotocol_headers: impl Iterator<Item = &'h str>,
) -> Result<Credentials, CredentialError> {
    let (bearer_items, others): (Vec<_>, Vec<_>) = subprotocol_headers
        .flat_map(|header| header.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .partition(|item| item.starts_with(BEARER_ITEM));
    let from_item = match bearer_items.as_slice() {
        [] => None,
        [_] if others.is_empty() => return Err(CredentialError::OnlyBearerItem),
        [item] => Some(token_of_item(item)?),
        [_, _, ..] => return Err(CredentialError::SeveralBearerItems),
    };
    let from_header = authorization.map(token_of_header).transpose()?;
    Ok(Credentials {
        credential: from_header.or(from_item).map(Credential::Token),
        subprotocols: others.into_iter().map(str::to_owned).collect(),
    })
}

/// The messages never contain what was presented.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialError {
    #[error("the Authorization header has an unknown scheme; use \"Bearer\"")]
    UnknownScheme,
    #[error("the Authorization header has no single token after \"Bearer\"; send \"Bearer <token>\"")]
    MalformedHeader,
    #[error("Sec-WebSocket-Protocol has several bearer items; send one")]
    SeveralBearerItems,
    #[error("Sec-WebSocket-Protocol has a bearer item and no subprotocol; add the one that is spoken here")]
    OnlyBearerItem,
    #[error(
        "the bearer item in Sec-WebSocket-Protocol is not base64url; encode the token so, without padding"
    )]
    MalformedItem,
}

fn token_of_header(header: &str) -> Result<Secret, CredentialError> {
    let header = header.trim();
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(CredentialError::UnknownScheme);
    }
    token_from(token.trim_start_matches(' ')).ok_or(CredentialError::MalformedHeader)
}

fn token_of_item(item: &str) -> Result<Secret, CredentialError> {
    let encoded = item.strip_prefix(BEARER_ITEM).unwrap_or_default();
    let decoded = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| CredentialError::MalformedItem)?;
    let token = std::str::from_utf8(&decoded).map_err(|_| CredentialError::MalformedItem)?;
    token_from(token).ok_or(CredentialError::MalformedItem)
}

/// RFC 6750 §2.1: a token is visible ASCII, at least one character.
fn token_from(text: &str) -> Option<Secret> {
    let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then(|| Secret::new(text))
}

#[cfg(test)]
mod tests;
