//! The pump: takes a batch from a lane, passes its items to the hub and to sessions, and flushes the changed outboxes or
//! queues them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::vec::Drain;

use smallvec::SmallVec;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::elements::Elements;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::position::Position;
use tidegate_protocol::position::SequenceRange;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::limits::VALUES_PER_COMMAND;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::topic_id::TopicId;

use crate::connection::context::Context;
use crate::connection::table::Connections;
use crate::hooks::fault_point;
use crate::hub::delivery_batch::DeliveryBatch;
use crate::hub::effects::Effects;
use crate::hub::element_index::ElementIndex;
use crate::hub::topic_member::TopicMember;
use crate::lane::inbox::Batch;
use crate::lane::inbox::Item;
use crate::lane::inbox::RecoveryAnswer;
use crate::lane::inbox::Snapshot;

/// Limits of the publications that are appended to outboxes in one piece.
const BATCH_ITEMS: usize = 64;
const BATCH_BYTES: usize = 64 * 1024;

/// Delivers batches to the connections of a shard.
pub struct Pump {
    /// The connections of the shard.
    pub connections: Rc<Connections>,
    /// Reused, so that a batch need not allocate them.
    lists: Cell<PumpLists>,
}

/// What a batch fills and leaves empty.
#[derive(Default)]
struct PumpLists {
    effects: Effects,
    /// Consecutive publications of one pattern, by format.
    consecutive: Vec<(Format, Vec<Rc<Delivery>>)>,
    batches: Vec<(Format, DeliveryBatch)>,
}

impl Pump {
    pub fn new(connections: Rc<Connections>) -> Self {
        Self { connections, lists: Cell::default() }
    }

    /// Handles all items of a batch, in order, and flushes the changed outboxes: few at once if nothing else waits
    /// (`more_waits`), many from a queue. Outboxes that are half full are flushed before the next item, so that a burst
    /// does not overflow the outboxes of clients that keep up.
    pub fn deliver(&self, batch: &mut Batch, more_waits: bool, now: Instant) {
        let (connections, lists) = (&*self.connections, self.lists.take());
        let mut turn = PumpTurn { connections, context: &connections.context, now, lists };
        let is_publication =
            matches!(batch.items.first(), Some(Item::Publication { .. } | Item::Elements { .. }));
        let produced = batch.produced.take();
        let is_sample =
            |_: &Instant| is_publication && (connections.context.counts.is_sample() || produced.is_some());
        let received = batch.received.take().filter(is_sample);
        let mut items = batch.drain();
        while let Some(item) = items.next() {
            turn.handle(item, &mut items);
            connections.flush_urgent(&mut turn.lists.effects, now);
        }
        connections.flush_changed(&mut turn.lists.effects, now, more_waits);
        self.lists.set(turn.lists);
        if let Some(received) = received {
            connections.sample_latency(received, produced);
        }
    }
}

/// The state while a batch is handled.
struct PumpTurn<'a> {
    connections: &'a Connections,
    context: &'a Context,
    now: Instant,
    lists: PumpLists,
}

