//! Trace: what is kept of a connection for the log: where it comes from, who it is, and how it ends.

use std::cell::Cell;
use std::cell::RefCell;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::identity::Identity;

/// Where a connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Whence {
    /// Who is at the other end of the socket.
    pub peer: SocketAddr,
    /// For whom, if that is a proxy that is trusted.
    pub forwarded: Option<IpAddr>,
}

/// What is kept of a connection for its last line.
pub(super) struct Trace {
    pub(super) whence: Whence,
    pub(super) begun: Instant,
    pub(super) identity: RefCell<Option<Arc<Identity>>>,
    pub(super) delivery_counts: Cell<DeliveryCounts>,
    pub(super) end: Cell<Option<(u16, &'static str)>>,
}

impl Trace {
    pub(super) fn new(whence: Whence, identity: Option<Arc<Identity>>, now: Instant) -> Box<Self> {
        let (delivery_counts, end) = (Cell::default(), Cell::default());
        Box::new(Self { whence, begun: now, identity: RefCell::new(identity), delivery_counts, end })
    }

    /// Who it is from now on.
    pub(super) fn is(&self, identity: &Arc<Identity>) {
        *self.identity.borrow_mut() = Some(Arc::clone(identity));
    }

    pub(super) fn count(&self, delivery_counts: DeliveryCounts) {
        let mut all = self.delivery_counts.get();
        all += delivery_counts;
        self.delivery_counts.set(all);
    }

    /// Why it ends; the first reason counts.
    pub(super) fn ends(&self, code: u16, reason: &'static str) {
        if self.end.get().is_none() {
            self.end.set(Some((code, reason)));
        }
    }
}

/// The name of a reason that a session gives for its end: one of ours, or that of a rule of the vocabulary's file.
pub(super) fn known(reason: &str) -> &'static str {
    let ends = Disconnect::ALL.iter().map(|end| end.name());
    let errors = ErrorCode::ALL.iter().map(|code| code.name());
    ends.chain(errors).find(|name| *name == reason).unwrap_or("by_rule")
}
