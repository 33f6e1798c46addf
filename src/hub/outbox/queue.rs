//! `Queues`: the queues of an outbox, one per priority. While the client keeps up, entries are only appended; once it
//! is slow, an index finds publications to replace or to drop.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Overflow;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::GapCause;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::delivery_batch::CoalescedDeliveries;
use crate::hub::outbox::limits::OutboxLimits;

/// Empty queues free capacity beyond this.
const KEPT_CAPACITY: usize = 16;
/// A queue with more vacant entries than this is compacted.
const COMPACT_ABOVE: usize = 1024;

/// One entry of a queue.
#[derive(Debug)]
pub enum QueueEntry {
    /// A reply of the session. Never dropped.
    Reply(Box<Frame>),
    /// A publication.
    Delivery { delivery: Rc<Delivery>, subscription: SubscriptionId, overflow: Overflow },
    /// Publications in one piece. Only while the client keeps up.
    Coalesced { coalesced: Rc<CoalescedDeliveries>, subscription: SubscriptionId, overflow: Overflow },
    /// In the place of dropped publications.
    Gap { subscription: SubscriptionId, dropped: u64, cause: GapCause },
    /// A message with the client's current elements, which is put together when it is taken: the number of the
    /// collection.
    Collected(u32),
    /// The rest of a frame that is partly written.
    Rest(Box<Bytes>),
    /// The place of an entry that was removed.
    Vacant,
}

impl QueueEntry {
    fn len(&self) -> usize {
        match self {
            Self::Reply(frame) => frame.len(),
            Self::Delivery { delivery, .. } => delivery.frame.len(),
            Self::Coalesced { coalesced, .. } => coalesced.bytes().len(),
            Self::Rest(bytes) => bytes.len(),
            Self::Gap { .. } | Self::Collected(_) | Self::Vacant => 0,
        }
    }

    fn frame_count(&self) -> usize {
        match self {
            Self::Reply(_) | Self::Delivery { .. } | Self::Rest(_) => 1,
            Self::Coalesced { coalesced, .. } => coalesced.deliveries().len(),
            Self::Gap { .. } | Self::Collected(_) | Self::Vacant => 0,
        }
    }

    /// The publications that count as delivered or dropped when this entry is taken.
    pub(super) fn delivery_counts(&self) -> DeliveryCounts {
        let (delivered, dropped) = match self {
            Self::Delivery { .. } | Self::Collected(_) => (1, 0),
            Self::Coalesced { coalesced, .. } => (coalesced.deliveries().len() as u64, 0),
            Self::Gap { dropped, .. } => (0, *dropped),
            Self::Reply(_) | Self::Rest(_) | Self::Vacant => (0, 0),
        };
        DeliveryCounts { delivered, dropped }
    }

    /// The subscription and the number of publications, if they have expired.
    pub(super) fn expired(&self, now: Instant) -> Option<(SubscriptionId, u64)> {
        match self {
            Self::Delivery { delivery, subscription, .. } if delivery.is_expired(now) => {
                Some((*subscription, 1))
            }
            Self::Coalesced { coalesced, subscription, .. } if coalesced.is_expired(now) => {
                Some((*subscription, coalesced.deliveries().len() as u64))
            }
            Self::Delivery { .. }
            | Self::Coalesced { .. }
            | Self::Reply(_)
            | Self::Gap { .. }
            | Self::Collected(_)
            | Self::Rest(_)
            | Self::Vacant => None,
        }
    }
}

/// A queue whose entries keep their numbers when entries before them are removed.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<QueueEntry>,
    /// The number of the first entry. Entries that are put back to the front get lower numbers.
    base: i64,
    /// How many entries are `Vacant`.
    vacancies: usize,
}

impl Queue {
    fn end(&self) -> i64 {
        self.base + i64::try_from(self.entries.len()).unwrap_or(i64::MAX)
    }

    fn at(&mut self, number: i64) -> Option<&mut QueueEntry> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.entries.get_mut(index)
    }

    /// The first publication with this overflow rule, from `number` on: its number, its length, and its subscription.
    fn oldest(&mut self, overflow: Overflow, number: i64) -> Option<(i64, usize, SubscriptionId)> {
        (number.max(self.base)..self.end()).find_map(|number| match self.at(number) {
            Some(QueueEntry::Delivery { delivery, subscription, overflow: of }) if *of == overflow => {
                Some((number, delivery.frame.len(), *subscription))
            }
            Some(_) | None => None,
        })
    }

    #[inline]
    fn pop(&mut self) -> Option<QueueEntry> {
        loop {
            let entry = self.entries.pop_front()?;
            self.base += 1;
            if !matches!(entry, QueueEntry::Vacant) {
                return Some(entry);
            }
            self.vacancies -= 1;
        }
    }
}

