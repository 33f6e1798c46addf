//! Subscriber: one connection as its shard's hub knows it: its subscriptions, and the outbox that they share.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::Priority;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::Push;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subscription_context::SubscriptionContext;

use crate::hub::conflation::Conflation;
use crate::hub::conflation::Load;
use crate::hub::delivery_batch::DeliveryBatch;
use crate::hub::outbox::InFlight;
use crate::hub::outbox::Missing;
use crate::hub::outbox::Outbox;
use crate::hub::outbox::limits::OutboxLimits;

/// So many ended subscriptions are remembered while frames wait. A client that leaves more channels before it reads
/// is not told of gaps in the first of them.
const MAX_DEPARTED: usize = 256;

/// Names a connection within its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub usize);

/// Where a subscription is in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// The lane has not answered.
    Joining,
    /// On the list of those who are shown each publication.
    Held(usize),
    /// On the list of those whose outbox the hub appends to.
    Live(usize),
}

/// One subscription of a connection.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub id: SubscriptionId,
    /// Its topic.
    pub pattern: Pattern,
    /// How its publications are delivered.
    pub class: Arc<Class>,
    /// Where it is in its topic.
    pub place: MemberState,
    /// What few have.
    pub special: Option<Box<Special>>,
}

/// What makes a subscription take publications one by one, or say more in its gaps.
#[derive(Debug)]
pub struct Special {
    /// What it has agreed with its vocabulary, if anything.
    pub subscription_context: Option<Rc<SubscriptionContext>>,
    /// What slows it down, if anything does.
    pub conflation: Option<Conflation>,
}

impl Member {
    /// What it has agreed with its vocabulary, if anything.
    pub fn subscription_context(&self) -> Option<Rc<SubscriptionContext>> {
        self.special.as_ref()?.subscription_context.clone()
    }

    fn slowed(&self) -> Option<&Conflation> {
        self.special.as_ref()?.conflation.as_ref()
    }

    fn conflation(&mut self) -> Option<&mut Conflation> {
        self.special.as_mut()?.conflation.as_mut()
    }
}

/// A subscription that has ended, as far as its gaps need it.
#[derive(Debug)]
struct Departed {
    id: SubscriptionId,
    channel: Arc<str>,
    subscription_context: Option<Rc<SubscriptionContext>>,
}

/// When the first publication that waits has its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum NextTurn {
    /// It has to be looked for in all subscriptions.
    #[default]
    Unknown,
    /// Nothing waits, and no key has been sent lately.
    Never,
    At(Instant),
}

/// The subscriptions of one connection, and the outbox that they share.
#[derive(Debug)]
pub struct Subscriber {
    /// Whose they are.
    pub owner: ConnectionId,
    /// The client's language.
    pub dialect: Arc<dyn Dialect>,
    changed: Cell<bool>,
    /// In the order of their ids.
    members: RefCell<Vec<Member>>,
    /// How many of them are slowed down.
    slowed: Cell<usize>,
    /// The earliest turn of these, so that a flush does not look at all of them.
    next_turn: Cell<NextTurn>,
    /// What these hold. The outbox does without these bytes.
    held_back: Cell<Load>,
    /// Subscriptions that ended while frames waited, which may still become gaps.
    departed: RefCell<Vec<Departed>>,
    outbox: RefCell<Outbox>,
}

impl Subscriber {
    /// A connection without subscriptions, whose gaps are rendered in `dialect`.
    pub fn new(owner: ConnectionId, dialect: Arc<dyn Dialect>, limits: OutboxLimits) -> Self {
        Self {
            owner,
            dialect,
            changed: Cell::new(false),
            members: RefCell::default(),
            slowed: Cell::default(),
            next_turn: Cell::default(),
            held_back: Cell::default(),
            departed: RefCell::default(),
            outbox: RefCell::new(Outbox::new(limits)),
        }
    }

    /// Notes that there is something to flush; true if that was not known yet.
    pub fn mark_changed(&self) -> bool {
        !self.changed.replace(true)
    }

