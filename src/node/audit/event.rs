//! `AuditEvent`: one event of the audit feed. `docs/OPERATIONS.md` documents its members.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde::Serializer;
use tidegate_protocol::timestamp::Timestamp;

/// The longest text in an event, in bytes. Longer ones are cut: clients choose some of them.
const MAX_TEXT: usize = 512;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// A connection has started.
    Connected,
    /// A connected client has sent a credential that is accepted.
    Authenticated,
    Subscribed,
    Unsubscribed,
    /// A client publishes, or calls a service. Whether it succeeds is not known yet.
    Published,
    Requested,
    /// A backend or an operator has ended sessions or subscriptions of a user, or has revoked something.
    Changed,
    /// A handshake, a call, a credential or a message was refused.
    Refused,
    Disconnected,
}

/// One event. What is not known, or does not apply, is left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditEvent<'e> {
    pub event: AuditKind,
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// The id of the session, as in the log.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut")]
    pub session: Option<&'e str>,
    /// The id of the request, as in the log.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut")]
    pub request: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut")]
    pub user: Option<&'e str>,
    /// The user that a refused credential names. It is not proven.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut")]
    pub claimed_user: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut")]
    pub issuer: Option<&'e str>,
    #[serde(skip_serializing_if = "no_roles", serialize_with = "names")]
    pub roles: &'e [Arc<str>],
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut")]
    pub endpoint: Option<&'e str>,
    /// The address at the other end of the socket, with its port; that of a proxy if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The address of the client behind a proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<IpAddr>,
    /// The user whose sessions are changed, or what is revoked.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut")]
    pub target: Option<&'e str>,
    /// How many sessions have changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<usize>,
    /// What was changed: `disconnect`, `unsubscribe` or `revoke`. What was refused: `handshake`, `preflight`, `call`, `ticket`, `credential`, `message`, or the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut")]
    pub channel: Option<&'e str>,
    /// The bytes of a payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// The HTTP status of a refused request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The error code, or the close code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_code: Option<u16>,
    /// Why: a stable word, as in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Why, for people; with the rule, if a rule denies it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut")]
    pub detail: Option<&'e str>,
    /// The configuration key of the limit that was exceeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

impl AuditEvent<'_> {
    /// An event of this moment, of which only the kind is known.
    pub fn new(event: AuditKind) -> Self {
        Self {
            event,
            time: SystemTime::now(),
            session: None,
            request: None,
            user: None,
            claimed_user: None,
            issuer: None,
            roles: &[],
            endpoint: None,
            peer: None,
            forwarded: None,
            target: None,
            sessions: None,
            operation: None,
            channel: None,
            bytes: None,
            status: None,
            code: None,
            close_code: None,
            reason: None,
            detail: None,
            limit: None,
            duration_ms: None,
            delivered: None,
            dropped: None,
        }
    }

    /// The event as a JSON object.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn no_roles(roles: &&[Arc<str>]) -> bool {
    roles.is_empty()
}

fn names<S: Serializer>(roles: &[Arc<str>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(roles.iter().map(|role| &**role))
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(Timestamp::new(*time).as_str())
}

/// At most `MAX_TEXT` bytes, whole characters.
fn cut<S: Serializer>(text: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = text.unwrap_or_default();
    serializer.serialize_str(&text[..text.floor_char_boundary(MAX_TEXT)])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn an_event_has_what_is_known_and_its_texts_are_bounded() {
        let (long, roles) = ("é".repeat(400), ["user".into()]);
        let event = AuditEvent {
            time: UNIX_EPOCH + Duration::from_millis(1_500),
            user: Some("alice"),
            roles: &roles,
            channel: Some(&long),
            reason: Some("not_allowed"),
            ..AuditEvent::new(AuditKind::Refused)
        };
        let json: serde_json::Value = serde_json::from_slice(&event.to_json()).unwrap();
        let expected = serde_json::json!({
            "event": "refused",
            "time": "1970-01-01T00:00:01.500Z",
            "user": "alice",
            "roles": ["user"],
            "channel": "é".repeat(256),
            "reason": "not_allowed",
        });
        assert_eq!(json, expected);
    }
}
