//! `Subscriber`: one connection as the hub of its shard knows it: its subscriptions, and the outbox that they share.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::ClassNumber;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::elements::store::ElementStore;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::Push;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subscription_context::SubscriptionContext;

use crate::hub::class_counts::ClassCounts;
use crate::hub::collections::Collections;
use crate::hub::conflation::Conflation;
use crate::hub::conflation::ConflationSize;
use crate::hub::conflation::Offered;
use crate::hub::delays::Delays;
use crate::hub::delays::NextRelease;
use crate::hub::delivery_batch::DeliveryBatch;
use crate::hub::ended_subscriptions::EndedSubscriptions;
use crate::hub::outbox::InFlight;
use crate::hub::outbox::Missing;
use crate::hub::outbox::Outbox;
use crate::hub::outbox::limits::OutboxLimits;

/// The number of a connection within its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub usize);

/// The state of a subscription in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It waits for the lane.
    Joining,
    /// Publications go to its session. The number is its position in the topic's held list.
    Held(usize),
    /// The hub appends publications to its outbox. The number is its position in the topic's live list.
    Live(usize),
}

/// One subscription of a connection.
#[derive(Debug)]
pub struct Member {
    pub id: SubscriptionId,
    /// The pattern of its topic.
    pub pattern: Pattern,
    /// How publications are delivered.
    pub class: Arc<Class>,
    pub state: MemberState,
    /// What only few subscriptions have; boxed to save memory.
    pub extras: Option<Box<MemberExtras>>,
}

/// What only few subscriptions have.
#[derive(Debug)]
pub struct MemberExtras {
    /// What the vocabulary keeps for this subscription.
    pub subscription_context: Option<Rc<SubscriptionContext>>,
    /// Its rate limit per key, if it has a `max_rate_ms`.
    pub conflation: Option<Conflation>,
    /// The elements of its topic, if a vocabulary takes publications apart.
    pub collecting: Option<Collecting>,
}

/// The elements that a subscription shares with the others of its topic.
#[derive(Debug)]
pub struct Collecting {
    pub store: Rc<RefCell<ElementStore>>,
    /// Elements up to this number are not shown to it.
    pub since: u64,
    /// The number of the last element before it joined. If older ones are lost, it is not told.
    pub joined: u64,
}

impl Member {
    /// What the vocabulary keeps for this subscription.
    pub fn subscription_context(&self) -> Option<Rc<SubscriptionContext>> {
        self.extras.as_ref()?.subscription_context.clone()
    }

    fn collecting_mut(&mut self) -> Option<&mut Collecting> {
        self.extras.as_mut()?.collecting.as_mut()
    }

    /// Its elements, and what the vocabulary keeps for it, if it belongs to this group and has elements.
    fn collecting_in(&self, group: &str) -> Option<(&Collecting, &SubscriptionContext)> {
        let extras = self.extras.as_ref()?;
        let context = extras.subscription_context.as_deref().filter(|context| *context.group == *group)?;
        Some((extras.collecting.as_ref()?, context))
    }

    fn conflation(&self) -> Option<&Conflation> {
        self.extras.as_ref()?.conflation.as_ref()
    }

    fn conflation_mut(&mut self) -> Option<&mut Conflation> {
        self.extras.as_mut()?.conflation.as_mut()
    }
}

/// The subscriptions of one connection, and the outbox that they share.
#[derive(Debug)]
pub struct Subscriber {
    /// The connection.
    pub owner: ConnectionId,
    /// The dialect of the client.
    pub dialect: Arc<dyn Dialect>,
    changed: Cell<bool>,
    /// Sorted by id.
    members: RefCell<Vec<Member>>,
    /// How many subscriptions have a `max_rate_ms`.
    rate_limited: Cell<u32>,
    /// What these have together.
    delays: Delays,
    /// Subscriptions that ended while frames waited: these frames may still become gaps. `None` if there are none.
    ended: RefCell<Option<Box<EndedSubscriptions>>>,
    outbox: RefCell<Outbox>,
    /// Only if a subscription has [`Collecting`].
    collections: RefCell<Option<Box<Collections>>>,
}

impl Subscriber {
    /// Creates a subscriber without subscriptions. Gaps are encoded in `dialect`.
    pub fn new(owner: ConnectionId, dialect: Arc<dyn Dialect>, limits: OutboxLimits) -> Self {
        Self {
            owner,
            dialect,
            changed: Cell::new(false),
            members: RefCell::default(),
            rate_limited: Cell::default(),
            delays: Delays::default(),
            ended: RefCell::default(),
            outbox: RefCell::new(Outbox::new(limits)),
            collections: RefCell::default(),
        }
    }

    /// Marks the outbox as changed. Returns true if it was not marked before.
    pub fn mark_changed(&self) -> bool {
        !self.changed.replace(true)
    }

