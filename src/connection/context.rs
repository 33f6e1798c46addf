//! `Context`: what all connections of one shard share: the hub, the handles of lanes and NATS, and buffers.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_protocol::class::Class;
use tidegate_protocol::deflate::Inflater;
use tidegate_protocol::frame::Format;
use tidegate_protocol::position::Position;
use tidegate_protocol::session::now::Now;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::connection::client_name::ClientNames;
use crate::connection::clock::Clock;
use crate::connection::counts::ShardCounts;
use crate::connection::deadlines::Deadlines;
use crate::connection::delivery_totals::DeliveryTotals;
use crate::connection::echo::EchoEncoder;
use crate::connection::events::Events;
use crate::connection::events::event::SessionNumber;
use crate::connection::join_queues::JoinQueues;
use crate::connection::pending_decisions::PendingDecisions;
use crate::connection::recoveries::WaitingRecoveries;
use crate::connection::session_numbers::SessionNumbers;
use crate::connection::settings::ConnectionSettings;
use crate::hooks::planted;
use crate::hub::Hub;
use crate::hub::Subscribe;
use crate::hub::class_counts::ClassCounts;
use crate::hub::outbox::InFlight;
use crate::hub::outbox::limits::OutboxLimits;
use crate::hub::subscriber::Subscriber;
use crate::lane::LaneRequest;
use crate::lane::counts::LaneCounts;
use crate::lane::feeds::Join;
use crate::lane::lane_index::LaneIndex;
use crate::lane::recover::Recover;
use crate::lane::shard_index::ShardIndex;
use crate::nats::Nats;
use crate::node::Node;

/// Bytes that one read takes from a socket, at most.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// HTTP calls that read or write last values at a time. While they do, their memory is not counted.
const VALUE_TURNS: usize = 4;

/// What all connections of one shard share.
pub struct Context {
    /// The number of the shard.
    pub shard: ShardIndex,
    /// The subscribers of each channel.
    pub hub: RefCell<Hub>,
    /// What all shards share.
    pub node: Arc<Node>,
    /// The thread's own connection to NATS, for publishing and requests.
    pub nats: Nats,
    settings: RefCell<Rc<ConnectionSettings>>,
    /// The smallest outbox that a connection of the shard may have.
    smallest_outbox: Cell<OutboxLimits>,
    /// Converts instants to the time of day.
    pub clock: Clock,
    /// Tracks the tasks of the thread.
    pub tasks: TaskTracker,
    /// Turns of the HTTP calls that read or write last values.
    pub value_turns: Semaphore,
    /// The deadlines of the connections.
    pub deadlines: Deadlines,
    /// Delivered and dropped publications, by vocabulary.
    pub delivery_totals: DeliveryTotals,
    /// What the connections count.
    pub counts: ShardCounts,
    /// What the lane of the thread counts.
    pub lane_counts: Rc<LaneCounts>,
    /// What has happened to the connections lately, for operators.
    pub events: Events,
    /// The same for refused requests: those of all shards, on one of them.
    pub refused_requests: Events,
    /// What the clients say of themselves.
    pub(super) client_names: ClientNames,
    session_numbers: SessionNumbers,
    pub(super) read_buffer: Cell<Vec<u8>>,
    pub(super) write_buffer: Cell<Vec<u8>>,
    pub(super) taken: Cell<Vec<InFlight>>,
    /// Publications in gaps that a client has no message for, until they are counted.
    pub(super) unannounced: RefCell<ClassCounts>,
    /// One for all connections, because none keeps a compression context between messages.
    pub(super) inflater: Cell<Option<Box<Inflater>>>,
    pub(super) echo_encoder: EchoEncoder,
    /// Joins for lanes whose request queue is full.
    join_queues: JoinQueues,
    /// Subscriptions that wait for what they have missed.
    pub recoveries: WaitingRecoveries,
    /// Questions to services that connections wait for.
    pub(super) pending_decisions: PendingDecisions,
    /// Patterns without subscribers whose lane is still to be told.
    pending_leaves: RefCell<BTreeSet<Pattern>>,
}

