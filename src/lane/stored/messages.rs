//! The messages of a stored feed, and what bounds those that wait.

use std::sync::Arc;

/// A message that a stream stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage<M> {
    pub subject: Arc<str>,
    /// Its sequence in the stream, at least 1.
    pub seq: u64,
    pub content: M,
}

/// A message as the stream sends it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveMessage<M> {
    pub message: StoredMessage<M>,
    /// The sequence of the newest message that the stream had on the same subject before this one; 0 if it had none.
    pub previous: u64,
}

/// The subjects of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subjects {
    One,
    /// All that a pattern matches.
    Many,
}

/// Limits of a feed.
#[derive(Clone, Copy, Debug)]
pub struct HoldLimits {
    /// How many messages may wait for a read.
    pub messages: usize,
    /// Their size, in bytes.
    pub bytes: usize,
}
