//! What is checked of everything that a client names. Only a session can check it, whichever way the client comes in.

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
use crate::session::settings::Settings;
use crate::subject::Pattern;
use crate::subject::Subject;

/// The headers that a client may put on what it publishes. Others steer NATS or belong to Tidegate.
pub const CLIENT_HEADERS: [&str; 5] =
    [MESSAGE_ID, "Tidegate-Key", "traceparent", "tracestate", "Content-Type"];

/// By which JetStream knows a repetition.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// A channel as a pattern, within the limits of the node.
pub fn pattern(settings: &Settings, channel: &str) -> Result<Pattern, ClientError> {
    let pattern = Pattern::parse(channel).map_err(|error| bad_channel(&error))?;
    settings.subjects.check(&pattern).map_err(|error| bad_channel(&error))?;
    Ok(pattern)
}

/// A literal subject that is allowed, for data that fits.
pub(super) fn writable(
    settings: &Settings,
    permissions: &Permissions,
    operation: Operation,
    channel: &str,
    data: &Bytes,
) -> Result<Subject, ClientError> {
    let pattern = pattern(settings, channel)?;
    let Some(subject) = pattern.as_subject() else {
        let words = "a message goes to one subject: wildcards are for subscribing";
        return Err(ClientError::new(ErrorCode::BadChannel, words));
    };
    permit(permissions, operation, &pattern)?;
    if data.len() > settings.publish_max {
        let words = format!("`data` has {} bytes: at most {} are taken", data.len(), settings.publish_max);
        return Err(ClientError::new(ErrorCode::BadData, words));
    }
    if is_deep_json(data) {
        let words = format!("`data` has more than {MAX_DEPTH} levels of lists and objects");
        return Err(ClientError::new(ErrorCode::BadData, words));
    }
    Ok(subject)
}

fn bad_channel(error: &dyn std::error::Error) -> ClientError {
    ClientError::new(ErrorCode::BadChannel, error.to_string())
}

/// Whether somebody may do this there.
pub(super) fn permit(
    permissions: &Permissions,
    operation: Operation,
    pattern: &Pattern,
) -> Result<(), ClientError> {
    match permissions.decide(operation, pattern) {
        Decision::Allowed { .. } => Ok(()),
        // Which rule forbids it is for `explain`, not for whoever is refused.
        Decision::Denied(Denial::Denied { .. } | Denial::NotAllowed) => {
            Err(ClientError::new(ErrorCode::Forbidden, "this identity may not do this on this channel"))
        }
        Decision::Denied(denial @ (Denial::System { .. } | Denial::SystemWildcard | Denial::NotLiteral)) => {
            Err(ClientError::new(ErrorCode::Forbidden, denial.to_string()))
        }
    }
}

/// The headers that a client sends, as they go to NATS: in the spelling that NATS uses. A message id gets the user
/// name as a prefix, so that NATS never treats the message of one user as a duplicate of another's. No user name has a `|`.
pub(super) fn headers(
    identity: &Identity,
    headers: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, ClientError> {
    let mut checked: Vec<(String, String)> = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let Some(known) = CLIENT_HEADERS.iter().find(|allowed| allowed.eq_ignore_ascii_case(&name)) else {
            let words = format!("this header is not for clients: allowed are {}", CLIENT_HEADERS.join(", "));
            return Err(ClientError::new(ErrorCode::BadData, words));
        };
        if checked.iter().any(|(name, _)| name == known) {
            let words = format!("the header `{known}` is there twice, whatever the case: send it once");
            return Err(ClientError::new(ErrorCode::BadRequest, words));
        }
        if value.len() > 1024 || value.chars().any(char::is_control) {
            let words = format!("the value of `{known}` has control characters or more than 1024 bytes");
            return Err(ClientError::new(ErrorCode::BadData, words));
        }
        let value = match *known {
            // An empty one is none.
            MESSAGE_ID if !value.is_empty() => {
                let user = if identity.anonymous { "" } else { &identity.user };
                format!("{user}|{value}")
            }
            _ => value,
        };
        checked.push(((*known).to_owned(), value));
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::is_token_value;

    fn sent(user: &str, pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, ClientError> {
        let identity = Identity { user: user.into(), anonymous: user.is_empty(), ..Identity::default() };
        let own = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        headers(&identity, own.collect())
    }

    #[test]
    fn headers_are_written_one_way_whatever_the_case_in_which_they_come() {
        for name in CLIENT_HEADERS {
            for written in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                assert_eq!(sent("", &[(&written, "")]).unwrap(), [(name.to_owned(), String::new())]);
                let twice = sent("", &[(name, "1"), (&written, "1")]);
                assert_eq!(twice.unwrap_err().code, ErrorCode::BadRequest, "{name} {written}");
            }
        }
    }

    #[test]
    fn the_id_of_a_message_is_below_its_user_and_nobody_can_write_another_ones() {
        let id = |user: &str, value: &str| sent(user, &[("nats-msg-id", value)]).unwrap().remove(0).1;
        assert_eq!(
            (id("alice", "7"), id("", "7"), id("alice", "")),
            ("alice|7".into(), "|7".into(), String::new())
        );
        assert_ne!(id("alice", "bob|7"), id("bob", "7"));
        assert!(!is_token_value("alice|bob"), "no user has one in its name");
    }
}
