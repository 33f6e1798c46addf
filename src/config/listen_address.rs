//! `ListenAddress`: where a listener accepts connections.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use tidegate_document::diagnostic::ValueError;

/// What the address of a Unix socket begins with.
const UNIX: &str = "unix:";
/// The longest path of a Unix socket that every system supports, in bytes.
const MAX_PATH_BYTES: usize = 103;

/// Where a listener accepts connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenAddress {
    /// An IP address and a port; port 0 is any free one.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// The IP address and port, if it is not a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether only proxies on this machine use it.
    pub(super) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Whether each use of it is another address: port 0 is any free port.
    pub(super) fn is_any_port(&self) -> bool {
        self.tcp().is_some_and(|address| address.port() == 0)
    }

    /// Whether other machines can connect.
    pub(super) fn is_public(&self) -> bool {
        self.tcp().is_some_and(|address| !address.ip().is_loopback())
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// The error continues a sentence that starts with the text.
impl FromStr for ListenAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let Some(path) = text.strip_prefix(UNIX) else {
            return tcp(text).map(Self::Tcp);
        };
        if !path.starts_with('/') || path.ends_with('/') {
            let help =
                "write unix: and the absolute path of a file, such as \"unix:/run/tidegate/tidegate.sock\"";
            return Err(ValueError::new("is not the path of a Unix socket", help));
        }
        if path.len() > MAX_PATH_BYTES {
            let help = format!("choose a path of at most {MAX_PATH_BYTES} bytes");
            return Err(ValueError::new("is too long for the path of a Unix socket", help));
        }
        Ok(Self::Unix(path.into()))
    }
}

/// Parses an IP address and a port. The error continues a sentence that starts with the text.
pub(super) fn tcp(text: &str) -> Result<SocketAddr, ValueError> {
    let help =
        "write both, such as \"127.0.0.1:8080\", \"0.0.0.0:8080\" for every interface, or \"[::1]:8080\"";
    text.trim().parse().map_err(|_| ValueError::new("is not an IP address with a port", help))
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["127.0.0.1:8080", "[::]:0", "unix:/run/tidegate/tidegate.sock"] {
            assert_eq!(ListenAddress::from_str(text).unwrap().to_string(), text);
        }
        let longest = format!("unix:/{}", "a".repeat(MAX_PATH_BYTES - 1));
        assert!(ListenAddress::from_str(&longest).is_ok());
        for text in ["", "localhost:80", "unix:", "unix:a.sock", "unix:/run/", &format!("{longest}a")] {
            assert!(ListenAddress::from_str(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_machines_reach_neither_loopback_nor_unix_sockets() {
        let is_public = |text: &str| ListenAddress::from_str(text).unwrap().is_public();
        assert!(is_public("0.0.0.0:80") && is_public("192.0.2.1:80") && is_public("[::]:80"));
        assert!(!is_public("127.0.0.1:80") && !is_public("[::1]:80") && !is_public("unix:/a"));
    }
}