    /// Whether there is something to flush that was noted and not flushed since.
    pub fn is_changed(&self) -> bool {
        self.changed.get()
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
        subscription_context: Option<Rc<SubscriptionContext>>,
    ) {
        let conflation = max_rate.map(Conflation::new);
        self.slowed.update(|slowed| slowed + usize::from(conflation.is_some()));
        let is_special = conflation.is_some() || subscription_context.is_some();
        let special = is_special.then(|| Box::new(Special { subscription_context, conflation }));
        let mut members = self.members.borrow_mut();
        if members.capacity() == 0 {
            members.reserve_exact(1);
        }
        members.push(Member { id, pattern, class, place: MemberState::Joining, special });
    }

    /// Takes a subscription out. Its frames in the outbox still go.
    pub fn leave(&self, id: SubscriptionId) -> Option<Member> {
        let mut members = self.members.borrow_mut();
        let at = members.binary_search_by_key(&id, |member| member.id).ok()?;
        let mut member = members.remove(at);
        if let Some(conflation) = member.special.as_mut().and_then(|special| special.conflation.take()) {
            self.slowed.update(|slowed| slowed - 1);
            self.next_turn.set(NextTurn::Unknown);
            self.hold_back(|held| conflation.leave(held));
        }
        if !self.outbox.borrow().is_decided() {
            let mut departed = self.departed.borrow_mut();
            if departed.len() == MAX_DEPARTED {
                departed.remove(0);
            }
            let channel = Arc::clone(member.pattern.text());
            departed.push(Departed { id, channel, subscription_context: member.subscription_context() });
        }
        Some(member)
    }

