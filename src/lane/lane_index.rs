//! `LaneIndex`: the number of a lane within its node.

/// The number of a lane within its node, from 0. The shard on the same thread has the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneIndex(pub usize);
