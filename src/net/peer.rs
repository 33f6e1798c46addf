//! `Peer`: the other end of a socket.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use crate::config::network;

/// What limits per address use for clients whose address is unknown.
pub const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The other end of a socket: a client, or a proxy in front of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A TCP socket with this address.
    Tcp(SocketAddr),
    /// A Unix socket, which has no address. Only a proxy on this machine uses one.
    Unix,
}

impl Peer {
    /// The IP address; `None` for a Unix socket.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }

    /// The address that limits per address use.
    pub fn limited_address(self) -> IpAddr {
        self.ip().map_or(NO_ADDRESS, network::plain)
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// For the log: the address, or `unix`.
impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix => out.write_str("unix"),
        }
    }
}