    /// Whether the outbox is marked as changed.
    pub fn is_changed(&self) -> bool {
        self.changed.get()
    }

    /// Removes the mark, because a flush begins.
    pub fn clear_changed(&self) {
        self.changed.set(false);
    }

    /// Adds a subscription that waits for its lane. Its id must be greater than all before.
    pub fn add_member(
        &self,
        id: SubscriptionId,
        pattern: Pattern,
        class: Arc<Class>,
        max_rate: Option<Duration>,
        subscription_context: Option<Rc<SubscriptionContext>>,
    ) {
        let conflation = max_rate.map(Conflation::new);
        if conflation.is_some() {
            self.rate_limited.update(|rate_limited| rate_limited + 1);
            self.delays.begin();
        }
        let has_extras = conflation.is_some() || subscription_context.is_some();
        let extras =
            has_extras.then(|| Box::new(MemberExtras { subscription_context, conflation, collecting: None }));
        let mut members = self.members.borrow_mut();
        if members.capacity() == 0 {
            members.reserve_exact(1);
        }
        members.push(Member { id, pattern, class, state: MemberState::Joining, extras });
    }

    /// Removes a subscription. Its frames in the outbox are still sent.
    pub fn leave(&self, id: SubscriptionId) -> Option<Member> {
        let mut members = self.members.borrow_mut();
        let at = members.binary_search_by_key(&id, |member| member.id).ok()?;
        let mut member = members.remove(at);
        self.forget_collections(&member, &members);
        if let Some(conflation) = member.extras.as_mut().and_then(|extras| extras.conflation.take()) {
            self.rate_limited.update(|rate_limited| rate_limited - 1);
            self.delays.set_next_release(NextRelease::Unknown);
            self.with_conflation_size(|size| conflation.clear(size));
            if !self.is_rate_limited() {
                self.delays.end();
            }
        }
        if self.outbox.borrow().has_queued() {
            let channel = Arc::clone(member.pattern.text());
            let mut ended = self.ended.borrow_mut();
            ended.get_or_insert_default().push(id, channel, member.subscription_context());
        }
        Some(member)
    }

    /// Whether a subscription has this channel.
    pub fn has_channel(&self, channel: &Pattern) -> bool {
        self.any_member(|member| member.pattern == *channel)
    }

    /// The number of subscriptions.
    pub fn member_count(&self) -> usize {
        self.members.borrow().len()
    }

    /// What `of` makes of each subscription, in the order in which they began.
    pub fn map_members<T>(&self, of: impl Fn(&Member) -> T) -> Vec<T> {
        self.members.borrow().iter().map(of).collect()
    }

    /// Whether a subscription meets a condition.
    pub fn any_member(&self, is_wanted: impl Fn(&Member) -> bool) -> bool {
        self.members.borrow().iter().any(is_wanted)
    }

    /// The number of a subscription's class. That of the default class if it does not exist.
    pub fn class_of(&self, id: SubscriptionId) -> ClassNumber {
        self.with_member(id, |member| member.class.number).unwrap_or_default()
    }

    /// The ids of all subscriptions.
    pub fn member_ids(&self) -> Vec<SubscriptionId> {
        self.map_members(|member| member.id)
    }

    /// Calls `change` with a subscription. `None` if it does not exist.
    pub fn with_member<T>(&self, id: SubscriptionId, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let mut members = self.members.borrow_mut();
        let at = members.binary_search_by_key(&id, |member| member.id).ok()?;
        members.get_mut(at).map(change)
    }

    /// Appends a reply of the session. Returns false if the outbox is full of replies: the client does not read, and
    /// the connection should end.
    pub fn push_reply(&self, frame: Frame, priority: Priority) -> bool {
        self.outbox.borrow_mut().push_reply(frame, priority)
    }

    /// Appends publications, with the overflow rule of their class.
    pub fn push(&self, batch: &DeliveryBatch, id: SubscriptionId, class: &Class) {
        self.outbox.borrow_mut().push(batch, id, class);
    }

    /// Appends a publication to a subscription with [`MemberExtras`], now or when `max_rate_ms` allows it. Applies its
    /// filter, and fills its frame slots. Returns true if there is more to flush.
    pub fn offer(&self, delivery: &Rc<Delivery>, id: SubscriptionId, class: &Class, now: Instant) -> bool {
        let offered = self.with_member(id, |member| {
            let Some(extras) = &mut member.extras else { return Some(Rc::clone(delivery)) };
            let own = delivery.tailor(extras.subscription_context.as_deref())?;
            match &mut extras.conflation {
                Some(conflation) => {
                    let OutboxLimits { bytes, frames } = self.outbox.borrow().limits();
                    let most = ConflationSize { keys: frames, bytes: bytes / 2 };
                    let offer = |size: &mut _| conflation.offer(own, now, size, most);
                    let Offered { delivery, has_replaced } = self.with_conflation_size(offer);
                    if has_replaced {
                        self.delays.count_conflated(class.number);
                    }
                    self.note_release(conflation.next_release());
                    delivery
                }
                None => Some(own),
            }
        });
        let Some(Some(delivery)) = offered else { return false };
        self.outbox.borrow_mut().push_one(delivery, id, class);
        true
    }

