//! Checks of the channels, data and headers that a client names. Only sessions run them, for every transport.

use bytes::Bytes;

use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::identity::Identity;
use crate::payload::MAX_DEPTH;
use crate::payload::is_deep_json;
use crate::permissions::Decision;
use crate::permissions::Denial;
use crate::permissions::Operation;
use crate::permissions::Permissions;
use crate::session::denied::Denied;
use crate::session::settings::Settings;
use crate::subject::Pattern;
use crate::subject::Subject;
use crate::trace_context::TRACEPARENT;
use crate::trace_context::TRACESTATE;
use crate::trace_context::TraceContext;

/// The headers that a client may set when it publishes. Others control NATS or belong to Tidegate.
pub const CLIENT_HEADERS: [&str; 5] = [MESSAGE_ID, "Tidegate-Key", TRACEPARENT, TRACESTATE, "Content-Type"];

/// JetStream detects duplicates by this header.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Parses a channel and checks it against the node's limits.
pub fn pattern(settings: &Settings, channel: &str) -> Result<Pattern, ClientError> {
    let pattern = Pattern::parse(channel).map_err(|error| bad_channel(&error))?;
    settings.subjects.check(&pattern).map_err(|error| bad_channel(&error))?;
    Ok(pattern)
}

/// Checks that the channel is a literal subject, that the operation is permitted and that the data fits. Also returns
/// what the operator should know, if it is not permitted.
pub(super) fn checked_subject(
    settings: &Settings,
    permissions: &Permissions,
    operation: Operation,
    channel: &str,
    data: &Bytes,
) -> Result<Subject, CheckError> {
    let pattern = pattern(settings, channel)?;
    let Some(subject) = pattern.as_subject() else {
        let message = "a message goes to one subject: wildcards are for subscribing";
        return Err(ClientError::new(ErrorCode::BadChannel, message).into());
    };
    check_permission(permissions, operation, &pattern)?;
    if data.len() > settings.publish_max {
        let message =
            format!("`data` has {} bytes: at most {} are allowed", data.len(), settings.publish_max);
        return Err(ClientError::new(ErrorCode::BadData, message).into());
    }
    if is_deep_json(data) {
        let message = format!("`data` has more than {MAX_DEPTH} levels of lists and objects");
        return Err(ClientError::new(ErrorCode::BadData, message).into());
    }
    Ok(subject)
}

fn bad_channel(error: &dyn std::error::Error) -> ClientError {
    ClientError::new(ErrorCode::BadChannel, error.to_string())
}

/// Why a check has failed: the error for the client, and what the operator should know.
#[derive(Debug)]
pub(super) struct CheckError {
    pub(super) error: ClientError,
    pub(super) denied: Option<Box<Denied>>,
}

impl From<ClientError> for CheckError {
    fn from(error: ClientError) -> Self {
        Self { error, denied: None }
    }
}

/// Checks that the permissions allow the operation on the pattern.
pub(super) fn check_permission(
    permissions: &Permissions,
    operation: Operation,
    pattern: &Pattern,
) -> Result<(), CheckError> {
    let denial = match permissions.decide(operation, pattern) {
        Decision::Allowed { .. } => return Ok(()),
        Decision::Denied(denial) => denial,
    };
    let message = match &denial {
        // The client does not learn which rule denies it.
        Denial::Denied { .. } | Denial::NotAllowed => {
            "this identity may not do this on this channel".to_owned()
        }
        Denial::System { .. } | Denial::SystemWildcard | Denial::NotLiteral => denial.to_string(),
    };
    let denied = Some(Box::new(Denied::channel(operation, pattern, denial)));
    Err(CheckError { error: ClientError::new(ErrorCode::Forbidden, message), denied })
}

