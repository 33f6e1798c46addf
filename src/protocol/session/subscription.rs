//! The subscriptions of one session, and how far each has come.

use std::rc::Rc;
use std::sync::Arc;

use crate::protocol::class::Class;
use crate::protocol::message::Asked;
use crate::protocol::session::terms::Terms;
use crate::protocol::subject::Pattern;

/// Names a subscription within its session. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u32);

/// How far a subscription has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The lane has not answered; what comes before its answer is contained in it.
    Joining(Option<Box<Asked>>),
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
}

/// A session's subscriptions: few, so a list in the order of their ids.
#[derive(Debug, Default)]
pub struct Subscriptions {
    list: Vec<Subscription>,
    made: u32,
}

impl Subscriptions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds one; the caller has checked that its group does not have the pattern.
    pub fn add(
        &mut self,
        pattern: Pattern,
        class: Arc<Class>,
        terms: Option<Rc<Terms>>,
        asked: Option<Asked>,
    ) -> SubscriptionId {
        let id = SubscriptionId(self.made);
        self.made += 1;
        if self.list.capacity() == 0 {
            self.list.reserve_exact(1);
        }
        self.list.push(Subscription {
            id,
            pattern,
            class,
            terms,
            state: State::Joining(asked.map(Box::new)),
        });
        id
    }

    /// The one with this name, if it still exists.
    pub fn find(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        let at = self.list.binary_search_by_key(&id, |subscription| subscription.id).ok()?;
        self.list.get_mut(at)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.list.iter()
    }

    /// Those of one group.
    pub fn of(&self, group: &str) -> impl Iterator<Item = &Subscription> {
        self.list.iter().filter(move |subscription| subscription.group() == group)
    }

    /// The one of a group on this channel.
    pub fn on(&self, group: &str, channel: &str) -> Option<&Subscription> {
        // The channel first: it differs, and is at hand.
        let mut there = self.list.iter().filter(|subscription| subscription.pattern.as_str() == channel);
        there.find(|subscription| subscription.group() == group)
    }

    /// Takes one out.
    pub fn remove(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let at = self.list.binary_search_by_key(&id, |subscription| subscription.id).ok()?;
        Some(self.list.remove(at))
    }

    /// Takes out those for which `keep` says no.
    pub fn split_off(&mut self, keep: impl Fn(&Subscription) -> bool) -> Vec<Subscription> {
        let (kept, gone) = std::mem::take(&mut self.list).into_iter().partition(keep);
        self.list = kept;
        gone
    }
}