    /// Appends the last values for a subscription that has just joined, with the overflow rule of its class. Its
    /// `max_rate_ms` does not delay them. Applies its filter, and fills their frame slots.
    pub fn push_snapshot(&self, snapshot: Vec<Delivery>, id: SubscriptionId) {
        let found = self.with_member(id, |member| (Arc::clone(&member.class), member.subscription_context()));
        let Some((class, context)) = found else { return };
        let mut outbox = self.outbox.borrow_mut();
        for own in snapshot.into_iter().filter_map(|value| Rc::new(value).tailor(context.as_deref())) {
            outbox.push_last_value(own, id, &class);
        }
    }

    /// Appends the delayed publications that are due.
    pub fn release_due(&self, now: Instant) {
        if self.next_release().is_none_or(|release| release > now) {
            return;
        }
        self.delays.set_next_release(NextRelease::Unknown);
        for member in self.members.borrow_mut().iter_mut() {
            let Member { id, class, extras: Some(extras), .. } = member else { continue };
            let Some(conflation) = extras.conflation.as_mut() else { continue };
            while let Some(delivery) = self.with_conflation_size(|size| conflation.release(now, size)) {
                self.outbox.borrow_mut().push_one(delivery, *id, class);
            }
        }
        self.release_collections(Some(now), None);
    }

    /// Appends all delayed publications of a subscription at once, because the next message about it must come after
    /// them.
    pub fn release_all(&self, id: SubscriptionId, now: Instant) {
        if !self.is_rate_limited() {
            return;
        }
        self.delays.set_next_release(NextRelease::Unknown);
        if let Some(context) = self.with_member(id, |member| member.subscription_context()).flatten() {
            self.release_collections(Some(now), Some(&context.group));
        }
        self.with_member(id, |member| {
            let Member { id, class, extras: Some(extras), .. } = member else { return };
            let Some(conflation) = extras.conflation.as_mut() else { return };
            for delivery in self.with_conflation_size(|size| conflation.release_all(now, size)) {
                self.outbox.borrow_mut().push_one(delivery, *id, class);
            }
        });
    }

    /// Drops the delayed publications of a subscription: they would arrive after the gap of a loss that happened later.
    /// Returns how many they were.
    pub fn drop_delayed(&self, id: SubscriptionId) -> ClassCounts {
        let mut dropped = ClassCounts::default();
        if self.is_rate_limited() {
            self.with_member(id, |member| {
                let class = member.class.number;
                let Some(conflation) = member.conflation_mut() else { return };
                let waiting = self.with_conflation_size(|size| conflation.drop_waiting(size));
                dropped.add(class, waiting as u64);
            });
        }
        dropped
    }

    /// Whether a subscription has a `max_rate_ms`. If so, a publication may change [`Subscriber::next_release`].
    pub fn is_rate_limited(&self) -> bool {
        self.rate_limited.get() > 0
    }

    /// When to call [`Subscriber::release_due`] next.
    pub fn next_release(&self) -> Option<Instant> {
        match self.delays.next_release() {
            NextRelease::Never => None,
            NextRelease::At(release) => Some(release),
            NextRelease::Unknown => self.find_next_release(),
        }
    }

    fn find_next_release(&self) -> Option<Instant> {
        let members = self.members.borrow();
        let next = if self.is_rate_limited() {
            let waiting = members.iter().filter_map(|member| member.conflation()?.next_release()).min();
            match self.next_collected_release() {
                Some(collected) => Some(waiting.map_or(collected, |waiting| waiting.min(collected))),
                None => waiting,
            }
        } else {
            None
        };
        self.delays.set_next_release(next.map_or(NextRelease::Never, NextRelease::At));
        next
    }

    /// Notes the first release of a subscription after an offer, which never makes it later.
    fn note_release(&self, release: Option<Instant>) {
        let Some(release) = release else { return };
        let is_first = match self.delays.next_release() {
            NextRelease::Unknown => false,
            NextRelease::Never => true,
            NextRelease::At(earliest) => release < earliest,
        };
        if is_first {
            self.delays.set_next_release(NextRelease::At(release));
        }
    }