impl PumpTurn<'_> {
    fn handle(&mut self, item: Item, rest: &mut Drain<'_, Item>) {
        let context = self.context;
        match item {
            Item::Publication { topic, pattern, key, priority, frames } => {
                self.publish((topic, pattern), &key, priority, frames, rest)
            }
            Item::Elements { pattern, format, elements } => self.publish_elements(pattern, format, &elements),
            Item::Joined { pattern, format, snapshot, stale, position } => {
                self.joined((pattern, format), snapshot, stale, position);
            }
            Item::Recovered { pattern, answer } => self.recovered(&pattern, *answer),
            Item::JoinFailed { pattern, format, error } => {
                let refused = context.hub.borrow_mut().join_failed(&pattern, format);
                let input = |member: &TopicMember| Input::JoinFailed {
                    subscription: member.subscription,
                    error: error.clone(),
                };
                self.notify(refused, input);
                self.remove_if_unused(pattern);
            }
            Item::Gap { pattern, cause, dropped, range } => {
                context.hub.borrow().note_loss(&pattern, None);
                let members = context.hub.borrow().members(&pattern);
                self.lost(members, cause, dropped, range);
            }
            Item::Unrenderable { pattern, format } => {
                context.hub.borrow().note_loss(&pattern, Some(format));
                let mut members = context.hub.borrow().members(&pattern);
                members.retain(|member| member.format == format);
                self.lost(members, GapCause::Malformed, Some(1), None);
            }
            Item::Stale { pattern, since } => {
                let (members, now) = (context.hub.borrow().members(&pattern), self.now);
                self.notify(members, |member| {
                    // Delayed publications arrived before the channel became stale, so they are sent first.
                    member.subscriber.release_all(member.subscription, now);
                    Input::Stale { subscription: member.subscription, since }
                });
            }
        }
    }

    /// Passes a lane's answer to the subscriptions that wait for it.
    fn joined(
        &mut self,
        (pattern, format): (Pattern, Format),
        snapshot: Snapshot,
        stale: Option<SystemTime>,
        position: Option<Position>,
    ) {
        let context = self.context;
        self.charge_readers(&pattern, format, &snapshot);
        context.hub.borrow().seed(&pattern, format, &snapshot.elements, self.now);
        let joined = context.hub.borrow_mut().joined(&pattern, format);
        let Snapshot { mut deliveries, elements } = snapshot;
        let shown = elements.iter().filter(|_| !joined.is_empty());
        let indexes: Vec<_> = shown.map(|elements| ElementIndex::new(elements, &pattern)).collect();
        let (mut crowded, mut effects, now) = (Vec::new(), Effects::default(), self.now);
        let (count, mut left) = (joined.len(), joined.len());
        let input = |member: &TopicMember| {
            member.subscriber.note_joined(member.subscription);
            left -= 1;
            // Nearly always there is one.
            let mut snapshot = if left == 0 { std::mem::take(&mut deliveries) } else { deliveries.clone() };
            let (shown, dropped) = shown_elements(member, &elements, &indexes, now, &mut effects);
            if dropped > 0 {
                crowded.push((member.clone(), dropped));
            }
            snapshot.extend(shown);
            let position = position.clone();
            Input::Joined { subscription: member.subscription, snapshot, stale, position }
        };
        self.notify(joined, input);
        for (member, dropped) in crowded {
            self.lost(vec![member], GapCause::Slow, Some(dropped), None);
        }
        self.lists.effects.held.append(&mut effects.held);
        self.pass_to_held();
        context.node.hooks.count_joined(count);
        self.remove_if_unused(pattern);
    }

    /// Passes what they have missed to the subscriptions that wait for it.
    fn recovered(&mut self, pattern: &Pattern, answer: RecoveryAnswer) {
        let RecoveryAnswer { format, after, recovery } = answer;
        let waiting = self.context.recoveries.take(pattern, format, after);
        let values = recovery.snapshot.iter().len() + recovery.messages.iter().len();
        for (subscriber, subscription) in waiting {
            if let Some(connection) = self.connections.of(&subscriber) {
                connection.apply(Input::SnapshotRead { values }, self.now);
                let recovery = Box::new(recovery.clone());
                connection.apply(Input::Recovered { subscription, recovery }, self.now);
                self.lists.effects.note_changed(&subscriber, Duration::ZERO);
            }
        }
    }

    /// Charges clients for the last values that were read for them, even those that have left the channel meanwhile.
    fn charge_readers(&self, pattern: &Pattern, format: Format, snapshot: &Snapshot) {
        let values = snapshot.values();
        if values < VALUES_PER_COMMAND {
            return;
        }
        let readers = self.context.hub.borrow().readers(pattern, format);
        for connection in readers.iter().filter_map(|reader| self.connections.of(reader)) {
            connection.apply(Input::SnapshotRead { values }, self.now);
        }
    }

    /// Appends a publication, and the next ones of the same topic and priority, to the outboxes of its subscribers. A
    /// topic that has ended has none: the pattern may have a new one, to which the publication does not belong.
    fn publish(
        &mut self,
        (id, pattern): (TopicId, Pattern),
        key: &Arc<str>,
        priority: Priority,
        frames: SmallVec<[(Format, Frame); 1]>,
        rest: &mut Drain<'_, Item>,
    ) {
        let hub = self.context.hub.borrow();
        let Some(topic) = hub.numbered(id) else {
            return self.context.leave_later(pattern);
        };
        let terms = (priority, topic.expiry(self.now));
        // A batch must fit into any outbox that is at most half full.
        let outbox = self.context.smallest_outbox();
        let (max_items, max_bytes) = (BATCH_ITEMS.min(outbox.frames / 2), BATCH_BYTES.min(outbox.bytes / 4));
        let (mut items, mut bytes) = (1, collect(&mut self.lists.consecutive, key, terms, frames));
        while items < max_items && bytes < max_bytes {
            let is_next = |item: &Item| matches!(item, Item::Publication { topic: of, priority, .. } if *priority == terms.0 && *of == id);
            if !rest.as_slice().first().is_some_and(is_next) {
                break;
            }
            let Some(Item::Publication { key, frames, .. }) = rest.next() else {
                break;
            };
            items += 1;
            bytes += collect(&mut self.lists.consecutive, &key, terms, frames);
        }
        let lists = &mut self.lists;
        let pack = |(format, deliveries): &mut (Format, _)| Some((*format, DeliveryBatch::pack(deliveries)?));
        lists.batches.extend(lists.consecutive.iter_mut().filter_map(pack));
        topic.publish(&lists.batches, self.now, &mut lists.effects);
        lists.batches.clear();
        drop(hub);
        self.pass_to_held();
    }

    /// Delivers the elements of a publication.
    fn publish_elements(&mut self, pattern: Pattern, format: Format, elements: &Elements) {
        let hub = self.context.hub.borrow();
        if !hub.publish_elements(&pattern, format, elements, self.now, &mut self.lists.effects) {
            return self.context.leave_later(pattern);
        }
        drop(hub);
        self.pass_to_held();
    }

    /// Passes publications to the sessions of held subscriptions.
    fn pass_to_held(&mut self) {
        for (subscriber, subscription, delivery) in std::mem::take(&mut self.lists.effects.held) {
            if let Some(connection) = self.connections.of(&subscriber) {
                connection.apply(Input::Publication { subscription, delivery }, self.now);
                self.lists.effects.note_changed(&subscriber, Duration::ZERO);
            }
        }
        for (subscriber, subscription, collection) in std::mem::take(&mut self.lists.effects.held_collections)
        {
            if subscriber.collect(collection, subscription, self.now) {
                self.lists.effects.note_changed(&subscriber, Duration::ZERO);
            }
        }
    }

    /// Tells subscriptions that publications were lost before they reached the outboxes.
    fn lost(
        &mut self,
        members: Vec<TopicMember>,
        cause: GapCause,
        dropped: Option<u64>,
        range: Option<SequenceRange>,
    ) {
        // Delayed publications are older than the lost ones. After the gap they would be out of order, so they are
        // dropped too.
        self.notify(members, |member| {
            let subscription = member.subscription;
            let forgotten = member.subscriber.drop_delayed(subscription).total();
            let lost = dropped.unwrap_or_default() + forgotten;
            let delivery_counts = DeliveryCounts::dropped(lost);
            self.context.counts.count_gap(member.subscriber.class_of(subscription), cause, lost);
            if let Some(connection) = self.connections.of(&member.subscriber) {
                connection.note_gap(cause, lost);
            }
            self.context.delivery_totals.add(member.subscriber.dialect.number(), delivery_counts);
            let dropped = dropped.map(|dropped| dropped + forgotten);
            // What was forgotten is outside of the range.
            let range = range.filter(|_| forgotten == 0);
            Input::Lost { subscription, cause, dropped, range }
        });
    }

    fn notify(&mut self, members: Vec<TopicMember>, mut input: impl FnMut(&TopicMember) -> Input) {
        for member in members {
            if let Some(connection) = self.connections.of(&member.subscriber) {
                connection.apply(input(&member), self.now);
                self.lists.effects.note_changed(&member.subscriber, Duration::ZERO);
            }
        }
    }

    /// Leaves a pattern at its lane if all subscriptions have left while the lane answered.
    fn remove_if_unused(&self, pattern: Pattern) {
        let is_unused = self.context.hub.borrow_mut().remove_if_unused(&pattern);
        if is_unused {
            self.context.leave(pattern);
        }
    }
}

