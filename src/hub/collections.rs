//! `Collections`: the messages of a subscriber that show its current elements together. Each is due at most once, and
//! is put together only when the transport takes it.

use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::class::Priority;
use tidegate_protocol::elements::CollectionId;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subscription_context::SubscriptionContext;

/// The elements of one collection that a client has joined in one group.
#[derive(Debug)]
struct Collection {
    /// Its number in queues.
    number: u32,
    id: CollectionId,
    group: Box<str>,
    /// The subscription that changed last, for gaps.
    subscription: SubscriptionId,
    priority: Priority,
    state: CollectionState,
    /// Whether to send the elements even if none of them is new: the client has joined a channel, or a write failed.
    is_forced: bool,
    /// The number up to which the client has been sent elements, now and before the last message.
    seen: [u64; 2],
    /// When the last message was put together.
    last: Option<Instant>,
    /// Whether the client has been told that elements are left out.
    told_left_out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CollectionState {
    /// Nothing has changed.
    Idle,
    /// Its entry is in the outbox.
    Queued,
    /// It changed, and `max_rate_ms` holds it back until then.
    Delayed(Instant),
}

/// Something that happened to a subscription, after which a collection is due.
#[derive(Clone, Copy, Debug)]
pub struct Change<'c> {
    pub id: CollectionId,
    pub group: &'c str,
    pub subscription: SubscriptionId,
    pub priority: Priority,
    /// The shortest time between two messages.
    pub interval: Option<Duration>,
    /// Whether to send the elements even if none of them is new.
    pub is_forced: bool,
}

/// What to do after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Append an entry with this number to the outbox.
    Now(u32, Priority),
    /// Wait until then.
    At(Instant),
    /// The collection is due already.
    Already,
}

/// A collection whose message is put together.
#[derive(Clone, Debug)]
pub struct DueCollection {
    pub id: CollectionId,
    pub group: Box<str>,
    pub subscription: SubscriptionId,
    pub is_forced: bool,
    /// The number up to which the client has been sent elements.
    pub seen: u64,
}

/// The collections of one subscriber.
#[derive(Debug, Default)]
pub struct Collections {
    all: Vec<Collection>,
    next: u32,
    /// Groups that a client has joined channels of, each with its last subscription. Their elements are sent when none
    /// of their channels waits for its lane any more, so that a message for many channels is followed by one message.
    pub joined: Vec<(Rc<SubscriptionContext>, SubscriptionId)>,
}

impl Collections {
    /// A collection has changed.
    pub fn change(&mut self, change: Change<'_>, now: Instant) -> Due {
        let known = self.all.iter().position(|known| known.id == change.id && *known.group == *change.group);
        let at = known.unwrap_or_else(|| self.add(change));
        let Some(collection) = self.all.get_mut(at) else { return Due::Already };
        collection.is_forced |= change.is_forced;
        collection.subscription = change.subscription;
        if collection.state != CollectionState::Idle {
            return Due::Already;
        }
        let due = change.interval.zip(collection.last).map(|(interval, last)| last + interval);
        match due.filter(|due| *due > now) {
            Some(due) => {
                collection.state = CollectionState::Delayed(due);
                Due::At(due)
            }
            None => {
                collection.state = CollectionState::Queued;
                collection.priority = change.priority;
                Due::Now(collection.number, change.priority)
            }
        }
    }

    fn add(&mut self, change: Change<'_>) -> usize {
        let number = self.next;
        self.next += 1;
        self.all.push(Collection {
            number,
            id: change.id,
            group: change.group.into(),
            subscription: change.subscription,
            priority: change.priority,
            state: CollectionState::Idle,
            is_forced: false,
            seen: [0; 2],
            last: None,
            told_left_out: false,
        });
        self.all.len() - 1
    }

    /// The message of a collection is put together now.
    pub fn begin(&mut self, number: u32, now: Instant) -> Option<DueCollection> {
        let collection = self.find(number)?;
        collection.state = CollectionState::Idle;
        let is_forced = std::mem::take(&mut collection.is_forced);
        let Collection { id, ref group, subscription, seen: [seen, _], .. } = *collection;
        collection.last = Some(now);
        Some(DueCollection { id, group: group.clone(), subscription, is_forced, seen })
    }

    /// The message has the elements up to the number `newest`. Returns whether the client is to be told that elements
    /// are left out.
    pub fn end(&mut self, number: u32, newest: u64, leaves_out: bool) -> bool {
        let Some(collection) = self.find(number) else { return false };
        let [seen, _] = collection.seen;
        collection.seen = [newest.max(seen), seen];
        let was_told = std::mem::replace(&mut collection.told_left_out, leaves_out);
        leaves_out && !was_told
    }

    /// The transport took nothing of the message: its entry is in the outbox again.
    pub fn put_back(&mut self, number: u32) {
        if let Some(collection) = self.find(number) {
            let [_, before] = collection.seen;
            collection.seen = [before; 2];
            collection.is_forced = true;
            collection.state = CollectionState::Queued;
        }
    }

    /// The entries of delayed collections that are due. With `group`, all of that group are.
    pub fn release(&mut self, now: Option<Instant>, group: Option<&str>) -> Vec<(u32, Priority)> {
        let mut released = Vec::new();
        for collection in &mut self.all {
            let CollectionState::Delayed(due) = collection.state else { continue };
            if now.is_some_and(|now| due <= now) || group == Some(&*collection.group) {
                collection.state = CollectionState::Queued;
                released.push((collection.number, collection.priority));
            }
        }
        released
    }

    /// When to call [`Collections::release`] next.
    pub fn next_release(&self) -> Option<Instant> {
        let delayed = self.all.iter().filter_map(|collection| match collection.state {
            CollectionState::Delayed(due) => Some(due),
            CollectionState::Idle | CollectionState::Queued => None,
        });
        delayed.min()
    }

    /// How many collections `max_rate_ms` holds back.
    pub fn delayed(&self) -> usize {
        let is_delayed = |collection: &&Collection| matches!(collection.state, CollectionState::Delayed(_));
        self.all.iter().filter(is_delayed).count()
    }

    /// The client has left all channels of a group.
    pub fn forget(&mut self, group: &str) {
        self.all.retain(|collection| *collection.group != *group);
        self.joined.retain(|(context, _)| *context.group != *group);
    }

    fn find(&mut self, number: u32) -> Option<&mut Collection> {
        self.all.iter_mut().find(|collection| collection.number == number)
    }
}
