//! The change of a user that a call asks for, and its answer.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::url;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::auth::Authenticator;
use crate::connection::auditing::CallRecord;
use crate::connection::user_change::UserAction;
use crate::connection::user_change::UserChange;
use crate::http::calls::json_answer;
use crate::http::calls::refused;
use crate::http::connection_info::ConnectionInfo;
use crate::http::problem::Problem;
use crate::node::Node;
use crate::shard::job::ChangeAuthor;
use crate::shard::job::ShardJob;
use crate::shard::job::UserChanged;

/// The most channels in one call.
const MAX_CHANNELS: usize = 100;

/// What the path asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserCallKind {
    Disconnect,
    Unsubscribe,
}

impl UserCallKind {
    /// The last segment of the path.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "disconnect" => Some(Self::Disconnect),
            "unsubscribe" => Some(Self::Unsubscribe),
            _ => None,
        }
    }
}

/// Makes the change that path and body ask for on all nodes, and answers with how many sessions it has reached. `user` is
/// not decoded, and `by` is the caller. What was done is logged and recorded where it is done: a caller may go before the
/// answer.
pub async fn change_user(
    (kind, user): (UserCallKind, &str),
    body: Option<&str>,
    (by, node): (CallRecord, &Node),
    connection: &ConnectionInfo,
) -> Result<Response, Problem> {
    let change = user_change(kind, user, body, &node.authenticator())?;
    let by = Box::new(ChangeAuthor { record: by, trace_id: connection.trace_id() });
    let changed = connection.shard.run(|answer| ShardJob::ChangeUser { change, by, answer }).await;
    let changed = changed.ok_or_else(Problem::overloaded)?.map_err(refused)?;
    let UserChanged { sessions, nodes, missing_nodes } = changed;
    let body = json!({ "sessions": sessions, "nodes": nodes, "missing_nodes": missing_nodes });
    Ok(json_answer(200, Some(body.to_string().into())))
}

/// The change that path and body ask for.
fn user_change(
    kind: UserCallKind,
    user: &str,
    body: Option<&str>,
    authenticator: &Authenticator,
) -> Result<UserChange, Problem> {
    let change = change_of(kind, user, body)?;
    authenticator.check_user(&change.user).map_err(|wrong| {
        let detail = format!("no user can have the name in the path: {wrong}");
        Problem::new(StatusCode::BAD_REQUEST, "bad_user", detail)
    })?;
    Ok(change)
}

fn change_of(kind: UserCallKind, user: &str, body: Option<&str>) -> Result<UserChange, Problem> {
    let user = url::decode(user).filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| {
        let detail = "the user in the path is not percent-encoded UTF-8";
        Problem::new(StatusCode::BAD_REQUEST, "bad_path", detail)
    })?;
    let body = match body.map(serde_json::from_str) {
        None => serde_json::Map::new(),
        Some(Ok(Value::Object(body))) => body,
        Some(Ok(_) | Err(_)) => return Err(bad("the body is not one JSON object")),
    };
    let (mut issuer, mut channels) = (None, None);
    for (name, value) in body {
        match (name.as_str(), kind) {
            ("issuer", _) => {
                let text = value.as_str().ok_or_else(|| bad("`issuer` must be a string"))?;
                issuer = Some(text.into());
            }
            ("channels", UserCallKind::Unsubscribe) => channels = Some(patterns(&value)?),
            (_, UserCallKind::Disconnect) => return Err(bad("the only member of the body is `issuer`")),
            (_, UserCallKind::Unsubscribe) => {
                return Err(bad("the members of the body are `channels` and `issuer`"));
            }
        }
    }
    let action = match kind {
        UserCallKind::Disconnect => UserAction::Disconnect,
        UserCallKind::Unsubscribe => UserAction::Unsubscribe(channels.ok_or_else(no_channels)?),
    };
    Ok(UserChange { user: user.into(), issuer, action })
}

fn patterns(value: &Value) -> Result<Arc<[Pattern]>, Problem> {
    let channels = value.as_array().filter(|channels| (1..=MAX_CHANNELS).contains(&channels.len()));
    let pattern = |channel: &Value| {
        let text = channel.as_str().ok_or_else(no_channels)?;
        Pattern::parse(text).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "bad_channel", format!("in `channels`: {error}"))
        })
    };
    channels.ok_or_else(no_channels)?.iter().map(pattern).collect()
}

fn no_channels() -> Problem {
    bad("`channels` must be an array of 1 to 100 channels or patterns")
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_body_name_a_change() {
        let disconnect = change_of(UserCallKind::Disconnect, "a%2Fb%40c", Some("{}")).unwrap();
        let expected = UserChange { user: "a/b@c".into(), issuer: None, action: UserAction::Disconnect };
        assert_eq!(disconnect, expected);
        assert_eq!(change_of(UserCallKind::Disconnect, "a%2Fb%40c", None).unwrap(), expected);
        let body = r#"{"channels":["a.*","b"],"issuer":"x"}"#;
        let patterns = ["a.*", "b"].map(|text| Pattern::parse(text).unwrap());
        let action = UserAction::Unsubscribe(patterns.to_vec().into());
        let expected = UserChange { user: "u".into(), issuer: Some("x".into()), action };
        assert_eq!(change_of(UserCallKind::Unsubscribe, "u", Some(body)).unwrap(), expected);
    }

    #[test]
    fn a_change_with_a_mistake_says_what_is_wrong() {
        let channels = |count: usize| json!({ "channels": vec!["a"; count] }).to_string();
        assert!(change_of(UserCallKind::Unsubscribe, "u", Some(&channels(MAX_CHANNELS))).is_ok());
        for (kind, user, body, code) in [
            (UserCallKind::Disconnect, "%ff", "{}", "bad_path"),
            (UserCallKind::Disconnect, "u", "[]", "bad_request"),
            (UserCallKind::Disconnect, "u", "{", "bad_request"),
            (UserCallKind::Disconnect, "u", r#"{"isuer":"x"}"#, "bad_request"),
            (UserCallKind::Disconnect, "u", r#"{"issuer":1}"#, "bad_request"),
            (UserCallKind::Disconnect, "u", r#"{"channels":["a"]}"#, "bad_request"),
            (UserCallKind::Unsubscribe, "u", "{}", "bad_request"),
            (UserCallKind::Unsubscribe, "u", &channels(0), "bad_request"),
            (UserCallKind::Unsubscribe, "u", &channels(MAX_CHANNELS + 1), "bad_request"),
            (UserCallKind::Unsubscribe, "u", r#"{"channels":[1]}"#, "bad_request"),
            (UserCallKind::Unsubscribe, "u", r#"{"channels":["a..b"]}"#, "bad_channel"),
        ] {
            assert_eq!(change_of(kind, user, Some(body)).unwrap_err().code, code, "{user} {body}");
        }
    }
}
