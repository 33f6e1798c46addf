//! `ConnectionGuard`: everything that counts one connection, for as long as the connection keeps it.

use std::cell::Cell;
use std::sync::Arc;
use std::task::Context;

use tidegate_protocol::identity::Identity;

use crate::node::permit::Permit;
use crate::node::slots::Slot;
use crate::node::users::TooManySockets;
use crate::node::users::UserKey;
use crate::node::users::Users;

/// Counts a connection as a socket, as one of the node's connections and, once it is known whose it is, as one of its
/// user's.
pub struct ConnectionGuard {
    user: Cell<Option<Slot<UserKey>>>,
    _socket: Arc<Permit>,
    _connection: Permit,
}

impl ConnectionGuard {
    /// A connection over a socket that is counted; `user` is its slot, if it has one already.
    pub fn new(socket: Arc<Permit>, connection: Permit, user: Option<Slot<UserKey>>) -> Self {
        Self { user: Cell::new(user), _socket: socket, _connection: connection }
    }

    /// Counts it as this user's, once: it never becomes another one's.
    pub fn count_user(&self, users: &Users, identity: &Identity) -> Result<(), TooManySockets> {
        let slot = match self.user.take() {
            Some(slot) => Some(slot),
            None => users.seat(identity)?,
        };
        self.user.set(slot);
        Ok(())
    }

    /// It is none of its user's any more.
    pub fn release_user(&self) {
        drop(self.user.take());
    }

    /// Whether another connection of its user has taken its place; if not, `context` is woken when one does.
    pub fn poll_replaced(&self, context: &Context<'_>) -> bool {
        let slot = self.user.take();
        let is_replaced = slot.as_ref().is_some_and(|slot| slot.poll_replaced(context));
        self.user.set(slot);
        is_replaced
    }
}
