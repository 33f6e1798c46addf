//! Pump: a batch from a lane → hub → outboxes, which are then to be flushed.

use std::iter::Peekable;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use smallvec::SmallVec;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::GapCause;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::Input;
use tidegate_protocol::subject::Pattern;

use crate::connection::context::Context;
use crate::connection::table::Connections;
use crate::hooks::fault_point;
use crate::hub::delivery_batch::DeliveryBatch;
use crate::hub::effects::Effects;
use crate::hub::topic::TopicMember;
use crate::lane::inbox::Batch;
use crate::lane::inbox::Item;

/// Publications and bytes that go to outboxes in one piece.
const RUN_ITEMS: usize = 64;
const RUN_BYTES: usize = 64 * 1024;

/// Does everything that a batch says, in order. Outboxes are flushed when their turn comes, but those that are half full
/// at once: a burst does not overflow outboxes whose sockets keep up.
pub fn deliver(connections: &Connections, batch: Batch) {
    let mut pump = Pump::new(connections);
    let mut items = batch.items.into_iter().peekable();
    while let Some(item) = items.next() {
        pump.one(item, &mut items);
        connections.flush_urgent(&mut pump.effects, pump.now);
    }
    connections.settle(&mut pump.effects, pump.now);
}

/// A batch on its way through the shard.
struct Pump<'a> {
    connections: &'a Connections,
    context: &'a Context,
    now: Instant,
    effects: Effects,
    /// Publications of one pattern that follow one another, by format.
    run: Vec<(Format, Vec<Rc<Delivery>>)>,
    parcels: Vec<(Format, DeliveryBatch)>,
}

impl<'a> Pump<'a> {
    fn new(connections: &'a Connections) -> Self {
        let (now, effects) = (Instant::now(), Effects::default());
        Self {
            connections,
            context: &connections.context,
            now,
            effects,
            run: Vec::new(),
            parcels: Vec::new(),
        }
    }

    fn one(&mut self, item: Item, rest: &mut Peekable<impl Iterator<Item = Item>>) {
        let context = self.context;
        match item {
            Item::Publication { pattern, key, frames } => self.publish(pattern, &key, frames, rest),
            Item::Joined { pattern, format, snapshot, stale } => {
                let joined = context.hub.borrow_mut().joined(&pattern, format);
                let input = |listener: &TopicMember| Input::Joined {
                    subscription: listener.subscription,
                    snapshot: snapshot.clone(),
                    stale,
                };
                let joins = joined.len();
                self.tell(joined, input);
                context.node.hooks.count_joined(joins);
                self.forget(pattern);
            }
            Item::JoinRefused { pattern, format, refusal } => {
                let refused = context.hub.borrow_mut().unjoined(&pattern, format);
                let input = |listener: &TopicMember| Input::Unjoined {
                    subscription: listener.subscription,
                    refusal: refusal.clone(),
                };
                self.tell(refused, input);
                self.forget(pattern);
            }
            Item::Gap { pattern, cause, dropped } => {
                let listeners = context.hub.borrow().listeners(&pattern);
                self.lost(listeners, cause, dropped);
            }
            Item::Unrenderable { pattern, format } => {
                let mut listeners = context.hub.borrow().listeners(&pattern);
                listeners.retain(|listener| listener.format == format);
                self.lost(listeners, GapCause::Malformed, Some(1));
            }
            Item::Stale { pattern, since } => {
                let (listeners, now) = (context.hub.borrow().listeners(&pattern), self.now);
                self.tell(listeners, |listener| {
                    // What waits for its turn came before the silence.
                    listener.subscriber.release_all(listener.subscription, now);
                    Input::Stale { subscription: listener.subscription, since }
                });
            }
        }
    }

    /// Hands a publication, and those of the same pattern right behind it, to all who listen.
    fn publish(
        &mut self,
        pattern: Pattern,
        key: &Arc<str>,
        frames: SmallVec<[(Format, Frame); 1]>,
        rest: &mut Peekable<impl Iterator<Item = Item>>,
    ) {
        let hub = self.context.hub.borrow();
        let Some(topic) = hub.topic(&pattern) else {
            return self.context.leave_later(pattern);
        };
        let expires = topic.expiry(self.now);
        // A run must find room in an outbox that is not half full.
        let outbox = self.context.node.limits.connection.outbox;
        let (most_items, most_bytes) = (RUN_ITEMS.min(outbox.frames / 2), RUN_BYTES.min(outbox.bytes / 4));
        let (mut items, mut bytes) = (1, gather(&mut self.run, key, frames, expires));
        while items < most_items && bytes < most_bytes {
            let next =
                rest.next_if(|item| matches!(item, Item::Publication { pattern: of, .. } if *of == pattern));
            let Some(Item::Publication { key, frames, .. }) = next else {
                break;
            };
            items += 1;
            bytes += gather(&mut self.run, &key, frames, expires);
        }
        let pack = |(format, run): &mut (Format, _)| Some((*format, DeliveryBatch::pack(run)?));
        self.parcels.extend(self.run.iter_mut().filter_map(pack));
        topic.publish(&self.parcels, self.now, &mut self.effects);
        self.parcels.clear();
        drop(hub);
        for (subscriber, subscription, delivery) in std::mem::take(&mut self.effects.held) {
            if let Some(connection) = self.connections.of(&subscriber) {
                connection.apply(Input::Publication { subscription, delivery }, self.now);
                self.effects.note_changed(&subscriber, Duration::ZERO);
            }
        }
    }

    /// Publications that did not come as far as the outboxes.
    fn lost(&mut self, listeners: Vec<TopicMember>, cause: GapCause, dropped: Option<u64>) {
        // What waits for its turn came before what is missing, and must not come behind it.
        self.tell(listeners, |listener| {
            let subscription = listener.subscription;
            let forgotten = listener.subscriber.forget_waiting(subscription);
            let delivery_counts = DeliveryCounts::dropped(dropped.unwrap_or_default() + forgotten);
            self.context.tallies.add(listener.subscriber.dialect.number(), delivery_counts);
            Input::Lost { subscription, cause, dropped: dropped.map(|dropped| dropped + forgotten) }
        });
    }

    fn tell(&mut self, listeners: Vec<TopicMember>, input: impl Fn(&TopicMember) -> Input) {
        for listener in listeners {
            if let Some(connection) = self.connections.of(&listener.subscriber) {
                connection.apply(input(&listener), self.now);
                self.effects.note_changed(&listener.subscriber, Duration::ZERO);
            }
        }
    }

    /// Tells the lane that an answer came for no one: those who asked have left meanwhile.
    fn forget(&self, pattern: Pattern) {
        let forgotten = self.context.hub.borrow_mut().forget(&pattern);
        if forgotten {
            self.context.leave(pattern);
        }
    }
}

/// Adds a publication to the runs of its formats. Gives its bytes.
fn gather(
    run: &mut Vec<(Format, Vec<Rc<Delivery>>)>,
    key: &Arc<str>,
    frames: SmallVec<[(Format, Frame); 1]>,
    expires: Option<Instant>,
) -> usize {
    let mut bytes = 0;
    for (format, frame) in frames {
        fault_point!("panic in pump", frame.as_bytes());
        bytes += frame.len();
        let delivery = Rc::new(Delivery { frame, key: Arc::clone(key), expires });
        match run.iter_mut().find(|(of, _)| *of == format) {
            Some((_, deliveries)) => deliveries.push(delivery),
            None => run.push((format, vec![delivery])),
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
