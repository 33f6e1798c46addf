//! `TopicId`: the number of a topic on its shard.

/// The number of a topic on its shard. A shard sends it with a join, and the lane sends it back with each publication,
/// so that the shard need not search for the pattern. Numbers of topics that have ended are not used again: a late
/// publication finds no other topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TopicId {
    /// The place in the table of topics, which other topics may have later.
    pub place: u32,
    /// Counts the topics of the shard. It begins again after four billion, long after all publications of the first.
    pub number: u32,
}
