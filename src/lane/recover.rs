//! `Recover`: the request of a shard for what one of its clients has missed.

use tidegate_protocol::frame::Format;
use tidegate_protocol::position::Position;
use tidegate_protocol::subject::Pattern;

use crate::lane::shard_index::ShardIndex;

/// A client of a shard was on a channel before, and wants what it has missed.
#[derive(Clone, Debug)]
pub struct Recover {
    pub shard: ShardIndex,
    pub pattern: Pattern,
    pub format: Format,
    /// Where it was.
    pub after: Position,
}
