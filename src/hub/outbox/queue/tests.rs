//! Invariants of the queues, and access to their internals for tests.

use super::*;

impl Queues {
    /// Compares the running totals with the entries.
    pub(in crate::hub::outbox) fn audit(&self) {
        let entries = || self.queues.iter().flat_map(|queue| &queue.entries);
        assert_eq!(self.bytes, entries().map(QueueEntry::byte_count).sum::<usize>(), "bytes");
        assert_eq!(self.frames, entries().map(QueueEntry::frame_count).sum::<usize>(), "frames");
        let coalesced = entries().filter(|entry| matches!(entry, QueueEntry::Coalesced { .. })).count();
        assert!(coalesced == 0 || self.index.is_none(), "the index has no coalesced entries");
        for (place, queue) in Priority::ALL.into_iter().zip(&self.queues) {
            let is_barrier = |entry: &QueueEntry| match entry.priorities() {
                Some((priority, _)) => priority < place || matches!(entry, QueueEntry::LastValue { .. }),
                None => matches!(entry, QueueEntry::Reply(_)),
            };
            let barriers = queue.entries.iter().filter(|entry| is_barrier(entry)).count();
            assert_eq!(self.barriers[place as usize], u32::try_from(barriers).unwrap(), "barriers");
            for home in Priority::ALL.into_iter().filter(|home| *home != place) {
                let is_displaced = |entry: &&QueueEntry| entry.priorities().is_some_and(|(_, of)| of == home);
                let displaced = queue.entries.iter().filter(is_displaced).count();
                let counted =
                    self.displaced.as_ref().map_or(0, |counts| counts[place as usize][home as usize]);
                assert_eq!(counted, u32::try_from(displaced).unwrap(), "displaced");
            }
            let vacancies = queue.entries.iter().filter(|entry| matches!(entry, QueueEntry::Vacant)).count();
            assert_eq!(queue.vacancies, vacancies, "placeholders");
        }
    }

    /// The capacity of the queues, in entries.
    pub(in crate::hub::outbox) fn room(&self) -> usize {
        self.queues.iter().map(|queue| queue.entries.capacity()).sum()
    }

    /// The number of entries, including vacant ones.
    pub(in crate::hub::outbox) fn entries(&self) -> usize {
        self.queues.iter().map(|queue| queue.entries.len()).sum()
    }

    /// The number of keys in the index; `None` while the client keeps up.
    pub(in crate::hub::outbox) fn remembered(&self) -> Option<usize> {
        self.index.as_ref().map(|index| index.newest.len())
    }

    pub(in crate::hub::outbox) fn frames(&self) -> usize {
        self.frames
    }
}

/// The largest capacity that empty queues keep.
pub(in crate::hub::outbox) const MOST_KEPT_CAPACITY: usize = 3 * KEPT_CAPACITY;
/// The most vacant entries that a queue may have.
pub(in crate::hub::outbox) const MOST_WASTE: usize = 2 * COMPACT_ABOVE;
