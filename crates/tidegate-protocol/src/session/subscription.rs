//! The subscriptions of one session, and their states.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::class::Class;
use crate::frame::Format;
use crate::list_element::ListElement;
use crate::message::RequestContext;
use crate::subject::Pattern;
use crate::subscription_context::SubscriptionContext;

/// The id of a subscription within its session. Ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u32);

/// A subscription that is not live yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The context of the message that asked for it.
    pub request_context: Option<RequestContext>,
    /// The contexts of later messages for the same channel. They are confirmed when it is live.
    pub also_waiting: Vec<RequestContext>,
    /// When the client asked for it.
    pub since: Instant,
    /// What its publications are rendered for.
    pub format: Format,
    /// At most one publication per key in this time.
    pub max_rate: Option<Duration>,
    /// The subscription on the same channel that this one replaces when it is live.
    pub replaces: Option<SubscriptionId>,
    /// The element of the message's list that named it.
    pub element: Option<Rc<ListElement>>,
}

/// Later messages that may wait for one join. Further ones are confirmed at once.
const MAX_ALSO_WAITING: usize = 8;

impl Join {
    /// Makes one more message wait for this join. Returns false if there are too many.
    pub fn add(&mut self, request_context: &RequestContext) -> bool {
        let has_room = self.also_waiting.len() < MAX_ALSO_WAITING;
        if has_room {
            self.also_waiting.push(request_context.clone());
        }
        has_room
    }
}

/// The state of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The lane has not answered, or was not asked yet. Publications before its answer are not delivered; its snapshot
    /// has the last values.
    Joining(Box<Join>),
    /// The hub passes each publication to the session, which passes it to the outbox.
    Held,
    /// The hub appends publications to the outbox without asking the session.
    Live,
}

/// One channel of a client.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub id: SubscriptionId,
    /// The channel, as a NATS pattern.
    pub pattern: Pattern,
    /// Whether the pattern has a wildcard.
    pub is_wild: bool,
    /// Whether a newer subscription replaces it when that is live.
    is_replaced: bool,
    /// How its publications are delivered.
    pub class: Arc<Class>,
    /// What the vocabulary keeps for this subscription, if anything.
    pub subscription_context: Option<Rc<SubscriptionContext>>,
    pub state: State,
}

impl Subscription {
    /// The group that it belongs to; empty if none.
    pub fn group(&self) -> &str {
        self.subscription_context.as_ref().map_or("", |subscription_context| &subscription_context.group)
    }

    /// The subscription on the same channel that this one replaces when it is live.
    pub fn replaces(&self) -> Option<SubscriptionId> {
        self.join()?.replaces
    }

    pub(crate) fn join(&self) -> Option<&Join> {
        match &self.state {
            State::Joining(join) => Some(join),
            State::Held | State::Live => None,
        }
    }
}

/// The subscriptions of a session, in the order in which the client asked for them.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// Sorted by id. At most half of the entries are vacant, so that a removal is cheap however many there are.
    entries: Vec<Entry>,
    vacant: u32,
    next_id: u32,
    /// Joins from this id on have not been requested from their lanes.
    first_unrequested: u32,
    /// Joins that were requested from lanes and are not answered.
    in_flight: u32,
    /// Joins before this id are done, or the client was told that they are delayed.
    overdue_from: u32,
    /// Subscriptions that replace another one when they are live.
    replacing: u32,
}

/// The entry of a subscription; vacant once it is removed.
#[derive(Debug)]
struct Entry {
    id: SubscriptionId,
    subscription: Option<Subscription>,
}

impl Subscriptions {
    /// The number of channels. A subscription that replaces another one does not count.
    pub fn channels(&self) -> usize {
        self.entries.len() - self.vacant() - self.replacing()
    }

    /// How many subscriptions replace another one when they are live.
    pub(crate) fn replacing(&self) -> usize {
        usize::try_from(self.replacing).unwrap_or(usize::MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.len() == self.vacant()
    }

    fn vacant(&self) -> usize {
        usize::try_from(self.vacant).unwrap_or(usize::MAX)
    }

    /// Adds a subscription whose join is not requested yet.
    pub fn add(
        &mut self,
        pattern: Pattern,
        class: Arc<Class>,
        subscription_context: Option<Rc<SubscriptionContext>>,
        join: Join,
    ) -> SubscriptionId {
        let id = SubscriptionId(self.next_id);
        self.next_id += 1;
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(1);
        }
        self.replacing += u32::from(join.replaces.is_some());
        if let Some(older) = join.replaces.and_then(|older| self.find(older)) {
            older.is_replaced = true;
        }
        let (is_wild, state) = (!pattern.is_literal(), State::Joining(Box::new(join)));
        let subscription =
            Subscription { id, pattern, is_wild, is_replaced: false, class, subscription_context, state };
        self.entries.push(Entry { id, subscription: Some(subscription) });
        id
    }

    /// Returns the next subscription to request from its lane and counts it as in flight, unless `max` joins are.
    pub(crate) fn next_to_request(&mut self, max: u32) -> Option<&Subscription> {
        if self.in_flight >= max || self.first_unrequested >= self.next_id {
            return None;
        }
        let from = self.position(self.first_unrequested);
        let next = self.entries.get(from..)?.iter().find_map(|entry| entry.subscription.as_ref());
        self.first_unrequested = next.map_or(self.next_id, |next| next.id.0 + 1);
        self.in_flight += u32::from(next.is_some());
        next
    }

