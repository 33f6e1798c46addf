//! What is checked of everything that a client names, whichever way it comes in: by a session or by an HTTP call.

use bytes::Bytes;

use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::permissions::Decision;
use crate::protocol::permissions::Denial;
use crate::protocol::permissions::Operation;
use crate::protocol::permissions::Permissions;
use crate::protocol::session::Settings;
use crate::protocol::subject::Pattern;
use crate::protocol::subject::Subject;

/// The headers that a client may put on what it publishes. Others steer NATS or belong to Tidegate.
pub const CLIENT_HEADERS: [&str; 5] =
    ["Nats-Msg-Id", "Tidegate-Key", "traceparent", "tracestate", "Content-Type"];

/// A channel as a pattern, within the limits of the node.
pub fn pattern(settings: &Settings, channel: &str) -> Result<Pattern, Refusal> {
    let pattern = Pattern::parse(channel).map_err(|error| bad_channel(&error))?;
    settings.subjects.check(&pattern).map_err(|error| bad_channel(&error))?;
    Ok(pattern)
}

/// A literal subject that is allowed, for data that fits.
pub fn writable(
    settings: &Settings,
    permissions: &Permissions,
    operation: Operation,
    channel: &str,
    data: &Bytes,
) -> Result<Subject, Refusal> {
    let pattern = pattern(settings, channel)?;
    let Some(subject) = pattern.as_subject() else {
        let words = "a message goes to one subject: wildcards are for subscribing";
        return Err(Refusal::new(ErrorCode::BadChannel, words));
    };
    permit(permissions, operation, &pattern)?;
    if data.len() > settings.publish_max {
        let words = format!("`data` has {} bytes: at most {} are taken", data.len(), settings.publish_max);
        return Err(Refusal::new(ErrorCode::BadData, words));
    }
    Ok(subject)
}

fn bad_channel(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(ErrorCode::BadChannel, error.to_string())
}

/// Whether somebody may do this there.
pub fn permit(permissions: &Permissions, operation: Operation, pattern: &Pattern) -> Result<(), Refusal> {
    match permissions.decide(operation, pattern) {
        Decision::Allowed { .. } => Ok(()),
        // Which rule forbids it is for `explain`, not for whoever is refused.
        Decision::Denied(Denial::Denied { .. } | Denial::NotAllowed) => {
            Err(Refusal::new(ErrorCode::Forbidden, "this identity may not do this on this channel"))
        }
        Decision::Denied(denial @ (Denial::System { .. } | Denial::SystemWildcard | Denial::NotLiteral)) => {
            Err(Refusal::new(ErrorCode::Forbidden, denial.to_string()))
        }
    }
}

/// Whether a client may send these headers.
pub fn headers(headers: &[(String, String)]) -> Result<(), Refusal> {
    for (name, value) in headers {
        if !CLIENT_HEADERS.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)) {
            let words = format!("this header is not for clients: allowed are {}", CLIENT_HEADERS.join(", "));
            return Err(Refusal::new(ErrorCode::BadData, words));
        }
        if value.len() > 1024 || value.chars().any(char::is_control) {
            let words = format!("the value of `{name}` has control characters or more than 1024 bytes");
            return Err(Refusal::new(ErrorCode::BadData, words));
        }
    }
    Ok(())
}