/// The parts of a [`Context`].
pub struct ContextParts {
    /// The shard's number.
    pub shard: ShardIndex,
    /// What all shards share.
    pub node: Arc<Node>,
    /// The thread's own connection to NATS.
    pub nats: Nats,
    /// The settings of new connections.
    pub settings: ConnectionSettings,
    /// Tracks the tasks of the thread.
    pub tasks: TaskTracker,
    /// The time at which the shard starts.
    pub now: Now,
}

impl Context {
    pub fn new(parts: ContextParts) -> Self {
        let now = parts.now;
        Self {
            shard: parts.shard,
            hub: RefCell::new(Hub::new(Arc::clone(&parts.node.listeners))),
            node: parts.node,
            nats: parts.nats,
            smallest_outbox: Cell::new(parts.settings.limits.outbox),
            settings: RefCell::new(Rc::new(parts.settings)),
            clock: Clock::new(now),
            tasks: parts.tasks,
            value_turns: Semaphore::new(VALUE_TURNS),
            deadlines: Deadlines::new(now.instant),
            delivery_totals: DeliveryTotals::default(),
            counts: ShardCounts::default(),
            lane_counts: Rc::default(),
            events: Events::of_connections(),
            refused_requests: Events::of_refused_requests(),
            client_names: ClientNames::default(),
            session_numbers: SessionNumbers::default(),
            read_buffer: Cell::default(),
            write_buffer: Cell::default(),
            taken: Cell::default(),
            unannounced: RefCell::default(),
            inflater: Cell::default(),
            echo_encoder: EchoEncoder::default(),
            join_queues: JoinQueues::default(),
            recoveries: WaitingRecoveries::default(),
            pending_decisions: PendingDecisions::default(),
            pending_leaves: RefCell::default(),
        }
    }

    /// The settings of new connections.
    pub fn settings(&self) -> Rc<ConnectionSettings> {
        Rc::clone(&self.settings.borrow())
    }

    /// The classes of channels, which do not change.
    pub fn class_of(&self, channel: &Pattern) -> Arc<Class> {
        self.settings.borrow().session.classes.of(channel)
    }

    /// Starts new connections with these settings. Connected clients keep theirs.
    pub fn change_settings(&self, settings: ConnectionSettings) {
        let (earlier, new) = (self.smallest_outbox.get(), settings.limits.outbox);
        let (bytes, frames) = (earlier.bytes.min(new.bytes), earlier.frames.min(new.frames));
        self.smallest_outbox.set(OutboxLimits { bytes, frames });
        self.settings.replace(Rc::new(settings));
    }

    /// The smallest outbox that a connection of the shard may have.
    pub fn smallest_outbox(&self) -> OutboxLimits {
        self.smallest_outbox.get()
    }

    /// Adds a subscription to the hub, and sends its lane a join unless one is on its way. Returns false if the channel
    /// has as many listeners as it may have.
    pub(super) fn join(self: &Rc<Self>, subscriber: &Rc<Subscriber>, subscribe: Subscribe) -> bool {
        if !self.hub.borrow().has_room(subscriber, &subscribe) {
            return false;
        }
        let (pattern, format, class) =
            (subscribe.pattern.clone(), subscribe.format, Arc::clone(&subscribe.class));
        let topic = {
            let mut hub = self.hub.borrow_mut();
            let needs_join = hub.join(subscriber, subscribe);
            hub.topic_id(&pattern).filter(|_| needs_join)
        };
        if let Some(topic) = topic {
            let lane = self.node.lanes.join(&pattern, &class, self.shard);
            self.send_join(lane, Join { shard: self.shard, topic, pattern, class, format });
        }
        true
    }

    /// Sends a join to a lane, after the joins that wait for it.
    fn send_join(self: &Rc<Self>, lane: LaneIndex, join: Join) {
        let Some(join) = self.join_queues.add(lane, join) else { return };
        let Some(handle) = self.node.lanes.get(lane) else { return };
        if let Err(LaneRequest::Join(join)) = handle.try_send(LaneRequest::Join(join)) {
            self.join_queues.begin(lane, join);
            self.tasks.spawn_local(send_waiting_joins(Rc::clone(self), lane));
        }
    }

