//! Changes by an operator: `POST /users/{user}/disconnect`, `POST /users/{user}/unsubscribe` and `POST /revoke`.

use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use serde_json::json;
use tidegate_protocol::identity::Identity;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::auth::Authenticator;
use crate::auth::revocation::message::RevocationMessage;
use crate::connection::auditing::CallRecord;
use crate::connection::client_address::ClientAddress;
use crate::http::admin::access::Admin;
use crate::http::calls::json_answer;
use crate::http::calls::read_body;
use crate::http::calls::refused;
use crate::http::connection_info::ConnectionInfo;
use crate::http::problem::Problem;
use crate::http::request_id;
use crate::http::user_change::UserCallKind;
use crate::http::user_change::change_user;
use crate::shard::job::ChangeAuthor;
use crate::shard::job::NodeRevocation;
use crate::shard::job::Revoked;
use crate::shard::job::ShardJob;

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
            Self::User(user, kind) => {
                let by = (record(operator, connection), &*admin.node);
                change_user((*kind, user), body, by, connection).await
            }
            Self::Revoke => {
                let message = revocation(body.unwrap_or_default(), &admin.node.authenticator())?;
                revoke(message, record(operator, connection), connection).await
            }
        }
    }
}

/// Who changes something, for the audit feed. No proxy is trusted here.
fn record(operator: Arc<Identity>, connection: &ConnectionInfo) -> CallRecord {
    CallRecord {
        identity: operator,
        endpoint: "admin".into(),
        client_address: ClientAddress { peer: connection.peer, forwarded: None },
        request: request_id::as_str(&connection.request_id).into(),
    }
}

/// What the body revokes, in the words of a message on `tidegate.revoke`.
fn revocation(body: &str, authenticator: &Authenticator) -> Result<Box<RevocationMessage>, Problem> {
    let mut message = RevocationMessage::parse(body.as_bytes()).map_err(bad_request)?;
    message.target.complete(authenticator.issuer_configs()).map_err(bad_request)?;
    Ok(Box::new(message))
}

fn bad_request(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
}

/// Revokes on all nodes, and answers what each of them has done. That is logged and recorded where it is done.
async fn revoke(
    message: Box<RevocationMessage>,
    by: CallRecord,
    connection: &ConnectionInfo,
) -> Result<Response, Problem> {
    let by = Box::new(ChangeAuthor { record: by, trace_id: connection.trace_id() });
    let revoked = connection.shard.run(|answer| ShardJob::Revoke { message, by, answer }).await;
    revoked_answer(&revoked.ok_or_else(Problem::overloaded)?.map_err(refused)?)
}

/// What each node has done. An error if all nodes have refused it.
fn revoked_answer(revoked: &Revoked) -> Result<Response, Problem> {
    let Revoked { nodes: results, missing_nodes } = revoked;
    let (nodes, connections) = revoked.accepted();
    if nodes == 0 {
        let error = results.iter().find_map(|node| node.outcome.as_ref().err());
        return Err(bad_request(error.cloned().unwrap_or_default()));
    }
    let result = |NodeRevocation { node, outcome, kept_in }: &NodeRevocation| match outcome {
        Ok(connections) => json!({ "node": node, "connections": connections, "kept_in": kept_in }),
        Err(error) => json!({ "node": node, "error": error }),
    };
    let body = json!({
        "connections": connections,
        "nodes": nodes,
        "missing_nodes": missing_nodes,
        "refused_nodes": results.len() - nodes,
        "results": results.iter().map(result).collect::<Vec<_>>(),
    });
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
