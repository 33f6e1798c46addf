//! The queues behind an outbox: appended to without a look while the socket keeps up, and indexed once it does not.

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

use crate::hub::delivery_batch::Run;
use crate::hub::outbox::limits::OutboxLimits;

/// Empty queues with more room than this give it back.
const ROOM_KEPT: usize = 16;
/// So many dropped entries may lie about in a queue before it is swept.
const SWEEP_AT: usize = 1024;

/// One thing in a queue.
#[derive(Debug)]
pub enum QueueEntry {
    /// A frame of the session's own. Never dropped.
    Reply(Box<Frame>),
    /// A publication.
    Delivery { delivery: Rc<Delivery>, subscription: SubscriptionId, overflow: Overflow },
    /// Publications in one piece. Only while the socket keeps up.
    Run { run: Rc<Run>, subscription: SubscriptionId, overflow: Overflow },
    /// In the place of publications that were dropped.
    Gap { subscription: SubscriptionId, dropped: u64, cause: GapCause },
    /// The end of a frame whose beginning is on the wire.
    Rest(Box<Bytes>),
    /// Something was here.
    Nothing,
}

impl QueueEntry {
    fn len(&self) -> usize {
        match self {
            Self::Reply(frame) => frame.len(),
            Self::Delivery { delivery, .. } => delivery.frame.len(),
            Self::Run { run, .. } => run.joined().len(),
            Self::Rest(bytes) => bytes.len(),
            Self::Gap { .. } | Self::Nothing => 0,
        }
    }

    fn counts(&self) -> usize {
        match self {
            Self::Reply(_) | Self::Delivery { .. } | Self::Rest(_) => 1,
            Self::Run { run, .. } => run.deliveries().len(),
            Self::Gap { .. } | Self::Nothing => 0,
        }
    }

    /// What becomes of publications by taking it out of the queue.
    pub(super) fn delivery_counts(&self) -> DeliveryCounts {
        let (delivered, dropped) = match self {
            Self::Delivery { .. } => (1, 0),
            Self::Run { run, .. } => (run.deliveries().len() as u64, 0),
            Self::Gap { dropped, .. } => (0, *dropped),
            Self::Reply(_) | Self::Rest(_) | Self::Nothing => (0, 0),
        };
        DeliveryCounts { delivered, dropped }
    }

    /// How many publications of whom have grown too old in it, if it is of these.
    pub(super) fn expired(&self, now: Instant) -> Option<(SubscriptionId, u64)> {
        match self {
            Self::Delivery { delivery, subscription, .. } if delivery.is_expired(now) => {
                Some((*subscription, 1))
            }
            Self::Run { run, subscription, .. } if run.is_expired(now) => {
                Some((*subscription, run.deliveries().len() as u64))
            }
            Self::Delivery { .. }
            | Self::Run { .. }
            | Self::Reply(_)
            | Self::Gap { .. }
            | Self::Rest(_)
            | Self::Nothing => None,
        }
    }
}

/// A queue whose entries keep their number when others before them leave.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<QueueEntry>,
    /// The number of the first entry. Entries that come back to the front get lower ones.
    base: i64,
    /// How many of them are `Nothing`.
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

    /// The first publication that overflows like this, from `number` on: its number, its length, whose it is.
    fn oldest(&mut self, overflow: Overflow, number: i64) -> Option<(i64, usize, SubscriptionId)> {
        (number.max(self.base)..self.end()).find_map(|number| match self.at(number) {
            Some(QueueEntry::Delivery { delivery, subscription, overflow: of }) if *of == overflow => {
                Some((number, delivery.frame.len(), *subscription))
            }
            Some(_) | None => None,
        })
    }

    fn pop(&mut self) -> Option<QueueEntry> {
        loop {
            let entry = self.entries.pop_front()?;
            self.base += 1;
            if !matches!(entry, QueueEntry::Nothing) {
                return Some(entry);
            }
            self.vacancies -= 1;
        }
    }
}

