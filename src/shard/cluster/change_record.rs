//! Logs changes of users and revocations, and records them in the audit feed, once it is known what they have done. The
//! task that makes the change does so: its caller may be gone by then.

use tidegate_protocol::error::ClientError;
use tracing::info;

use crate::auth::revocation::message::RevocationMessage;
use crate::connection::user_change::UserChange;
use crate::node::Node;
use crate::node::audit::event::AuditEvent;
use crate::node::audit::event::AuditKind;
use crate::shard::job::ChangeAuthor;
use crate::shard::job::Revoked;
use crate::shard::job::UserChanged;
use crate::telemetry::limit::LogLimit;

/// The reason of a change that was sent, but no node has answered.
const UNKNOWN: &str = "outcome_unknown";

static CHANGED: LogLimit = LogLimit::per_second(10);
static REVOKED: LogLimit = LogLimit::per_second(10);

/// Why it is not known what a change has done.
#[derive(Debug)]
pub(super) enum ChangeError {
    /// It was not sent, so it has done nothing.
    NotSent(ClientError),
    /// It was sent, and may have been made.
    Unknown(ClientError),
}

impl ChangeError {
    /// The error for the caller.
    pub(super) fn into_client_error(self) -> ClientError {
        match self {
            Self::NotSent(error) | Self::Unknown(error) => error,
        }
    }
}

/// A change of the sessions of a user.
pub(super) fn of_user(
    node: &Node,
    change: &UserChange,
    by: &ChangeAuthor,
    outcome: &Result<UserChanged, ChangeError>,
) {
    let (target, action) = (&*change.user, change.action.name());
    let UserChanged { sessions, nodes, missing_nodes } = match outcome {
        Ok(changed) => *changed,
        Err(ChangeError::NotSent(_)) => return,
        Err(ChangeError::Unknown(error)) => return unknown(node, (action, target), by, error),
    };
    let event = AuditEvent { sessions: Some(sessions), ..event(action, target) };
    by.record.record(node, 0, event);
    if let Some(suppressed) = CHANGED.pass() {
        let ChangeAuthor { record, trace_id } = by;
        info!(
            user = target,
            action,
            by = &*record.identity.user,
            sessions,
            nodes,
            missing_nodes,
            request = &*record.request,
            trace_id,
            suppressed,
            "sessions of a user changed"
        );
    }
}

/// A revocation. One that all nodes have refused has done nothing.
pub(super) fn of_revocation(
    node: &Node,
    message: &RevocationMessage,
    by: &ChangeAuthor,
    outcome: &Result<Revoked, ChangeError>,
) {
    let target = message.target.to_string();
    let revoked = match outcome {
        Ok(revoked) => revoked,
        Err(ChangeError::NotSent(_)) => return,
        Err(ChangeError::Unknown(error)) => return unknown(node, ("revoke", &target), by, error),
    };
    let ((nodes, connections), missing_nodes) = (revoked.accepted(), revoked.missing_nodes);
    if nodes == 0 && missing_nodes == 0 {
        return;
    }
    let event = AuditEvent { sessions: Some(connections), ..event("revoke", &target) };
    by.record.record(node, 0, event);
    if let Some(suppressed) = REVOKED.pass() {
        let ChangeAuthor { record, trace_id } = by;
        info!(
            revoked = target,
            by = &*record.identity.user,
            connections,
            nodes,
            missing_nodes,
            refused_nodes = revoked.nodes.len() - nodes,
            request = &*record.request,
            trace_id,
            suppressed,
            "an operator has revoked over HTTP"
        );
    }
}

/// Records a change that may have been made.
fn unknown(node: &Node, (operation, target): (&'static str, &str), by: &ChangeAuthor, error: &ClientError) {
    let (code, detail) = (Some(error.code.name()), Some(&*error.message));
    let event = AuditEvent { code, reason: Some(UNKNOWN), detail, ..event(operation, target) };
    by.record.record(node, 0, event);
}

fn event<'e>(operation: &'static str, target: &'e str) -> AuditEvent<'e> {
    AuditEvent { operation: Some(operation), target: Some(target), ..AuditEvent::new(AuditKind::Changed) }
}
