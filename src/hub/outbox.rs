//! Outbox: a session's bounded queue of frames, by priority, and what its classes do when it is full.

pub mod limits;
pub mod queue;

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use crate::hub::conflation::Conflation;
use crate::hub::conflation::Load;
use crate::hub::outbox::limits::OutboxLimits;
use crate::hub::outbox::queue::Entry;
use crate::hub::outbox::queue::Queues;
use crate::hub::parcel::Parcel;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Priority;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::GapCause;
use tidegate_protocol::message::Push;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::tally::Tally;
use tidegate_protocol::terms::Terms;

/// So many channels that were left are remembered while something waits; a client that leaves more before it reads
/// is not told of gaps in the first of them.
const MAX_DEPARTED: usize = 256;

/// Names a connection within its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub usize);

/// Where a subscription stands in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The lane has not answered.
    Joining,
    /// On the list of those who are shown each publication.
    Held(usize),
    /// On the list of those whose outbox the hub appends to.
    Live(usize),
}

/// What the outbox knows of one of its session's subscriptions.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub id: SubscriptionId,
    /// Its topic.
    pub pattern: Pattern,
    /// How its publications are delivered.
    pub class: Arc<Class>,
    /// Where it stands in its topic.
    pub place: Place,
    /// What few have.
    pub special: Option<Box<Special>>,
}

/// What makes a subscription take publications one by one, or say more in its gaps.
#[derive(Debug)]
pub struct Special {
    /// What it has agreed with its vocabulary, if anything.
    pub terms: Option<Rc<Terms>>,
    /// What slows it down, if anything does.
    pub conflation: Option<Conflation>,
}

impl Member {
    /// What it has agreed with its vocabulary, if anything.
    pub fn terms(&self) -> Option<Rc<Terms>> {
        self.special.as_ref()?.terms.clone()
    }

    fn slowed(&self) -> Option<&Conflation> {
        self.special.as_ref()?.conflation.as_ref()
    }

    fn conflation(&mut self) -> Option<&mut Conflation> {
        self.special.as_mut()?.conflation.as_mut()
    }
}

/// A session's bounded queue of frames.
#[derive(Debug)]
pub struct Outbox {
    /// Whose it is.
    pub owner: ConnectionId,
    /// Its client's language.
    pub dialect: Arc<dyn Dialect>,
    limits: OutboxLimits,
    changed: Cell<bool>,
    members: RefCell<Vec<Member>>,
    /// How many of them are slowed down.
    slowed: Cell<usize>,
    /// What these hold, and what that leaves for frames that need not wait.
    held_back: Cell<Load>,
    room: Cell<OutboxLimits>,
    /// The channels of subscriptions that ended while something waited: it may still turn into a gap.
    departed: RefCell<Vec<Departed>>,
    queues: RefCell<Queues>,
    unfinished: RefCell<Bytes>,
}

/// A subscription that has ended, as far as its gaps need it.
#[derive(Debug)]
struct Departed {
    id: SubscriptionId,
    channel: Arc<str>,
    terms: Option<Rc<Terms>>,
}

/// Publications that a subscription will not get, at their place in the queue.
struct Missing {
    subscription: SubscriptionId,
    dropped: u64,
    cause: GapCause,
    priority: Priority,
}

/// One frame on its way to the socket.
#[derive(Debug)]
pub struct Taken {
    entry: Entry,
    /// What a gap is rendered as. It stays a gap, which more can fall into, until it is written.
    gap: Option<Box<Frame>>,
    priority: Priority,
}

impl Taken {
    /// What to write.
    pub fn bytes(&self) -> &[u8] {
        if let Some(gap) = &self.gap {
            return gap.as_bytes();
        }
        match &self.entry {
            Entry::Reply(frame) => frame.as_bytes(),
            Entry::Delivery { delivery, .. } => delivery.frame.as_bytes(),
            Entry::Run { run, .. } => run.joined(),
            Entry::Rest(bytes) => bytes,
            Entry::Gap { .. } | Entry::Nothing => &[],
        }
    }

    /// What is left of it once `offset` bytes are written. It is copied once, however often it is begun.
    fn rest(&self, offset: usize) -> Bytes {
        match &self.entry {
            Entry::Rest(bytes) => bytes.slice(offset..),
            Entry::Reply(_)
            | Entry::Delivery { .. }
            | Entry::Run { .. }
            | Entry::Gap { .. }
            | Entry::Nothing => Bytes::copy_from_slice(&self.bytes()[offset..]),
        }
    }
}

