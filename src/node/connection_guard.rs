//! `ConnectionGuard`: holds every permit and slot of one connection, and releases them when the connection ends.

use std::cell::Cell;
use std::sync::Arc;
use std::task::Context;
use std::time::SystemTime;

use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::identity::Identity;

use crate::node::connection_counts::CountedConnection;
use crate::node::latest_connections::LatestConnections;
use crate::node::latest_connections::ReplaceableConnection;
use crate::node::permit::Permit;
use crate::node::slots::Slot;
use crate::node::user_slots::TooManyConnections;
use crate::node::user_slots::UserKey;
use crate::node::user_slots::UserSlots;

/// Counts a connection as a socket, as a connection of the node and of its page's origin and, once the client is
/// authenticated, as a connection of its user.
pub struct ConnectionGuard {
    user: Cell<Option<UserConnection>>,
    _socket: SocketPermit,
    _connection: Permit,
    /// For the page that has opened it. In a box, because few nodes have this limit.
    _origin: Option<Box<CountedConnection>>,
}

/// The permit of a socket.
pub enum SocketPermit {
    /// Of a socket that hyper has not served.
    Owned(Permit),
    /// Of a socket that hyper serves; hyper drops its own reference after the handshake.
    Shared(Arc<Permit>),
}

/// How a connection counts for its user.
enum UserConnection {
    /// As one of those that the user may have on this node.
    Counted(Slot<UserKey>),
    /// As the only one at its endpoint.
    Only(ReplaceableConnection),
}

impl ConnectionGuard {
    /// `user` is the user's slot, if the client is authenticated already.
    pub fn new(
        socket: SocketPermit,
        connection: Permit,
        origin: Option<CountedConnection>,
        user: Option<Slot<UserKey>>,
    ) -> Self {
        let user = Cell::new(user.map(UserConnection::Counted));
        Self { user, _socket: socket, _connection: connection, _origin: origin.map(Box::new) }
    }

    /// Takes a slot of this user unless the connection has one. A connection never changes its user.
    pub fn count_user(&self, user_slots: &UserSlots, identity: &Identity) -> Result<(), TooManyConnections> {
        let user = match self.user.take() {
            Some(user) => Some(user),
            None => user_slots.acquire(identity)?.map(UserConnection::Counted),
        };
        self.user.set(user);
        Ok(())
    }

    /// Makes the connection the only one of this user at an endpoint, unless it counts for its user already.
    pub fn register_only(
        &self,
        latest: &Arc<LatestConnections>,
        endpoint: &Arc<str>,
        identity: &Identity,
        now: SystemTime,
    ) {
        let registered = self
            .user
            .take()
            .or_else(|| Some(UserConnection::Only(latest.register(endpoint, identity, now)?)));
        self.user.set(registered);
    }

    /// Ends counting the connection for its user.
    pub fn release_user(&self) {
        drop(self.user.take());
    }

    /// Why the connection must end, if a newer connection of the user has replaced it. If not, the task of `context` is
    /// woken when one does.
    pub fn poll_replaced(&self, context: &Context<'_>) -> Option<Disconnect> {
        let user = self.user.take()?;
        let (is_replaced, disconnect) = match &user {
            UserConnection::Counted(slot) => (slot.poll_replaced(context), Disconnect::TooManyConnections),
            UserConnection::Only(connection) => (connection.poll_replaced(context), Disconnect::Replaced),
        };
        self.user.set(Some(user));
        is_replaced.then_some(disconnect)
    }
}
