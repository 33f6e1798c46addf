//! Auditing: what a connection, or an HTTP call, notes among the latest events of its shard, and records in the audit
//! feed, if there is one.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::moment::Moment;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::denied::Denied;
use tidegate_protocol::session::refused::RefusedMessage;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use crate::connection::Connection;
use crate::connection::client_address::ClientAddress;
use crate::connection::context::Context;
use crate::connection::events::event::EventCause;
use crate::connection::events::event::EventKind;
use crate::connection::events::event::NewEvent;
use crate::connection::log::log_denied;
use crate::connection::log::millis;
use crate::connection::log_context::LoggedEnd;
use crate::node::Node;
use crate::node::audit::event::AuditEvent;
use crate::node::audit::event::AuditKind;
use crate::node::refused_requests::RefusedRequest;
use crate::node::refused_requests::RefusedWhat;

/// A socket that takes nothing for so long has an event when it takes something again.
const STALLED: Duration = Duration::from_secs(1);

impl Connection {
    /// Notes an event among the latest of the shard.
    pub(super) fn note(&self, event: &NewEvent<'_>) {
        self.context.events.note(&self.mark, event, Instant::now());
    }

    /// Notes and records an event about a channel or a subject, with the bytes of a payload.
    pub(super) fn note_channel(&self, kind: AuditKind, channel: &str, bytes: Option<usize>) {
        let amount = bytes.unwrap_or_default() as u64;
        self.note(&NewEvent { channel, amount, ..NewEvent::new(kind.into()) });
        if self.context.node.audit.is_some() {
            self.audit(AuditEvent { channel: Some(channel), bytes, ..AuditEvent::new(kind) });
        }
    }

    /// Keeps the identity of a credential in a message, notes and records it.
    pub(super) fn note_identity(&self, identity: &Arc<Identity>) {
        self.log_context.set_identity(identity);
        self.note(&NewEvent { user: &identity.user, ..NewEvent::new(EventKind::Authenticated) });
        if self.context.node.audit.is_some() {
            self.audit(AuditEvent::new(AuditKind::Authenticated));
        }
    }

    /// Notes and records that an operation is not allowed.
    pub(super) fn note_denied(&self, denied: &Denied) {
        self.note(&noted_denial(denied));
        if self.context.node.audit.is_some() {
            self.audit(of_denied(denied, &denied.detail()));
        }
    }

    /// Notes and records that a message was answered with an error, unless an earlier event has said more.
    pub(super) fn note_refused(&self, refused: &RefusedMessage) {
        if !refused.is_recorded {
            let code = Some(refused.error.code.name());
            let cause = EventCause { operation: Some("message"), code, reason: code, limit: None };
            let channel = refused.channel.as_deref().unwrap_or_default();
            self.note(&NewEvent { cause, channel, ..NewEvent::new(EventKind::Refused) });
        }
        if self.context.node.audit.is_some() && !refused.is_recorded {
            self.audit(of_refused(refused));
        }
    }

    /// Notes that publications are missing, and counts the client among those that have missed some.
    pub fn note_gap(&self, cause: GapCause, missing: u64) {
        self.count_gap();
        let cause = EventCause { reason: Some(cause.name()), ..EventCause::default() };
        self.note(&NewEvent { cause, amount: missing, ..NewEvent::new(EventKind::Gap) });
    }

    /// Notes that the client's socket takes bytes again, if it has taken none since then for long.
    pub(super) fn note_resumed(&self, since: Moment, now: Instant) {
        let stalled = now.saturating_duration_since(since.into());
        if stalled >= STALLED {
            self.note(&NewEvent { amount: millis(stalled), ..NewEvent::new(EventKind::Resumed) });
        }
    }

    /// Notes what a backend, an operator or a revocation does to the session.
    pub(super) fn note_changed(&self, reason: &'static str) {
        let cause = EventCause { reason: Some(reason), ..EventCause::default() };
        self.note(&NewEvent { cause, ..NewEvent::new(EventKind::Changed) });
    }

    /// Notes why the close frame is sent.
    pub(super) fn note_closing(&self) {
        let LoggedEnd { close, limit } = self.log_context.end();
        let cause = EventCause { reason: close.map(|(_, reason)| reason), limit, ..EventCause::default() };
        let status = close.map_or(0, |(code, _)| code);
        self.note(&NewEvent { cause, status, ..NewEvent::new(EventKind::Closing) });
    }

    /// Records an event, with what is known of the connection. Does nothing without a feed.
    pub(super) fn audit(&self, event: AuditEvent<'_>) {
        let Some(audit) = &self.context.node.audit else { return };
        let (session, identity) = (Arc::clone(self.session.borrow().id()), self.log_context.identity());
        let identity = identity.as_deref();
        let address = self.log_context.client_address;
        let event = AuditEvent {
            session: Some(&session),
            user: identity.map(|identity| &*identity.user),
            issuer: identity.and_then(|identity| identity.issuer.as_deref()),
            roles: identity.map_or(&[], |identity| &identity.roles),
            endpoint: Some(&self.policy.endpoint),
            peer: Some(address.peer.to_string()),
            forwarded: address.forwarded,
            ..event
        };
        audit.record(self.context.shard.0, &event);
    }
}

