//! The byte stream under a client's connection: plain TCP or TLS.

mod read;
pub mod stream;
pub mod tls;
