//! What a stored feed reads from its stream, and the answers.

use std::sync::Arc;
use std::time::Duration;

use crate::lane::stored::messages::StoredMessage;

/// The waits before a read is repeated because a replica had not stored everything yet, or no one answered. The last
/// repetition asks the leader.
pub(super) const REPEAT_AFTER: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200)];

/// The state of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// The sequence of the oldest message.
    pub first_seq: u64,
    /// The sequence of the newest message.
    pub last_seq: u64,
    /// The most messages on one subject; 0 for no limit.
    pub max_per_subject: u64,
}

impl StreamState {
    /// That of a stream which discards nothing.
    pub(super) const KEEPS_ALL: Self = Self { first_seq: 1, last_seq: u64::MAX, max_per_subject: 0 };

    /// Whether the stream still has every message of a subject after `known`, of which it has `found`. Streams discard
    /// the oldest first, so a subject that has room has lost nothing to its own limit, and neither has one that is
    /// younger than the oldest message to the other limits.
    pub(super) fn kept_everything_after(self, known: u64, found: u64) -> bool {
        self.first_seq <= known + 1 && (self.max_per_subject == 0 || found < self.max_per_subject)
    }
}

/// What to read from the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamQuery {
    /// The newest message of each subject of the feed, in the order of their sequences: only those from this sequence on.
    Newest { from: u64 },
    /// The messages on this subject from this sequence on, in order: as many as fit into one answer.
    Following { subject: Arc<str>, from: u64 },
    /// The state of the stream now.
    State,
}

/// Who may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// Any replica. It may lag behind.
    AnyReplica,
    Leader,
}

/// A read that the caller starts. A feed has one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub query: StreamQuery,
    pub source: ReadFrom,
    /// How long to wait first.
    pub after: Duration,
}

impl Read {
    /// A read that has been repeated so often.
    pub(super) fn repeated(query: StreamQuery, repeated: usize) -> Self {
        let source = if repeated < REPEAT_AFTER.len() { ReadFrom::AnyReplica } else { ReadFrom::Leader };
        let after = repeated.checked_sub(1).map_or(Duration::ZERO, |last| REPEAT_AFTER[last]);
        Self { query, source, after }
    }
}

/// The answer to a [`Read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamAnswer<M> {
    /// To [`StreamQuery::Newest`]. `up_to` is the newest sequence of the stream then; `None` if nothing matched.
    Newest { messages: Vec<StoredMessage<M>>, up_to: Option<u64> },
    /// To [`StreamQuery::Following`]. `pending` messages follow the last one.
    Following { messages: Vec<StoredMessage<M>>, pending: u64 },
    /// To [`StreamQuery::State`].
    State(StreamState),
    /// No one answered, or the answer cannot be read.
    Unavailable,
    /// The stream does not answer this, and will not.
    Refused,
}
