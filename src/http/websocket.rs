//! The upgrade to WebSocket. An accepted handshake moves its raw socket to a connection on the shard. Most handshakes
//! take the fast path without hyper; hyper parses the rest.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
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
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::connection::ConnectionSetup;
use crate::connection::client_name::ClientName;
use crate::connection::transport::Transport;
use crate::connection::websocket::WebSocket;
use crate::http::bare_lf_guard::BareLfGuard;
use crate::http::connection_info::ConnectionInfo;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::evaluate::Accepted;
use crate::http::evaluate::ValidHandshake;
use crate::http::fast_path::FastPathRequest;
use crate::http::filters::Routes;
use crate::http::filters::query;
use crate::http::filters::request_version;
use crate::http::gate::Gate;
use crate::http::problem::Problem;
use crate::http::raw_response;
use crate::http::rejection_log::RejectedRequest;
use crate::http::request_id;
use crate::http::route_label;
use crate::http::socket_gate::RequestKind;
use crate::http::while_connected::while_connected;
use crate::net::peer::Peer;
use crate::net::stream::Stream;
use crate::node::connection_guard::ConnectionGuard;
use crate::node::connection_guard::SocketPermit;
use crate::node::permit::Permit;
use crate::node::slots::Slot;
use crate::node::user_slots::UserKey;
use crate::shard::NewConnection;
use crate::shard::handle::PendingTransport;
use crate::shard::handle::ShardRequest;

/// How long the server waits for a rejected client to read the response and close.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How much a rejected client may still send, in reads of 1 KiB.
const REJECTION_READS: usize = 64;

/// The socket of a handshake that arrived whole in the first read.
pub struct FastPathSocket {
    pub stream: Stream,
    pub peer: Peer,
    pub permit: Permit,
    /// When it was accepted.
    pub began: Instant,
}

/// Opens a connection for a handshake that arrived whole in the first read, without hyper. The response is sent
/// together with the first frames. `None` if it is rejected, or if the client goes before that is decided; hyper watches
/// its clients too.
pub async fn open_fast_path(
    gate: &Gate,
    endpoint: &Endpoint,
    first: FastPathRequest,
    bytes: Bytes,
    socket: FastPathSocket,
) -> Option<NewConnection> {
    let FastPathSocket { stream, peer, permit, began } = socket;
    let id = request_id::from_headers(&first.headers);
    let count = |status: StatusCode| {
        let route = route_label::of(gate, first.target.path());
        gate.node.counts.requests.count(route, Method::GET.as_str(), status.as_u16());
    };
    let (request, mut early) = (first.handshake_request(peer), Vec::new());
    let admitted = {
        let admission = pin!(admit_handshake(gate, endpoint, &request, &id));
        while_connected(&stream, &mut early, admission).await
    };
    let Some(admitted) = admitted else {
        debug!("client has gone during its handshake");
        return None;
    };
    match admitted {
        Ok((
            Accepted { mut answer, vocabulary, encoding, identity, origin },
            user_slot,
            connection_permit,
        )) => {
            count(answer.status());
            let client_address = gate.trusted_proxies.client_address(peer, &first.headers);
            let request = request_id::as_str(&id).into();
            answer.headers_mut().insert(request_id::NAME, id);
            if let Some(hsts) = &gate.hsts {
                answer.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
            }
            let read = [&bytes[first.length..], &early].concat().into();
            let websocket = WebSocket::new(
                stream,
                Some(raw_response::switching_protocols(&answer)),
                read,
                encoding.deflate.is_some(),
            );
            let setup = ConnectionSetup {
                client_address,
                client_name: client_name(&first.headers, first.target.query()),
                request,
                dialect: vocabulary.dialect(),
                policy: Arc::clone(endpoint.policy_for(&vocabulary)),
                encoding,
                identity,
                guard: ConnectionGuard::new(
                    SocketPermit::Owned(permit),
                    connection_permit,
                    origin,
                    user_slot,
                ),
                began,
            };
            Some(NewConnection { transport: Transport::WebSocket(websocket), setup })
        }
        Err(problem) => {
            count(problem.status);
            drop((first, bytes));
            Box::pin(send_rejection(stream, raw_response::error(problem, id, gate.hsts.as_ref()))).await;
            None
        }
    }
}

/// What the client says of itself.
fn client_name(headers: &HeaderMap, query: Option<&str>) -> ClientName {
    ClientName::new(headers.get(header::USER_AGENT).map(HeaderValue::as_bytes), query)
}