    /// The ids of all subscriptions.
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
        self.outbox.borrow_mut().push_reply(frame, priority)
    }

    /// Appends publications, as their class says.
    pub fn push(&self, parcel: &DeliveryBatch, id: SubscriptionId, class: &Class) {
        self.outbox.borrow_mut().push(parcel, id, class);
    }

    /// Appends a publication of a subscription that takes them one by one: its own copy where its terms say so, now or
    /// when its turn comes. True if there is something more to flush.
    pub fn offer(&self, delivery: &Rc<Delivery>, id: SubscriptionId, class: &Class, now: Instant) -> bool {
        let offered = self.with_member(id, |member| {
            let Some(special) = &mut member.special else { return Some(Rc::clone(delivery)) };
            let own = delivery.tailor(special.subscription_context.as_deref())?;
            match &mut special.conflation {
                Some(conflation) => {
                    let OutboxLimits { bytes, frames } = self.outbox.borrow().limits();
                    let most = Load { keys: frames, bytes: bytes / 2 };
                    let offered = self.hold_back(|held| conflation.offer(own, now, held, most));
                    self.note_turn(conflation.next_turn());
                    offered
                }
                None => Some(own),
            }
        });
        let Some(Some(delivery)) = offered else { return false };
        self.outbox.borrow_mut().push_one(delivery, id, class);
        true
    }

    /// Appends what has waited for its turn until `now`.
    pub fn release_due(&self, now: Instant) {
        if self.next_turn().is_none_or(|turn| turn > now) {
            return;
        }
        self.next_turn.set(NextTurn::Unknown);
        for member in self.members.borrow_mut().iter_mut() {
            let Member { id, class, special: Some(special), .. } = member else { continue };
            let Some(conflation) = special.conflation.as_mut() else { continue };
            while let Some(delivery) = self.hold_back(|held| conflation.release(now, held)) {
                self.outbox.borrow_mut().push_one(delivery, *id, class);
            }
        }
    }

    /// Appends what waits of a subscription for its turn, whenever that would come: what is said of it next must come behind.
    pub fn release_all(&self, id: SubscriptionId, now: Instant) {
        if !self.is_slowed() {
            return;
        }
        self.next_turn.set(NextTurn::Unknown);
        self.with_member(id, |member| {
            let Member { id, class, special: Some(special), .. } = member else { return };
            let Some(conflation) = special.conflation.as_mut() else { return };
            for delivery in self.hold_back(|held| conflation.release_all(now, held)) {
                self.outbox.borrow_mut().push_one(delivery, *id, class);
            }
        });
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

    /// Whether [`Subscriber::next_turn`] may have changed with a publication.
    pub fn is_slowed(&self) -> bool {
        self.slowed.get() > 0
    }

    /// When [`Subscriber::release_due`] has something to do next.
    pub fn next_turn(&self) -> Option<Instant> {
        match self.next_turn.get() {
            NextTurn::Never => None,
            NextTurn::At(turn) => Some(turn),
            NextTurn::Unknown => self.find_next_turn(),
        }
    }

    fn find_next_turn(&self) -> Option<Instant> {
        let members = self.members.borrow();
        let next = if self.is_slowed() {
            members.iter().filter_map(|member| member.slowed()?.next_turn()).min()
        } else {
            None
        };
        self.next_turn.set(next.map_or(NextTurn::Never, NextTurn::At));
        next
    }

    /// Notes the first turn of a subscription that was offered something. An offer never makes it later.
    fn note_turn(&self, turn: Option<Instant>) {
        let Some(turn) = turn else { return };
        let is_first = match self.next_turn.get() {
            NextTurn::Unknown => false,
            NextTurn::Never => true,
            NextTurn::At(earliest) => turn < earliest,
        };
        if is_first {
            self.next_turn.set(NextTurn::At(turn));
        }
    }

    /// Publications that wait for their turn.
    pub fn withheld(&self) -> u64 {
        let members = self.members.borrow();
        members.iter().filter_map(Member::slowed).map(Conflation::waiting).sum::<usize>() as u64
    }

    /// Whether the outbox is half full although its socket keeps up, as far as is known.
    pub fn is_urgent(&self) -> bool {
        self.outbox.borrow().is_urgent()
    }

    /// Whether nothing waits for the socket.
    pub fn is_empty(&self) -> bool {
        self.outbox.borrow().is_empty()
    }

    /// Bytes that wait for the socket.
    pub fn bytes(&self) -> usize {
        self.outbox.borrow().bytes()
    }

    /// Publications that wait for the socket.
    pub fn undecided(&self) -> u64 {
        self.outbox.borrow().undecided()
    }

    /// Moves the next frames to `taken`, as [`Outbox::take`] does, and renders gaps in the client's language.
    pub fn take(
        &self,
        now: Instant,
        max_frames: usize,
        max_bytes: usize,
        taken: &mut Vec<InFlight>,
    ) -> DeliveryCounts {
        let render = |missing| self.render_gap(missing);
        self.outbox.borrow_mut().take(now, max_frames, max_bytes, taken, render)
    }

    /// Takes back what the socket did not want, as [`Outbox::put_back`] does.
    pub fn put_back(&self, rest: std::vec::Drain<'_, InFlight>, offset: usize) -> DeliveryCounts {
        self.outbox.borrow_mut().put_back(rest, offset)
    }

    /// Notes that everything taken is written and nothing is left: nothing can become a gap any more.
    pub fn emptied(&self) {
        if !self.departed.borrow().is_empty() {
            self.departed.take();
        }
    }

    /// Gives all memory of the outbox back if nothing waits: for clients that are sent hardly anything.
    pub fn free_capacity(&self) {
        self.outbox.borrow_mut().free_capacity();
    }

    /// Lets a subscription that is slowed down hold something else than before.
    fn hold_back<T>(&self, change: impl FnOnce(&mut Load) -> T) -> T {
        let mut held = self.held_back.get();
        let result = change(&mut held);
        self.held_back.set(held);
        self.outbox.borrow_mut().reserve(held.bytes);
        result
    }

    /// `None` if the client is not told.
    fn render_gap(&self, missing: Missing) -> Option<Frame> {
        let Missing { subscription, dropped, cause, .. } = missing;
        let (channel, subscription_context) = self.channel_of(subscription)?;
        let gap = Push::Gap { channel, cause, dropped: Some(dropped) };
        self.dialect.channel_push(&gap, subscription_context.as_deref())
    }

    fn channel_of(&self, id: SubscriptionId) -> Option<(Arc<str>, Option<Rc<SubscriptionContext>>)> {
        let of_member =
            |member: &mut Member| (Arc::clone(member.pattern.text()), member.subscription_context());
        let of_departed =
            |departed: &Departed| (Arc::clone(&departed.channel), departed.subscription_context.clone());
        let departed = self.departed.borrow();
        let member = self.with_member(id, of_member);
        member.or_else(|| departed.iter().find(|departed| departed.id == id).map(of_departed))
    }
}

#[cfg(test)]
mod tests;