/// What only a slow client needs: where to find what could be replaced, merged or dropped. Numbers that are no
/// longer there, or something else now, count as not found.
#[derive(Debug, Default)]
struct Index {
    newest: HashMap<(SubscriptionId, Arc<str>), i64>,
    gaps: HashMap<SubscriptionId, i64>,
    /// From where on to look for a publication to drop, by priority: of `DropOldest` and of `KeepNewest`.
    oldest: [[i64; 2]; 3],
}

impl Index {
    /// Notes where an entry is now.
    fn note(&mut self, entry: &QueueEntry, number: i64) {
        match entry {
            QueueEntry::Delivery { delivery, subscription, overflow: Overflow::KeepNewest } => {
                self.newest.insert((*subscription, Arc::clone(&delivery.key)), number);
            }
            QueueEntry::Gap { subscription, cause: GapCause::Slow, .. } => {
                self.gaps.insert(*subscription, number);
            }
            QueueEntry::Delivery { overflow: Overflow::DropOldest, .. }
            | QueueEntry::Run { .. }
            | QueueEntry::Gap { .. }
            | QueueEntry::Reply(_)
            | QueueEntry::Rest(_)
            | QueueEntry::Nothing => {}
        }
    }
}

/// Three queues, the most urgent first.
#[derive(Debug, Default)]
pub struct Queues {
    queues: [Queue; 3],
    index: Option<Box<Index>>,
    bytes: usize,
    frames: usize,
}

