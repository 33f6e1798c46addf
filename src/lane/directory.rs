//! `LaneDirectory`: the lane of each subject in use whose class has `lane = "own"`. Only joins and leaves touch it, never a
//! publication.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock for each join and leave; nothing is awaited under it"
)]

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use smallvec::SmallVec;
use tidegate_protocol::subject::Pattern;

use crate::lane::lane_index::LaneIndex;
use crate::lane::shard_index::ShardIndex;

/// Independent parts, so that shards rarely wait for each other.
const PARTS: usize = 64;

/// Assigns a subject to the lane of the shard that asks first. The lane has it while it has a feed of it, or a shard
/// wants one, so that a node has one NATS subscription for each subject.
#[derive(Debug)]
pub(super) struct LaneDirectory {
    parts: Box<[Mutex<HashMap<Pattern, Assigned>>]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Assigned {
    lane: LaneIndex,
    /// The shards that have joined and not left. Their requests may still wait in the queue of the lane.
    shards: SmallVec<[ShardIndex; 1]>,
}

impl Default for LaneDirectory {
    fn default() -> Self {
        let parts = std::iter::repeat_with(Mutex::default).take(PARTS).collect();
        Self { parts, hasher: RandomState::new() }
    }
}

impl LaneDirectory {
    /// A shard is about to join a subject: returns the lane to ask. If the subject has none, it gets `own`.
    pub(super) fn join(&self, subject: &Pattern, shard: ShardIndex, own: LaneIndex) -> LaneIndex {
        let mut part = self.part(subject);
        let assigned =
            part.entry(subject.clone()).or_insert_with(|| Assigned { lane: own, shards: SmallVec::new() });
        if !assigned.shards.contains(&shard) {
            assigned.shards.push(shard);
        }
        assigned.lane
    }

    /// A shard leaves a subject: returns the lane to tell.
    pub(super) fn leave(&self, subject: &Pattern, shard: ShardIndex) -> Option<LaneIndex> {
        let mut part = self.part(subject);
        let assigned = part.get_mut(subject)?;
        assigned.shards.retain(|known| *known != shard);
        Some(assigned.lane)
    }

    /// The lane that has a subject.
    pub(super) fn lane_of(&self, subject: &Pattern) -> Option<LaneIndex> {
        self.part(subject).get(subject).map(|assigned| assigned.lane)
    }

    /// A lane wants to start a feed of a subject although no shard has joined. Returns false if another lane has it.
    pub(super) fn claim(&self, subject: &Pattern, lane: LaneIndex) -> bool {
        let mut part = self.part(subject);
        let assigned =
            part.entry(subject.clone()).or_insert_with(|| Assigned { lane, shards: SmallVec::new() });
        assigned.lane == lane
    }

    /// A lane has no feed of a subject, or wants to end it. Returns false if a shard wants it: then the lane must keep
    /// the feed that it has.
    pub(super) fn release(&self, subject: &Pattern, lane: LaneIndex) -> bool {
        let mut part = self.part(subject);
        match part.get(subject) {
            Some(assigned) if assigned.lane == lane && !assigned.shards.is_empty() => false,
            Some(assigned) if assigned.lane == lane => {
                part.remove(subject);
                if part.capacity() > 1024 && part.capacity() > 4 * part.len() {
                    part.shrink_to_fit();
                }
                true
            }
            // The subject has been assigned to another lane since.
            Some(_) | None => true,
        }
    }

    fn part(&self, subject: &Pattern) -> MutexGuard<'_, HashMap<Pattern, Assigned>> {
        let hash = self.hasher.hash_one(subject.as_str());
        let at = usize::try_from(hash % PARTS as u64).unwrap_or_default();
        // A panic cannot leave a part half changed.
        self.parts[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
