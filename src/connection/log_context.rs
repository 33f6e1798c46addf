//! `LogContext`: what the log says about a connection: where the client is, who it is, and how the connection ended.

use std::cell::Cell;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::identity::Identity;

use crate::connection::client_address::ClientAddress;

/// The fields of a connection's log lines. The last line, at its end, has all of them.
pub(super) struct LogContext {
    pub(super) client_address: ClientAddress,
    pub(super) started: Instant,
    pub(super) identity: RefCell<Option<Arc<Identity>>>,
    pub(super) delivery_counts: Cell<DeliveryCounts>,
    /// The close code and its reason.
    pub(super) end: Cell<Option<(u16, &'static str)>>,
    /// The configuration key of the limit that the client exceeded, if that is why the connection ends.
    pub(super) limit: Cell<Option<&'static str>>,
}

impl LogContext {
    pub(super) fn new(
        client_address: ClientAddress,
        identity: Option<Arc<Identity>>,
        now: Instant,
    ) -> Box<Self> {
        let (delivery_counts, end) = (Cell::default(), Cell::default());
        Box::new(Self {
            client_address,
            started: now,
            identity: RefCell::new(identity),
            delivery_counts,
            end,
            limit: Cell::default(),
        })
    }

    /// Whether this identity belongs to another user than the session, which then ends.
    pub(super) fn is_another_user(&self, new: &Identity) -> bool {
        self.identity.borrow().as_ref().is_some_and(|current| !current.may_become(new))
    }

    pub(super) fn set_identity(&self, identity: &Arc<Identity>) {
        *self.identity.borrow_mut() = Some(Arc::clone(identity));
    }

    pub(super) fn add_counts(&self, delivery_counts: DeliveryCounts) {
        let mut total = self.delivery_counts.get();
        total += delivery_counts;
        self.delivery_counts.set(total);
    }

    /// Sets why the connection ends. The first reason stays.
    pub(super) fn set_end(&self, code: u16, reason: &'static str) {
        if self.end.get().is_none() {
            self.end.set(Some((code, reason)));
        }
    }
}

/// A close reason as the log names it. Reasons from a vocabulary's file all become `by_rule`, so that the set of
/// reasons stays small.
pub(super) fn known_reason(reason: &str) -> &'static str {
    let ends = Disconnect::ALL.iter().map(|end| end.name());
    let errors = ErrorCode::ALL.iter().map(|code| code.name());
    ends.chain(errors).find(|name| *name == reason).unwrap_or("by_rule")
}
