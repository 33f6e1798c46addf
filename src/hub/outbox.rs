//! `Outbox`: a bounded queue of frames for one client, by priority. It knows subscriptions only by their ids.

pub mod entry;
pub mod limits;
pub mod queue;

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::ClassNumber;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::class_counts::ClassCounts;
use crate::hub::delivery_batch::DeliveryBatch;
use crate::hub::outbox::entry::QueueEntry;
use crate::hub::outbox::limits::OutboxLimits;
use crate::hub::outbox::queue::Queues;

/// A bounded queue of frames.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    /// Bytes of the limit that delayed publications use.
    reserved: usize,
    queues: Queues,
    /// The rest of a frame that is partly written; boxed to save memory, because clients that keep up have none.
    unfinished: Option<Box<Bytes>>,
}

/// Publications that a subscription does not get. Rendered as a gap, in their place in the queue.
#[derive(Clone, Copy, Debug)]
pub struct Missing {
    pub subscription: SubscriptionId,
    pub class: ClassNumber,
    /// How many publications are missing.
    pub dropped: u64,
    /// Why they are missing.
    pub cause: GapCause,
}

/// An entry that was taken from the outbox to be written.
#[derive(Debug)]
pub struct InFlight {
    entry: QueueEntry,
    /// The encoded gap or collection, if the entry is one. Until it is written, the entry stays what it is, so that later
    /// drops can extend the gap, and the collection stays current.
    rendered: Option<Box<Frame>>,
    priority: Priority,
}

impl InFlight {
    /// The bytes to write.
    pub fn bytes(&self) -> &[u8] {
        if let Some(rendered) = &self.rendered {
            return rendered.as_bytes();
        }
        match &self.entry {
            QueueEntry::Reply(frame) => frame.as_bytes(),
            QueueEntry::Delivery { delivery, .. } | QueueEntry::LastValue { delivery, .. } => {
                delivery.frame.as_bytes()
            }
            QueueEntry::Coalesced { coalesced, .. } => coalesced.bytes(),
            QueueEntry::Rest(bytes) => bytes,
            QueueEntry::Gap { .. } | QueueEntry::Collected { .. } | QueueEntry::Vacant => &[],
        }
    }

    /// Of which class publications are missing here, why, and how many, if the entry is a gap.
    pub fn gap(&self) -> Option<(ClassNumber, GapCause, u64)> {
        match &self.entry {
            QueueEntry::Gap { class, cause, dropped, .. } => Some((class.number, *cause, *dropped)),
            QueueEntry::Collected { class, lost, .. } => {
                lost.map(|(cause, dropped)| (*class, cause, dropped))
            }
            QueueEntry::Reply(_)
            | QueueEntry::Delivery { .. }
            | QueueEntry::LastValue { .. }
            | QueueEntry::Coalesced { .. }
            | QueueEntry::Rest(_)
            | QueueEntry::Vacant => None,
        }
    }

    /// The whole frames in this entry. The rest of a frame has none: transports that use this write whole frames.
    #[cfg(feature = "event-stream")]
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        let run = match &self.entry {
            QueueEntry::Coalesced { coalesced, .. } => coalesced.deliveries(),
            QueueEntry::Reply(_)
            | QueueEntry::Delivery { .. }
            | QueueEntry::LastValue { .. }
            | QueueEntry::Gap { .. }
            | QueueEntry::Collected { .. }
            | QueueEntry::Rest(_)
            | QueueEntry::Vacant => &[],
        };
        let one = match &self.entry {
            QueueEntry::Reply(frame) => Some(&**frame),
            QueueEntry::Delivery { delivery, .. } | QueueEntry::LastValue { delivery, .. } => {
                Some(&delivery.frame)
            }
            QueueEntry::Coalesced { .. }
            | QueueEntry::Gap { .. }
            | QueueEntry::Collected { .. }
            | QueueEntry::Rest(_)
            | QueueEntry::Vacant => self.rendered.as_deref(),
        };
        one.into_iter().chain(run.iter().map(|delivery| &delivery.frame))
    }

    /// The bytes from `offset` on. They are copied at most once, however often a write is partial.
    fn rest(&self, offset: usize) -> Bytes {
        match &self.entry {
            QueueEntry::Rest(bytes) => bytes.slice(offset..),
            QueueEntry::Reply(_)
            | QueueEntry::Delivery { .. }
            | QueueEntry::LastValue { .. }
            | QueueEntry::Coalesced { .. }
            | QueueEntry::Gap { .. }
            | QueueEntry::Collected { .. }
            | QueueEntry::Vacant => Bytes::copy_from_slice(&self.bytes()[offset..]),
        }
    }
}

