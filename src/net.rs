//! Sockets: listeners, the byte stream under a client's connection (plain TCP, TLS, or a Unix socket), and a small HTTP
//! client.

#[cfg(feature = "acme")]
pub mod acme;
pub mod client_tls;
pub mod fetch;
pub mod http_exchange;
pub mod listen;
pub mod listener;
#[cfg(feature = "test-hooks")]
pub mod memory;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod peer;
mod read;
pub mod socket;
pub mod stream;
pub mod tls;