impl Outbox {
    /// An empty outbox, which renders its gaps in `dialect`.
    pub fn new(owner: ConnectionId, dialect: Arc<dyn Dialect>, limits: OutboxLimits) -> Self {
        Self {
            owner,
            dialect,
            limits,
            changed: Cell::new(false),
            members: RefCell::default(),
            slowed: Cell::default(),
            held_back: Cell::default(),
            room: Cell::new(limits),
            departed: RefCell::default(),
            queues: RefCell::default(),
            unfinished: RefCell::default(),
        }
    }

    /// Notes that there is something to flush; true if that was not known yet.
    pub fn mark_changed(&self) -> bool {
        !self.changed.replace(true)
    }

    /// Whether there is something to flush that nobody has flushed since it was noted.
    pub fn is_changed(&self) -> bool {
        self.changed.get()
    }

    /// Whether it is half full although its socket keeps up, as far as is known.
    pub fn is_pressed(&self) -> bool {
        self.queues.borrow().is_pressed(self.room.get())
    }

    /// Notes that the flush begins.
    pub fn clear_changed(&self) {
        self.changed.set(false);
    }

    /// Adds a subscription that waits for its lane. Each has a greater id than those before.
    pub fn enter(
        &self,
        id: SubscriptionId,
        pattern: Pattern,
        class: Arc<Class>,
        max_rate: Option<Duration>,
        terms: Option<Rc<Terms>>,
    ) {
        let conflation = max_rate.map(Conflation::new);
        self.slowed.update(|slowed| slowed + usize::from(conflation.is_some()));
        let is_special = conflation.is_some() || terms.is_some();
        let special = is_special.then(|| Box::new(Special { terms, conflation }));
        let mut members = self.members.borrow_mut();
        if members.capacity() == 0 {
            members.reserve_exact(1);
        }
        members.push(Member { id, pattern, class, place: Place::Joining, special });
    }

    /// Takes a subscription out; what it has in the queue still goes.
    pub fn leave(&self, id: SubscriptionId) -> Option<Member> {
        let mut members = self.members.borrow_mut();
        let at = members.binary_search_by_key(&id, |member| member.id).ok()?;
        let mut member = members.remove(at);
        if let Some(conflation) = member.special.as_mut().and_then(|special| special.conflation.take()) {
            self.slowed.update(|slowed| slowed - 1);
            self.hold_back(|held| conflation.leave(held));
        }
        if !self.queues.borrow().is_empty() {
            let mut departed = self.departed.borrow_mut();
            if departed.len() == MAX_DEPARTED {
                departed.remove(0);
            }
            let channel = Arc::clone(member.pattern.text());
            departed.push(Departed { id, channel, terms: member.terms() });
        }
        Some(member)
    }

    /// The subscriptions that are in.
    pub fn member_ids(&self) -> Vec<SubscriptionId> {
        self.members.borrow().iter().map(|member| member.id).collect()
    }

    /// Lets `change` see one subscription.
    pub fn with_member<T>(&self, id: SubscriptionId, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let mut members = self.members.borrow_mut();
        let at = members.binary_search_by_key(&id, |member| member.id).ok()?;
        members.get_mut(at).map(change)
    }

    /// Appends a frame of the session's own. False if there is no room for it even without publications: the
    /// client takes nothing, and the connection should end.
    pub fn push_reply(&self, frame: Frame, priority: Priority) -> bool {
        self.queues.borrow_mut().push_reply(frame, priority, self.room.get())
    }

    /// Appends publications, as their class says.
    pub fn push(&self, parcel: &Parcel, id: SubscriptionId, class: &Class) {
        let mut queues = self.queues.borrow_mut();
        match parcel {
            Parcel::One(delivery) => queues.push(Rc::clone(delivery), id, class, self.room.get()),
            Parcel::Run(run) => queues.push_run(run, id, class, self.room.get()),
        }
    }

    /// Appends a publication of a subscription that takes them one by one: its own copy where its terms say so, now or
    /// when its turn comes. True if there is something more to flush.
    pub fn offer(&self, delivery: &Rc<Delivery>, id: SubscriptionId, class: &Class, now: Instant) -> bool {
        let offered = self.with_member(id, |member| {
            let Some(special) = &mut member.special else { return Some(Rc::clone(delivery)) };
            let own = delivery.own(special.terms.as_deref())?;
            match &mut special.conflation {
                Some(conflation) => {
                    let most = Load { keys: self.limits.frames, bytes: self.limits.bytes / 2 };
                    self.hold_back(|held| conflation.offer(own, now, held, most))
                }
                None => Some(own),
            }
        });
        let Some(Some(delivery)) = offered else { return false };
        self.queues.borrow_mut().push(delivery, id, class, self.room.get());
        true
    }

