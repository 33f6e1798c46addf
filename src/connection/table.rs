//! Table: all connections of one shard, from their start to their end, found by their subscribers.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Instant;

use slab::Slab;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::session::stats::SessionStats;

use crate::connection::Connection;
use crate::connection::Opening;
use crate::connection::context::Context;
use crate::connection::flushes::Flushes;
use crate::connection::transport::Transport;
use crate::hub::effects::Effects;
use crate::hub::subscriber::ConnectionId;
use crate::hub::subscriber::Subscriber;

/// The connections of one shard.
pub struct Connections {
    /// What they share.
    pub context: Rc<Context>,
    /// Whose outboxes have changed.
    pub flushes: Flushes,
    table: RefCell<Slab<Rc<Connection>>>,
}

impl Connections {
    /// None yet.
    pub fn new(context: Rc<Context>) -> Self {
        Self { context, flushes: Flushes::default(), table: RefCell::default() }
    }

    /// Begins a connection whose handshake is done.
    pub fn start(self: &Rc<Self>, transport: Transport, opening: Opening) {
        let mut table = self.table.borrow_mut();
        let entry = table.vacant_entry();
        let connection = Connection::new(&self.context, ConnectionId(entry.key()), transport, opening);
        entry.insert(Rc::clone(&connection));
        drop(table);
        self.context.tasks.spawn_local(drive(Rc::clone(self), connection));
    }

    /// The one of this number.
    pub fn get(&self, id: ConnectionId) -> Option<Rc<Connection>> {
        self.table.borrow().get(id.0).cloned()
    }

    /// The connection of a subscriber, while it lives.
    pub fn of(&self, subscriber: &Rc<Subscriber>) -> Option<Rc<Connection>> {
        let table = self.table.borrow();
        let connection = table.get(subscriber.owner.0)?;
        Rc::ptr_eq(&connection.subscriber, subscriber).then(|| Rc::clone(connection))
    }

    /// All that there are now.
    pub fn all(&self) -> Vec<Rc<Connection>> {
        self.table.borrow().iter().map(|(_, connection)| Rc::clone(connection)).collect()
    }

    /// What statistics may say of the sessions of a vocabulary.
    pub fn figures(&self, vocabulary: VocabularyId, with_names: bool) -> Vec<SessionStats> {
        let table = self.table.borrow();
        table.iter().filter_map(|(_, connection)| connection.figures(vocabulary, with_names)).collect()
    }

    /// Does what publishing has left to do. What has changed is flushed when its turn comes.
    pub fn settle(&self, effects: &mut Effects, now: Instant) {
        self.flushes.add(effects.changed.drain(..));
        for (subscriber, wait) in effects.delayed.drain(..) {
            if let Some(connection) = self.of(&subscriber) {
                connection.flush_after(wait, now);
            }
        }
    }

    /// Flushes what cannot wait for its turn, so that a burst does not overflow outboxes whose sockets keep up.
    pub fn flush_urgent(&self, effects: &mut Effects, now: Instant) {
        for subscriber in effects.urgent.drain(..) {
            if let Some(connection) = self.of(&subscriber) {
                connection.flush(now);
            }
        }
    }

    /// Waits for outboxes that have changed, and flushes the first few.
    pub async fn flush_some(&self) {
        self.flushes.some().await;
        let now = Instant::now();
        for _ in 0..self.flushes.turn() {
            if let Some(subscriber) = self.flushes.next()
                && subscriber.is_changed()
                && let Some(connection) = self.of(&subscriber)
            {
                connection.flush(now);
            }
        }
    }
}

/// Waits, and nothing else. Deliveries do not wake it (the pump flushes), nor do deadlines (the shard has one queue
/// of them).
async fn drive(connections: Rc<Connections>, connection: Rc<Connection>) {
    connection.begin();
    while connection.go_on(poll_fn(|context| connection.poll_ready(context)).await) {}
    connection.finish();
    connections.table.borrow_mut().try_remove(connection.subscriber.owner.0);
}