impl Outbox {
    pub fn new(limits: OutboxLimits) -> Self {
        Self { limits, reserved: 0, queues: Queues::default(), unfinished: None }
    }

    pub fn limits(&self) -> OutboxLimits {
        self.limits
    }

    /// Reserves bytes of the limit, in place of the previous reservation.
    pub fn reserve(&mut self, bytes: usize) {
        self.reserved = bytes;
    }

    /// The limits for frames in the queues.
    pub fn room(&self) -> OutboxLimits {
        OutboxLimits { bytes: self.limits.bytes - self.reserved, ..self.limits }
    }

    /// Whether it is half full although the client keeps up.
    pub fn is_urgent(&self) -> bool {
        self.queues.is_urgent(self.room())
    }

    /// Whether no frames wait for the socket.
    pub fn is_empty(&self) -> bool {
        self.unfinished.is_none() && self.queues.is_empty()
    }

    /// Whether whole frames wait, which can still become gaps.
    pub fn has_queued(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Bytes that wait for the socket.
    pub fn bytes(&self) -> usize {
        self.unfinished.as_ref().map_or(0, |rest| rest.len()) + self.queues.bytes()
    }

    /// The publications that wait for the socket, and those that have become gaps, as they will count once they are
    /// written.
    pub fn waiting(&self) -> DeliveryCounts {
        self.queues.waiting()
    }

    /// The publications that wait for the socket, including those that have become gaps.
    pub fn queued_publications(&self) -> ClassCounts {
        self.queues.publications()
    }

    /// The publications that newer ones of their key have replaced. Only for a slow client.
    #[inline]
    pub fn conflated(&mut self) -> Option<&mut ClassCounts> {
        self.queues.conflated()
    }

    /// Appends a reply of the session. Returns false if the outbox is full of replies: the client does not read, and
    /// the connection should end.
    pub fn push_reply(&mut self, frame: Frame, priority: Priority) -> bool {
        let room = self.room();
        self.queues.push_reply(frame, priority, room)
    }

    /// Appends publications, with the overflow rule of their class.
    pub fn push(&mut self, batch: &DeliveryBatch, id: SubscriptionId, class: &Class) {
        let room = self.room();
        match batch {
            DeliveryBatch::One(delivery) => self.queues.push(Rc::clone(delivery), id, class, room),
            DeliveryBatch::Coalesced(coalesced) => self.queues.push_coalesced(coalesced, id, class, room),
        }
    }

    /// Appends one publication, with the overflow rule of its class.
    pub fn push_one(&mut self, delivery: Rc<Delivery>, id: SubscriptionId, class: &Class) {
        let room = self.room();
        self.queues.push(delivery, id, class, room);
    }

    /// Appends a last value of a subscription that has just joined, with the overflow rule of its class.
    pub fn push_last_value(&mut self, delivery: Rc<Delivery>, id: SubscriptionId, class: &Class) {
        let room = self.room();
        self.queues.push_last_value(delivery, id, class, room);
    }

    /// Appends the entry of a collection.
    pub fn push_collected(&mut self, collection: u32, class: ClassNumber, priority: Priority) {
        self.queues.push_collected(collection, class, priority);
    }

    /// Removes the entry of a collection.
    pub fn remove_collected(&mut self, collection: u32, priority: Priority) {
        self.queues.remove_collected(collection, priority);
    }

    /// Moves the next frames, up to `max_frames` and about `max_bytes`, to `taken`. Expired publications become gaps.
    /// `render` encodes a gap, or returns `None` if the client is not told. `collect` encodes a collection, if it has
    /// something to show, and adds the gaps of what it does not show. Returns how many publications count as
    /// delivered and dropped, unless they are put back.
    pub fn take(
        &mut self,
        now: Instant,
        max_frames: usize,
        max_bytes: usize,
        taken: &mut Vec<InFlight>,
        mut render: impl FnMut(Missing) -> Option<Frame>,
        collect: impl Fn(u32, Priority, &mut Vec<Missing>) -> Option<Frame>,
    ) -> DeliveryCounts {
        let mut delivery_counts = DeliveryCounts::default();
        let mut bytes = 0;
        if let Some(rest) = self.unfinished.take() {
            bytes += rest.len();
            let entry = QueueEntry::Rest(rest);
            taken.push(InFlight { entry, rendered: None, priority: Priority::High });
        }
        // A gap that may still grow, and its queue.
        let mut expired: Option<(QueueEntry, Priority)> = None;
        while taken.len() < max_frames && bytes < max_bytes {
            let Some((entry, priority)) = self.queues.pop() else {
                break;
            };
            if let Some(gap) = entry.expired(now) {
                delivery_counts += gap.delivery_counts();
                let merged =
                    expired.as_mut().is_some_and(|(earlier, of)| *of == priority && earlier.merge(&gap));
                if !merged {
                    push_gap(expired.replace((gap, priority)), taken, &mut render);
                }
                continue;
            }
            if expired.is_some() {
                push_gap(expired.take(), taken, &mut render);
            }
            if let QueueEntry::Collected { collection, class, .. } = entry {
                let counts = take_collected((collection, class), priority, taken, &collect, &mut render);
                bytes += counts.bytes;
                delivery_counts += counts.delivery_counts;
                continue;
            }
            delivery_counts += entry.delivery_counts();
            if matches!(entry, QueueEntry::Gap { .. }) {
                push_gap(Some((entry, priority)), taken, &mut render);
                continue;
            }
            let entry = InFlight { entry, rendered: None, priority };
            bytes += entry.bytes().len();
            taken.push(entry);
        }
        if expired.is_some() {
            push_gap(expired, taken, &mut render);
        }
        // Many clients get a reply or a ping, and then nothing for long. After publications, there will be more.
        if bytes > 0 && delivery_counts == DeliveryCounts::default() {
            self.queues.free_capacity();
        } else {
            self.queues.shrink_capacity();
        }
        delivery_counts
    }

    /// Puts back frames that the socket had no room for; of the first one, `offset` bytes are written. From now on the
    /// client counts as slow: class `latest` keeps only the newest publication of each key. Collections and their gaps
    /// go to `give_back`, the last ones first, which returns whether the collection's entry is put back. Returns the
    /// counts to take back.
    pub fn put_back(
        &mut self,
        mut rest: std::vec::Drain<'_, InFlight>,
        offset: usize,
        give_back: impl Fn(u32, Option<(GapCause, u64)>, Priority) -> bool,
    ) -> DeliveryCounts {
        let mut delivery_counts = DeliveryCounts::default();
        let partial = if offset > 0 { rest.next() } else { None };
        for InFlight { entry, priority, .. } in rest.rev() {
            delivery_counts += entry.delivery_counts();
            match entry {
                QueueEntry::Rest(rest) => self.unfinished = Some(rest),
                QueueEntry::Collected { collection, class, lost } => {
                    if give_back(collection, lost, priority) {
                        let entry = QueueEntry::Collected { collection, class, lost: None };
                        self.queues.push_front(entry, priority);
                    }
                }
                entry @ (QueueEntry::Reply(_)
                | QueueEntry::Delivery { .. }
                | QueueEntry::LastValue { .. }
                | QueueEntry::Coalesced { .. }
                | QueueEntry::Gap { .. }
                | QueueEntry::Vacant) => self.queues.push_front(entry, priority),
            }
        }
        if let Some(partial) = partial {
            let (unwritten, unfinished) = put_back_partial(&mut self.queues, &partial, offset);
            delivery_counts.delivered += unwritten;
            self.unfinished = Some(unfinished).filter(|rest| !rest.is_empty()).map(Box::new);
        }
        self.queues.become_slow();
        delivery_counts
    }

    /// Frees the memory of an empty outbox, for clients that receive little.
    pub fn free_capacity(&mut self) {
        self.queues.free_capacity();
    }
}

/// Encodes a collection, and adds the gaps of what it does not show.
type Collect<'c> = dyn Fn(u32, Priority, &mut Vec<Missing>) -> Option<Frame> + 'c;

/// What a collection has added to a write.
struct TakenCollection {
    bytes: usize,
    delivery_counts: DeliveryCounts,
}

/// Encodes a collection, and the gaps of what it does not show, and adds them to `taken`. Not inlined, so that other
/// entries do not pay for it.
#[cold]
#[inline(never)]
fn take_collected(
    (collection, class): (u32, ClassNumber),
    priority: Priority,
    taken: &mut Vec<InFlight>,
    collect: &Collect<'_>,
    render: &mut dyn FnMut(Missing) -> Option<Frame>,
) -> TakenCollection {
    let mut missing = Vec::new();
    let mut counts = TakenCollection { bytes: 0, delivery_counts: DeliveryCounts::default() };
    if let Some(frame) = collect(collection, priority, &mut missing) {
        counts.bytes = frame.len();
        counts.delivery_counts.delivered = 1;
        let (entry, rendered) =
            (QueueEntry::Collected { collection, class, lost: None }, Some(Box::new(frame)));
        taken.push(InFlight { entry, rendered, priority });
    }
    for missing in missing {
        let Missing { class, dropped, cause, .. } = missing;
        counts.delivery_counts.dropped += dropped;
        if let Some(frame) = render(missing) {
            let entry = QueueEntry::Collected { collection, class, lost: Some((cause, dropped)) };
            taken.push(InFlight { entry, rendered: Some(Box::new(frame)), priority });
        }
    }
    counts
}

/// Encodes a gap and adds it to `taken`.
fn push_gap(
    gap: Option<(QueueEntry, Priority)>,
    taken: &mut Vec<InFlight>,
    render: &mut impl FnMut(Missing) -> Option<Frame>,
) {
    let Some((entry, priority)) = gap else { return };
    let QueueEntry::Gap { subscription, dropped, cause, class, .. } = entry else { return };
    let Some(frame) = render(Missing { subscription, class: class.number, dropped, cause }) else { return };
    taken.push(InFlight { entry, rendered: Some(Box::new(frame)), priority });
}

/// Puts back the unwritten publications of a partly written entry. Returns how many they are, and the rest of the frame
/// that is partly written.
fn put_back_partial(queues: &mut Queues, partial: &InFlight, offset: usize) -> (u64, Bytes) {
    let QueueEntry::Coalesced { coalesced, subscription, class } = &partial.entry else {
        return (0, partial.rest(offset));
    };
    let (whole, offset) = split(coalesced.deliveries().iter().map(|delivery| delivery.frame.len()), offset);
    let cut = coalesced.deliveries().get(whole).filter(|_| offset > 0);
    let unwritten = &coalesced.deliveries()[whole + usize::from(cut.is_some())..];
    for delivery in unwritten.iter().rev() {
        let delivery = Rc::clone(delivery);
        let (subscription, class) = (*subscription, *class);
        queues.push_front(QueueEntry::Delivery { delivery, subscription, class }, partial.priority);
    }
    let unfinished = cut.map(|delivery| Bytes::copy_from_slice(&delivery.frame.as_bytes()[offset..]));
    (unwritten.len() as u64, unfinished.unwrap_or_default())
}

/// Maps a number of written bytes to pieces of these lengths: how many are whole, and how many bytes of the next one
/// are written.
pub fn split(lengths: impl Iterator<Item = usize>, written: usize) -> (usize, usize) {
    let mut left = written;
    let mut whole = 0;
    for length in lengths {
        if length > left {
            break;
        }
        left -= length;
        whole += 1;
    }
    (whole, left)
}

#[cfg(test)]
mod tests;
