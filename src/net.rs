//! Net: the byte stream under a client's connection, plain or TLS.

mod read;
pub mod stream;
pub mod tls;
