//! `ClientAddress`: where a client connects from.

use std::net::IpAddr;

use crate::config::network;
use crate::net::peer::Peer;

/// Where a client connects from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// The other end of the socket: the client, or a proxy.
    pub peer: Peer,
    /// The client's address as the peer forwards it, if the peer is a trusted proxy.
    pub forwarded: Option<IpAddr>,
}

impl ClientAddress {
    /// The client's own address, as far as it is known; `None` over a Unix socket.
    pub fn ip(self) -> Option<IpAddr> {
        self.forwarded.or_else(|| self.peer.ip().map(network::plain))
    }
}
