//! `GET /v1/preflight`: answers as a handshake with the same credential would be answered. A page cannot read the answer
//! to a rejected handshake, but it can read this one.

use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::url;
use warp::Filter;
use warp::Rejection;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::Uri;
use warp::http::Version;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::connection_info::ConnectionInfo;
use crate::http::cors;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::filters::Routes;
use crate::http::filters::query;
use crate::http::gate::Gate;
use crate::http::presented::PresentedCredential;
use crate::http::problem::Problem;
use crate::http::problem::too_many_calls;
use crate::http::websocket;

/// The query parameters: the path of the WebSocket, perhaps with a query of its own, and the subprotocols to offer,
/// separated by commas.
const PATH: &str = "path";
const PROTOCOLS: &str = "protocols";

/// Any key will do: no one connects.
const KEY: HeaderValue = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");

/// The route of one listener.
pub fn route(gate: Arc<Gate>) -> Routes {
    warp::path!("v1" / "preflight")
        .and(warp::header::headers_cloned())
        .and(query())
        .and(warp::method())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(move |headers: HeaderMap, query: Option<String>, method: Method, connection| {
            let gate = Arc::clone(&gate);
            async move {
                let preflighted = PreflightedHandshake::parse(query.as_deref(), &headers);
                let found = preflighted.as_ref().ok();
                let endpoint = found.and_then(|found| gate.endpoint(found.target.path(), &found.headers));
                let answer = match (preflighted, endpoint) {
                    (Ok(preflighted), Some(endpoint)) => {
                        preflighted.answer(&method, &connection, endpoint, &gate).await
                    }
                    (Ok(_), None) => Err(no_endpoint()),
                    (Err(problem), _) => Err(problem),
                };
                let mut answer = answer.unwrap_or_else(Reply::into_response);
                answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                if let Some(endpoint) = endpoint {
                    cors::apply(&endpoint.origins, &headers, &mut answer);
                }
                Ok::<_, Rejection>(answer)
            }
        })
        .boxed()
}

/// The handshake that a call asks about.
struct PreflightedHandshake {
    /// Path and query.
    target: Uri,
    /// The headers of the call, and those that a browser adds to a handshake.
    headers: HeaderMap,
}

impl PreflightedHandshake {
    fn parse(query: Option<&str>, headers: &HeaderMap) -> Result<Self, Problem> {
        let target = query.and_then(target).ok_or_else(|| {
            bad_request(
                "say where the client connects: `/v1/preflight?path=/ws`, with the path percent-encoded",
            )
        })?;
        let mut headers = headers.clone();
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(header::SEC_WEBSOCKET_KEY, KEY);
        if let Some(protocols) = query.and_then(|query| url::query_value(query, PROTOCOLS)) {
            let protocols = HeaderValue::try_from(&*protocols)
                .map_err(|_| bad_request("`protocols` has characters that no subprotocol has"))?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
        }
        Ok(Self { target, headers })
    }

    async fn answer(
        &self,
        method: &Method,
        connection: &ConnectionInfo,
        endpoint: &Endpoint,
        gate: &Gate,
    ) -> Result<Response, Problem> {
        let Self { target, headers } = self;
        if method == Method::OPTIONS {
            return cors::preflight(&endpoint.origins, headers, &[]);
        }
        if method != Method::GET {
            let detail = "use GET to ask for the answer to a handshake";
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
            return Err(problem.with_header(header::ALLOW, "GET, OPTIONS"));
        }
        let ConnectionInfo { peer, ref request_id, .. } = *connection;
        let call_limiter = &gate.node.call_limiter;
        let address = call_limiter.by_address(gate.trusted_proxies.client(peer, headers));
        call_limiter.charge(address, 1, Instant::now()).map_err(|wait| too_many_calls(address, wait))?;
        let handshake_request = HandshakeRequest {
            method,
            version: Version::HTTP_11,
            path: target.path(),
            query: target.query(),
            headers,
            peer,
            is_first: false,
        };
        let vocabulary = endpoint.bind(&handshake_request)?;
        if PresentedCredential::ticket_in_query(Some(&vocabulary), target.query()).is_some() {
            return Err(bad_request(
                "a ticket is for one connect, and this call would use it up: send the token in `Authorization`",
            ));
        }
        // What it takes is free again at once.
        websocket::admit(gate, endpoint, &handshake_request, request_id, "preflight").await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

/// The path and query of the handshake.
fn target(query: &str) -> Option<Uri> {
    let target = Uri::try_from(url::query_value(query, PATH)?).ok()?;
    (target.authority().is_none() && target.path().starts_with('/')).then_some(target)
}

fn bad_request(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
}

fn no_endpoint() -> Problem {
    let detail = "this node serves no WebSocket at the path in `path`: check the URL";
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}
