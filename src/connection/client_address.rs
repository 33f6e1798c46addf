//! `ClientAddress`: where a client connects from.

use std::net::IpAddr;

use crate::net::peer::Peer;

/// Where a client connects from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// The other end of the socket: the client, or a proxy.
    pub peer: Peer,
    /// The client's address as the peer forwards it, if the peer is a trusted proxy.
    pub forwarded: Option<IpAddr>,
}
