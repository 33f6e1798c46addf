//! What all connections of one shard share: the hub, the ways to lanes and NATS, and buffers to work in.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::deflate::Inflater;
use tidegate_protocol::session::now::Now;
use tidegate_protocol::session::settings::Settings;
use tidegate_protocol::subject::Pattern;
use tokio_util::task::TaskTracker;

use crate::connection::clock::Clock;
use crate::connection::deadlines::Deadlines;
use crate::connection::echo::Echoes;
use crate::connection::joins::Joins;
use crate::connection::tallies::Tallies;
use crate::hub::Hub;
use crate::hub::Subscribe;
use crate::hub::outbox::InFlight;
use crate::hub::subscriber::Subscriber;
use crate::lane::LaneRequest;
use crate::lane::feeds::Join;
use crate::nats::Nats;
use crate::node::Node;

/// What one read takes from a socket at most.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What all connections of one shard share.
pub struct Context {
    /// The shard's number.
    pub shard: usize,
    /// Who listens to what.
    pub hub: RefCell<Hub>,
    /// What all shards share.
    pub node: Arc<Node>,
    /// The thread's own connection to NATS, for publishing and requests.
    pub nats: Nats,
    /// What holds for every session.
    pub settings: Rc<Settings>,
    /// The time of day.
    pub clock: Clock,
    /// Every task of the thread.
    pub tasks: TaskTracker,
    /// The deadlines of the connections.
    pub deadlines: Deadlines,
    /// What has become of publications.
    pub tallies: Tallies,
    pub(super) sessions_made: Cell<u64>,
    pub(super) scratch: Cell<Vec<u8>>,
    pub(super) joined: Cell<Vec<u8>>,
    pub(super) taken: Cell<Vec<InFlight>>,
    /// One for all connections: none keeps a context from one message to the next.
    pub(super) inflater: Cell<Option<Box<Inflater>>>,
    pub(super) echoes: Echoes,
    /// What lanes are to be asked when they have room.
    joins: Joins,
    /// Patterns that no one here wants and whose lane is to be told.
    pending_leaves: RefCell<HashSet<Pattern>>,
}

/// What a [`Context`] is made of.
pub struct ContextParts {
    /// The shard's number.
    pub shard: usize,
    /// What all shards share.
    pub node: Arc<Node>,
    /// The thread's own connection to NATS.
    pub nats: Nats,
    /// What holds for every session.
    pub settings: Settings,
    /// Every task of the thread.
    pub tasks: TaskTracker,
}

impl Context {
    /// A shard without connections.
    pub fn new(parts: ContextParts) -> Self {
        Self {
            shard: parts.shard,
            hub: RefCell::default(),
            node: parts.node,
            nats: parts.nats,
            settings: Rc::new(parts.settings),
            clock: Clock::new(Now { instant: Instant::now(), wall: SystemTime::now() }),
            tasks: parts.tasks,
            deadlines: Deadlines::default(),
            tallies: Tallies::default(),
            sessions_made: Cell::new(0),
            scratch: Cell::default(),
            joined: Cell::default(),
            taken: Cell::default(),
            inflater: Cell::default(),
            echoes: Echoes::default(),
            joins: Joins::default(),
            pending_leaves: RefCell::default(),
        }
    }

    /// Lets a subscription join, and asks its lane unless that is under way.
    pub(super) fn join(self: &Rc<Self>, subscriber: &Rc<Subscriber>, subscribe: Subscribe) {
        let (pattern, format, class) =
            (subscribe.pattern.clone(), subscribe.format, Arc::clone(&subscribe.class));
        let ask = self.hub.borrow_mut().join(subscriber, subscribe);
        if !ask {
            return;
        }
        let lane = self.node.lanes.index_of(class.source(&pattern));
        self.ask(lane, Join { shard: self.shard, pattern, class, format });
    }

    /// Asks a lane, behind those that wait for it.
    fn ask(self: &Rc<Self>, lane: usize, join: Join) {
        let Some(join) = self.joins.add(lane, join) else { return };
        let Some(handle) = self.node.lanes.get(lane) else { return };
        if let Err(LaneRequest::Join(join)) = handle.try_send(LaneRequest::Join(join)) {
            self.joins.begin(lane, join);
            self.tasks.spawn_local(ask_waiting(Rc::clone(self), lane));
        }
    }

    /// Tells its lane that no one on this shard wants a pattern any more; later, if the lane has no time.
    pub fn leave(&self, pattern: Pattern) {
        let lane = self.node.lanes.of(&pattern, &self.settings.classes.of(&pattern));
        let question = LaneRequest::Leave { shard: self.shard, pattern: pattern.clone() };
        if lane.is_none_or(|lane| lane.try_send(question).is_err()) {
            self.leave_later(pattern);
        }
    }

    /// Tells its lane with the next [`Context::repeat_pending_leaves`], however often this is called.
    pub fn leave_later(&self, pattern: Pattern) {
        self.pending_leaves.borrow_mut().insert(pattern);
    }

    /// Says what could not be said, unless somebody wants it by now.
    pub fn repeat_pending_leaves(&self) {
        for pattern in self.pending_leaves.take() {
            if !self.hub.borrow().wants(&pattern) {
                self.leave(pattern);
            }
        }
    }

    pub(super) fn scratch(&self) -> Vec<u8> {
        let mut scratch = self.scratch.take();
        scratch.resize(SCRATCH_BYTES, 0);
        scratch
    }

    pub fn session_id(&self) -> Arc<str> {
        let number = self.sessions_made.get();
        self.sessions_made.set(number + 1);
        format!("{}{:x}-{number:x}", self.node.session_prefix, self.shard).into()
    }
}

/// Asks a lane for all that waits for it, as it has room.
async fn ask_waiting(context: Rc<Context>, lane: usize) {
    let Some(handle) = context.node.lanes.get(lane).cloned() else { return };
    while let Some(join) = context.joins.next(lane) {
        let is_wanted = context.hub.borrow().waits(&join.pattern, join.format);
        if is_wanted {
            // A lane that has ended takes its shard with it.
            let _ = handle.send(LaneRequest::Join(join)).await;
        } else {
            // All who wanted it have left meanwhile: there is no answer to wait for.
            let forgotten = {
                let mut hub = context.hub.borrow_mut();
                hub.unjoined(&join.pattern, join.format);
                hub.forget(&join.pattern)
            };
            if forgotten {
                context.leave(join.pattern);
            }
        }
    }
}
