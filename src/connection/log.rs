//! The log lines of a connection: connected, credential rejected, operation rejected, closed.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::session::denied::Denied;
use tidegate_protocol::subject::Pattern;
use tracing::debug;
use tracing::info;

use crate::auth::jwt;
use crate::connection::Connection;
use crate::connection::events::event::EventCause;
use crate::connection::events::event::EventKind;
use crate::connection::events::event::NewEvent;
use crate::connection::log_context::LoggedEnd;
use crate::node::Node;
use crate::node::audit::event::AuditEvent;
use crate::node::audit::event::AuditKind;
use crate::node::refusals::Refused;
use crate::telemetry::limit::LimitByReason;

/// Lines a second for each reason of a refusal or a close.
const LINES: u32 = 10;

static CLOSES: LimitByReason = LimitByReason::per_second(LINES);
static REJECTIONS: LimitByReason = LimitByReason::per_second(LINES);
static DENIALS: LimitByReason = LimitByReason::per_second(LINES);

impl Connection {
    /// Logs the start of the connection; `request` is the id of its handshake.
    pub(super) fn log_start(&self, request: &str) {
        let identity = self.log_context.identity();
        let address = self.log_context.client_address.ip().map(|address| address.to_string());
        self.note(&NewEvent {
            user: identity.as_deref().map_or("", |identity| &identity.user),
            channel: &self.policy.endpoint,
            address: address.as_deref().unwrap_or_default(),
            ..NewEvent::new(EventKind::Connected)
        });
        if self.context.node.audit.is_some() {
            self.audit(AuditEvent { request: Some(request), ..AuditEvent::new(AuditKind::Connected) });
        }
        let client_address = self.log_context.client_address;
        debug!(
            session = &**self.session.borrow().id(),
            user = identity.as_deref().map(|identity| &*identity.user),
            peer = %client_address.peer,
            forwarded = client_address.forwarded.map(display),
            endpoint = &*self.policy.endpoint,
            request,
            "connected"
        );
    }

    /// Counts and logs a refused credential that came in a message.
    pub(super) fn log_rejected_credential(&self, reason: &'static str, credential: &str) {
        self.context.node.counts.auth_failures.count(reason);
        let claimed_user = jwt::claimed_user(credential);
        let cause =
            EventCause { operation: Some("credential"), reason: Some(reason), ..EventCause::default() };
        let user = claimed_user.as_deref().unwrap_or_default();
        self.note(&NewEvent { cause, user, ..NewEvent::new(EventKind::Refused) });
        if self.context.node.audit.is_some() {
            self.audit(AuditEvent {
                operation: Some("credential"),
                reason: Some(reason),
                claimed_user: claimed_user.as_deref(),
                ..AuditEvent::new(AuditKind::Refused)
            });
        }
        let Some(suppressed) = REJECTIONS.pass(reason) else { return };
        let client_address = self.log_context.client_address;
        info!(
            reason,
            claimed_user,
            session = &**self.session.borrow().id(),
            peer = %client_address.peer,
            forwarded = client_address.forwarded.map(display),
            endpoint = &*self.policy.endpoint,
            node = &*self.context.node.name,
            suppressed,
            "credential rejected"
        );
    }

    /// Counts and logs a subscription to a channel that has `max_listeners`.
    pub(super) fn log_full_channel(&self, channel: &str, max_listeners: u32) {
        self.context.node.refusals.count(Refused::Listeners);
        let reason = Refused::Listeners.name();
        let Some(suppressed) = REJECTIONS.pass(reason) else { return };
        info!(
            reason,
            limit = Refused::Listeners.limit(),
            max_listeners,
            channel,
            user = self.log_context.identity().as_deref().map(|identity| &*identity.user),
            session = &**self.session.borrow().id(),
            peer = %self.log_context.client_address.peer,
            forwarded = self.log_context.client_address.forwarded.map(display),
            endpoint = &*self.policy.endpoint,
            node = &*self.context.node.name,
            suppressed,
            "subscription rejected: the channel has as many listeners as its class allows; see max_listeners"
        );
    }

