//! Error: why something on NATS did not work.

use thiserror::Error;

/// Why something on NATS did not work.
#[derive(Debug, Error)]
pub enum NatsError {
    /// The credentials file cannot be read.
    #[error("cannot read the NATS credentials {file}: {source}")]
    Credentials { file: String, source: std::io::Error },
    /// The prefix for inboxes is none.
    #[error("nats.inbox_prefix is not the beginning of a subject")]
    Prefix,
    /// The connection is away; nothing was sent.
    #[error("NATS is away: nothing was sent")]
    Away,
    /// The server takes nothing, and much waits already; nothing was sent.
    #[error("NATS does not take what it is sent: nothing was sent")]
    Full,
    /// Answers cannot be heard; nothing was sent.
    #[error("this node cannot hear answers over NATS now: nothing was sent")]
    Deaf,
    /// The connection was lost after something was sent.
    #[error("the link to NATS was lost: the outcome is unknown")]
    Lost,
    /// The server has not confirmed in time what was sent.
    #[error("NATS did not confirm it in time: the outcome is unknown")]
    Unconfirmed,
    /// No one serves the subject.
    #[error("nobody answers on this subject")]
    NoResponders,
    /// Whoever serves the subject says that it has failed, in these words.
    #[error("{0}")]
    Service(String),
    /// NATS does not let this node's user do it.
    #[error("NATS does not let this node do that on this subject")]
    Denied,
    /// No answer in time.
    #[error("no answer in time: the outcome is unknown")]
    Timeout,
    /// The server takes only smaller ones.
    #[error("the message has {size} bytes with its headers, and NATS takes at most {max}")]
    TooLarge { size: usize, max: usize },
    /// NATS refused, or we in its place.
    #[error("NATS refused: {0}")]
    Refused(String),
}
