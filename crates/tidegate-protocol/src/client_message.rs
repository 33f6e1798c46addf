//! A message from a client, on any transport.

use bytes::Bytes;

/// One whole message from a client. Control frames never reach the session as messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// A `String`, so that its UTF-8 is checked once; `Bytes::from` converts it without a copy.
    Text(String),
    Binary(Bytes),
}
