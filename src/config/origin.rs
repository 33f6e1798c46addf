//! `WebOrigin`: the origin of a page, from the configuration or from the header `Origin`, normalised.

use std::fmt;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// The longest origin: a scheme, the longest host name (253 bytes) and a port.
const MAX_BYTES: usize = 300;
const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// An origin (RFC 6454 §4): scheme, host and port. Two origins are the same if their texts are: scheme and host are in
/// lower case, and a port that is the scheme's default is left out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WebOrigin(Box<str>);

/// Why a text is not an origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OriginError {
    Empty,
    TooLong,
    /// The origin of a page that has none, such as a sandboxed frame.
    Null,
    NotAscii,
    NoScheme,
    /// Pages do not have this scheme.
    BadScheme,
    Wildcard,
    TrailingSlash,
    /// A path, a query or a fragment.
    Path,
    UserInformation,
    TrailingDot,
    BadHost,
    BadPort,
}

impl WebOrigin {
    /// Parses the serialisation of an origin (RFC 6454 §6.1): `scheme://host`, or `scheme://host:port`. The case of
    /// scheme and host does not matter.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        match text {
            "" => return Err(OriginError::Empty),
            _ if text.len() > MAX_BYTES => return Err(OriginError::TooLong),
            _ if !text.is_ascii() => return Err(OriginError::NotAscii),
            _ if text.eq_ignore_ascii_case("null") => return Err(OriginError::Null),
            _ if text.contains('*') => return Err(OriginError::Wildcard),
            _ => {}
        }
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://").ok_or(OriginError::NoScheme)?;
        check_scheme(scheme)?;
        if let Some((authority, path)) = authority.split_once(['/', '?', '#', '\\']) {
            let slash = path.is_empty() && text.ends_with('/') && !authority.is_empty();
            return Err(if slash { OriginError::TrailingSlash } else { OriginError::Path });
        }
        if authority.contains('@') {
            return Err(OriginError::UserInformation);
        }
        let (host, port) = split_port(authority)?;
        let host = normalised_host(host)?;
        let port = port.map(parse_port).transpose()?;
        let default_port = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let shown_port = port.filter(|port| Some(*port) != default_port);
        let port = shown_port.map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self(format!("{scheme}://{host}{port}").into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the page comes from this machine: `localhost`, `127.0.0.1` or `[::1]`, with any port.
    pub fn is_loopback(&self) -> bool {
        let host = ["http://", "https://"].iter().find_map(|scheme| self.0.strip_prefix(scheme));
        let Some(host) = host else { return false };
        ["localhost", "127.0.0.1", "[::1]"]
            .iter()
            .any(|name| host.strip_prefix(name).is_some_and(|port| port.is_empty() || port.starts_with(':')))
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// RFC 3986 §3.1. Apps such as `capacitor://localhost` have schemes of their own.
fn check_scheme(scheme: &str) -> Result<(), OriginError> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(is_legal) {
        return Err(OriginError::NoScheme);
    }
    // All files would share one origin, and no page has the origin of a WebSocket.
    if ["file", "ws", "wss", "data", "blob", "about", "javascript"].contains(&scheme) {
        return Err(OriginError::BadScheme);
    }
    Ok(())
}

/// Host and port. The brackets of an IPv6 address belong to the host.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), OriginError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (_, after) = rest.split_once(']').ok_or(OriginError::BadHost)?;
        let host = &authority[..authority.len() - after.len()];
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(OriginError::BadHost),
        };
    }
    Ok(match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

fn normalised_host(host: &str) -> Result<String, OriginError> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| OriginError::BadHost)?;
        return Ok(format!("[{address}]"));
    }
    if host.len() > MAX_HOST_BYTES {
        return Err(OriginError::BadHost);
    }
    if host.len() > 1 && host.ends_with('.') {
        return Err(OriginError::TrailingDot);
    }
    let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| (1..=MAX_LABEL_BYTES).contains(&label.len()) && label.chars().all(is_legal);
    if !host.split('.').all(is_label) {
        return Err(OriginError::BadHost);
    }
    // A host whose last label is a number is an address (WHATWG URL, "ends in a number").
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.chars().all(|c| c.is_ascii_digit()) || last.starts_with("0x");
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(OriginError::BadHost);
    }
    Ok(host.to_owned())
}

fn parse_port(port: &str) -> Result<u16, OriginError> {
    let is_plain =
        port.starts_with(|c: char| ('1'..='9').contains(&c)) && port.chars().all(|c| c.is_ascii_digit());
    port.parse().ok().filter(|_| is_plain).ok_or(OriginError::BadPort)
}

impl OriginError {
    /// What is wrong, after the text: "is too long".
    pub fn words(self) -> &'static str {
        match self {
            Self::Empty => "is empty",
            Self::TooLong => "is too long for an origin",
            Self::Null => "is not the origin of one page, and is never allowed",
            Self::NotAscii => "has characters that no origin has",
            Self::NoScheme => "has no scheme",
            Self::BadScheme => "has a scheme that no page has",
            Self::Wildcard => "has a wildcard, and origins are compared as they are",
            Self::TrailingSlash => "ends with a slash, which no origin does",
            Self::Path => "has a path, a query or a fragment, which no origin has",
            Self::UserInformation => "has a user name, which no origin has",
            Self::TrailingDot => "has a dot at the end of its host",
            Self::BadHost => "has no valid host",
            Self::BadPort => "has no valid port",
        }
    }
}

#[cfg(test)]
mod tests;
