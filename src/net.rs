//! Sockets: listeners, and the byte stream under a client's connection: plain TCP, TLS, or a Unix socket.

#[cfg(feature = "acme")]
pub mod acme;
pub mod listener;
pub mod peer;
mod read;
pub mod socket;
pub mod stream;
pub mod tls;