/// Checks a client's headers and spells their names as NATS does. A malformed trace context is left out, and is no
/// mistake (W3C Trace Context §2.3). A message id gets the user name as a prefix, so that
/// NATS never treats one user's message as a duplicate of another's. User names cannot contain `|`.
pub(super) fn check_headers(
    identity: &Identity,
    headers: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, ClientError> {
    let mut checked: Vec<(String, String)> = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let Some(known) = CLIENT_HEADERS.iter().find(|allowed| allowed.eq_ignore_ascii_case(&name)) else {
            let message =
                format!("clients may not set this header: allowed are {}", CLIENT_HEADERS.join(", "));
            return Err(ClientError::new(ErrorCode::BadData, message));
        };
        if checked.iter().any(|(name, _)| name == known) {
            let message = format!("the header `{known}` is given twice, and names ignore case: send it once");
            return Err(ClientError::new(ErrorCode::BadRequest, message));
        }
        if value.len() > 1024 || value.chars().any(char::is_control) {
            let message = format!("the value of `{known}` has control characters or more than 1024 bytes");
            return Err(ClientError::new(ErrorCode::BadData, message));
        }
        let value = match *known {
            // An empty id is no id.
            MESSAGE_ID if !value.is_empty() => {
                let user = if identity.anonymous { "" } else { identity.user_token() };
                format!("{user}|{value}")
            }
            _ => value,
        };
        checked.push(((*known).to_owned(), value));
    }
    if checked.iter().any(|(name, _)| name == TRACEPARENT || name == TRACESTATE) {
        TraceContext::replace(TraceContext::of(&checked).as_ref(), &mut checked);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::is_token_value;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn sent(user: &str, pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, ClientError> {
        let identity = Identity { user: user.into(), anonymous: user.is_empty(), ..Identity::default() };
        let own = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        check_headers(&identity, own.collect())
    }

    #[test]
    fn headers_are_written_one_way_whatever_the_case_in_which_they_come() {
        for name in CLIENT_HEADERS {
            for written in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                let value = if name == TRACEPARENT { PARENT } else { "" };
                let others: &[_] =
                    if name == TRACESTATE { &[(TRACEPARENT, PARENT), (&written, "a")] } else { &[] };
                let headers = if others.is_empty() { &[(&*written, value)][..] } else { others };
                let names: Vec<_> = sent("", headers).unwrap().into_iter().map(|(name, _)| name).collect();
                assert_eq!(names.last().map(String::as_str), Some(name), "{written}");
                let twice = sent("", &[(name, "1"), (&written, "1")]);
                assert_eq!(twice.unwrap_err().code, ErrorCode::BadRequest, "{name} {written}");
            }
        }
    }

    #[test]
    fn a_malformed_trace_context_is_left_out_and_is_no_mistake() {
        let others = [("Tidegate-Key".to_owned(), "k".to_owned())];
        for (parent, state) in [("00-1", "a=1"), ("", ""), (&*PARENT.to_ascii_uppercase(), "a=1")] {
            let headers = [("TraceParent", parent), ("tidegate-key", "k"), ("tracestate", state)];
            assert_eq!(sent("", &headers).unwrap(), others, "{parent} {state}");
        }
        assert_eq!(sent("", &[("tidegate-key", "k"), ("tracestate", "a=1")]).unwrap(), others);
        let long = "a".repeat(513);
        let kept = sent("", &[("tracestate", &long), ("traceparent", PARENT)]).unwrap();
        assert_eq!(kept, [(TRACEPARENT.to_owned(), PARENT.to_owned())]);
    }

    #[test]
    fn a_message_id_has_its_user_as_prefix_and_cannot_imitate_another_users() {
        let id = |user: &str, value: &str| sent(user, &[("nats-msg-id", value)]).unwrap().remove(0).1;
        assert_eq!(
            (id("alice", "7"), id("", "7"), id("alice", "")),
            ("alice|7".into(), "|7".into(), String::new())
        );
        assert_ne!(id("alice", "bob|7"), id("bob", "7"));
        assert!(!is_token_value("alice|bob"), "no user has one in its name");
    }
}