    /// Appends what has waited for its turn until `now`.
    pub fn release_due(&self, now: Instant) {
        let mut members = self.members.borrow_mut();
        let mut queues = self.queues.borrow_mut();
        for member in members.iter_mut() {
            self.release(member, now, &mut queues);
        }
    }

    /// Appends what waits of a subscription for its turn, whenever that would come: what is said of it next must come behind.
    pub fn release_all(&self, id: SubscriptionId, now: Instant) {
        if !self.is_slowed() {
            return;
        }
        self.with_member(id, |member| {
            let Member { id, class, special: Some(special), .. } = member else { return };
            let Some(conflation) = special.conflation.as_mut() else { return };
            for delivery in self.hold_back(|held| conflation.release_all(now, held)) {
                self.queues.borrow_mut().push(delivery, *id, class, self.room.get());
            }
        });
    }

    /// Appends what waits of a subscription for a turn that comes until then.
    fn release(&self, member: &mut Member, until: Instant, queues: &mut Queues) {
        let Member { id, class, special: Some(special), .. } = member else { return };
        let Some(conflation) = special.conflation.as_mut() else { return };
        while let Some(delivery) = self.hold_back(|held| conflation.release(until, held)) {
            queues.push(delivery, *id, class, self.room.get());
        }
    }

    /// Drops what waits of a subscription for its turn: it would come behind a loss that it was before. Gives how many
    /// publications that were.
    pub fn forget_waiting(&self, id: SubscriptionId) -> u64 {
        if !self.is_slowed() {
            return 0;
        }
        let forgotten = self.with_member(id, |member| {
            let conflation = member.conflation()?;
            Some(self.hold_back(|held| conflation.forget(held)) as u64)
        });
        forgotten.flatten().unwrap_or_default()
    }

    /// Whether [`Outbox::next_turn`] may have changed with a publication.
    pub fn is_slowed(&self) -> bool {
        self.slowed.get() > 0
    }

    /// When [`Outbox::release_due`] has something to do next.
    pub fn next_turn(&self) -> Option<Instant> {
        let members = self.members.borrow();
        members.iter().filter_map(|member| member.slowed()?.next_turn()).min()
    }

    /// Whether nothing waits for the socket.
    pub fn is_empty(&self) -> bool {
        self.unfinished.borrow().is_empty() && self.queues.borrow().is_empty()
    }

    /// Bytes that wait for the socket.
    pub fn bytes(&self) -> usize {
        self.unfinished.borrow().len() + self.queues.borrow().bytes()
    }

    /// Moves the next frames, up to `max_frames` and about `max_bytes`, to `taken`. What is too old becomes a gap. Gives
    /// how many publications that decides on, unless they come back.
    pub fn take(&self, now: Instant, max_frames: usize, max_bytes: usize, taken: &mut Vec<Taken>) -> Tally {
        let mut tally = Tally::default();
        let mut bytes = 0;
        let rest = std::mem::take(&mut *self.unfinished.borrow_mut());
        if !rest.is_empty() {
            bytes += rest.len();
            taken.push(Taken { entry: Entry::Rest(Box::new(rest)), gap: None, priority: Priority::High });
        }
        let mut queues = self.queues.borrow_mut();
        let mut expired: Option<Missing> = None;
        while taken.len() < max_frames && bytes < max_bytes {
            let Some((entry, priority)) = queues.pop() else {
                break;
            };
            if let Some((subscription, dropped)) = entry.expired(now) {
                tally.dropped += dropped;
                match &mut expired {
                    Some(missing) if missing.subscription == subscription => missing.dropped += dropped,
                    Some(_) | None => {
                        let missing = Missing { subscription, dropped, cause: GapCause::Expired, priority };
                        self.take_gap(expired.replace(missing), taken);
                    }
                }
                continue;
            }
            self.take_gap(expired.take(), taken);
            tally += entry.tally();
            if let Entry::Gap { subscription, dropped, cause } = entry {
                self.take_gap(Some(Missing { subscription, dropped, cause, priority }), taken);
                continue;
            }
            let entry = Taken { entry, gap: None, priority };
            bytes += entry.bytes().len();
            taken.push(entry);
        }
        self.take_gap(expired, taken);
        queues.give_back();
        tally
    }

    /// Publications that wait for the socket.
    pub fn undecided(&self) -> u64 {
        self.queues.borrow().publications()
    }