/// Admits, authenticates and counts a client. `check` may refuse a valid handshake before its credential is used.
pub async fn admit(
    gate: &Gate,
    endpoint: &Endpoint,
    handshake_request: &HandshakeRequest<'_>,
    check: impl FnOnce(&ValidHandshake) -> Result<(), Problem>,
) -> Result<(Accepted, Option<Slot<UserKey>>, Permit), Problem> {
    let HandshakeRequest { peer, headers, is_first, .. } = *handshake_request;
    let connection_permit = gate.admit(peer, headers, RequestKind::handshake(is_first)).await?;
    let accepted = gate.evaluate(endpoint, handshake_request, SystemTime::now(), check).await?;
    // Where users have one connection, it replaces the earlier one when it starts, and needs no slot.
    let counted = accepted.identity.as_deref().filter(|_| endpoint.policy.one_connection_at.is_none());
    let user_slot = gate.acquire_user_slot(counted).await?;
    Ok((accepted, user_slot, connection_permit))
}

/// The same for a handshake, with hyper or without. Logs a rejection.
async fn admit_handshake(
    gate: &Gate,
    endpoint: &Endpoint,
    handshake_request: &HandshakeRequest<'_>,
    id: &HeaderValue,
) -> Result<(Accepted, Option<Slot<UserKey>>, Permit), Problem> {
    admit(gate, endpoint, handshake_request, |_| Ok(())).await.inspect_err(|problem| {
        let HandshakeRequest { headers, peer, .. } = *handshake_request;
        let (what, handshake) = ("handshake", Some(handshake_request));
        RejectedRequest { what, endpoint, peer, headers, handshake, id }.log(problem, gate);
    })
}

/// Sends the response and reads until the client closes. Closing with unread bytes would send a reset, and the client
/// could lose the response.
pub async fn send_rejection(stream: Stream, answer: Bytes) {
    // One write is enough: the send buffer is empty, and the response is short.
    if stream.try_write(&answer).is_err() {
        return;
    }
    stream.shutdown();
    let until_closed = async {
        for _ in 0..REJECTION_READS {
            stream.readable().await;
            match stream.try_read(&mut [0; 1024]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = timeout(REJECTION_TIMEOUT, until_closed).await;
}

/// The route of all endpoints, for handshakes that hyper has parsed.
pub fn route(gate: Arc<Gate>) -> Routes {
    let chooser = Arc::clone(&gate);
    let here =
        warp::path::full().and(warp::header::headers_cloned()).and_then(
            move |path: FullPath, headers: HeaderMap| {
                let endpoint = chooser.endpoint(path.as_str(), &headers).cloned();
                async move {
                    endpoint.map(|endpoint| (endpoint, path, headers)).ok_or_else(warp::reject::not_found)
                }
            },
        );
    here.untuple_one()
        .and(query())
        .and(warp::method())
        .and(request_version())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(move |endpoint, path, headers, query, method, version, upgrade, connection| {
            let request = UpgradeRequest { path, query, method, version, headers, upgrade, connection };
            let gate = Arc::clone(&gate);
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
    let ConnectionInfo { peer, ref request_id, is_first, .. } = connection;
    let (path, query) = (path.as_str(), query.as_deref());
    let handshake_request =
        HandshakeRequest { method: &method, version, path, query, headers: &headers, peer, is_first };
    let (Accepted { answer, vocabulary, encoding, identity, origin }, user_slot, connection_permit) =
        admit_handshake(gate, endpoint, &handshake_request, request_id).await?;
    let client_address = gate.trusted_proxies.client_address(peer, &headers);
    let Some(upgrade) = upgrade else {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_upgrade",
            "this connection cannot be upgraded",
        ));
    };
    let setup = ConnectionSetup {
        client_address,
        client_name: client_name(&headers, query),
        request: request_id::as_str(request_id).into(),
        dialect: vocabulary.dialect(),
        policy: Arc::clone(endpoint.policy_for(&vocabulary)),
        encoding,
        identity,
        guard: ConnectionGuard::new(
            SocketPermit::Shared(connection.permit()),
            connection_permit,
            origin,
            user_slot,
        ),
        began: connection.began,
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

/// Takes the socket back from hyper, with the bytes that hyper has read after the request. They are copied, because
/// they are part of a larger buffer, which would otherwise live as long as the socket.
async fn raw_stream(upgrade: OnUpgrade) -> Option<(Stream, Bytes)> {
    let upgraded = upgrade.await.map_err(|error| debug!(%error, "upgrade failed")).ok()?;
    let parts = upgraded.downcast::<TokioIo<BareLfGuard>>().ok()?;
    let (stream, pending) = parts.io.into_inner().into_parts();
    Some((stream, [&parts.read_buf[..], &pending].concat().into()))
}
