//! `ClientAddress`: where a client connects from.

use std::net::IpAddr;
use std::net::SocketAddr;

/// Where a client connects from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// The other end of the socket: the client, or a proxy.
    pub peer: SocketAddr,
    /// The client's address as the peer forwards it, if the peer is a trusted proxy.
    pub forwarded: Option<IpAddr>,
}
