//! `Queues`: the queues of an outbox, one per priority. While the client keeps up, entries are only appended; once it
//! is slow, an index finds publications to replace or to drop.

mod index;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::ClassNumber;
use tidegate_protocol::class::Overflow;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::class_counts::ClassCounts;
use crate::hub::delivery_batch::CoalescedDeliveries;
use crate::hub::outbox::entry::EntryClass;
use crate::hub::outbox::entry::QueueEntry;
use crate::hub::outbox::limits::OutboxLimits;
use crate::hub::outbox::queue::index::Index;
use crate::hub::outbox::queue::index::NOWHERE;

/// Empty queues free capacity beyond this.
const KEPT_CAPACITY: usize = 16;
/// A queue with more vacant entries than this is compacted.
const COMPACT_ABOVE: usize = 1024;

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

    /// The number of the first publication with this overflow rule, from `number` on.
    fn oldest(&mut self, overflow: Overflow, number: i64) -> Option<i64> {
        (number.max(self.base)..self.end()).find(|number| {
            let (Some(QueueEntry::Delivery { class, .. }) | Some(QueueEntry::LastValue { class, .. })) =
                self.at(*number)
            else {
                return false;
            };
            class.overflow == overflow
        })
    }

    /// Removes the entry at this number.
    fn vacate(&mut self, number: i64) -> Option<QueueEntry> {
        let entry = std::mem::replace(self.at(number)?, QueueEntry::Vacant);
        self.vacancies += 1;
        Some(entry)
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

/// Three queues, the most urgent first, and their totals.
#[derive(Debug, Default)]
pub struct Queues {
    queues: [Queue; 3],
    index: Option<Box<Index>>,
    /// Whether the client has fallen behind since the queues were last empty.
    is_slow: bool,
    bytes: usize,
    frames: usize,
    /// By queue: how many of its entries no publication of a class with that priority may overtake. These are replies,
    /// some of which are about channels, last values, and more urgent publications that wait behind any of them.
    barriers: [u32; 3],
    /// By queue and home: how many publications and gaps wait in another queue than that of their class. `None` if none
    /// has since the queues were last empty.
    displaced: Option<Box<[[u32; 3]; 3]>>,
}

impl Queues {
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.entries.len() == queue.vacancies)
    }

    /// Whether they are half full although the client keeps up.
    pub fn is_urgent(&self, limits: OutboxLimits) -> bool {
        !self.is_slow && (self.bytes > limits.bytes / 2 || self.frames > limits.frames / 2)
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The publications in the queues, and those that have become gaps, as they will count once they are written.
    pub fn waiting(&self) -> DeliveryCounts {
        let mut waiting = DeliveryCounts::default();
        let entries = self.queues.iter().flat_map(|queue| &queue.entries);
        entries.for_each(|entry| waiting += entry.delivery_counts());
        waiting
    }

    /// The publications in the queues, including those that have become gaps.
    pub fn publications(&self) -> ClassCounts {
        let mut counts = ClassCounts::default();
        for entry in self.queues.iter().flat_map(|queue| &queue.entries) {
            let DeliveryCounts { delivered, dropped } = entry.delivery_counts();
            if let Some(class) = entry.class() {
                counts.add(class, delivered + dropped);
            }
        }
        counts
    }

    /// The publications that newer ones of their key have replaced. Only for a slow client.
    #[inline]
    pub fn conflated(&mut self) -> Option<&mut ClassCounts> {
        self.index.as_mut().map(|index| &mut index.conflated)
    }

    /// Appends a reply, and drops publications if there is no room. Returns false if that was not enough. The reply may
    /// be about a channel, so all earlier publications of classes with this priority are sent before it.
    pub fn push_reply(&mut self, frame: Frame, priority: Priority, limits: OutboxLimits) -> bool {
        self.promote(priority);
        self.append(QueueEntry::Reply(Box::new(frame)), priority);
        self.shrink(limits);
        !self.is_over(limits)
    }

    /// Appends a publication. If the client is slow, a publication of class `latest` replaces an older one of the same
    /// key. If there is no room, the oldest publications are dropped and leave a gap.
    pub fn push(
        &mut self,
        mut delivery: Rc<Delivery>,
        subscription: SubscriptionId,
        class: &Class,
        limits: OutboxLimits,
    ) {
        let (place, of) = (self.place(delivery.priority, class), EntryClass::of(class));
        if of.overflow == Overflow::KeepNewest {
            if self.index.is_none() && self.may_overtake(place, class) {
                self.reindex();
            }
            if self.index.is_some() && self.replace(&mut delivery, subscription, place) {
                return self.shrink(limits);
            }
        }
        let entry = QueueEntry::Delivery { delivery, subscription, class: of };
        self.append_noted(entry, place, limits);
    }

    /// Appends a last value of a subscription that has just joined, behind its confirmation. The next publications of its
    /// class come after it; one of class `latest` with its key replaces it if the client is slow.
    pub fn push_last_value(
        &mut self,
        delivery: Rc<Delivery>,
        subscription: SubscriptionId,
        class: &Class,
        limits: OutboxLimits,
    ) {
        let class = EntryClass::of(class);
        self.append_noted(QueueEntry::LastValue { delivery, subscription, class }, class.home, limits);
    }

    /// Appends an entry, notes it in the index, and makes room for it.
    #[inline]
    fn append_noted(&mut self, entry: QueueEntry, place: Priority, limits: OutboxLimits) {
        let number = self.queues[place as usize].end();
        if let Some(index) = &mut self.index {
            index.note(&entry, place, number);
        }
        self.append(entry, place);
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
            class: EntryClass::of(class),
        };
        let place = self.place(coalesced.priority(), class);
        let may_replace = class.overflow() == Overflow::KeepNewest && self.may_overtake(place, class);
        let has_room = self.bytes + entry.byte_count() <= limits.bytes
            && self.frames + entry.frame_count() <= limits.frames;
        if self.index.is_none() && has_room && !may_replace {
            return self.append(entry, place);
        }
        for delivery in coalesced.deliveries() {
            self.push(Rc::clone(delivery), subscription, class, limits);
        }
    }

    /// Appends the entry of a collection.
    pub fn push_collected(&mut self, collection: u32, class: ClassNumber, priority: Priority) {
        self.append(QueueEntry::Collected { collection, class, lost: None }, priority);
    }

    /// Removes the entry of a collection.
    pub fn remove_collected(&mut self, number: u32, priority: Priority) {
        let queue = &mut self.queues[priority as usize];
        let is_it = |entry: &&mut QueueEntry| matches!(entry, QueueEntry::Collected { collection, .. } if *collection == number);
        if let Some(entry) = queue.entries.iter_mut().find(is_it) {
            *entry = QueueEntry::Vacant;
            queue.vacancies += 1;
        }
        self.compact();
    }

    /// Takes the first entry of the most urgent queue. Inlined, because it runs for each entry that is written.
    #[inline]
    pub fn pop(&mut self) -> Option<(QueueEntry, Priority)> {
        for priority in Priority::ALL {
            if let Some(entry) = self.queues[priority as usize].pop() {
                self.uncount(&entry, priority);
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
        self.count(&entry, priority);
        let queue = &mut self.queues[priority as usize];
        queue.base -= 1;
        // Vacant entries before it were removed when it was taken, so its number may have changed.
        if let Some(index) = &mut self.index {
            index.note(&entry, priority, queue.base);
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
        (self.index, self.displaced) = (None, None);
        self.is_slow = false;
        for queue in &mut self.queues {
            if queue.vacancies > 0 {
                queue.entries.clear();
                queue.vacancies = 0;
            }
            if queue.entries.capacity() > capacity {
                queue.entries.shrink_to(capacity);
            }
        }
    }

    /// Treats the client as slow: from now on class `latest` keeps only the newest publication of each key, among
    /// waiting ones too.
    pub fn become_slow(&mut self) {
        if self.is_empty() {
            return;
        }
        self.is_slow = true;
        if self.index.is_none() {
            self.reindex();
        }
    }

    #[inline]
    fn append(&mut self, entry: QueueEntry, priority: Priority) {
        self.count(&entry, priority);
        self.queues[priority as usize].entries.push_back(entry);
    }

    /// Adds an entry of a queue to the totals.
    #[inline]
    fn count(&mut self, entry: &QueueEntry, place: Priority) {
        let (bytes, frames) = entry.size();
        self.bytes += bytes;
        self.frames += frames;
        if let Some((is_barrier, home)) = entry.irregular(place) {
            self.barriers[place as usize] += u32::from(is_barrier);
            if home != place {
                self.displaced.get_or_insert_default()[place as usize][home as usize] += 1;
            }
        }
    }

    /// Removes an entry of a queue from the totals.
    #[inline]
    fn uncount(&mut self, entry: &QueueEntry, place: Priority) {
        let (bytes, frames) = entry.size();
        self.bytes -= bytes;
        self.frames -= frames;
        if let Some((is_barrier, home)) = entry.irregular(place) {
            self.barriers[place as usize] -= u32::from(is_barrier);
            if let Some(displaced) = self.displaced.as_mut().filter(|_| home != place) {
                displaced[place as usize][home as usize] -= 1;
            }
        }
    }

    /// The queue for a publication: that of its priority, unless it would overtake messages about its channel, or last
    /// values. Those are in the queue of its class.
    fn place(&self, priority: Priority, class: &Class) -> Priority {
        let is_behind = priority < class.priority && self.barriers[class.priority as usize] > 0;
        if is_behind { class.priority } else { priority }
    }

    /// Whether a publication in this queue may be sent before an older one of its key.
    fn may_overtake(&self, place: Priority, class: &Class) -> bool {
        let is_any = |displaced: &[[u32; 3]; 3]| {
            displaced[place as usize + 1..].iter().flatten().any(|count| *count > 0)
        };
        place < class.priority && !self.queues[class.priority as usize].entries.is_empty()
            || self.displaced.as_deref().is_some_and(is_any)
    }

    /// Moves publications of classes with this priority from less urgent queues to its end.
    fn promote(&mut self, to: Priority) {
        let Some(displaced) = self.displaced.as_deref().copied() else { return };
        for from in Priority::ALL.into_iter().filter(|from| *from > to) {
            if displaced[from as usize][to as usize] == 0 {
                continue;
            }
            for number in self.queues[from as usize].base..self.queues[from as usize].end() {
                let queue = &mut self.queues[from as usize];
                let home = queue.at(number).and_then(|entry| entry.priorities()).map(|(_, home)| home);
                let Some(entry) = (if home == Some(to) { queue.vacate(number) } else { None }) else {
                    continue;
                };
                self.uncount(&entry, from);
                let number = self.queues[to as usize].end();
                if let Some(index) = &mut self.index {
                    index.note(&entry, to, number);
                }
                self.append(entry, to);
            }
        }
        self.compact();
    }

    fn is_over(&self, limits: OutboxLimits) -> bool {
        self.frames > 1 && (self.bytes > limits.bytes || self.frames > limits.frames)
    }

    fn shrink(&mut self, limits: OutboxLimits) {
        if !self.is_over(limits) {
            return;
        }
        self.is_slow = true;
        if self.index.is_none() {
            self.reindex();
        }
        while self.is_over(limits) && self.drop_oldest() {}
        self.compact();
    }

    /// Removes vacant entries if there are many.
    fn compact(&mut self) {
        let is_sparse =
            |queue: &Queue| queue.vacancies > COMPACT_ABOVE && queue.vacancies * 2 > queue.entries.len();
        if self.queues.iter().any(is_sparse) {
            for queue in &mut self.queues {
                queue.entries.retain(|entry| !matches!(entry, QueueEntry::Vacant));
                queue.vacancies = 0;
            }
            if self.index.is_some() {
                self.reindex();
            }
        }
    }

    /// Replaces the pending publication of a key, if it is in the same queue. In another queue, it is removed. Returns
    /// true if it was replaced; then `newer` is of no more use.
    fn replace(&mut self, newer: &mut Rc<Delivery>, subscription: SubscriptionId, place: Priority) -> bool {
        let Some(index) = &mut self.index else { return false };
        let Some(&(of, number)) = index.newest.get(&(subscription, Arc::clone(&newer.key))) else {
            return false;
        };
        let queue = &mut self.queues[of as usize];
        let class = match queue.at(number) {
            Some(QueueEntry::Delivery { delivery: older, subscription: whose, class })
                if *whose == subscription && older.key == newer.key =>
            {
                if (of, older.priority) == (place, newer.priority) {
                    self.bytes = self.bytes - older.frame.len() + newer.frame.len();
                    std::mem::swap(older, newer);
                    index.conflated.add(class.number, 1);
                    return true;
                }
                *class
            }
            Some(QueueEntry::LastValue { delivery: older, subscription: whose, class })
                if *whose == subscription && older.key == newer.key =>
            {
                *class
            }
            Some(_) | None => return false,
        };
        let Some(older) = queue.vacate(number) else { return false };
        index.conflated.add(class.number, 1);
        self.uncount(&older, of);
        if of != place {
            self.compact();
            return false;
        }
        let entry = QueueEntry::Delivery { delivery: Rc::clone(newer), subscription, class };
        self.occupy(entry, place, number);
        true
    }

    /// Puts an entry in place of a vacant one.
    fn occupy(&mut self, entry: QueueEntry, place: Priority, number: i64) {
        self.count(&entry, place);
        let queue = &mut self.queues[place as usize];
        if let Some(vacant) = queue.at(number) {
            *vacant = entry;
            queue.vacancies -= 1;
        }
    }

    /// Drops the oldest publication of the least urgent queue that has one. Within a queue, publications of class
    /// `buffer` go first: those of class `latest` are the only ones of their keys. Returns false if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(mut index) = self.index.take() else { return false };
        let dropped = Priority::ALL.into_iter().rev().any(|place| self.drop_from(place, &mut index));
        self.index = Some(index);
        dropped
    }

    fn drop_from(&mut self, place: Priority, index: &mut Index) -> bool {
        for (rule, overflow) in [Overflow::DropOldest, Overflow::KeepNewest].into_iter().enumerate() {
            let (queue, oldest) = (&mut self.queues[place as usize], &mut index.oldest[place as usize][rule]);
            let found = queue.oldest(overflow, *oldest);
            *oldest = found.map_or_else(|| queue.end(), |number| number + 1);
            if let Some(number) = found {
                self.drop_into_gap(place, number, index);
                return true;
            }
        }
        false
    }

    /// Drops a publication: counts it in an earlier gap of its subscription and priority, or puts a new gap in its
    /// place.
    fn drop_into_gap(&mut self, place: Priority, number: i64, index: &mut Index) {
        let Some(entry) = self.queues[place as usize].vacate(number) else { return };
        self.uncount(&entry, place);
        let (QueueEntry::Delivery { delivery, subscription: id, class }
        | QueueEntry::LastValue { delivery, subscription: id, class }) = entry
        else {
            return;
        };
        let known = index.gaps.get(&id).map_or(NOWHERE, |gaps| gaps[place as usize]);
        // A gap that was moved to this queue may be behind the publication.
        let earlier = self.queues[place as usize].at(known).filter(|_| known < number);
        if let Some(QueueEntry::Gap { subscription, dropped, cause: GapCause::Slow, priority, .. }) = earlier
            && (*subscription, *priority) == (id, delivery.priority)
        {
            *dropped += u64::from(!crate::hooks::planted!(DropIsSilent));
            return;
        }
        index.gaps.entry(id).or_insert([NOWHERE; 3])[place as usize] = number;
        let (priority, cause) = (delivery.priority, GapCause::Slow);
        self.occupy(QueueEntry::Gap { subscription: id, dropped: 1, cause, priority, class }, place, number);
    }

    /// Splits coalesced entries into single publications.
    fn split_coalesced(&mut self) {
        for place in Priority::ALL {
            let entries = &mut self.queues[place as usize].entries;
            if !entries.iter().any(|entry| matches!(entry, QueueEntry::Coalesced { .. })) {
                continue;
            }
            for entry in std::mem::take(entries) {
                let QueueEntry::Coalesced { coalesced, subscription, class } = entry else {
                    self.queues[place as usize].entries.push_back(entry);
                    continue;
                };
                for delivery in coalesced.deliveries().iter().map(Rc::clone) {
                    self.append(QueueEntry::Delivery { delivery, subscription, class }, place);
                }
                self.uncount(&QueueEntry::Coalesced { coalesced, subscription, class }, place);
            }
        }
    }

    /// Rebuilds the index. Of class `latest`, the newest publication of each key moves to the place of the oldest in its
    /// queue. Of several queues, the least urgent has the newest publication of a key: see [`Queues::may_overtake`].
    fn reindex(&mut self) {
        self.split_coalesced();
        let conflated = self.conflated().map(std::mem::take).unwrap_or_default();
        let mut index = Box::new(Index { conflated, ..Index::default() });
        for place in Priority::ALL {
            index.oldest[place as usize] = [self.queues[place as usize].base; 2];
            for number in self.queues[place as usize].base..self.queues[place as usize].end() {
                let Some(entry) = self.queues[place as usize].at(number) else { continue };
                let older = match entry {
                    QueueEntry::Delivery { delivery, subscription, class }
                    | QueueEntry::LastValue { delivery, subscription, class } => {
                        let newest = index.newest.get(&(*subscription, Arc::clone(&delivery.key)));
                        newest.filter(|_| class.overflow == Overflow::KeepNewest).copied()
                    }
                    QueueEntry::Coalesced { .. }
                    | QueueEntry::Gap { .. }
                    | QueueEntry::Reply(_)
                    | QueueEntry::Collected { .. }
                    | QueueEntry::Rest(_)
                    | QueueEntry::Vacant => None,
                };
                let Some((of, older)) = older else {
                    index.note(entry, place, number);
                    continue;
                };
                if of != place {
                    index.note(entry, place, number);
                }
                if let Some(older) = self.queues[of as usize].vacate(older) {
                    index.conflated.add(older.class().unwrap_or_default(), 1);
                    self.uncount(&older, of);
                }
                if of == place
                    && let Some(newer) = self.queues[place as usize].vacate(number)
                {
                    self.uncount(&newer, place);
                    self.occupy(newer, place, older);
                }
            }
        }
        self.index = Some(index);
    }
}

#[cfg(test)]
pub(super) mod tests;
