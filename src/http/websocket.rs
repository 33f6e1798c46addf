//! The upgrade: a handshake that is answered takes the raw socket to its shard, from hyper's hands or never in them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tracing::debug;
use warp::Filter;
use warp::Rejection;
use warp::filters::path::FullPath;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::Version;
use warp::reply::Reply;
use warp::reply::Response;

use crate::connection::ConnectionSetup;
use crate::connection::transport::Transport;
use crate::connection::websocket::WebSocket;
use crate::http::bare_lf_guard::BareLfGuard;
use crate::http::connection_info::ConnectionInfo;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::error::Problem;
use crate::http::evaluate::Accepted;
use crate::http::fast_path::FastPathRequest;
use crate::http::filters::Routes;
use crate::http::filters::query;
use crate::http::filters::request_version;
use crate::http::gate::Gate;
use crate::http::refusals::Refused;
use crate::http::request_id;
use crate::http::wire;
use crate::net::stream::Stream;
use crate::node::guard::ConnectionGuard;
use crate::node::permit::Permit;
use crate::node::slots::Slot;
use crate::node::users::UserKey;
use crate::shard::NewConnection;
use crate::shard::handle::PendingTransport;
use crate::shard::handle::ShardRequest;

/// How long a client that was refused has to read why.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What it may still send, in reads of 1 KiB.
const LAST_READS: usize = 64;

/// A handshake that came whole, as the first thing on its socket: without hyper. The answer goes out with the first frames.
pub async fn open_first(
    gate: &Gate,
    endpoint: &Endpoint,
    first: FastPathRequest,
    bytes: Bytes,
    (stream, peer): (Stream, SocketAddr),
    permit: Permit,
) -> Option<NewConnection> {
    let id = request_id::of(&first.headers);
    match enter(gate, endpoint, &first.handshake_request(peer), &id).await {
        Ok((Accepted { mut answer, vocabulary, encoding, identity }, seat, place)) => {
            let client_address = gate.proxies.client_address(peer, &first.headers);
            let request = request_id::text(&id).into();
            answer.headers_mut().insert(request_id::NAME, id);
            let read = Bytes::copy_from_slice(&bytes[first.length..]);
            let websocket =
                WebSocket::new(stream, Some(wire::switching(&answer)), read, encoding.deflate.is_some());
            let setup = ConnectionSetup {
                client_address,
                request,
                dialect: vocabulary.dialect(),
                policy: Arc::clone(&endpoint.policy),
                encoding,
                identity,
                guard: ConnectionGuard::new(Arc::new(permit), place, seat),
            };
            Some(NewConnection { transport: Transport::WebSocket(websocket), setup })
        }
        Err(problem) => {
            drop((first, bytes));
            refuse(stream, wire::refusal(problem, id)).await;
            None
        }
    }
}

/// Lets somebody in, on either way, or says in the log why not.
async fn enter(
    gate: &Gate,
    endpoint: &Endpoint,
    handshake_request: &HandshakeRequest<'_>,
    id: &HeaderValue,
) -> Result<(Accepted, Option<Slot<UserKey>>, Permit), Problem> {
    let entered = async {
        let place = gate.admit().await?;
        let accepted = gate.evaluate(endpoint, handshake_request, SystemTime::now()).await?;
        let seat = gate.user_seat(accepted.identity.as_deref()).await?;
        Ok((accepted, seat, place))
    };
    entered.await.inspect_err(|problem: &Problem| {
        let HandshakeRequest { headers, peer, .. } = *handshake_request;
        Refused { what: "handshake", endpoint, peer, headers, handshake: Some(handshake_request), id }
            .log(problem, gate);
    })
}

/// Says why, and lets the client read it: to close with something unread would be a reset, which takes back what was
/// sent.
async fn refuse(stream: Stream, answer: Bytes) {
    // The send buffer is empty, and a refusal is short.
    if stream.try_write(&answer).is_err() {
        return;
    }
    stream.shutdown();
    let until_closed = async {
        for _ in 0..LAST_READS {
            stream.readable().await;
            match stream.try_read(&mut [0; 1024]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = timeout(LAST_WORDS, until_closed).await;
}

/// One endpoint's route, for handshakes that hyper has read.
pub fn route(endpoint: Endpoint, gate: Arc<Gate>) -> Routes {
    let endpoint = Arc::new(endpoint);
    let known = Arc::clone(&endpoint);
    let here = warp::path::full().and_then(move |full: FullPath| {
        let here = known.is_at(full.as_str());
        async move { if here { Ok(full) } else { Err(warp::reject::not_found()) } }
    });
    here.and(query())
        .and(warp::method())
        .and(request_version())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(move |path, query, method, version, headers, upgrade, connection| {
            let request = UpgradeRequest { path, query, method, version, headers, upgrade, connection };
            let (endpoint, gate) = (Arc::clone(&endpoint), Arc::clone(&gate));
            async move {
                let answer = open(request, &endpoint, &gate).await.unwrap_or_else(Reply::into_response);
                Ok::<_, Rejection>(answer)
            }
        })
        .boxed()
}

struct UpgradeRequest {
    path: FullPath,
    query: Option<String>,
    method: Method,
    version: Version,
    headers: HeaderMap,
    upgrade: Option<OnUpgrade>,
    connection: ConnectionInfo,
}

async fn open(request: UpgradeRequest, endpoint: &Endpoint, gate: &Gate) -> Result<Response, Problem> {
    let UpgradeRequest { path, query, method, version, headers, upgrade, connection } = request;
    let ConnectionInfo { peer, ref request_id, .. } = connection;
    let (path, query) = (path.as_str(), query.as_deref());
    let handshake_request =
        HandshakeRequest { method: &method, version, path, query, headers: &headers, peer };
    let (Accepted { answer, vocabulary, encoding, identity }, seat, place) =
        enter(gate, endpoint, &handshake_request, request_id).await?;
    let client_address = gate.proxies.client_address(peer, &headers);
    let Some(upgrade) = upgrade else {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_upgrade",
            "this connection cannot be upgraded",
        ));
    };
    let setup = ConnectionSetup {
        client_address,
        request: request_id::text(request_id).into(),
        dialect: vocabulary.dialect(),
        policy: Arc::clone(&endpoint.policy),
        encoding,
        identity,
        guard: ConnectionGuard::new(connection.permit(), place, seat),
    };
    let inflates = encoding.deflate.is_some();
    let transport = PendingTransport(Box::pin(async move {
        let (stream, read) = raw_stream(upgrade).await?;
        Some(Transport::WebSocket(WebSocket::new(stream, None, read, inflates)))
    }));
    connection
        .shard
        .try_send(ShardRequest::Connect { transport, setup: Box::new(setup) })
        .map_err(|_| Problem::overloaded())?;
    Ok(answer)
}

/// The socket itself, out of hyper's hands. What hyper had read behind the request is copied, because it is a part
/// of a buffer that would otherwise live as long as the socket.
async fn raw_stream(upgrade: OnUpgrade) -> Option<(Stream, Bytes)> {
    let upgraded = upgrade.await.map_err(|error| debug!(%error, "upgrade failed")).ok()?;
    let parts = upgraded.downcast::<TokioIo<BareLfGuard>>().ok()?;
    let (stream, held) = parts.io.into_inner().into_parts();
    Some((stream, [&parts.read_buf[..], &held].concat().into()))
}
