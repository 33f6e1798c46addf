//! `Index`: finds the entries of an outbox's queues that are to be replaced, merged or dropped.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_protocol::class::Overflow;
use tidegate_protocol::class::Priority;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::class_counts::ClassCounts;
use crate::hub::outbox::entry::QueueEntry;

/// The number of no entry.
pub(super) const NOWHERE: i64 = i64::MIN;

/// Finds the entries to replace, merge or drop. Only a slow client has one, or one for whom publications of a key with
/// several priorities wait. Numbers may be outdated: if the entry is gone or is another one now, it counts as not
/// found.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The queue and the number.
    pub(super) newest: HashMap<(SubscriptionId, Arc<str>), (Priority, i64)>,
    /// By queue.
    pub(super) gaps: HashMap<SubscriptionId, [i64; 3]>,
    /// Where to begin the search for a publication to drop, by priority: with `DropOldest`, and with `KeepNewest`.
    pub(super) oldest: [[i64; 2]; 3],
    /// Publications that newer ones have replaced, until they are counted.
    pub(super) conflated: ClassCounts,
}

impl Index {
    /// Notes the number of an entry.
    pub(super) fn note(&mut self, entry: &QueueEntry, place: Priority, number: i64) {
        match entry {
            QueueEntry::Delivery { delivery, subscription, class }
            | QueueEntry::LastValue { delivery, subscription, class }
                if class.overflow == Overflow::KeepNewest =>
            {
                self.newest.insert((*subscription, Arc::clone(&delivery.key)), (place, number));
            }
            QueueEntry::Gap { subscription, cause: GapCause::Slow, .. } => {
                self.gaps.entry(*subscription).or_insert([NOWHERE; 3])[place as usize] = number;
            }
            QueueEntry::Delivery { .. }
            | QueueEntry::LastValue { .. }
            | QueueEntry::Coalesced { .. }
            | QueueEntry::Gap { .. }
            | QueueEntry::Reply(_)
            | QueueEntry::Collected { .. }
            | QueueEntry::Rest(_)
            | QueueEntry::Vacant => {}
        }
    }
}