    /// Counts and logs an operation that the client's permissions do not allow.
    pub(super) fn log_denied(&self, denied: &Denied) {
        let identity = self.log_context.identity();
        let user = identity.as_deref().map(|identity| &*identity.user);
        self.note_denied(denied);
        log_denied(denied, user, &self.context.node, Some(self));
    }

    /// Counts and logs the end of the connection.
    pub(super) fn log_end(&self) {
        let LoggedEnd { close, limit } = self.log_context.end();
        let (code, reason) = close.unwrap_or((1006, "connection_lost"));
        self.context.counts.count_closed(self.transport.kind(), code, reason);
        let limit = limit.or_else(|| limit_of(reason));
        let age = Instant::from(self.log_context.started).elapsed();
        let duration_ms = millis(age);
        let cause = EventCause { reason: Some(reason), limit, ..EventCause::default() };
        let (identity, address) = (self.log_context.identity(), self.log_context.client_address);
        // Who it was, again: earlier events may be overwritten.
        self.note(&NewEvent {
            cause,
            status: code,
            amount: duration_ms,
            user: identity.as_deref().map_or("", |identity| &identity.user),
            channel: &self.policy.endpoint,
            address: &address.ip().map(|address| address.to_string()).unwrap_or_default(),
            ..NewEvent::new(EventKind::Disconnected)
        });
        let DeliveryCounts { delivered, dropped } = self.delivery_counts.get();
        if self.context.node.audit.is_some() {
            self.audit(AuditEvent {
                close_code: Some(code),
                reason: Some(reason),
                limit,
                duration_ms: Some(duration_ms),
                delivered: Some(delivered),
                dropped: Some(dropped),
                ..AuditEvent::new(AuditKind::Disconnected)
            });
        }
        let Some(suppressed) = CLOSES.pass(reason) else { return };
        let (client_address, session) = (self.log_context.client_address, self.session.borrow());
        let identity = self.log_context.identity();
        let label = identity.as_deref().and_then(|identity| session.label(identity));
        info!(
            code,
            reason,
            limit,
            session = &**session.id(),
            user = identity.as_deref().map(|identity| &*identity.user),
            label,
            peer = %client_address.peer,
            forwarded = client_address.forwarded.map(display),
            endpoint = &*self.policy.endpoint,
            node = &*self.context.node.name,
            duration_ms,
            delivered,
            dropped,
            suppressed,
            "connection closed"
        );
    }
}

/// Counts and logs an operation that permissions or a service do not allow. An HTTP call has no `connection`: the line of the rejected
/// call has the caller's address.
pub fn log_denied(denied: &Denied, user: Option<&str>, node: &Node, connection: Option<&Connection>) {
    node.counts.denied.count(denied.operation.name());
    let reason = denied.reason();
    let Some(suppressed) = DENIALS.pass(reason) else { return };
    let session = connection.map(|connection| Arc::clone(connection.session.borrow().id()));
    let client_address = connection.map(|connection| connection.log_context.client_address);
    info!(
        code = denied.code().name(),
        reason,
        operation = denied.operation.name(),
        channel = denied.channel.as_ref().map(Pattern::as_str),
        detail = &*denied.detail(),
        user,
        session = session.as_deref(),
        peer = client_address.map(|client_address| display(client_address.peer)),
        forwarded = client_address.and_then(|client_address| client_address.forwarded).map(display),
        endpoint = connection.map(|connection| &*connection.policy.endpoint),
        node = &*node.name,
        suppressed,
        "operation rejected"
    );
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The configuration key of the limit that a client exceeds whose session ends for this reason.
fn limit_of(reason: &str) -> Option<&'static str> {
    let of = |disconnect: Disconnect| reason == disconnect.name();
    if of(Disconnect::TooManyConnections) {
        Refused::UserConnections.limit()
    } else if of(Disconnect::TooManyErrors) {
        Some("limits.max_errors")
    } else if of(Disconnect::AuthTimeout) {
        Some("limits.auth_timeout_s")
    } else {
        None
    }
}
