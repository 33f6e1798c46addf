//! `POST /v1/users/{user}/disconnect` and `.../unsubscribe`: a backend ends sessions or subscriptions of a user, on all nodes.

use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use warp::Filter;
use warp::Rejection;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::http::calls::read_body;
use crate::http::connection_info::ConnectionInfo;
use crate::http::filters::Routes;
use crate::http::filters::headers_unless_upgrade;
use crate::http::gate::Gate;
use crate::http::native_call::NativeCall;
use crate::http::problem::Problem;
use crate::http::user_change::UserCallKind;
use crate::http::user_change::change_user;

/// The route of one listener.
pub fn route(gate: Arc<Gate>) -> Routes {
    let path = warp::path!("v1" / "users" / String / String).and_then(|user, kind: String| async move {
        UserCallKind::of(&kind).map(|kind| (user, kind)).ok_or_else(warp::reject::not_found)
    });
    path.untuple_one()
        .and(headers_unless_upgrade())
        .and(warp::method())
        .and(warp::body::stream())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(move |user: String, kind, headers: HeaderMap, method: Method, body, connection| {
            let gate = Arc::clone(&gate);
            async move {
                let call = NativeCall { what: "user call", method, headers, connection, own_headers: &[] };
                let answer = call.answer(&gate, answer(&call, kind, &user, body, &gate)).await;
                Ok::<_, Rejection>(answer)
            }
        })
        .boxed()
}

async fn answer<S, B>(
    call: &NativeCall,
    kind: UserCallKind,
    user: &str,
    body: S,
    gate: &Gate,
) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>> + Send,
    B: Buf + Send,
{
    let accepted = call.accept(gate).await?;
    if !accepted.identity.permissions.control {
        let detail =
            "the roles of this credential may not change other users: use one of a role with control = true";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).with_reason("no_control"));
    }
    let body = read_body(body, gate.limits.max_body, gate.limits.handshake_timeout).await?;
    let by = (accepted.record, &*gate.node);
    change_user((kind, user), body.as_deref(), by, &call.connection).await
}
