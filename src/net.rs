//! Listeners, and the byte stream under a client's connection: plain TCP or TLS.

pub mod listen;
mod read;
pub mod stream;
pub mod tls;