/// Finds the entries to replace, merge or drop. Only a slow client has one. Numbers may be outdated: if the entry is
/// gone or is another one now, it counts as not found.
#[derive(Debug, Default)]
struct Index {
    newest: HashMap<(SubscriptionId, Arc<str>), i64>,
    gaps: HashMap<SubscriptionId, i64>,
    /// Where to begin the search for a publication to drop, by priority: with `DropOldest`, and with `KeepNewest`.
    oldest: [[i64; 2]; 3],
}

impl Index {
    /// Notes the number of an entry.
    fn note(&mut self, entry: &QueueEntry, number: i64) {
        match entry {
            QueueEntry::Delivery { delivery, subscription, overflow: Overflow::KeepNewest } => {
                self.newest.insert((*subscription, Arc::clone(&delivery.key)), number);
            }
            QueueEntry::Gap { subscription, cause: GapCause::Slow, .. } => {
                self.gaps.insert(*subscription, number);
            }
            QueueEntry::Delivery { overflow: Overflow::DropOldest, .. }
            | QueueEntry::Coalesced { .. }
            | QueueEntry::Gap { .. }
            | QueueEntry::Reply(_)
            | QueueEntry::Collected(_)
            | QueueEntry::Rest(_)
            | QueueEntry::Vacant => {}
        }
    }
}

/// Three queues, the most urgent first, and their total size.
#[derive(Debug, Default)]
pub struct Queues {
    queues: [Queue; 3],
    index: Option<Box<Index>>,
    bytes: usize,
    frames: usize,
}

