//! `Connections`: the table of all connections of one shard, and the task of each.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
#[cfg(feature = "test-hooks")]
use std::task::Context as TaskContext;
#[cfg(feature = "test-hooks")]
use std::task::Poll;
#[cfg(feature = "test-hooks")]
use std::task::Waker;
use std::time::Instant;

use slab::Slab;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::session::stats::SessionStats;

use crate::connection::Connection;
use crate::connection::ConnectionSetup;
use crate::connection::context::Context;
use crate::connection::flush_queue::FlushQueue;
use crate::connection::flush_queue::MIN_BATCH;
use crate::connection::transport::Transport;
use crate::hub::effects::Effects;
use crate::hub::subscriber::ConnectionId;
use crate::hub::subscriber::Subscriber;
use crate::lane::produced::Produced;

/// The connections of one shard.
pub struct Connections {
    /// What all connections share.
    pub context: Rc<Context>,
    /// Subscribers whose outboxes have changed.
    pub flush_queue: FlushQueue,
    table: RefCell<Slab<Rc<Connection>>>,
}

impl Connections {
    pub fn new(context: Rc<Context>) -> Self {
        Self { context, flush_queue: FlushQueue::default(), table: RefCell::default() }
    }

    /// Starts a connection after its handshake.
    pub fn start(self: &Rc<Self>, transport: Transport, setup: ConnectionSetup) {
        let connection = self.insert(transport, setup, Instant::now());
        self.context.tasks.spawn_local(drive(Rc::clone(self), connection));
    }

    /// Adds a connection after its handshake.
    fn insert(&self, transport: Transport, setup: ConnectionSetup, now: Instant) -> Rc<Connection> {
        let mut table = self.table.borrow_mut();
        let entry = table.vacant_entry();
        let connection = Connection::new(&self.context, ConnectionId(entry.key()), transport, setup, now);
        entry.insert(Rc::clone(&connection));
        connection
    }

    /// Releases a connection that has ended.
    fn remove(&self, connection: &Connection) {
        connection.finish();
        self.table.borrow_mut().try_remove(connection.subscriber.owner.0);
    }

    /// Starts a connection without a task: [`Connections::step`] handles its events.
    #[cfg(feature = "test-hooks")]
    pub fn start_stepped(
        &self,
        transport: Transport,
        setup: ConnectionSetup,
        now: Instant,
    ) -> Rc<Connection> {
        let connection = self.insert(transport, setup, now);
        connection.begin(now);
        connection
    }

    /// Handles the next event of a connection, as its task would, if there is one. Returns whether there was one.
    #[cfg(feature = "test-hooks")]
    pub fn step(&self, connection: &Rc<Connection>, now: Instant) -> bool {
        let mut context = TaskContext::from_waker(Waker::noop());
        let Poll::Ready(ready) = connection.poll_ready(&mut context) else { return false };
        if !connection.on_ready(ready, now) {
            self.remove(connection);
        }
        true
    }

    pub fn get(&self, id: ConnectionId) -> Option<Rc<Connection>> {
        self.table.borrow().get(id.0).cloned()
    }

    /// The connection of a subscriber, if it has not ended.
    pub fn of(&self, subscriber: &Rc<Subscriber>) -> Option<Rc<Connection>> {
        let table = self.table.borrow();
        let connection = table.get(subscriber.owner.0)?;
        Rc::ptr_eq(&connection.subscriber, subscriber).then(|| Rc::clone(connection))
    }

    pub fn all(&self) -> Vec<Rc<Connection>> {
        self.table.borrow().iter().map(|(_, connection)| Rc::clone(connection)).collect()
    }

    /// Statistics of the sessions of a vocabulary in these versions. With `with_names`, they list labels, groups and items.
    pub fn session_stats(&self, versions: &[VocabularyId], with_names: bool) -> Vec<SessionStats> {
        let table = self.table.borrow();
        table.iter().filter_map(|(_, connection)| connection.session_stats(versions, with_names)).collect()
    }

    /// Flushes what publishing has changed: at once if it is no more than the queue would flush in one turn and nothing
    /// else waits, otherwise from the queue. `more_waits` says whether more is about to be published.
    pub fn flush_changed(&self, effects: &mut Effects, now: Instant, more_waits: bool) {
        let changed = effects.changed.drain(..);
        if !more_waits && self.flush_queue.is_empty() && changed.len() <= MIN_BATCH {
            changed.for_each(|subscriber| self.flush_if_changed(&subscriber, now));
        } else {
            self.flush_queue.add(changed);
        }
        for (subscriber, wait) in effects.delayed.drain(..) {
            if let Some(connection) = self.of(&subscriber) {
                connection.flush_after(wait, now);
            }
        }
    }

    /// Samples the latency of a batch that was read at this time, with a publication that was produced then, and has been passed to [`Connections::flush_changed`].
    pub fn sample_latency(&self, received: Instant, produced: Option<Produced>) {
        self.context.counts.begin_sample(received, produced);
        self.end_sample_if_flushed();
    }

    fn end_sample_if_flushed(&self) {
        if self.flush_queue.is_empty() {
            self.context.counts.end_sample();
        }
    }

    fn flush_if_changed(&self, subscriber: &Rc<Subscriber>, now: Instant) {
        if subscriber.is_changed()
            && let Some(connection) = self.of(subscriber)
        {
            connection.flush(now);
        }
    }

    /// Flushes outboxes that are half full at once, so that a burst does not overflow the outboxes of clients that keep
    /// up.
    pub fn flush_urgent(&self, effects: &mut Effects, now: Instant) {
        for subscriber in effects.urgent.drain(..) {
            if let Some(connection) = self.of(&subscriber) {
                connection.flush(now);
            }
        }
    }

    /// Flushes the first few changed outboxes.
    pub fn flush_some(&self, now: Instant) {
        for _ in 0..self.flush_queue.batch_size() {
            if let Some(subscriber) = self.flush_queue.next() {
                self.flush_if_changed(&subscriber, now);
            }
        }
        self.end_sample_if_flushed();
    }
}

/// The task of one connection: reads, and resumes writing. Deliveries do not wake it (the pump flushes outboxes), nor
/// do deadlines (the shard has one queue of them).
async fn drive(connections: Rc<Connections>, connection: Rc<Connection>) {
    connection.begin(Instant::now());
    loop {
        let ready = poll_fn(|context| connection.poll_ready(context)).await;
        if !connection.on_ready(ready, Instant::now()) {
            break;
        }
    }
    connections.remove(&connection);
}
