//! Trace: what logs say of a connection: where it comes from, who it is, and how it ends.

use std::cell::Cell;
use std::cell::RefCell;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tracing::debug;
use tracing::info;

use crate::auth::jwt;
use crate::connection::Connection;
use crate::protocol::disconnect::Disconnect;
use crate::protocol::error::ErrorCode;
use crate::protocol::identity::Identity;
use crate::protocol::tally::Tally;
use crate::telemetry::limit::LimitByReason;

/// Lines a second for each reason of a refusal or a close. Who needs all of them needs more than a log.
const LINES: u32 = 10;

static CLOSES: LimitByReason = LimitByReason::per_second(LINES);
static REFUSALS: LimitByReason = LimitByReason::per_second(LINES);

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
    whence: Whence,
    begun: Instant,
    identity: RefCell<Option<Arc<Identity>>>,
    tally: Cell<Tally>,
    end: Cell<Option<(u16, &'static str)>>,
}

impl Trace {
    pub(super) fn new(whence: Whence, identity: Option<Arc<Identity>>, now: Instant) -> Box<Self> {
        let (tally, end) = (Cell::default(), Cell::default());
        Box::new(Self { whence, begun: now, identity: RefCell::new(identity), tally, end })
    }

    /// Who it is from now on.
    pub(super) fn is(&self, identity: &Arc<Identity>) {
        *self.identity.borrow_mut() = Some(Arc::clone(identity));
    }

    pub(super) fn count(&self, tally: Tally) {
        let mut all = self.tally.get();
        all += tally;
        self.tally.set(all);
    }

    /// Why it ends; the first reason counts.
    pub(super) fn ends(&self, code: u16, reason: &'static str) {
        if self.end.get().is_none() {
            self.end.set(Some((code, reason)));
        }
    }
}

impl Connection {
    /// Says that it has begun; `request` is the handshake's id.
    pub(super) fn log_begin(&self, request: &str) {
        let whence = self.trace.whence;
        let identity = self.trace.identity.borrow();
        debug!(
            session = &**self.session.borrow().id(),
            user = identity.as_deref().map(|identity| &*identity.user),
            peer = %whence.peer,
            forwarded = whence.forwarded.map(display),
            endpoint = &*self.policy.endpoint,
            request,
            "connected"
        );
    }

    /// Says that a credential was refused which came as a message: the one that was `shown`.
    pub(super) fn log_refusal(&self, reason: &'static str, shown: &str) {
        let Some(suppressed) = REFUSALS.pass(reason) else { return };
        let whence = self.trace.whence;
        info!(
            reason,
            claimed_user = jwt::claimed_user(shown).as_deref(),
            session = &**self.session.borrow().id(),
            peer = %whence.peer,
            forwarded = whence.forwarded.map(display),
            endpoint = &*self.policy.endpoint,
            node = &*self.context.settings.node,
            suppressed,
            "credential refused"
        );
    }

    /// Says how it has ended.
    pub(super) fn log_end(&self) {
        let (code, reason) = self.trace.end.get().unwrap_or((1006, "connection_lost"));
        let Some(suppressed) = CLOSES.pass(reason) else { return };
        let (whence, session) = (self.trace.whence, self.session.borrow());
        let identity = self.trace.identity.borrow();
        let label = identity.as_deref().and_then(|identity| session.label(identity));
        let Tally { delivered: sent, dropped } = self.trace.tally.get();
        info!(
            code,
            reason,
            session = &**session.id(),
            user = identity.as_deref().map(|identity| &*identity.user),
            label,
            peer = %whence.peer,
            forwarded = whence.forwarded.map(display),
            endpoint = &*self.policy.endpoint,
            node = &*self.context.settings.node,
            duration_ms = u64::try_from(self.trace.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            sent,
            dropped,
            suppressed,
            "connection closed"
        );
    }
}

/// The name of a reason that a session gives for its end: one of ours, or that of a rule of the vocabulary's file.
pub(super) fn known(reason: &str) -> &'static str {
    let ends = Disconnect::ALL.iter().map(|end| end.name());
    let errors = ErrorCode::ALL.iter().map(|code| code.name());
    ends.chain(errors).find(|name| *name == reason).unwrap_or("by_rule")
}
