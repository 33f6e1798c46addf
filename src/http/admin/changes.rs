//! Changes by an operator: `POST /users/{user}/disconnect`, `POST /users/{user}/unsubscribe` and `POST /revoke`.

use bytes::Buf;
use futures_util::Stream;
use serde_json::json;
use tidegate_protocol::identity::Identity;
use tracing::info;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::auth::revocation::message::RevocationMessage;
use crate::http::admin::access::Admin;
use crate::http::calls::json_answer;
use crate::http::calls::read_body;
use crate::http::calls::refused;
use crate::http::connection_info::ConnectionInfo;
use crate::http::problem::Problem;
use crate::http::request_id;
use crate::http::user_change::UserCallKind;
use crate::http::user_change::change_user;
use crate::shard::job::Revoked;
use crate::shard::job::ShardJob;
use crate::telemetry::limit::LogLimit;

static REVOKED: LogLimit = LogLimit::per_second(10);

/// What an operator changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AdminChange {
    /// The sessions of the user in the path, which is not decoded.
    User(String, UserCallKind),
    /// What is revoked is in the body.
    Revoke,
}

impl AdminChange {
    /// The change at this path.
    pub(super) fn at(path: &str) -> Option<Self> {
        if path == "/revoke" {
            return Some(Self::Revoke);
        }
        let (user, kind) = path.strip_prefix("/users/")?.split_once('/')?;
        Some(Self::User(user.to_owned(), UserCallKind::of(kind)?))
    }

    pub(super) async fn answer<S, B>(
        &self,
        admin: &Admin,
        headers: &HeaderMap,
        body: S,
        connection: &ConnectionInfo,
    ) -> Result<Response, Problem>
    where
        S: Stream<Item = Result<B, warp::Error>> + Send,
        B: Buf + Send,
    {
        let operator = admin.authorize_change(headers).await?;
        let body = read_body(body, admin.limits.max_body, admin.limits.handshake_timeout).await?;
        let body = body.as_deref();
        match self {
            Self::User(user, kind) => change_user((*kind, user), body, &operator, connection).await,
            Self::Revoke => revoke(body.unwrap_or_default(), &operator, connection).await,
        }
    }
}

/// Revokes what the body names, in the words of a message on `tidegate.revoke`.
async fn revoke(body: &str, operator: &Identity, connection: &ConnectionInfo) -> Result<Response, Problem> {
    let message = RevocationMessage::parse(body.as_bytes())
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_request", error))?;
    let target = message.target.to_string();
    let message = Box::new(message);
    let revoked = connection.shard.run(|answer| ShardJob::Revoke { message, answer }).await;
    let Revoked { connections, nodes } = revoked.ok_or_else(Problem::overloaded)?.map_err(refused)?;
    if let Some(suppressed) = REVOKED.pass() {
        info!(
            revoked = target,
            by = &*operator.user,
            connections,
            nodes,
            request = request_id::as_str(&connection.request_id),
            suppressed,
            "an operator has revoked over HTTP"
        );
    }
    let body = json!({ "connections": connections, "nodes": nodes });
    Ok(json_answer(200, Some(body.to_string().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_change() {
        let user = |kind| Some(AdminChange::User("a%2Fb".to_owned(), kind));
        assert_eq!(AdminChange::at("/users/a%2Fb/disconnect"), user(UserCallKind::Disconnect));
        assert_eq!(AdminChange::at("/users/a%2Fb/unsubscribe"), user(UserCallKind::Unsubscribe));
        assert_eq!(AdminChange::at("/revoke"), Some(AdminChange::Revoke));
        for other in ["/users/a", "/users/a/restart", "/users/a/b/disconnect", "/revoke/", "/metrics"] {
            assert_eq!(AdminChange::at(other), None, "{other}");
        }
    }
}
