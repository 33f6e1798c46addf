//! Log: what a connection says of itself there: how it begins and ends, and which credential was refused.

use tidegate_protocol::delivery_counts::DeliveryCounts;
use tracing::debug;
use tracing::info;

use crate::auth::jwt;
use crate::connection::Connection;
use crate::telemetry::limit::LimitByReason;

/// Lines a second for each reason of a refusal or a close. Who needs all of them needs more than a log.
const LINES: u32 = 10;

static CLOSES: LimitByReason = LimitByReason::per_second(LINES);
static REFUSALS: LimitByReason = LimitByReason::per_second(LINES);

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
        let DeliveryCounts { delivered: sent, dropped } = self.trace.delivery_counts.get();
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