/// The elements that a subscription which has joined gets as separate messages: of last values, and those that have
/// waited for it. They are in the order in which their publications arrived. Elements of other channels that the client
/// has joined are sent there, and those of channels that still wait for their lanes are kept until those join. Also
/// returns how many elements were dropped while they waited.
fn shown_elements(
    member: &TopicMember,
    elements: &[Elements],
    indexes: &[ElementIndex<'_>],
    now: Instant,
    effects: &mut Effects,
) -> (impl Iterator<Item = Delivery>, u64) {
    let (subscriber, id) = (&member.subscriber, member.subscription);
    let (waiting, dropped) = subscriber.take_waiting(id);
    let mut found: Vec<_> = waiting.into_iter().map(|element| (element.arrived, element.delivery)).collect();
    for (elements, index) in elements.iter().zip(indexes) {
        let shown = index.shown_to(subscriber, id);
        let max_age = subscriber.with_member(id, |member| member.class.max_age).flatten();
        let expires = max_age.and_then(|max_age| elements.arrived.checked_add(max_age));
        let mut deliveries: BTreeMap<usize, Rc<Delivery>> = BTreeMap::new();
        let mut delivery = |at: usize| match deliveries.entry(at) {
            Entry::Occupied(known) => Some(Rc::clone(known.get())),
            Entry::Vacant(vacant) => {
                let element = elements.list.get(at)?;
                let (frame, key) = (element.frame()?.clone(), Arc::clone(&element.key));
                let delivery = Delivery { frame, key, priority: elements.priority, expires };
                Some(Rc::clone(vacant.insert(Rc::new(delivery))))
            }
        };
        for (at, waiting) in shown.when_joined {
            if let Some(delivery) = delivery(at) {
                subscriber.keep_until_joined(waiting, id, elements.arrived, &delivery);
            }
        }
        for (at, of) in shown.now {
            let Some(delivery) = delivery(at) else { continue };
            if of == id {
                found.push((elements.arrived, delivery));
            } else {
                subscriber.show_element(&delivery, of, id, now, effects);
            }
        }
    }
    found.sort_by_key(|(arrived, _)| *arrived);
    (found.into_iter().map(|(_, delivery)| Rc::unwrap_or_clone(delivery)), dropped)
}

/// Adds the frames of a publication to their formats. `terms` are its priority and when it expires. Returns the number
/// of their bytes.
fn collect(
    consecutive: &mut Vec<(Format, Vec<Rc<Delivery>>)>,
    key: &Arc<str>,
    (priority, expires): (Priority, Option<Instant>),
    frames: SmallVec<[(Format, Frame); 1]>,
) -> usize {
    let mut bytes = 0;
    for (format, frame) in frames {
        fault_point!("panic in pump", frame.as_bytes());
        bytes += frame.len();
        let delivery = Rc::new(Delivery { frame, key: Arc::clone(key), priority, expires });
        match consecutive.iter_mut().find(|(of, _)| *of == format) {
            Some((_, deliveries)) => deliveries.push(delivery),
            None => consecutive.push((format, vec![delivery])),
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
