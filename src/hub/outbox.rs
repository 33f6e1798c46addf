//! Outbox: a bounded queue of frames between a session and its socket, by priority. It knows subscriptions by their ids only.

pub mod limits;
pub mod queue;

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::GapCause;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::delivery_batch::DeliveryBatch;
use crate::hub::outbox::limits::OutboxLimits;
use crate::hub::outbox::queue::QueueEntry;
use crate::hub::outbox::queue::Queues;

/// A bounded queue of frames.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    /// Bytes of the limit that are in use elsewhere.
    reserved: usize,
    queues: Queues,
    /// The end of a frame whose beginning is on the wire.
    unfinished: Bytes,
}

/// Publications that a subscription does not get, at their place in the queue.
#[derive(Clone, Copy, Debug)]
pub struct Missing {
    /// Whose they are.
    pub subscription: SubscriptionId,
    /// How many they are.
    pub dropped: u64,
    /// Why they are missing.
    pub cause: GapCause,
    priority: Priority,
}

/// One frame on its way to the socket.
#[derive(Debug)]
pub struct InFlight {
    entry: QueueEntry,
    /// What a gap is rendered as. It stays a gap, which more can fall into, until it is written.
    gap: Option<Box<Frame>>,
    priority: Priority,
}

impl InFlight {
    /// What to write.
    pub fn bytes(&self) -> &[u8] {
        if let Some(gap) = &self.gap {
            return gap.as_bytes();
        }
        match &self.entry {
            QueueEntry::Reply(frame) => frame.as_bytes(),
            QueueEntry::Delivery { delivery, .. } => delivery.frame.as_bytes(),
            QueueEntry::Run { run, .. } => run.joined(),
            QueueEntry::Rest(bytes) => bytes,
            QueueEntry::Gap { .. } | QueueEntry::Nothing => &[],
        }
    }

