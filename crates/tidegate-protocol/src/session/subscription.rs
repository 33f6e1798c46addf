//! The subscriptions of one session, and how far each has come.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::class::Class;
use crate::frame::Format;
use crate::message::RequestContext;
use crate::subject::Pattern;
use crate::subscription_context::SubscriptionContext;

/// Names a subscription within its session. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u32);

/// A join that is not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The command that asked for it.
    pub asked: Option<RequestContext>,
    /// Messages that have asked for it since: they are confirmed when it is live.
    pub also: Vec<RequestContext>,
    /// When that was.
    pub since: Instant,
    /// What its publications are encoded for.
    pub format: Format,
    /// At most one publication of a key in this time.
    pub max_rate: Option<Duration>,
    /// The subscription on the same channel that goes on until this one is live.
    pub replaces: Option<SubscriptionId>,
}

/// Messages that may wait for the join of one channel. More are confirmed at once.
const MAX_ALSO: usize = 8;

impl Join {
    /// Lets one more message wait for it. False if there are too many.
    pub fn add(&mut self, asked: &RequestContext) -> bool {
        let has_room = self.also.len() < MAX_ALSO;
        if has_room {
            self.also.push(asked.clone());
        }
        has_room
    }
}

/// How far a subscription has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The lane has not answered, or has not been asked; what comes before its answer is contained in it.
    Joining(Box<Join>),
    /// The session is shown each publication and passes it on.
    Held,
    /// The hub appends to the outbox; the session is not asked.
    Live,
}

/// One channel that the client wants.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its name.
    pub id: SubscriptionId,
    /// What the client called it, as a NATS pattern.
    pub pattern: Pattern,
    /// Whether that has a wildcard.
    pub is_wild: bool,
    /// Whether a newer one takes its place when that is live.
    is_replaced: bool,
    /// How its publications are delivered.
    pub class: Arc<Class>,
    /// What it has agreed with its vocabulary, if anything.
    pub subscription_context: Option<Rc<SubscriptionContext>>,
    /// How far it has come.
    pub state: State,
}

impl Subscription {
    /// The set of subscriptions that it belongs to.
    pub fn group(&self) -> &str {
        self.subscription_context.as_ref().map_or("", |subscription_context| &subscription_context.group)
    }

    /// The subscription on the same channel that goes on until this one is live.
    pub fn replaces(&self) -> Option<SubscriptionId> {
        self.join()?.replaces
    }

    fn join(&self) -> Option<&Join> {
        match &self.state {
            State::Joining(join) => Some(join),
            State::Held | State::Live => None,
        }
    }
}

/// A session's subscriptions, in the order of their ids, which is that in which they were asked for.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// In the order of their ids. At most half of the places are empty, so that to take one out costs the same whether there
    /// are few or many.
    places: Vec<Place>,
    empty: usize,
    made: u32,
    /// Joins from this id on wait in the session: their lanes have not been asked.
    unasked_from: u32,
    /// Joins that lanes were asked for and have not answered.
    in_flight: u32,
    /// Joins before this id are not waited for, or the client knows that they take long.
    overdue_from: u32,
    /// How many take the place of another one once they are live.
    replacing: u32,
}

/// Where one subscription is, or was.
#[derive(Debug)]
struct Place {
    id: SubscriptionId,
    subscription: Option<Subscription>,
}

impl Subscriptions {
    /// How many channels they are; one that takes another's place is no channel of its own.
    pub fn channels(&self) -> usize {
        self.places.len() - self.empty - self.replacing()
    }

    /// How many take the place of another one once they are live.
    pub(crate) fn replacing(&self) -> usize {
        usize::try_from(self.replacing).unwrap_or(usize::MAX)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.len() == self.empty
    }

    /// Adds one that waits for its lane to be asked.
    pub fn add(
        &mut self,
        pattern: Pattern,
        class: Arc<Class>,
        subscription_context: Option<Rc<SubscriptionContext>>,
        join: Join,
    ) -> SubscriptionId {
        let id = SubscriptionId(self.made);
        self.made += 1;
        if self.places.capacity() == 0 {
            self.places.reserve_exact(1);
        }
        self.replacing += u32::from(join.replaces.is_some());
        if let Some(older) = join.replaces.and_then(|older| self.find(older)) {
            older.is_replaced = true;
        }
        let (is_wild, state) = (!pattern.is_literal(), State::Joining(Box::new(join)));
        let subscription =
            Subscription { id, pattern, is_wild, is_replaced: false, class, subscription_context, state };
        self.places.push(Place { id, subscription: Some(subscription) });
        id
    }