    /// Since when the client has waited for its oldest join that was not reported to it yet.
    pub(crate) fn oldest_wait(&self) -> Option<Instant> {
        self.at(self.position(self.overdue_from))?.join().map(|join| join.since)
    }

    /// Returns the oldest join and marks it as reported to the client.
    pub(crate) fn take_overdue(&mut self) -> Option<&Subscription> {
        let at = self.position(self.overdue_from);
        self.overdue_from = self.at(at)?.id.0 + 1;
        self.skip_answered();
        self.at(at)
    }

    pub fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.at(self.position(id.0)).filter(|found| found.id == id)
    }

    /// The same, mutable.
    pub fn find(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        let at = self.position(id.0);
        self.entries.get_mut(at)?.subscription.as_mut().filter(|found| found.id == id)
    }

    /// Completes a join: the subscription becomes held. `None` if it was not joining.
    pub fn complete_join(&mut self, id: SubscriptionId) -> Option<Join> {
        let subscription = self.find(id).filter(|subscription| subscription.join().is_some())?;
        let State::Joining(join) = std::mem::replace(&mut subscription.state, State::Held) else {
            return None;
        };
        self.forget_join(id, join.replaces);
        if let Some(older) = join.replaces.and_then(|older| self.find(older)) {
            older.is_replaced = false;
        }
        self.skip_answered();
        Some(*join)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Subscription> + Clone {
        self.entries.iter().filter_map(|entry| entry.subscription.as_ref())
    }

    /// The subscriptions of one group.
    pub fn in_group(&self, group: &str) -> impl Iterator<Item = &Subscription> {
        self.iter().filter(move |subscription| subscription.group() == group)
    }

    /// The subscriptions of one group by channel. If two share a channel, the newer one.
    pub fn by_channel(&self, group: &str) -> HashMap<Pattern, SubscriptionId> {
        self.in_group(group).map(|subscription| (subscription.pattern.clone(), subscription.id)).collect()
    }

    /// Removes a subscription.
    pub fn remove(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let at = self.position(id.0);
        let removed = self.entries.get_mut(at).filter(|entry| entry.id == id)?.subscription.take()?;
        self.vacant += 1;
        if removed.is_replaced {
            self.pass_on_replacement(id, removed.replaces());
        }
        self.forget_join_of(&removed);
        self.skip_answered();
        Some(removed)
    }

    /// The subscription that was to replace a removed one now replaces the one before that.
    fn pass_on_replacement(&mut self, gone: SubscriptionId, before: Option<SubscriptionId>) {
        let subscriptions = self.entries.iter_mut().filter_map(|entry| entry.subscription.as_mut());
        let newer = subscriptions.into_iter().find_map(|subscription| match &mut subscription.state {
            State::Joining(join) if join.replaces == Some(gone) => Some(join),
            State::Joining(_) | State::Held | State::Live => None,
        });
        let Some(newer) = newer else { return };
        newer.replaces = before;
        match before.and_then(|before| self.find(before)) {
            Some(before) => before.is_replaced = true,
            None => self.replacing -= 1,
        }
    }

    /// Removes and returns the subscriptions for which `is_gone` is true.
    pub(crate) fn extract_if(&mut self, is_gone: impl Fn(&Subscription) -> bool) -> Vec<Subscription> {
        let entries = self.entries.iter_mut();
        let gone =
            entries.filter_map(|entry| entry.subscription.take_if(|subscription| is_gone(subscription)));
        let gone: Vec<_> = gone.collect();
        self.vacant += u32::try_from(gone.len()).unwrap_or(u32::MAX);
        gone.iter().for_each(|gone| self.forget_join_of(gone));
        self.skip_answered();
        gone
    }

    /// Whether the join of a removed subscription was requested, so that its lane must be told.
    pub(crate) fn was_requested(&self, id: SubscriptionId) -> bool {
        id.0 < self.first_unrequested
    }

    fn forget_join_of(&mut self, removed: &Subscription) {
        if let Some(join) = removed.join() {
            self.forget_join(removed.id, join.replaces);
        }
    }

    /// Stops counting a join.
    fn forget_join(&mut self, id: SubscriptionId, replaces: Option<SubscriptionId>) {
        self.in_flight -= u32::from(self.was_requested(id));
        self.replacing -= u32::from(replaces.is_some());
    }

    /// Advances `overdue_from` to the next join, or to the end; it never goes back. Then removes vacant entries if
    /// there are too many.
    fn skip_answered(&mut self) {
        let from = self.position(self.overdue_from);
        let mut waiting = self.entries.iter().skip(from).filter_map(|entry| entry.subscription.as_ref());
        let waiting = waiting.find(|subscription| subscription.join().is_some());
        self.overdue_from = waiting.map_or(self.next_id, |waiting| waiting.id.0);
        if self.vacant() > self.entries.len() / 2 {
            self.entries.retain(|entry| entry.subscription.is_some());
            self.vacant = 0;
        }
    }

    /// The index of the first entry with this id or a higher one.
    fn position(&self, id: u32) -> usize {
        self.entries.partition_point(|entry| entry.id.0 < id)
    }

    fn at(&self, at: usize) -> Option<&Subscription> {
        self.entries.get(at)?.subscription.as_ref()
    }
}