impl Queues {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.entries.len() == queue.vacancies)
    }

    /// Whether they are half full, and not because the client is slow.
    pub fn is_urgent(&self, limits: OutboxLimits) -> bool {
        self.index.is_none() && (self.bytes > limits.bytes / 2 || self.frames > limits.frames / 2)
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Publications that are in them, or were and have become a gap.
    pub fn publications(&self) -> u64 {
        let entries = self.queues.iter().flat_map(|queue| &queue.entries);
        entries
            .map(QueueEntry::delivery_counts)
            .map(|DeliveryCounts { delivered, dropped }| delivered + dropped)
            .sum()
    }

    /// Appends a frame of the session's own, at the cost of publications. False if that was not enough.
    pub fn push_reply(&mut self, frame: Frame, priority: Priority, limits: OutboxLimits) -> bool {
        self.append(QueueEntry::Reply(Box::new(frame)), priority);
        self.shrink(limits);
        !self.is_over(limits)
    }

    /// Appends a publication: of class `latest` in the place of an older one of the same key if the client is slow,
    /// else at the end; when that is too much, the oldest go and leave a gap.
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
        // Keys whose publication has left are not looked for one by one, but they do not stay without end.
        if self.index.as_ref().is_some_and(|index| index.newest.len() > SWEEP_AT.max(2 * self.frames)) {
            self.reindex();
        }
        self.shrink(limits);
    }

    /// Appends publications of one topic in one piece, if the client keeps up and has room for all of them; else one
    /// by one.
    pub fn push_run(
        &mut self,
        run: &Rc<Run>,
        subscription: SubscriptionId,
        class: &Class,
        limits: OutboxLimits,
    ) {
        let entry = QueueEntry::Run { run: Rc::clone(run), subscription, overflow: class.overflow() };
        let has_room =
            self.bytes + entry.len() <= limits.bytes && self.frames + entry.counts() <= limits.frames;
        if self.index.is_none() && has_room {
            return self.append(entry, class.priority);
        }
        for delivery in run.deliveries() {
            self.push(Rc::clone(delivery), subscription, class, limits);
        }
    }

    /// The most urgent entry.
    pub fn pop(&mut self) -> Option<(QueueEntry, Priority)> {
        for (queue, priority) in self.queues.iter_mut().zip(Priority::ALL) {
            if let Some(entry) = queue.pop() {
                self.bytes -= entry.len();
                self.frames -= entry.counts();
                return Some((entry, priority));
            }
        }
        None
    }

    /// Puts an entry back to where it was taken from.
    pub fn push_front(&mut self, entry: QueueEntry, priority: Priority) {
        debug_assert!(
            self.index.is_none() || !matches!(entry, QueueEntry::Run { .. }),
            "the index knows no runs"
        );
        self.bytes += entry.len();
        self.frames += entry.counts();
        let queue = &mut self.queues[priority as usize];
        queue.base -= 1;
        // Entries that were skipped when it was taken are gone, so its number may be a new one.
        if let Some(index) = &mut self.index {
            index.note(&entry, queue.base);
        }
        queue.entries.push_front(entry);
    }

    /// Gives memory back when there is nothing to send: the client is not slow any more. A little room is kept for
    /// what comes next.
    pub fn shrink_capacity(&mut self) {
        self.keep(ROOM_KEPT);
    }

    /// Gives all memory back when there is nothing to send.
    pub fn free_capacity(&mut self) {
        self.keep(0);
    }

    fn keep(&mut self, room: usize) {
        if !self.is_empty() {
            return;
        }
        self.index = None;
        for queue in &mut self.queues {
            queue.entries.clear();
            queue.vacancies = 0;
            queue.entries.shrink_to(room);
        }
    }

    /// From now on class `latest` keeps only the newest publication of each key; also of what waits already.
    pub fn become_slow(&mut self) {
        if self.index.is_none() && !self.is_empty() {
            self.reindex();
        }
    }

    fn append(&mut self, entry: QueueEntry, priority: Priority) {
        self.bytes += entry.len();
        self.frames += entry.counts();
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
            .any(|queue| queue.vacancies > SWEEP_AT && queue.vacancies * 2 > queue.entries.len())
        {
            for queue in &mut self.queues {
                queue.entries.retain(|entry| !matches!(entry, QueueEntry::Nothing));
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
            Some(QueueEntry::Delivery { delivery: older, subscription: whose, .. })
                if *whose == subscription && older.key == delivery.key =>
            {
                self.bytes = self.bytes - older.frame.len() + delivery.frame.len();
                *older = Rc::clone(delivery);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Drops the oldest publication of the least urgent queue that has one; one of class `latest`, which is the only
    /// one of its key, only when there is none of class `buffer`.
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

    /// Takes runs apart: from now on each publication counts for itself.
    fn split_runs(&mut self) {
        for queue in &mut self.queues {
            if !queue.entries.iter().any(|entry| matches!(entry, QueueEntry::Run { .. })) {
                continue;
            }
            for entry in std::mem::take(&mut queue.entries) {
                match entry {
                    QueueEntry::Run { run, subscription, overflow } => {
                        let deliveries = run.deliveries().iter().map(Rc::clone);
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
                    | QueueEntry::Rest(_)
                    | QueueEntry::Nothing) => queue.entries.push_back(entry),
                }
            }
        }
    }

    /// Builds the index anew, and lets the newest of each key of class `latest` take the place of the oldest.
    fn reindex(&mut self) {
        self.split_runs();
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
                            replaced.push((older, std::mem::replace(entry, QueueEntry::Nothing)));
                        } else {
                            index.newest.insert(key, number);
                        }
                    }
                    QueueEntry::Gap { subscription, cause: GapCause::Slow, .. } => {
                        index.gaps.insert(*subscription, number);
                    }
                    QueueEntry::Delivery { overflow: Overflow::DropOldest, .. }
                    | QueueEntry::Run { .. }
                    | QueueEntry::Gap { .. }
                    | QueueEntry::Reply(_)
                    | QueueEntry::Rest(_)
                    | QueueEntry::Nothing => {}
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

/// Lets a gap represent the publication: the one that its subscription has before it, else a new one in its place.
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
        *entry = if merged { QueueEntry::Nothing } else { gap };
    }
    queue.vacancies += usize::from(merged);
}

#[cfg(test)]
pub(super) mod tests;