/// Who makes an HTTP call, and where, for the audit feed.
#[derive(Clone, Debug)]
pub struct CallRecord {
    pub identity: Arc<Identity>,
    /// The endpoint's name in logs.
    pub endpoint: Box<str>,
    pub client_address: ClientAddress,
    /// The id of the request, as in the log.
    pub request: Box<str>,
}

impl CallRecord {
    /// Adds to an event what is known of the call, and records it. Does nothing without a feed.
    pub fn record(&self, node: &Node, shard: usize, event: AuditEvent<'_>) {
        let Some(audit) = &node.audit else { return };
        let Self { identity, endpoint, client_address, request } = self;
        let event = AuditEvent {
            user: Some(&identity.user),
            issuer: identity.issuer.as_deref(),
            roles: &identity.roles,
            request: Some(request),
            endpoint: Some(endpoint),
            peer: Some(client_address.peer.to_string()),
            forwarded: client_address.forwarded,
            ..event
        };
        audit.record(shard, &event);
    }
}

/// Counts, logs and records what operators should know of a call.
pub fn note_call(context: &Context, vocabulary: VocabularyId, call: &CallRecord, output: &Output) {
    let is_audited = context.node.audit.is_some();
    if let Output::Publish { subject, data, .. } = output {
        note_published_by_call(context, call, subject, data.len());
    } else if let Output::Request { subject, data, .. } = output {
        audit_call(context, call, AuditKind::Requested, subject.as_str(), data.len());
    } else if let Output::Denied(denied) = output {
        note_denied_call(context, call, denied);
    } else if let Output::Refused(refused) = output {
        context.delivery_totals.count_error(vocabulary);
        if is_audited && !refused.is_recorded {
            call.record(&context.node, context.shard.0, of_refused(refused));
        }
    }
}

/// Records that a message of a call is sent to NATS.
pub fn note_published_by_call(context: &Context, call: &CallRecord, subject: &Subject, bytes: usize) {
    audit_call(context, call, AuditKind::Published, subject.as_str(), bytes);
}

/// Records what a call publishes or requests in the audit feed, if there is one.
fn audit_call(context: &Context, call: &CallRecord, kind: AuditKind, subject: &str, bytes: usize) {
    if context.node.audit.is_some() {
        let event = AuditEvent { channel: Some(subject), bytes: Some(bytes), ..AuditEvent::new(kind) };
        call.record(&context.node, context.shard.0, event);
    }
}

/// Counts, logs and records an operation that a call may not do.
pub fn note_denied_call(context: &Context, call: &CallRecord, denied: &Denied) {
    context.node.refused_requests.note(call.client_address.ip(), || RefusedRequest {
        at: Instant::now(),
        operation: denied.operation.name(),
        code: denied.code().name(),
        reason: denied.reason(),
        limit: None,
        what: RefusedWhat::Operation {
            user: Arc::clone(&call.identity.user),
            channel: denied.channel.clone(),
        },
    });
    if context.node.audit.is_some() {
        call.record(&context.node, context.shard.0, of_denied(denied, &denied.detail()));
    }
    log_denied(denied, Some(&call.identity.user), &context.node, None);
}

/// An operation that is not allowed, as it is noted.
fn noted_denial(denied: &Denied) -> NewEvent<'_> {
    NewEvent {
        cause: EventCause {
            operation: Some(denied.operation.name()),
            code: Some(denied.code().name()),
            reason: Some(denied.reason()),
            limit: None,
        },
        channel: denied.channel.as_ref().map_or("", Pattern::as_str),
        ..NewEvent::new(EventKind::Refused)
    }
}

/// The event of an operation that is not allowed; `detail` is [`Denied::detail`].
fn of_denied<'e>(denied: &'e Denied, detail: &'e str) -> AuditEvent<'e> {
    AuditEvent {
        operation: Some(denied.operation.name()),
        channel: denied.channel.as_ref().map(Pattern::as_str),
        code: Some(denied.code().name()),
        reason: Some(denied.reason()),
        detail: Some(detail),
        ..AuditEvent::new(AuditKind::Refused)
    }
}

/// The event of a message that was answered with an error.
fn of_refused(refused: &RefusedMessage) -> AuditEvent<'_> {
    AuditEvent {
        operation: Some("message"),
        channel: refused.channel.as_deref(),
        code: Some(refused.error.code.name()),
        reason: Some(refused.error.code.name()),
        detail: Some(&refused.error.message),
        ..AuditEvent::new(AuditKind::Refused)
    }
}
