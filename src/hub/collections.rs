//! `Collections`: the messages of a subscriber that show its current elements together. Each is due at most once, and
//! is put together only when the transport takes it.

use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::class::ClassNumber;
use tidegate_protocol::class::Priority;
use tidegate_protocol::elements::CollectionId;
use tidegate_protocol::elements::select::Sent;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subscription_context::SubscriptionContext;

use crate::hub::waiting_elements::WaitingElements;

/// Why a client does not get elements.
pub const CAUSES: [GapCause; 3] = [GapCause::Expired, GapCause::Slow, GapCause::TooLarge];

/// How many elements a client does not get, by [`CAUSES`].
pub type LostElements = [u64; 3];

/// The elements of one collection that a client has joined in one group.
#[derive(Debug)]
struct Collection {
    /// Its number in queues.
    number: u32,
    id: CollectionId,
    group: Box<str>,
    /// The subscription that changed last, for gaps, and its class, for counts.
    subscription: SubscriptionId,
    class: ClassNumber,
    /// The most urgent one of what has changed.
    priority: Priority,
    state: CollectionState,
    /// By priority: whether the outbox has an entry. Those of other priorities than `priority` are outdated.
    entries: [bool; 3],
    /// Whether to send the elements even if none of them is new: the client has joined a channel, or a write failed.
    is_forced: bool,
    /// What the client has, now and before the last message.
    progress: Progress,
    before: Progress,
    /// When the last message was put together.
    last: Option<Instant>,
}

/// What a client has of a collection.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    sent: Sent,
    /// Lost elements whose gaps the socket had no room for.
    untold: LostElements,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CollectionState {
    /// Nothing has changed.
    Idle,
    /// An entry of its priority is in the outbox.
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
    pub class: ClassNumber,
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
    Now(u32, ClassNumber, Priority),
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
    pub class: ClassNumber,
    /// Whether to send the elements even if none of them is new.
    pub is_forced: bool,
    /// Whether the client is still to be told of lost elements.
    pub has_untold: bool,
    pub sent: Sent,
}

/// The collections of one subscriber.
#[derive(Debug, Default)]
pub struct Collections {
    all: Vec<Collection>,
    next: u32,
    /// Groups that a client has joined channels of, each with its last subscription. Their elements are sent when none
    /// of their channels waits for its lane any more, so that a message for many channels is followed by one message.
    pub joined: Vec<(Rc<SubscriptionContext>, SubscriptionId)>,
    /// Elements of channels that still wait for their lanes.
    pub waiting: WaitingElements,
}

impl Collections {
    /// A collection has changed.
    pub fn change(&mut self, change: Change<'_>, now: Instant) -> Due {
        let known = self.all.iter().position(|known| known.id == change.id && *known.group == *change.group);
        let at = known.unwrap_or_else(|| self.add(change));
        let Some(collection) = self.all.get_mut(at) else { return Due::Already };
        collection.is_forced |= change.is_forced;
        (collection.subscription, collection.class) = (change.subscription, change.class);
        let due = change.interval.zip(collection.last).map(|(interval, last)| last + interval);
        let due = due.filter(|due| *due > now);
        let is_more_urgent =
            collection.state == CollectionState::Idle || change.priority < collection.priority;
        if is_more_urgent {
            collection.priority = change.priority;
        }
        match (collection.state, due) {
            (CollectionState::Queued, _) if !is_more_urgent => Due::Already,
            (CollectionState::Delayed(earlier), Some(due)) if earlier <= due => Due::Already,
            (CollectionState::Idle | CollectionState::Delayed(_), Some(due)) => {
                collection.state = CollectionState::Delayed(due);
                Due::At(due)
            }
            (CollectionState::Queued, _) | (CollectionState::Idle | CollectionState::Delayed(_), None) => {
                match collection.queue() {
                    Some((number, class, priority)) => Due::Now(number, class, priority),
                    None => Due::Already,
                }
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
            class: change.class,
            priority: change.priority,
            state: CollectionState::Idle,
            entries: [false; 3],
            is_forced: false,
            progress: Progress::default(),
            before: Progress::default(),
            last: None,
        });
        self.all.len() - 1
    }

