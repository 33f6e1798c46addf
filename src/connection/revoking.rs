//! Revocations of a connection that is open: they end it, or narrow what its user may do.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::session::Input;
use tracing::debug;

use crate::auth::revocation::table::RevocationEffect;
use crate::connection::Connection;

impl Connection {
    /// Checks the client's credential against the node's revocations. Returns whether that has changed something.
    pub fn check_revocations(self: &Rc<Self>, now: Instant) -> bool {
        let Some(identity) = self.session.borrow().identity().map(Arc::clone) else { return false };
        match self.context.node.revocations.check(&identity, self.context.clock.at(now).wall) {
            RevocationEffect::Unchanged => return false,
            RevocationEffect::Revoked => self.disconnect(Disconnect::Revoked, None, now),
            RevocationEffect::Narrowed(narrowed) => {
                debug!(user = &*narrowed.user, "permissions withdrawn");
                self.log_context.set_identity(&narrowed);
                self.note_changed("permissions_withdrawn");
                self.apply(Input::Narrowed(narrowed), now);
            }
        }
        self.flush(now);
        true
    }
}
