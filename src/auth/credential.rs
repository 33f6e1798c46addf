//! Finds the credential in the headers of a handshake. It does not verify it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::config::secret::Secret;

/// The prefix of the subprotocol that carries a token: the convention of Kubernetes for browsers, which cannot set
/// headers for a WebSocket.
pub const BEARER_ITEM: &str = "base64url.bearer.";

/// What the headers of a handshake contain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    token: Option<Secret>,
    /// The offered subprotocols in the client's order, without the one that carries a token, so that no response can
    /// echo the token.
    pub subprotocols: Vec<String>,
}

impl Credentials {
    /// The token or API key, if there is one.
    pub fn token(&self) -> Option<&str> {
        self.token.as_ref().map(Secret::expose)
    }
}

/// Parses `Authorization` and all `Sec-WebSocket-Protocol` headers. A credential in `Authorization` takes precedence.
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
        token: from_header.or(from_item),
        subprotocols: others.into_iter().map(str::to_owned).collect(),
    })
}

/// The messages never contain the credential.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialError {
    #[error("the header `Authorization` has an unsupported scheme: use \"Bearer\"")]
    UnknownScheme,
    #[error("the header `Authorization` must have exactly one token: send \"Bearer <token>\"")]
    MalformedHeader,
    #[error("`Sec-WebSocket-Protocol` has several tokens: send one")]
    SeveralBearerItems,
    #[error(
        "`Sec-WebSocket-Protocol` has a token and no subprotocol: offer this endpoint's subprotocol as well"
    )]
    OnlyBearerItem,
    #[error(
        "the token in `Sec-WebSocket-Protocol` is malformed: send \"base64url.bearer.<token>\", with the token in \
         base64url without padding"
    )]
    MalformedItem,
}

/// RFC 6750 §2.1: the scheme is `Bearer`. RFC 9110 §11.1: its case does not matter, and spaces separate it from the
/// token.
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

/// A token is one or more visible ASCII characters. RFC 6750 §2.1 allows fewer characters; API keys may have others.
fn token_from(text: &str) -> Option<Secret> {
    // Without an early exit, the compiler checks many bytes at once.
    let is_visible = text.bytes().fold(true, |so_far, byte| so_far & byte.is_ascii_graphic());
    let is_token = !text.is_empty() && is_visible;
    is_token.then(|| Secret::new(text))
}

#[cfg(test)]
mod tests;
