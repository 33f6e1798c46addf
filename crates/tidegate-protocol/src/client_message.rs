//! What a client says, whatever carried it.

use bytes::Bytes;

/// One whole message of a client, whatever carried it. Of control frames the session hears nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// A `String`, so that its UTF-8 is checked once; `Bytes::from` takes it over without a copy.
    Text(String),
    /// Bytes of any kind.
    Binary(Bytes),
}
