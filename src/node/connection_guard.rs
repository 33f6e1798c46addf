//! `ConnectionGuard`: holds every permit and slot of one connection, and releases them when the connection ends.

use std::cell::Cell;
use std::sync::Arc;
use std::task::Context;

use tidegate_protocol::identity::Identity;

use crate::node::permit::Permit;
use crate::node::slots::Slot;
use crate::node::user_slots::TooManyConnections;
use crate::node::user_slots::UserKey;
use crate::node::user_slots::UserSlots;

/// Counts a connection as a socket, as a connection of the node and, once the client is authenticated, as a connection
/// of its user.
pub struct ConnectionGuard {
    user: Cell<Option<Slot<UserKey>>>,
    _socket: Arc<Permit>,
    _connection: Permit,
}

impl ConnectionGuard {
    /// `user` is the user's slot, if the client is authenticated already.
    pub fn new(socket: Arc<Permit>, connection: Permit, user: Option<Slot<UserKey>>) -> Self {
        Self { user: Cell::new(user), _socket: socket, _connection: connection }
    }

    /// Takes a slot of this user unless the connection has one. A connection never changes its user.
    pub fn count_user(&self, user_slots: &UserSlots, identity: &Identity) -> Result<(), TooManyConnections> {
        let slot = match self.user.take() {
            Some(slot) => Some(slot),
            None => user_slots.acquire(identity)?,
        };
        self.user.set(slot);
        Ok(())
    }

    /// Releases the user's slot.
    pub fn release_user(&self) {
        drop(self.user.take());
    }

    /// Whether a newer connection of the user has replaced this one. If not, the task of `context` is woken when one
    /// does.
    pub fn poll_replaced(&self, context: &Context<'_>) -> bool {
        let slot = self.user.take();
        let is_replaced = slot.as_ref().is_some_and(|slot| slot.poll_replaced(context));
        self.user.set(slot);
        is_replaced
    }
}