    /// The entry with this priority was taken from the outbox. Unless it is outdated, the message is put together now.
    pub fn begin(&mut self, number: u32, priority: Priority, now: Instant) -> Option<DueCollection> {
        let collection = self.find(number)?;
        collection.entries[priority as usize] = false;
        if (collection.state, collection.priority) != (CollectionState::Queued, priority) {
            return None;
        }
        collection.state = CollectionState::Idle;
        let is_forced = std::mem::take(&mut collection.is_forced);
        collection.last = Some(now);
        let Collection { id, ref group, subscription, class, progress: Progress { sent, untold }, .. } =
            *collection;
        let has_untold = untold != LostElements::default();
        Some(DueCollection { id, group: group.clone(), subscription, class, is_forced, has_untold, sent })
    }

    /// None of the elements up to the number `newest` is for this client: no message is sent.
    pub fn skip(&mut self, number: u32, newest: u64) {
        if let Some(collection) = self.find(number) {
            let sent = &mut collection.progress.sent;
            sent.seen = sent.seen.max(newest);
        }
    }

    /// The message has the elements up to the number `newest`, without those in `lost`. Returns those that the client is
    /// to be told of.
    pub fn end(&mut self, number: u32, newest: u64, mut lost: LostElements) -> LostElements {
        let Some(collection) = self.find(number) else { return LostElements::default() };
        let before = collection.progress;
        let told_left_out = lost[2] > 0;
        if before.sent.told_left_out {
            lost[2] = 0;
        }
        for (lost, untold) in lost.iter_mut().zip(before.untold) {
            *lost += untold;
        }
        let untold = LostElements::default();
        let sent = Sent { seen: newest.max(before.sent.seen), told_left_out };
        collection.progress = Progress { sent, untold };
        collection.before = before;
        lost
    }

    /// The transport took nothing of the message, or of a gap that came after it. Returns whether to put an entry into
    /// the outbox again. Gaps of a message must be given back before it: the next message counts their elements again.
    pub fn give_back(&mut self, number: u32, lost: Option<(GapCause, u64)>, priority: Priority) -> bool {
        let Some(collection) = self.find(number) else { return false };
        match lost {
            Some((cause, dropped)) => {
                let untold = CAUSES.iter().zip(&mut collection.progress.untold);
                untold.filter(|(of, _)| **of == cause).for_each(|(_, untold)| *untold += dropped);
            }
            None => {
                collection.progress = collection.before;
                collection.is_forced = true;
            }
        }
        if collection.state == CollectionState::Queued {
            return false;
        }
        collection.priority = priority;
        collection.queue().is_some()
    }

    /// The entries of delayed collections that are due. With `group`, all of that group are.
    pub fn release(
        &mut self,
        now: Option<Instant>,
        group: Option<&str>,
    ) -> Vec<(u32, ClassNumber, Priority)> {
        let mut released = Vec::new();
        for collection in &mut self.all {
            let CollectionState::Delayed(due) = collection.state else { continue };
            if now.is_some_and(|now| due <= now) || group == Some(&*collection.group) {
                released.extend(collection.queue());
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

    /// The classes of the collections that `max_rate_ms` holds back.
    pub fn delayed(&self) -> impl Iterator<Item = ClassNumber> {
        let is_delayed = |collection: &&Collection| matches!(collection.state, CollectionState::Delayed(_));
        self.all.iter().filter(is_delayed).map(|collection| collection.class)
    }

    /// The client has left all channels of a group. Returns its entries, which are to be removed from the outbox.
    pub fn forget(&mut self, group: &str) -> Vec<(u32, Priority)> {
        let mut entries = Vec::new();
        self.all.retain(|collection| {
            let is_gone = *collection.group == *group;
            let queued = Priority::ALL.into_iter().filter(|priority| collection.entries[*priority as usize]);
            entries.extend(queued.filter(|_| is_gone).map(|priority| (collection.number, priority)));
            !is_gone
        });
        self.joined.retain(|(context, _)| *context.group != *group);
        entries
    }

    fn find(&mut self, number: u32) -> Option<&mut Collection> {
        self.all.iter_mut().find(|collection| collection.number == number)
    }
}

impl Collection {
    /// An entry is due. Returns it if the outbox does not have it.
    fn queue(&mut self) -> Option<(u32, ClassNumber, Priority)> {
        self.state = CollectionState::Queued;
        let has_entry = std::mem::replace(&mut self.entries[self.priority as usize], true);
        (!has_entry).then_some((self.number, self.class, self.priority))
    }
}
