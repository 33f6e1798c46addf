//! Errors of the NATS connections.

use thiserror::Error;

/// Why an operation on NATS failed.
#[derive(Debug, Error)]
pub enum NatsError {
    /// A credentials file cannot be read.
    #[error("cannot read the NATS credentials {file}: {source}")]
    Credentials { file: String, source: std::io::Error },
    /// `nats.inbox_prefix` is not a valid subject prefix.
    #[error(
        "nats.inbox_prefix is not a valid subject prefix: use tokens separated by dots, without wildcards"
    )]
    InvalidInboxPrefix,
    /// There is no connection; nothing was sent.
    #[error("NATS is away and nothing was sent: try again later")]
    Disconnected,
    /// The server reads too slowly and the send buffer is full; nothing was sent.
    #[error("NATS does not keep up and nothing was sent: try again later")]
    Overloaded,
    /// The reply inbox is not subscribed; nothing was sent.
    #[error("this node cannot receive replies from NATS now and nothing was sent: try again later")]
    NoInbox,
    /// The connection was lost after the message was sent.
    #[error("the connection to NATS was lost: the outcome is unknown")]
    ConnectionLost,
    /// The server did not confirm the message in time.
    #[error("NATS did not confirm the message in time: the outcome is unknown")]
    Unconfirmed,
    /// No service subscribes to the subject.
    #[error("no service subscribes to this subject")]
    NoResponders,
    /// The service replied with this error.
    #[error("{0}")]
    Service(String),
    /// The permissions of this node's NATS user forbid it.
    #[error("the permissions of this node's NATS user do not allow this subject")]
    Denied,
    /// No reply arrived in time.
    #[error("no answer in time: the outcome is unknown")]
    Timeout,
    /// The message is larger than the server's `max_payload`.
    #[error("the message has {size} bytes with its headers, and NATS accepts at most {max}: send less")]
    TooLarge { size: usize, max: usize },
    /// NATS does not say whether a stream stores the subject; nothing was sent.
    #[error(
        "NATS does not say whether a stream stores this subject, so nothing was sent: try again later ({0})"
    )]
    StorageUnknown(String),
    /// The stream of the subject takes no messages now, and no one else got the message.
    #[error("the stream of this subject is not available, so nothing was stored: try again later")]
    StreamAway,
    /// The stream of the subject did not store the message. Subscribers may have got it.
    #[error("the stream of this subject did not store the message: {0}")]
    NotStored(String),
    /// The same, and it never will: the message is too large for the stream, or the stream is sealed.
    #[error("the stream of this subject does not store this message, also if it is sent again: {0}")]
    NeverStored(String),
    /// The server rejected the message, or this node did so because the server would.
    #[error("NATS rejected it: {0}")]
    Refused(String),
}
