//! `ReadId`: which read of which feed an answer belongs to.

use crate::lane::feeds::FeedId;
use crate::lane::source_stream::ReadPurpose;

/// A read of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadId {
    pub(super) feed: FeedId,
    pub(super) purpose: ReadPurpose,
    /// Rises with each read of the lane.
    pub(super) number: u64,
}