    /// Tells the lane of a pattern that this shard has no subscribers any more; later, if the lane's request queue is
    /// full.
    pub fn leave(&self, pattern: Pattern) {
        // No answer about it will come.
        self.recoveries.forget(&pattern);
        let class = self.class_of(&pattern);
        // Without an entry in the directory, the lane has released the pattern, and there is nothing to tell it.
        let Some(lane) = self.node.lanes.leave(&pattern, &class, self.shard) else { return };
        let request = LaneRequest::Leave { shard: self.shard, pattern: pattern.clone(), class };
        if lane.try_send(request).is_err() && !planted!(LeaveIsForgotten) {
            self.leave_later(pattern);
        }
    }

    /// Tells the lane with the next [`Context::repeat_pending_leaves`], once for all calls until then.
    pub fn leave_later(&self, pattern: Pattern) {
        self.pending_leaves.borrow_mut().insert(pattern);
    }

    /// Sends the leaves that wait, except for patterns that have subscribers again.
    pub fn repeat_pending_leaves(&self) {
        for pattern in self.pending_leaves.take() {
            if !self.hub.borrow().has_topic(&pattern) {
                self.leave(pattern);
            }
        }
    }

    /// Asks the lane of a channel for what a subscription has missed since a position.
    pub(super) fn recover(
        self: &Rc<Self>,
        (subscriber, subscription): (&Rc<Subscriber>, SubscriptionId),
        (pattern, format): (Pattern, Format),
        after: Position,
    ) {
        let waiting = (Rc::clone(subscriber), subscription);
        if !self.recoveries.add(&pattern, format, after.clone(), waiting) {
            return;
        }
        let class = self.class_of(&pattern);
        let lane = self.node.lanes.with_values_of(&pattern, &class, self.shard);
        let Some(lane) = lane.cloned() else { return };
        let recover = Recover { shard: self.shard, pattern, format, after };
        if let Err(request) = lane.try_send(LaneRequest::Recover(recover)) {
            // An error means that the lane has ended; then the shard ends too.
            self.tasks.spawn_local(async move { drop(lane.send(request).await) });
        }
    }

    pub(super) fn read_buffer(&self) -> Vec<u8> {
        let mut buffer = self.read_buffer.take();
        buffer.resize(READ_BUFFER_BYTES, 0);
        buffer
    }

    /// Takes the number of a new session.
    pub fn new_session(&self) -> SessionNumber {
        self.session_numbers.take()
    }

    /// The id of a session: of one that was created, or else the last that was with this number.
    pub fn session_id(&self, number: SessionNumber) -> Arc<str> {
        let number = self.session_numbers.whole(number);
        format!("{}{:x}-{number:x}", self.node.session_prefix, self.shard.0).into()
    }

    /// A new id for the session of an HTTP call. No session of a connection has it.
    pub fn new_call_id(&self) -> Arc<str> {
        let number = self.session_numbers.take_call();
        format!("{}{:x}-r{number:x}", self.node.session_prefix, self.shard.0).into()
    }

    /// The number of the session with this id, if it is one of this shard.
    pub fn number_of(&self, session: &str) -> Option<SessionNumber> {
        let (shard, number) = session.strip_prefix(&*self.node.session_prefix)?.split_once('-')?;
        let number = u64::from_str_radix(number, 16).ok()?;
        (usize::from_str_radix(shard, 16) == Ok(self.shard.0)).then_some(SessionNumber(number as u32))
    }
}

/// Sends a lane the joins that wait for it, as its request queue has room.
async fn send_waiting_joins(context: Rc<Context>, lane: LaneIndex) {
    let Some(handle) = context.node.lanes.get(lane).cloned() else { return };
    while let Some(join) = context.join_queues.next(lane) {
        let is_wanted = context.hub.borrow().is_joining(&join.pattern, join.format);
        if is_wanted {
            // An error means that the lane has ended; then the shard ends too.
            let _ = handle.send(LaneRequest::Join(join)).await;
        } else {
            // All subscribers have left in the meantime, so the lane is not asked and will not answer.
            let is_unused = {
                let mut hub = context.hub.borrow_mut();
                hub.join_failed(&join.pattern, join.format);
                hub.remove_if_unused(&join.pattern)
            };
            if is_unused {
                context.leave(join.pattern);
            }
        }
    }
}
