//! Server-Sent Events: `GET /sse?channel=…` subscribes to these channels and streams the messages of the native
//! protocol. An experiment, behind the Cargo feature `event-stream`.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::native::Native;
use tidegate_protocol::url;
use warp::Filter;
use warp::Rejection;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::auth::policy::Via;
use crate::connection::ConnectionSetup;
use crate::connection::client_name::ClientName;
use crate::connection::event_stream::EventStream;
use crate::connection::transport::Transport;
use crate::http::authorization::authorization;
use crate::http::authorization::credentials;
use crate::http::client_facts::Requester;
use crate::http::connection_info::ConnectionInfo;
use crate::http::cors;
use crate::http::endpoint::Endpoint;
use crate::http::filters::Routes;
use crate::http::filters::query;
use crate::http::gate::Gate;
use crate::http::origin::Sender;
use crate::http::presented::PresentedCredential;
use crate::http::problem::Problem;
use crate::http::rejection_log::RejectedRequest;
use crate::http::request_id;
use crate::http::socket_gate::RequestKind;
use crate::node::connection_guard::ConnectionGuard;
use crate::node::connection_guard::SocketPermit;
use crate::shard::handle::PendingTransport;
use crate::shard::handle::ShardRequest;

/// The most channels of one stream.
const MAX_CHANNELS: usize = 64;

/// The route `/sse`. The endpoint's policy decides who may connect.
pub fn route(endpoint: Endpoint, gate: Arc<Gate>) -> Routes {
    let endpoint = Arc::new(endpoint);
    let here = warp::path("sse").and(warp::path::end()).and(warp::get());
    here.and(query())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(move |query: Option<String>, headers: HeaderMap, connection: ConnectionInfo| {
            let (endpoint, gate) = (Arc::clone(&endpoint), Arc::clone(&gate));
            async move {
                let query = query.as_deref().unwrap_or_default();
                let answer = open(query, &headers, &connection, &endpoint, &gate).await;
                if let Err(problem) = &answer {
                    let (what, headers, endpoint, peer) = ("stream", &headers, &*endpoint, connection.peer);
                    RejectedRequest {
                        what,
                        endpoint,
                        peer,
                        headers,
                        handshake: None,
                        id: &connection.request_id,
                    }
                    .log(problem, &gate);
                }
                let mut answer = answer.unwrap_or_else(Reply::into_response);
                cors::apply(&endpoint.origins, &headers, &mut answer);
                Ok::<_, Rejection>(answer)
            }
        })
        .boxed()
}

async fn open(
    query: &str,
    headers: &HeaderMap,
    connection: &ConnectionInfo,
    endpoint: &Endpoint,
    gate: &Gate,
) -> Result<Response, Problem> {
    let subscribe = subscribe(query)?;
    let kind = RequestKind::handshake(connection.is_first);
    let connection_permit = gate.admit(connection.peer, headers, kind).await?;
    let sender = endpoint.origins.decide(headers)?;
    let now = SystemTime::now();
    let credential = credential(query, endpoint, &sender, headers)?;
    let requester = Requester { policy: &endpoint.origins, sender: &sender, headers, peer: connection.peer };
    let identity = gate.identify(endpoint, Via::Socket, None, credential.as_ref(), &requester, now).await?;
    let Some(identity) = identity else {
        let detail = "this stream needs a credential: the header `Authorization: Bearer <token>`, or `?ticket=<ticket>`";
        return Err(Problem::unauthorized(detail));
    };
    let origin = gate.count_origin(&sender)?;
    let user_slot = gate.acquire_user_slot(Some(&identity)).await?;
    let setup = ConnectionSetup {
        client_address: gate.trusted_proxies.client_address(connection.peer, headers),
        client_name: ClientName::new(headers.get(header::USER_AGENT).map(HeaderValue::as_bytes), Some(query)),
        request: request_id::as_str(&connection.request_id).into(),
        dialect: Arc::new(Native),
        policy: Arc::clone(&endpoint.policy),
        encoding: Encoding::JSON,
        identity: Some(identity),
        guard: ConnectionGuard::new(
            SocketPermit::Shared(connection.permit()),
            connection_permit,
            origin,
            user_slot,
        ),
        began: connection.began,
    };
    let (stream, body) = EventStream::new(vec![subscribe]);
    let transport = Transport::EventStream(Box::new(stream));
    let transport = PendingTransport(Box::pin(std::future::ready(Some(transport))));
    connection
        .shard
        .try_send(ShardRequest::Connect { transport, setup: Box::new(setup) })
        .map_err(|_| Problem::overloaded())?;
    let mut answer = warp::reply::stream(body).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Without it nginx buffers the stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(answer)
}

/// The credential of the request. A browser's `EventSource` sends no header: its page has a ticket or a cookie.
fn credential(
    query: &str,
    endpoint: &Endpoint,
    sender: &Sender,
    headers: &HeaderMap,
) -> Result<Option<PresentedCredential>, Problem> {
    let authorization = authorization(headers)?;
    let in_headers = PresentedCredential::in_headers(&credentials(authorization, std::iter::empty(), &[])?);
    match in_headers.or_else(|| PresentedCredential::ticket_in_query(None, Some(query))) {
        Some(explicit) => Ok(Some(explicit)),
        None => PresentedCredential::in_cookie(&endpoint.origins, sender, headers),
    }
}

/// The `subscribe` message of the native protocol for this query.
fn subscribe(query: &str) -> Result<ClientMessage, Problem> {
    let channels: Vec<_> = url::query_values(query, "channel").collect();
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail);
    if channels.is_empty() {
        return Err(bad("the query has no channel: use /sse?channel=prices.AAPL&channel=prices.MSFT"));
    }
    if channels.len() > MAX_CHANNELS {
        return Err(bad("a stream has at most 64 channels: open several streams, or a WebSocket"));
    }
    Ok(ClientMessage::Text(json!({ "type": "subscribe", "channels": channels }).to_string()))
}