    /// The publications that `max_rate_ms` delays.
    pub fn delayed(&self) -> ClassCounts {
        let mut counts = ClassCounts::default();
        for member in self.members.borrow().iter() {
            if let Some(conflation) = member.conflation() {
                counts.add(member.class.number, conflation.waiting() as u64);
            }
        }
        if let Some(collections) = &*self.collections.borrow() {
            collections.delayed().for_each(|class| counts.add(class, 1));
        }
        counts
    }

    /// Calls `count` with the publications that newer ones of their key have replaced in the outbox since the last call.
    /// Elements of collections do not count.
    #[inline]
    pub fn take_conflated(&self, count: impl FnMut((ClassNumber, u64))) {
        if let Some(conflated) = self.outbox.borrow_mut().conflated() {
            conflated.drain().for_each(count);
        }
    }

    /// The same while `max_rate_ms` delayed them. Only for subscribers with [`Subscriber::is_rate_limited`].
    pub fn take_delayed_conflated(&self, count: impl FnMut((ClassNumber, u64))) {
        self.delays.take_conflated(count);
    }

    /// Whether the outbox is half full although the client keeps up.
    pub fn is_urgent(&self) -> bool {
        self.outbox.borrow().is_urgent()
    }

    /// Whether no frames wait for the socket.
    pub fn is_empty(&self) -> bool {
        self.outbox.borrow().is_empty()
    }

    /// Bytes that wait for the socket.
    pub fn bytes(&self) -> usize {
        self.outbox.borrow().bytes()
    }

    /// The publications that wait for the socket, and those that have become gaps, as they will count once they are
    /// written.
    pub fn waiting(&self) -> DeliveryCounts {
        self.outbox.borrow().waiting()
    }

    /// The publications that wait for the socket, including those that have become gaps.
    pub fn queued_publications(&self) -> ClassCounts {
        self.outbox.borrow().queued_publications()
    }

    /// Moves the next frames to `taken`, as [`Outbox::take`] does, and encodes gaps in the client's dialect. Counts the
    /// publications of gaps that it has no message for in `unannounced`.
    pub fn take(
        &self,
        now: Instant,
        max_frames: usize,
        max_bytes: usize,
        taken: &mut Vec<InFlight>,
        unannounced: &mut ClassCounts,
    ) -> DeliveryCounts {
        self.collect_joined(now);
        let render = |missing: Missing| {
            let (class, dropped) = (missing.class, missing.dropped);
            let frame = self.render_gap(missing);
            if frame.is_none() {
                unannounced.add(class, dropped);
            }
            frame
        };
        let collect = |number, priority, missing: &mut Vec<Missing>| {
            self.render_collected(number, priority, now, missing)
        };
        self.outbox.borrow_mut().take(now, max_frames, max_bytes, taken, render, collect)
    }

    /// Puts back frames that the socket had no room for, as [`Outbox::put_back`] does.
    pub fn put_back(&self, rest: std::vec::Drain<'_, InFlight>, offset: usize) -> DeliveryCounts {
        let give_back = |number, lost, priority| {
            let mut collections = self.collections.borrow_mut();
            collections.as_mut().is_some_and(|collections| collections.give_back(number, lost, priority))
        };
        self.outbox.borrow_mut().put_back(rest, offset, give_back)
    }

    /// Forgets ended subscriptions: the outbox is empty and all of it is written, so that no frame can become a gap any
    /// more.
    pub fn forget_ended(&self) {
        if self.ended.borrow().is_some() {
            self.ended.take();
        }
    }

    /// Frees the memory of an empty outbox, for clients that receive little.
    pub fn free_capacity(&self) {
        self.outbox.borrow_mut().free_capacity();
    }

    /// Calls `change` with the total of what subscriptions hold, and reserves these bytes in the outbox.
    fn with_conflation_size<T>(&self, change: impl FnOnce(&mut ConflationSize) -> T) -> T {
        let (result, bytes) = self.delays.with_size(change);
        self.outbox.borrow_mut().reserve(bytes);
        result
    }

    /// Encodes a gap. `None` if the dialect has no message for it.
    fn render_gap(&self, missing: Missing) -> Option<Frame> {
        let Missing { subscription, dropped, cause, .. } = missing;
        let (channel, subscription_context) = self.channel_of(subscription)?;
        let gap = Push::Gap { channel, cause, dropped: Some(dropped), range: None };
        self.dialect.channel_push(&gap, subscription_context.as_deref())
    }

    fn channel_of(&self, id: SubscriptionId) -> Option<(Arc<str>, Option<Rc<SubscriptionContext>>)> {
        let of_member =
            |member: &mut Member| (Arc::clone(member.pattern.text()), member.subscription_context());
        self.with_member(id, of_member).or_else(|| self.ended.borrow().as_ref()?.find(id))
    }
}

mod collecting;
#[cfg(test)]
mod tests;
