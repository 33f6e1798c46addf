//! `RefusedMessage`: a message of a client that was answered with an error, for operators.

use crate::error::ClientError;

/// A message that was answered with an error, or ended the session in place of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedMessage {
    /// The error that the client gets.
    pub error: ClientError,
    /// The channel that the error is about, if it is about one. It may be any text of the client.
    pub channel: Option<String>,
    /// Whether the caller knows more about it already: the output before this one is `Denied`, or the error is that of a
    /// credential.
    pub is_recorded: bool,
}