    /// The next one whose lane is to be asked, if fewer than `max` joins are in flight. It is in flight from now on.
    pub(crate) fn next_to_ask(&mut self, max: u32) -> Option<&Subscription> {
        if self.in_flight >= max || self.unasked_from >= self.made {
            return None;
        }
        let from = self.position(self.unasked_from);
        let next = self.places.get(from..)?.iter().find_map(|place| place.subscription.as_ref());
        self.unasked_from = next.map_or(self.made, |next| next.id.0 + 1);
        self.in_flight += u32::from(next.is_some());
        next
    }

    /// Since when the client has waited for the join that takes longest, unless it has been told so.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.at(self.position(self.overdue_from))?.join().map(|join| join.since)
    }

    /// Notes that the client is told of the join that takes longest, and gives it.
    pub(crate) fn overdue(&mut self) -> Option<&Subscription> {
        let at = self.position(self.overdue_from);
        self.overdue_from = self.at(at)?.id.0 + 1;
        self.skip_answered();
        self.at(at)
    }

    /// The one with this name, if it still exists.
    pub fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.at(self.position(id.0)).filter(|found| found.id == id)
    }

    /// The same, to change it.
    pub fn find(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        let at = self.position(id.0);
        self.places.get_mut(at)?.subscription.as_mut().filter(|found| found.id == id)
    }

    /// Takes the lane's answer: from now on the subscription is held. `None` if no answer is waited for.
    pub fn joined(&mut self, id: SubscriptionId) -> Option<Join> {
        let subscription = self.find(id).filter(|subscription| subscription.join().is_some())?;
        let State::Joining(join) = std::mem::replace(&mut subscription.state, State::Held) else {
            return None;
        };
        self.forget(id, join.replaces);
        if let Some(older) = join.replaces.and_then(|older| self.find(older)) {
            older.is_replaced = false;
        }
        self.skip_answered();
        Some(*join)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Subscription> + Clone {
        self.places.iter().filter_map(|place| place.subscription.as_ref())
    }

    /// Those of one group.
    pub fn of(&self, group: &str) -> impl Iterator<Item = &Subscription> {
        self.iter().filter(move |subscription| subscription.group() == group)
    }

    /// Those of one group by channel. Of two on one channel, the newer one.
    pub fn by_channel(&self, group: &str) -> HashMap<Pattern, SubscriptionId> {
        self.of(group).map(|subscription| (subscription.pattern.clone(), subscription.id)).collect()
    }

    /// Takes one out.
    pub fn remove(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let at = self.position(id.0);
        let removed = self.places.get_mut(at).filter(|place| place.id == id)?.subscription.take()?;
        self.empty += 1;
        if removed.is_replaced {
            self.pass_on(id, removed.replaces());
        }
        self.removed(&removed);
        self.skip_answered();
        Some(removed)
    }

    /// What would have taken the place of one that is gone takes that of the one before it.
    fn pass_on(&mut self, gone: SubscriptionId, before: Option<SubscriptionId>) {
        let subscriptions = self.places.iter_mut().filter_map(|place| place.subscription.as_mut());
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

    /// Takes out those for which `is_gone` says yes.
    pub(crate) fn extract(&mut self, is_gone: impl Fn(&Subscription) -> bool) -> Vec<Subscription> {
        let places = self.places.iter_mut();
        let gone =
            places.filter_map(|place| place.subscription.take_if(|subscription| is_gone(subscription)));
        let gone: Vec<_> = gone.collect();
        self.empty += gone.len();
        gone.iter().for_each(|gone| self.removed(gone));
        self.skip_answered();
        gone
    }

    /// Whether the lane of one that was just taken out has been asked for it, so that it has to be left.
    pub(crate) fn was_asked(&self, id: SubscriptionId) -> bool {
        id.0 < self.unasked_from
    }

    fn removed(&mut self, removed: &Subscription) {
        if let Some(join) = removed.join() {
            self.forget(removed.id, join.replaces);
        }
    }

    /// A join is not waited for any more.
    fn forget(&mut self, id: SubscriptionId, replaces: Option<SubscriptionId>) {
        self.in_flight -= u32::from(self.was_asked(id));
        self.replacing -= u32::from(replaces.is_some());
    }

    /// Lets `overdue_from` name a join, or the end; each subscription is passed over once. Then empty places go, if they
    /// are too many.
    fn skip_answered(&mut self) {
        let from = self.position(self.overdue_from);
        let mut waiting = self.places.iter().skip(from).filter_map(|place| place.subscription.as_ref());
        let waiting = waiting.find(|subscription| subscription.join().is_some());
        self.overdue_from = waiting.map_or(self.made, |waiting| waiting.id.0);
        if self.empty > self.places.len() / 2 {
            self.places.retain(|place| place.subscription.is_some());
            self.empty = 0;
        }
    }

    /// Where the first place from this id on is.
    fn position(&self, id: u32) -> usize {
        self.places.partition_point(|place| place.id.0 < id)
    }

    fn at(&self, at: usize) -> Option<&Subscription> {
        self.places.get(at)?.subscription.as_ref()
    }
}
