//! What must hold inside the queues at any time, and that they give their memory back.

use super::*;

impl Queues {
    /// Counts anew what is counted along.
    pub(in crate::hub::outbox) fn audit(&self) {
        let entries = || self.queues.iter().flat_map(|queue| &queue.entries);
        assert_eq!(self.bytes, entries().map(QueueEntry::len).sum::<usize>(), "bytes");
        assert_eq!(self.frames, entries().map(QueueEntry::counts).sum::<usize>(), "frames");
        let runs = entries().filter(|entry| matches!(entry, QueueEntry::Run { .. })).count();
        assert!(runs == 0 || self.index.is_none(), "the index knows no runs");
        for queue in &self.queues {
            let vacancies = queue.entries.iter().filter(|entry| matches!(entry, QueueEntry::Nothing)).count();
            assert_eq!(queue.vacancies, vacancies, "placeholders");
        }
    }

    /// How many entries of all kinds there is room for.
    pub(in crate::hub::outbox) fn room(&self) -> usize {
        self.queues.iter().map(|queue| queue.entries.capacity()).sum()
    }

    /// How many entries lie in them, empty ones too.
    pub(in crate::hub::outbox) fn entries(&self) -> usize {
        self.queues.iter().map(|queue| queue.entries.len()).sum()
    }

    /// How many keys they remember the newest publication of; `None` while the client is not slow.
    pub(in crate::hub::outbox) fn remembered(&self) -> Option<usize> {
        self.index.as_ref().map(|index| index.newest.len())
    }

    /// How many frames count.
    pub(in crate::hub::outbox) fn frames(&self) -> usize {
        self.frames
    }
}

/// The most that empty queues keep room for.
pub(in crate::hub::outbox) const MOST_ROOM_KEPT: usize = 3 * ROOM_KEPT;
/// What may lie about in a queue next to what counts.
pub(in crate::hub::outbox) const MOST_WASTE: usize = 2 * SWEEP_AT;
