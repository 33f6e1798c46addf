//! The subscriptions of one session, and how far each has come.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::protocol::class::Class;
use crate::protocol::frame::Format;
use crate::protocol::message::Asked;
use crate::protocol::session::terms::Terms;
use crate::protocol::subject::Pattern;

/// Names a subscription within its session. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u32);

/// A join that is not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The command that asked for it.
    pub asked: Option<Asked>,
    /// Messages that have asked for it since: they are confirmed when it is live.
    pub also: Vec<Asked>,
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
    pub fn add(&mut self, asked: &Asked) -> bool {
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
    pub terms: Option<Rc<Terms>>,
    /// How far it has come.
    pub state: State,
}

impl Subscription {
    /// The set of subscriptions that it belongs to.
    pub fn group(&self) -> &str {
        self.terms.as_ref().map_or("", |terms| &terms.group)
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
    list: Vec<Subscription>,
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

impl Subscriptions {
    /// How many channels they are; one that takes another's place is no channel of its own.
    pub fn channels(&self) -> usize {
        self.list.len() - self.replacing()
    }

    /// How many take the place of another one once they are live.
    pub fn replacing(&self) -> usize {
        usize::try_from(self.replacing).unwrap_or(usize::MAX)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds one that waits for its lane to be asked.
    pub fn add(
        &mut self,
        pattern: Pattern,
        class: Arc<Class>,
        terms: Option<Rc<Terms>>,
        join: Join,
    ) -> SubscriptionId {
        let id = SubscriptionId(self.made);
        self.made += 1;
        if self.list.capacity() == 0 {
            self.list.reserve_exact(1);
        }
        self.replacing += u32::from(join.replaces.is_some());
        if let Some(older) = join.replaces.and_then(|older| self.find(older)) {
            older.is_replaced = true;
        }
        let (is_wild, state) = (!pattern.is_literal(), State::Joining(Box::new(join)));
        self.list.push(Subscription { id, pattern, is_wild, is_replaced: false, class, terms, state });
        id
    }

    /// The next one whose lane is to be asked, if fewer than `max` joins are in flight. It is in flight from now on.
    pub fn next_to_ask(&mut self, max: u32) -> Option<&Subscription> {
        if self.in_flight >= max || self.unasked_from >= self.made {
            return None;
        }
        let at = self.from(self.unasked_from);
        let Some(next) = self.list.get(at) else {
            self.unasked_from = self.made;
            return None;
        };
        self.unasked_from = next.id.0 + 1;
        self.in_flight += 1;
        Some(next)
    }

    /// Since when the client has waited for the join that takes longest, unless it has been told so.
    pub fn waits_since(&self) -> Option<Instant> {
        self.list.get(self.from(self.overdue_from))?.join().map(|join| join.since)
    }

    /// Notes that the client is told of the join that takes longest, and gives it.
    pub fn overdue(&mut self) -> Option<&Subscription> {
        let at = self.from(self.overdue_from);
        self.overdue_from = self.list.get(at)?.id.0 + 1;
        self.skip_answered();
        self.list.get(at)
    }

    /// The one with this name, if it still exists.
    pub fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.list.get(self.position(id)?)
    }

    /// The same, to change it.
    pub fn find(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        let at = self.position(id)?;
        self.list.get_mut(at)
    }

    /// Takes the lane's answer: from now on the subscription is held. `None` if no answer is waited for.
    pub fn joined(&mut self, id: SubscriptionId) -> Option<Join> {
        let at = self.position(id)?;
        let subscription = self.list.get_mut(at).filter(|subscription| subscription.join().is_some())?;
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
    pub fn iter(&self) -> std::slice::Iter<'_, Subscription> {
        self.list.iter()
    }

    /// Those of one group.
    pub fn of(&self, group: &str) -> impl Iterator<Item = &Subscription> {
        self.list.iter().filter(move |subscription| subscription.group() == group)
    }

    /// Those of one group by channel. Of two on one channel, the newer one.
    pub fn by_channel(&self, group: &str) -> HashMap<Pattern, SubscriptionId> {
        self.of(group).map(|subscription| (subscription.pattern.clone(), subscription.id)).collect()
    }

    /// Takes one out.
    pub fn remove(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let at = self.position(id)?;
        let removed = self.list.remove(at);
        if removed.is_replaced {
            self.pass_on(id, removed.replaces());
        }
        self.removed(&removed);
        self.skip_answered();
        Some(removed)
    }

    /// What would have taken the place of one that is gone takes that of the one before it.
    fn pass_on(&mut self, gone: SubscriptionId, before: Option<SubscriptionId>) {
        let newer = self.list.iter_mut().find_map(|subscription| match &mut subscription.state {
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
    pub fn extract(&mut self, is_gone: impl Fn(&Subscription) -> bool) -> Vec<Subscription> {
        let gone: Vec<_> = self.list.extract_if(.., |subscription| is_gone(subscription)).collect();
        gone.iter().for_each(|gone| self.removed(gone));
        self.skip_answered();
        gone
    }

    /// Whether the lane of one that was just taken out has been asked for it, so that it has to be left.
    pub fn was_asked(&self, id: SubscriptionId) -> bool {
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

    /// Lets `overdue_from` name a join, or the end. Each subscription is passed over once.
    fn skip_answered(&mut self) {
        let at = self.from(self.overdue_from);
        let waiting = self.list.iter().skip(at).find(|subscription| subscription.join().is_some());
        self.overdue_from = waiting.map_or(self.made, |waiting| waiting.id.0);
    }

    fn from(&self, id: u32) -> usize {
        self.list.partition_point(|subscription| subscription.id.0 < id)
    }

    fn position(&self, id: SubscriptionId) -> Option<usize> {
        self.list.binary_search_by_key(&id, |subscription| subscription.id).ok()
    }
}