    /// The frames in it, each whole. There is none in the rest of a frame: only who writes parts of frames leaves one.
    #[cfg(feature = "event-stream")]
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        let run = match &self.entry {
            QueueEntry::Run { run, .. } => run.deliveries(),
            QueueEntry::Reply(_)
            | QueueEntry::Delivery { .. }
            | QueueEntry::Gap { .. }
            | QueueEntry::Rest(_)
            | QueueEntry::Nothing => &[],
        };
        let one = match &self.entry {
            QueueEntry::Reply(frame) => Some(&**frame),
            QueueEntry::Delivery { delivery, .. } => Some(&delivery.frame),
            QueueEntry::Run { .. } | QueueEntry::Gap { .. } | QueueEntry::Rest(_) | QueueEntry::Nothing => {
                self.gap.as_deref()
            }
        };
        one.into_iter().chain(run.iter().map(|delivery| &delivery.frame))
    }

    /// What is left of it once `offset` bytes are written. It is copied once, however often it is begun.
    fn rest(&self, offset: usize) -> Bytes {
        match &self.entry {
            QueueEntry::Rest(bytes) => bytes.slice(offset..),
            QueueEntry::Reply(_)
            | QueueEntry::Delivery { .. }
            | QueueEntry::Run { .. }
            | QueueEntry::Gap { .. }
            | QueueEntry::Nothing => Bytes::copy_from_slice(&self.bytes()[offset..]),
        }
    }
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: OutboxLimits) -> Self {
        Self { limits, reserved: 0, queues: Queues::default(), unfinished: Bytes::new() }
    }

    /// How much it may hold.
    pub fn limits(&self) -> OutboxLimits {
        self.limits
    }

    /// Takes so many bytes off the limit, instead of those before.
    pub fn reserve(&mut self, bytes: usize) {
        self.reserved = bytes;
    }

    /// What is left of the limits for frames that wait for the socket, these included.
    pub fn room(&self) -> OutboxLimits {
        OutboxLimits { bytes: self.limits.bytes - self.reserved, ..self.limits }
    }

    /// Whether it is half full although its socket keeps up, as far as is known.
    pub fn is_urgent(&self) -> bool {
        self.queues.is_urgent(self.room())
    }

    /// Whether nothing waits for the socket.
    pub fn is_empty(&self) -> bool {
        self.unfinished.is_empty() && self.queues.is_empty()
    }

    /// Whether nothing waits that could still become a gap.
    pub fn is_decided(&self) -> bool {
        self.queues.is_empty()
    }

    /// Bytes that wait for the socket.
    pub fn bytes(&self) -> usize {
        self.unfinished.len() + self.queues.bytes()
    }

    /// Publications that wait for the socket.
    pub fn undecided(&self) -> u64 {
        self.queues.publications()
    }

    /// Appends a frame of the session's own. False if there is no room for it even without publications: the
    /// client takes nothing, and the connection should end.
    pub fn push_reply(&mut self, frame: Frame, priority: Priority) -> bool {
        let room = self.room();
        self.queues.push_reply(frame, priority, room)
    }

    /// Appends publications, as their class says.
    pub fn push(&mut self, parcel: &DeliveryBatch, id: SubscriptionId, class: &Class) {
        let room = self.room();
        match parcel {
            DeliveryBatch::One(delivery) => self.queues.push(Rc::clone(delivery), id, class, room),
            DeliveryBatch::Run(run) => self.queues.push_run(run, id, class, room),
        }
    }

    /// Appends one publication, as its class says.
    pub fn push_one(&mut self, delivery: Rc<Delivery>, id: SubscriptionId, class: &Class) {
        let room = self.room();
        self.queues.push(delivery, id, class, room);
    }

    /// Moves the next frames, up to `max_frames` and about `max_bytes`, to `taken`. What is too old becomes a gap; `render`
    /// makes the frames of gaps, or none where the client is not told. Gives how many publications that decides on, unless
    /// they come back.
    pub fn take(
        &mut self,
        now: Instant,
        max_frames: usize,
        max_bytes: usize,
        taken: &mut Vec<InFlight>,
        render: impl Fn(Missing) -> Option<Frame>,
    ) -> DeliveryCounts {
        let mut delivery_counts = DeliveryCounts::default();
        let mut bytes = 0;
        let rest = std::mem::take(&mut self.unfinished);
        if !rest.is_empty() {
            bytes += rest.len();
            taken.push(InFlight {
                entry: QueueEntry::Rest(Box::new(rest)),
                gap: None,
                priority: Priority::High,
            });
        }
        let mut expired: Option<Missing> = None;
        while taken.len() < max_frames && bytes < max_bytes {
            let Some((entry, priority)) = self.queues.pop() else {
                break;
            };
            if let Some((subscription, dropped)) = entry.expired(now) {
                delivery_counts.dropped += dropped;
                match &mut expired {
                    Some(missing) if missing.subscription == subscription => missing.dropped += dropped,
                    Some(_) | None => {
                        let missing = Missing { subscription, dropped, cause: GapCause::Expired, priority };
                        take_gap(expired.replace(missing), taken, &render);
                    }
                }
                continue;
            }
            take_gap(expired.take(), taken, &render);
            delivery_counts += entry.delivery_counts();
            if let QueueEntry::Gap { subscription, dropped, cause } = entry {
                take_gap(Some(Missing { subscription, dropped, cause, priority }), taken, &render);
                continue;
            }
            let entry = InFlight { entry, gap: None, priority };
            bytes += entry.bytes().len();
            taken.push(entry);
        }
        take_gap(expired, taken, &render);
        self.queues.shrink_capacity();
        delivery_counts
    }

    /// Takes back what the socket did not want; the first of them went out up to `offset`. From now on the outbox
    /// counts as slow: class `latest` keeps only the newest of each key. Gives what is undecided again.
    pub fn put_back(&mut self, mut rest: std::vec::Drain<'_, InFlight>, offset: usize) -> DeliveryCounts {
        let mut delivery_counts = DeliveryCounts::default();
        let begun = if offset > 0 { rest.next() } else { None };
        for InFlight { entry, priority, .. } in rest.rev() {
            delivery_counts += entry.delivery_counts();
            match entry {
                QueueEntry::Rest(bytes) => self.unfinished = *bytes,
                entry @ (QueueEntry::Reply(_)
                | QueueEntry::Delivery { .. }
                | QueueEntry::Run { .. }
                | QueueEntry::Gap { .. }
                | QueueEntry::Nothing) => self.queues.push_front(entry, priority),
            }
        }
        if let Some(begun) = begun {
            let (unbegun, unfinished) = put_back_begun(&mut self.queues, &begun, offset);
            delivery_counts.delivered += unbegun;
            self.unfinished = unfinished;
        }
        self.queues.become_slow();
        delivery_counts
    }

    /// Gives all memory back if nothing waits: for clients that are sent hardly anything.
    pub fn free_capacity(&mut self) {
        self.queues.free_capacity();
    }
}

/// Renders a gap.
fn take_gap(missing: Option<Missing>, taken: &mut Vec<InFlight>, render: &impl Fn(Missing) -> Option<Frame>) {
    let Some(missing) = missing else { return };
    let Some(frame) = render(missing) else { return };
    let Missing { subscription, dropped, cause, priority } = missing;
    taken.push(InFlight {
        entry: QueueEntry::Gap { subscription, dropped, cause },
        gap: Some(Box::new(frame)),
        priority,
    });
}

/// Puts back what has not been begun; gives how many publications that are, and what is left of the frame that has.
fn put_back_begun(queues: &mut Queues, begun: &InFlight, offset: usize) -> (u64, Bytes) {
    let QueueEntry::Run { run, subscription, overflow } = &begun.entry else {
        return (0, begun.rest(offset));
    };
    let (whole, offset) = split(run.deliveries().iter().map(|delivery| delivery.frame.len()), offset);
    let cut = run.deliveries().get(whole).filter(|_| offset > 0);
    let unbegun = &run.deliveries()[whole + usize::from(cut.is_some())..];
    for delivery in unbegun.iter().rev() {
        let (delivery, subscription, overflow) = (Rc::clone(delivery), *subscription, *overflow);
        queues.push_front(QueueEntry::Delivery { delivery, subscription, overflow }, begun.priority);
    }
    let unfinished = cut.map(|delivery| Bytes::copy_from_slice(&delivery.frame.as_bytes()[offset..]));
    (unbegun.len() as u64, unfinished.unwrap_or_default())
}

/// How many pieces of these lengths `written` bytes cover, and how far into the next one they reach.
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