impl Queues {
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.entries.len() == queue.vacancies)
    }

    /// Whether they are half full although the client keeps up.
    pub fn is_urgent(&self, limits: OutboxLimits) -> bool {
        self.index.is_none() && (self.bytes > limits.bytes / 2 || self.frames > limits.frames / 2)
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of publications in the queues, including those that have become gaps.
    pub fn publications(&self) -> u64 {
        let entries = self.queues.iter().flat_map(|queue| &queue.entries);
        entries
            .map(QueueEntry::delivery_counts)
            .map(|DeliveryCounts { delivered, dropped }| delivered + dropped)
            .sum()
    }

    /// Appends a reply, and drops publications if there is no room. Returns false if that was not enough.
    pub fn push_reply(&mut self, frame: Frame, priority: Priority, limits: OutboxLimits) -> bool {
        self.append(QueueEntry::Reply(Box::new(frame)), priority);
        self.shrink(limits);
        !self.is_over(limits)
    }

    /// Appends a publication. If the client is slow, a publication of class `latest` replaces an older one of the same
    /// key. If there is no room, the oldest publications are dropped and leave a gap.
    pub fn push(
        &mut self,
        delivery: Rc<Delivery>,
        subscription: SubscriptionId,
        class: &Class,
        limits: OutboxLimits,
    ) {
        if self.index.is_some()
            && class.overflow() == Overflow::KeepNewest
            && self.replace(&delivery, subscription, class.priority)
        {
            return self.shrink(limits);
        }
        let number = self.queues[class.priority as usize].end();
        if let Some(index) = &mut self.index
            && class.overflow() == Overflow::KeepNewest
        {
            index.newest.insert((subscription, Arc::clone(&delivery.key)), number);
        }
        self.append(
            QueueEntry::Delivery { delivery, subscription, overflow: class.overflow() },
            class.priority,
        );
        // Keys of publications that were sent stay in the index until it is rebuilt; this bounds them.
        if self.index.as_ref().is_some_and(|index| index.newest.len() > COMPACT_ABOVE.max(2 * self.frames)) {
            self.reindex();
        }
        self.shrink(limits);
    }

    /// Appends publications of one topic as one entry if the client keeps up and there is room for all of them;
    /// otherwise one by one.
    pub fn push_coalesced(
        &mut self,
        coalesced: &Rc<CoalescedDeliveries>,
        subscription: SubscriptionId,
        class: &Class,
        limits: OutboxLimits,
    ) {
        let entry = QueueEntry::Coalesced {
            coalesced: Rc::clone(coalesced),
            subscription,
            overflow: class.overflow(),
        };
        let has_room =
            self.bytes + entry.len() <= limits.bytes && self.frames + entry.frame_count() <= limits.frames;
        if self.index.is_none() && has_room {
            return self.append(entry, class.priority);
        }
        for delivery in coalesced.deliveries() {
            self.push(Rc::clone(delivery), subscription, class, limits);
        }
    }

    /// Appends the entry of a collection.
    pub fn push_collected(&mut self, collection: u32, priority: Priority) {
        self.append(QueueEntry::Collected(collection), priority);
    }

    /// Takes the first entry of the most urgent queue. Inlined, because it runs for each entry that is written.
    #[inline]
    pub fn pop(&mut self) -> Option<(QueueEntry, Priority)> {
        for (queue, priority) in self.queues.iter_mut().zip(Priority::ALL) {
            if let Some(entry) = queue.pop() {
                self.bytes -= entry.len();
                self.frames -= entry.frame_count();
                return Some((entry, priority));
            }
        }
        None
    }

    /// Puts an entry back to the front of its queue.
    pub fn push_front(&mut self, entry: QueueEntry, priority: Priority) {
        debug_assert!(
            self.index.is_none() || !matches!(entry, QueueEntry::Coalesced { .. }),
            "the index has no coalesced entries"
        );
        self.bytes += entry.len();
        self.frames += entry.frame_count();
        let queue = &mut self.queues[priority as usize];
        queue.base -= 1;
        // Vacant entries before it were removed when it was taken, so its number may have changed.
        if let Some(index) = &mut self.index {
            index.note(&entry, queue.base);
        }
        queue.entries.push_front(entry);
    }

    /// If the queues are empty: frees their memory except for a small capacity, and the client counts as keeping up
    /// again.
    pub fn shrink_capacity(&mut self) {
        self.shrink_empty(KEPT_CAPACITY);
    }

    /// If the queues are empty: frees all of their memory, and the client counts as keeping up again.
    pub fn free_capacity(&mut self) {
        self.shrink_empty(0);
    }

    fn shrink_empty(&mut self, capacity: usize) {
        if !self.is_empty() {
            return;
        }
        self.index = None;
        for queue in &mut self.queues {
            queue.entries.clear();
            queue.vacancies = 0;
            queue.entries.shrink_to(capacity);
        }
    }

    /// Treats the client as slow: from now on class `latest` keeps only the newest publication of each key, among
    /// waiting ones too.
    pub fn become_slow(&mut self) {
        if self.index.is_none() && !self.is_empty() {
            self.reindex();
        }
    }

    fn append(&mut self, entry: QueueEntry, priority: Priority) {
        self.bytes += entry.len();
        self.frames += entry.frame_count();
        self.queues[priority as usize].entries.push_back(entry);
    }

    fn is_over(&self, limits: OutboxLimits) -> bool {
        self.frames > 1 && (self.bytes > limits.bytes || self.frames > limits.frames)
    }

    fn shrink(&mut self, limits: OutboxLimits) {
        if !self.is_over(limits) {
            return;
        }
        if self.index.is_none() {
            self.reindex();
        }
        while self.is_over(limits) && self.drop_oldest() {}
        if self
            .queues
            .iter()
            .any(|queue| queue.vacancies > COMPACT_ABOVE && queue.vacancies * 2 > queue.entries.len())
        {
            for queue in &mut self.queues {
                queue.entries.retain(|entry| !matches!(entry, QueueEntry::Vacant));
                queue.vacancies = 0;
            }
            self.reindex();
        }
    }

    fn replace(&mut self, delivery: &Rc<Delivery>, subscription: SubscriptionId, priority: Priority) -> bool {
        let Some(index) = &mut self.index else {
            return false;
        };
        let Some(&number) = index.newest.get(&(subscription, Arc::clone(&delivery.key))) else {
            return false;
        };
        match self.queues[priority as usize].at(number) {
            Some(QueueEntry::Delivery { delivery: older, subscription: of, .. })
                if *of == subscription && older.key == delivery.key =>
            {
                self.bytes = self.bytes - older.frame.len() + delivery.frame.len();
                *older = Rc::clone(delivery);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Drops the oldest publication of the least urgent queue that has one. Within a queue, publications of class
    /// `buffer` go first: those of class `latest` are the only ones of their keys. Returns false if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(index) = &mut self.index else { return false };
        for priority in Priority::ALL.into_iter().rev() {
            let queue = &mut self.queues[priority as usize];
            for (overflow, oldest) in [Overflow::DropOldest, Overflow::KeepNewest]
                .into_iter()
                .zip(&mut index.oldest[priority as usize])
            {
                let found = queue.oldest(overflow, *oldest);
                *oldest = found.as_ref().map_or_else(|| queue.end(), |(number, ..)| number + 1);
                if let Some((number, length, subscription)) = found {
                    self.bytes -= length;
                    self.frames -= 1;
                    drop_into_gap(queue, &mut index.gaps, number, subscription);
                    return true;
                }
            }
        }
        false
    }

    /// Splits coalesced entries into single publications.
    fn split_coalesced(&mut self) {
        for queue in &mut self.queues {
            if !queue.entries.iter().any(|entry| matches!(entry, QueueEntry::Coalesced { .. })) {
                continue;
            }
            for entry in std::mem::take(&mut queue.entries) {
                match entry {
                    QueueEntry::Coalesced { coalesced, subscription, overflow } => {
                        let deliveries = coalesced.deliveries().iter().map(Rc::clone);
                        let entries = deliveries.map(|delivery| QueueEntry::Delivery {
                            delivery,
                            subscription,
                            overflow,
                        });
                        queue.entries.extend(entries);
                    }
                    entry @ (QueueEntry::Reply(_)
                    | QueueEntry::Delivery { .. }
                    | QueueEntry::Gap { .. }
                    | QueueEntry::Collected(_)
                    | QueueEntry::Rest(_)
                    | QueueEntry::Vacant) => queue.entries.push_back(entry),
                }
            }
        }
    }

    /// Rebuilds the index. Of class `latest`, the newest publication of each key moves to the place of the oldest.
    fn reindex(&mut self) {
        self.split_coalesced();
        let mut index = Box::new(Index::default());
        for (place, queue) in self.queues.iter_mut().enumerate() {
            index.oldest[place] = [queue.base; 2];
            let mut replaced = Vec::new();
            for (number, entry) in (queue.base..).zip(&mut queue.entries) {
                match entry {
                    QueueEntry::Delivery { delivery, subscription, overflow: Overflow::KeepNewest } => {
                        let key = (*subscription, Arc::clone(&delivery.key));
                        if let Some(&older) = index.newest.get(&key) {
                            self.frames -= 1;
                            replaced.push((older, std::mem::replace(entry, QueueEntry::Vacant)));
                        } else {
                            index.newest.insert(key, number);
                        }
                    }
                    QueueEntry::Gap { subscription, cause: GapCause::Slow, .. } => {
                        index.gaps.insert(*subscription, number);
                    }
                    QueueEntry::Delivery { overflow: Overflow::DropOldest, .. }
                    | QueueEntry::Coalesced { .. }
                    | QueueEntry::Gap { .. }
                    | QueueEntry::Reply(_)
                    | QueueEntry::Collected(_)
                    | QueueEntry::Rest(_)
                    | QueueEntry::Vacant => {}
                }
            }
            queue.vacancies += replaced.len();
            for (older, newer) in replaced {
                if let Some(entry) = queue.at(older) {
                    self.bytes -= entry.len();
                    *entry = newer;
                }
            }
        }
        self.index = Some(index);
    }
}

/// Drops a publication: counts it in the earlier gap of its subscription, or puts a new gap in its place.
fn drop_into_gap(
    queue: &mut Queue,
    gaps: &mut HashMap<SubscriptionId, i64>,
    number: i64,
    id: SubscriptionId,
) {
    let earlier = gaps.get(&id).and_then(|&gap| queue.at(gap));
    let merged = match earlier {
        Some(QueueEntry::Gap { subscription, dropped, cause: GapCause::Slow }) if *subscription == id => {
            *dropped += 1;
            true
        }
        Some(_) | None => false,
    };
    if !merged {
        gaps.insert(id, number);
    }
    if let Some(entry) = queue.at(number) {
        let gap = QueueEntry::Gap { subscription: id, dropped: 1, cause: GapCause::Slow };
        *entry = if merged { QueueEntry::Vacant } else { gap };
    }
    queue.vacancies += usize::from(merged);
}

#[cfg(test)]
pub(super) mod tests;
