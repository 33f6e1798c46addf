//! The byte stream under a client's connection, plain TCP or TLS, and a small HTTP client.

pub mod fetch;
mod read;
pub mod stream;
pub mod tls;
