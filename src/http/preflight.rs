//! `/v1/preflight`: answers as a handshake with the same credential would be answered. A page cannot read the answer to a
//! rejected handshake, but it can read this one.

use std::sync::Arc;

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

use crate::auth::credential::BEARER_ITEM;
use crate::http::connection_info::ConnectionInfo;
use crate::http::cors;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::evaluate::ValidHandshake;
use crate::http::filters::Routes;
use crate::http::filters::headers_unless_upgrade;
use crate::http::filters::query;
use crate::http::gate::Gate;
use crate::http::handshake;
use crate::http::origin::Sender;
use crate::http::problem::Problem;
use crate::http::rejection_log::RejectedRequest;
use crate::http::ticket::policy_for;
use crate::http::websocket;

/// The query parameter with the path of the WebSocket, and its query if it has one.
const PATH: &str = "path";
/// The query parameter with the subprotocols that the page offers, separated by commas.
const PROTOCOLS: &str = "protocols";

/// Any key will do: no one connects.
const KEY: HeaderValue = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");

/// The route of one listener.
pub fn route(gate: Arc<Gate>) -> Routes {
    warp::path!("v1" / "preflight")
        .and(headers_unless_upgrade())
        .and(query())
        .and(warp::method())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(move |headers, query: Option<String>, method, connection| {
            let gate = Arc::clone(&gate);
            async move {
                let call = PreflightCall { method, headers, query: query.unwrap_or_default(), connection };
                Ok::<_, Rejection>(call.answer(&gate).await)
            }
        })
        .boxed()
}

struct PreflightCall {
    method: Method,
    headers: HeaderMap,
    query: String,
    connection: ConnectionInfo,
}

/// The handshake that a call asks about.
struct AskedHandshake {
    /// Path and query.
    target: Uri,
    /// The headers of the call, and those that a browser adds to a handshake.
    headers: HeaderMap,
}

impl PreflightCall {
    async fn answer(&self, gate: &Gate) -> Response {
        let asked = self.asked();
        let found = asked.as_ref().ok();
        let endpoint = found.and_then(|found| gate.endpoint(found.target.path(), &found.headers));
        let policy = endpoint.map(|endpoint| &*endpoint.origins).or_else(|| policy_for(gate, &self.headers));
        let answer = match (&self.method, policy, asked, endpoint) {
            (&Method::OPTIONS, Some(policy), ..) => cors::preflight(policy, &self.headers, &[]),
            (&Method::GET | &Method::POST, _, Ok(asked), Some(endpoint)) => {
                self.answer_for(&asked, endpoint, gate).await
            }
            (&Method::GET | &Method::POST, _, Ok(_), None) => Err(no_endpoint()),
            (&Method::GET | &Method::POST, _, Err(problem), _) => Err(problem),
            _ => Err(other_method()),
        };
        if let (Err(problem), Some(endpoint)) = (&answer, endpoint.or_else(|| gate.endpoints().next())) {
            let ConnectionInfo { peer, request_id: id, .. } = &self.connection;
            let (what, headers, peer) = ("preflight", &self.headers, *peer);
            RejectedRequest { what, endpoint, peer, headers, handshake: None, id }.log(problem, gate);
        }
        let mut answer = answer.unwrap_or_else(Reply::into_response);
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(policy) = policy {
            cors::apply(policy, &self.headers, &mut answer);
        }
        answer
    }

    fn asked(&self) -> Result<AskedHandshake, Problem> {
        let target = target(&self.query).ok_or_else(|| {
            bad_request(
                "say where the client connects: `/v1/preflight?path=/ws`, with the path percent-encoded",
            )
        })?;
        let mut headers = self.headers.clone();
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(header::SEC_WEBSOCKET_KEY, KEY);
        if let Some(protocols) = url::query_value(&self.query, PROTOCOLS) {
            let protocols = HeaderValue::try_from(&*protocols)
                .map_err(|_| bad_request("`protocols` has characters that no subprotocol has"))?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
            if handshake::offered_subprotocols(&headers).any(|item| item.starts_with(BEARER_ITEM)) {
                return Err(bad_request(
                    "a token does not belong in a URL: send it in `Authorization`, and leave it out of `protocols`",
                ));
            }
        }
        Ok(AskedHandshake { target, headers })
    }

    async fn answer_for(
        &self,
        AskedHandshake { target, headers }: &AskedHandshake,
        endpoint: &Endpoint,
        gate: &Gate,
    ) -> Result<Response, Problem> {
        // A browser sends `Origin` with each handshake, but not with such a GET: without it, the answer may be another.
        let lacks_origin = |sender: Sender| sender.is_same_origin() && sender.origin.page().is_none();
        if endpoint.origins.decide(headers).is_ok_and(lacks_origin) {
            return Err(bad_request(
                "use POST: with it, the browser sends the page's origin as in a handshake",
            ));
        }
        let ConnectionInfo { peer, is_first, .. } = self.connection;
        gate.charge_address(peer, headers)?;
        let handshake_request = HandshakeRequest {
            method: &Method::GET,
            version: Version::HTTP_11,
            path: target.path(),
            query: target.query(),
            headers,
            peer,
            is_first,
        };
        // What it takes is free again at once.
        websocket::admit(gate, endpoint, &handshake_request, refuse_ticket).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

/// Connecting uses a ticket up, and no one connects.
fn refuse_ticket(handshake: &ValidHandshake) -> Result<(), Problem> {
    if handshake.uses_ticket() {
        return Err(bad_request(
            "a ticket is for one connect, and this call would use it up: send the token in `Authorization`",
        ));
    }
    Ok(())
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

fn other_method() -> Problem {
    let detail = "use GET or POST to ask for the answer to a handshake";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        .with_header(header::ALLOW, "GET, POST, OPTIONS")
}
