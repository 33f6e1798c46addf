//! `Changes`: the messages of a session that put channels in the place of others. The others stay until all new ones are
//! joined, because a service or a lane may refuse a new one.

use std::num::NonZeroU32;

/// The number of a change, while it is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangeId(NonZeroU32);

/// What happens to the other channels of a change if one of them is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    /// A wildcard takes the place of the channels that it covers. It has no other channels.
    Widen,
    /// All or nothing: the message joins none of its channels.
    Replace,
}

/// How a pending change goes on when one of its joins has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeProgress {
    Pending,
    /// All channels are joined.
    Complete(ChangeKind),
}

/// The changes of a session that wait for joins, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<Change>);

#[derive(Debug)]
struct Change {
    id: ChangeId,
    kind: ChangeKind,
    joining: u32,
}

impl Changes {
    /// Begins a change. Its first join counts already.
    pub(crate) fn begin(&mut self, kind: ChangeKind) -> ChangeId {
        let last = self.0.last().map(|last| last.id.0);
        let id = ChangeId(last.map_or(NonZeroU32::MIN, |last| last.saturating_add(1)));
        self.0.push(Change { id, kind, joining: 1 });
        id
    }

    /// Counts one more join.
    pub(crate) fn add_join(&mut self, id: ChangeId) {
        if let Ok(at) = self.position(id)
            && let Some(change) = self.0.get_mut(at)
        {
            change.joining += 1;
        }
    }

    /// Counts one join as ended. After the last one, the change ends.
    pub(crate) fn end_join(&mut self, id: ChangeId) -> ChangeProgress {
        let Ok(at) = self.position(id) else { return ChangeProgress::Pending };
        let Some(change) = self.0.get_mut(at) else { return ChangeProgress::Pending };
        change.joining -= 1;
        if change.joining > 0 {
            return ChangeProgress::Pending;
        }
        ChangeProgress::Complete(self.0.remove(at).kind)
    }

    /// Ends a change that failed. `None` if it has ended already.
    pub(crate) fn fail(&mut self, id: ChangeId) -> Option<ChangeKind> {
        let at = self.position(id).ok()?;
        Some(self.0.remove(at).kind)
    }

    fn position(&self, id: ChangeId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |change| change.id)
    }
}