    /// Publications of the subscriptions that are in that wait for their turn.
    pub fn withheld(&self) -> u64 {
        let members = self.members.borrow();
        members.iter().filter_map(Member::slowed).map(Conflation::waiting).sum::<usize>() as u64
    }

    /// Everything that was taken is written, and nothing is left: nothing can turn into a gap any more.
    pub fn emptied(&self) {
        if !self.departed.borrow().is_empty() {
            self.departed.take();
        }
    }

    /// Gives all memory back if nothing waits: for clients that are sent hardly anything.
    pub fn give_all_back(&self) {
        self.queues.borrow_mut().give_all_back();
    }

    /// Lets a subscription that is slowed down hold something else than before.
    fn hold_back<T>(&self, change: impl FnOnce(&mut Load) -> T) -> T {
        let mut held = self.held_back.get();
        let result = change(&mut held);
        self.held_back.set(held);
        self.room.set(OutboxLimits { bytes: self.limits.bytes - held.bytes, ..self.limits });
        result
    }

    fn channel_of(&self, id: SubscriptionId) -> Option<(Arc<str>, Option<Rc<Terms>>)> {
        let of_member = |member: &mut Member| (Arc::clone(member.pattern.text()), member.terms());
        let of_departed = |departed: &Departed| (Arc::clone(&departed.channel), departed.terms.clone());
        let departed = self.departed.borrow();
        let member = self.with_member(id, of_member);
        member.or_else(|| departed.iter().find(|departed| departed.id == id).map(of_departed))
    }

    /// Renders a gap.
    fn take_gap(&self, missing: Option<Missing>, taken: &mut Vec<Taken>) {
        let Some(Missing { subscription, dropped, cause, priority }) = missing else {
            return;
        };
        let Some((channel, terms)) = self.channel_of(subscription) else { return };
        let gap = Push::Gap { channel, cause, dropped: Some(dropped) };
        let Some(frame) = self.dialect.channel_push(&gap, terms.as_deref()) else { return };
        taken.push(Taken {
            entry: Entry::Gap { subscription, dropped, cause },
            gap: Some(Box::new(frame)),
            priority,
        });
    }

    /// Takes back what the socket did not want; the first of them went out up to `offset`. From now on the outbox
    /// counts as slow: class `latest` keeps only the newest of each key. Gives what is undecided again.
    pub fn put_back(&self, mut rest: std::vec::Drain<'_, Taken>, offset: usize) -> Tally {
        let mut tally = Tally::default();
        let mut queues = self.queues.borrow_mut();
        let begun = if offset > 0 { rest.next() } else { None };
        for Taken { entry, priority, .. } in rest.rev() {
            tally += entry.tally();
            match entry {
                Entry::Rest(bytes) => *self.unfinished.borrow_mut() = *bytes,
                entry @ (Entry::Reply(_)
                | Entry::Delivery { .. }
                | Entry::Run { .. }
                | Entry::Gap { .. }
                | Entry::Nothing) => queues.push_front(entry, priority),
            }
        }
        if let Some(begun) = begun {
            let (unbegun, unfinished) = put_back_begun(&mut queues, &begun, offset);
            tally.delivered += unbegun;
            *self.unfinished.borrow_mut() = unfinished;
        }
        queues.become_slow();
        tally
    }
}

/// Puts back what has not been begun; gives how many publications that are, and what is left of the frame that has.
fn put_back_begun(queues: &mut Queues, begun: &Taken, offset: usize) -> (u64, Bytes) {
    let Entry::Run { run, subscription, kind } = &begun.entry else {
        return (0, begun.rest(offset));
    };
    let (whole, offset) = split(run.deliveries().iter().map(|delivery| delivery.frame.len()), offset);
    let cut = run.deliveries().get(whole).filter(|_| offset > 0);
    let unbegun = &run.deliveries()[whole + usize::from(cut.is_some())..];
    for delivery in unbegun.iter().rev() {
        let (delivery, subscription, kind) = (Rc::clone(delivery), *subscription, *kind);
        queues.push_front(Entry::Delivery { delivery, subscription, kind }, begun.priority);
    }
    let unfinished = cut.map(|delivery| Bytes::copy_from_slice(&delivery.frame.as_bytes()[offset..]));
    (unbegun.len() as u64, unfinished.unwrap_or_default())
}

/// How many pieces of these lengths `written` bytes cover, and how far into the next one they reach.
pub fn split(lengths: impl Iterator<Item = usize>, written: usize) -> (usize, usize) {
    let mut left = written;
    let mut whole = 0;
    for length in lengths {
        if length > left {
            break;
        }
        left -= length;
        whole += 1;
    }
    (whole, left)
}

#[cfg(test)]
mod tests;
