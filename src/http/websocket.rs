//! The upgrade: handshake, credential, subprotocol; then the raw socket goes to its shard.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::debug;
use warp::Filter;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::Version;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::auth::AuthError;
use crate::auth::Authenticator;
use crate::auth::credential;
use crate::auth::credential::Credential;
use crate::connection::Opening;
use crate::http::ConnectionInfo;
use crate::http::Routes;
use crate::http::error::Problem;
use crate::http::extensions;
use crate::http::extensions::Agreed;
use crate::http::extensions::Compression;
use crate::http::handshake;
use crate::http::health::Readiness;
use crate::http::strict::Strict;
use crate::protocol::frame::Encoding;
use crate::protocol::identity::Identity;
use crate::protocol::vocabulary::Vocabulary;
use crate::shard::handle::Call;
use crate::shard::handle::Upgrade;

/// One endpoint's route.
pub fn route(
    path: String,
    vocabulary: Vocabulary,
    compression: Compression,
    authenticator: Arc<Authenticator>,
    readiness: Readiness,
) -> Routes {
    let here = warp::path::full().and_then(move |full: warp::path::FullPath| {
        let here = full.as_str() == path;
        async move { if here { Ok(()) } else { Err(warp::reject::not_found()) } }
    });
    here.untuple_one()
        .and(warp::method())
        .and(request_version())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::get::<ConnectionInfo>())
        .map(move |method, version, headers, upgrade, connection| {
            let request = Request { method, version, headers, upgrade, connection };
            open(request, vocabulary, compression, &authenticator, &readiness)
                .unwrap_or_else(Reply::into_response)
        })
        .boxed()
}

struct Request {
    method: Method,
    version: Version,
    headers: HeaderMap,
    upgrade: Option<OnUpgrade>,
    connection: ConnectionInfo,
}

/// warp has no filter for the version, so the service that wraps it leaves it in the request's extensions.
fn request_version() -> impl Filter<Extract = (Version,), Error = warp::Rejection> + Copy {
    warp::ext::get::<Version>()
}

fn open(
    request: Request,
    vocabulary: Vocabulary,
    compression: Compression,
    authenticator: &Authenticator,
    readiness: &Readiness,
) -> Result<Response, Problem> {
    let Request { method, version, headers, upgrade, connection } = request;
    let key = handshake::key(&method, version, &headers)?;
    if readiness.is_draining() {
        return Err(Problem::busy("this node is about to end: connect to another"));
    }
    let authorization = headers.get(header::AUTHORIZATION).map(header::HeaderValue::to_str);
    let authorization = authorization.transpose().map_err(|_| unreadable("Authorization"))?;
    let protocols: Result<Vec<_>, _> =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().map(header::HeaderValue::to_str).collect();
    let protocols = protocols.map_err(|_| unreadable("Sec-WebSocket-Protocol"))?;
    let presented = credential::from_handshake(authorization, protocols.into_iter())
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_credential", error.to_string()))?;
    let subprotocol = handshake::subprotocol(&presented.subprotocols, vocabulary)?;
    let agreed = extensions::negotiate(&headers, compression)?;
    let identity = identify(presented.credential.as_ref(), authenticator)?;
    let Some(upgrade) = upgrade else {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_upgrade",
            "this connection cannot be upgraded",
        ));
    };
    let encoding = agreed.map_or(Encoding::JsonText, Agreed::encoding);
    let opening = Opening { vocabulary, encoding, identity, permit: connection.permit() };
    let upgrade = Upgrade(Box::pin(raw_stream(upgrade)));
    connection
        .shard
        .call(Call::Upgrade { upgrade, opening })
        .map_err(|_| Problem::busy("this node has too much to do: try again"))?;
    Ok(handshake::accept(key, subprotocol, agreed.and_then(Agreed::answer)))
}

fn unreadable(name: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "bad_header",
        format!("`{name}` has characters that no header may have"),
    )
}

fn identify(
    credential: Option<&Credential>,
    authenticator: &Authenticator,
) -> Result<Option<Arc<Identity>>, Problem> {
    let Some(Credential::Token(token)) = credential else {
        return Ok(authenticator.anonymous());
    };
    let identity = authenticator.authenticate(token.expose(), SystemTime::now());
    identity.map(Some).map_err(|error| unauthorized(&error))
}

fn unauthorized(error: &AuthError) -> Problem {
    debug!(reason = error.reason(), "credential refused");
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{}\"", error.reason());
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_token", error.to_string())
        .with_header(header::WWW_AUTHENTICATE, &challenge)
}

/// The socket itself, out of hyper's hands. What hyper had read behind the request is copied, because it is a part
/// of a buffer that would otherwise live as long as the socket.
async fn raw_stream(upgrade: OnUpgrade) -> Option<(TcpStream, Bytes)> {
    let upgraded = upgrade.await.map_err(|error| debug!(%error, "upgrade failed")).ok()?;
    let parts = upgraded.downcast::<TokioIo<Strict>>().ok()?;
    let (stream, held) = parts.io.into_inner().into_parts();
    Some((stream, [&parts.read_buf[..], &held].concat().into()))
}
