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
use crate::position::Position;
use crate::session::change::ChangeId;
use crate::session::change::ChangeKind;
use crate::session::change::ChangeProgress;
use crate::session::change::Changes;
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
    /// Where the client was: it gets what it has missed since then before it is confirmed.
    pub recover_after: Option<Position>,
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
    /// The pending change that joins it.
    part_of: Option<ChangeId>,
    /// The pending change that ends it.
    left_by: Option<ChangeId>,
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

    /// The pending change that joins it.
    pub(super) fn part_of(&self) -> Option<ChangeId> {
        self.part_of
    }

    /// The pending change that ends it.
    pub(super) fn left_by(&self) -> Option<ChangeId> {
        self.left_by
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
    /// Subscriptions that a pending change ends.
    leaving: u32,
    changes: Changes,
}

/// The entry of a subscription; vacant once it is removed.
#[derive(Debug)]
struct Entry {
    id: SubscriptionId,
    subscription: Option<Subscription>,
}

impl Subscriptions {
    /// The number of channels. A subscription that replaces another one does not count, nor one that a pending change
    /// ends.
    pub fn channels(&self) -> usize {
        (self.entries.len() - self.vacant()).saturating_sub(self.surplus())
    }

    /// How many subscriptions the session has for a time besides its channels.
    pub(crate) fn surplus(&self) -> usize {
        self.replacing() + usize::try_from(self.leaving).unwrap_or(usize::MAX)
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
        let subscription = Subscription {
            id,
            pattern,
            is_wild,
            is_replaced: false,
            part_of: None,
            left_by: None,
            class,
            subscription_context,
            state,
        };
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
        self.leaving -= u32::from(removed.left_by.is_some());
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
        for gone in &gone {
            self.leaving -= u32::from(gone.left_by.is_some());
            self.forget_join_of(gone);
        }
        self.skip_answered();
        gone
    }

    /// Begins a change, whose first join counts already.
    pub(super) fn begin_change(&mut self, kind: ChangeKind) -> ChangeId {
        self.changes.begin(kind)
    }

    /// Makes a subscription that is joining part of a change, which counts its join already.
    pub(super) fn make_part_of(&mut self, id: SubscriptionId, change: ChangeId) {
        if let Some(subscription) = self.find(id) {
            subscription.part_of = Some(change);
        }
    }

    /// Makes a subscription that is joining part of a change, and counts its join.
    pub(super) fn add_to_change(&mut self, id: SubscriptionId, change: ChangeId) {
        self.make_part_of(id, change);
        self.changes.add_join(change);
    }

    /// Makes a change end a subscription, unless an earlier one does.
    pub(super) fn leave_by(&mut self, id: SubscriptionId, change: ChangeId) {
        if let Some(subscription) = self.find(id).filter(|subscription| subscription.left_by.is_none()) {
            subscription.left_by = Some(change);
            self.leaving += 1;
        }
    }

    /// A message names a subscription that there is: no pending change ends it, and it does not end with the change that
    /// has joined it. One that is joining becomes part of this change.
    pub(super) fn take_back(&mut self, id: SubscriptionId, change: Option<ChangeId>) {
        let Some(subscription) = self.find(id) else { return };
        let was_leaving = subscription.left_by.take().is_some();
        let earlier = match subscription.state {
            State::Joining(_) if change.is_none() => None,
            State::Joining(_) => std::mem::replace(&mut subscription.part_of, change),
            State::Held | State::Live => {
                subscription.part_of = None;
                None
            }
        };
        let is_joining = matches!(subscription.state, State::Joining(_));
        self.leaving -= u32::from(was_leaving);
        if let Some(change) = change.filter(|_| is_joining) {
            self.changes.add_join(change);
            // The earlier change has no other join left: it depends on this one, so the two are one.
            if let Some(earlier) = earlier
                && let ChangeProgress::Complete(_) = self.changes.end_join(earlier)
            {
                self.pass_on_change(earlier, Some(change));
                let joined = self.all_mut().filter(|subscription| subscription.part_of == Some(earlier));
                joined.for_each(|subscription| subscription.part_of = Some(change));
            }
        }
    }

    /// Counts one join of a change as ended.
    pub(super) fn end_join_of_change(&mut self, change: ChangeId) -> ChangeProgress {
        self.changes.end_join(change)
    }

    /// All channels of a change are joined: removes and returns the subscriptions that it ends.
    pub(super) fn complete_change(&mut self, change: ChangeId) -> Vec<Subscription> {
        let gone = self.extract_if(|subscription| subscription.left_by == Some(change));
        self.forget_change(change);
        gone
    }

    /// A change failed: what it would have ended stays, or is ended by the change that ends the `failed` subscription.
    /// Returns the kind, unless the change has ended already.
    pub(super) fn fail_change(&mut self, change: ChangeId, left_by: Option<ChangeId>) -> Option<ChangeKind> {
        let kind = self.changes.fail(change)?;
        self.pass_on_change(change, left_by);
        Some(kind)
    }

    /// Removes and returns what a failed change has joined, or waits for. A channel for which another message waits stays.
    pub(super) fn undo_change(&mut self, change: ChangeId) -> Vec<Subscription> {
        let gone = self.extract_if(|subscription| {
            subscription.part_of == Some(change)
                && subscription.join().is_none_or(|join| join.also_waiting.is_empty())
        });
        self.forget_change(change);
        gone
    }

    fn forget_change(&mut self, change: ChangeId) {
        for subscription in self.all_mut().filter(|subscription| subscription.part_of == Some(change)) {
            subscription.part_of = None;
        }
    }

    fn pass_on_change(&mut self, change: ChangeId, next: Option<ChangeId>) {
        let mut passed = 0;
        for subscription in self.all_mut().filter(|subscription| subscription.left_by == Some(change)) {
            subscription.left_by = next;
            passed += 1;
        }
        if next.is_none() {
            self.leaving -= passed;
        }
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Subscription> {
        self.entries.iter_mut().filter_map(|entry| entry.subscription.as_mut())
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
