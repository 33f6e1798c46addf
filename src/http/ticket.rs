//! `POST /v1/ticket`: gives a client with a credential a ticket, with which it connects once.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;
use tidegate_protocol::identity::Identity;
use warp::Filter;
use warp::Rejection;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::auth::error::AuthError;
use crate::auth::policy::Via;
use crate::config::auth::service::ServiceConfig;
use crate::config::origin::WebOrigin;
use crate::http::client_facts::Requester;
use crate::http::connection_info::ConnectionInfo;
use crate::http::cors;
use crate::http::endpoint::Endpoint;
use crate::http::filters::Routes;
use crate::http::filters::headers_unless_upgrade;
use crate::http::gate::Gate;
use crate::http::gate::unauthorized;
use crate::http::origin::OriginPolicy;
use crate::http::presented::Carrier;
use crate::http::presented::PresentedCredential;
use crate::http::problem::Problem;
use crate::http::redeem;
use crate::http::rejection_log::RejectedRequest;
use crate::http::socket_gate::RequestKind;
use crate::net::peer::Peer;

/// The route of one listener.
pub fn route(gate: Arc<Gate>) -> Routes {
    warp::path!("v1" / "ticket")
        .and(headers_unless_upgrade())
        .and(warp::method())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(move |headers: HeaderMap, method: Method, connection: ConnectionInfo| {
            let gate = Arc::clone(&gate);
            async move {
                let answer = answer(&gate, &method, &headers, &connection).await;
                if let (Err(problem), Some(endpoint)) = (&answer, gate.endpoints().next()) {
                    let (headers, peer, id) = (&headers, connection.peer, &connection.request_id);
                    RejectedRequest { what: "ticket", endpoint, peer, headers, handshake: None, id }
                        .log(problem, &gate);
                }
                let mut answer = answer.unwrap_or_else(Reply::into_response);
                if let Some(policy) = policy_for(&gate, &headers) {
                    cors::apply(policy, &headers, &mut answer);
                }
                Ok::<_, Rejection>(answer)
            }
        })
        .boxed()
}

/// The policy that says what a page may read: of those that let it in, one that accepts cookies if there is one.
pub fn policy_for<'g>(gate: &'g Gate, headers: &HeaderMap) -> Option<&'g OriginPolicy> {
    let policies = || gate.endpoints().map(|endpoint| &*endpoint.origins);
    let allowed = || policies().filter(|policy| policy.decide(headers).is_ok());
    allowed()
        .find(|policy| policy.cookie.is_some())
        .or_else(|| allowed().next())
        .or_else(|| policies().next())
}

async fn answer(
    gate: &Gate,
    method: &Method,
    headers: &HeaderMap,
    connection: &ConnectionInfo,
) -> Result<Response, Problem> {
    if *method == Method::OPTIONS {
        return match policy_for(gate, headers) {
            Some(policy) => cors::preflight(policy, headers, &[]),
            None => Err(no_credential()),
        };
    }
    if *method != Method::POST {
        let problem =
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "use POST for a ticket");
        return Err(problem.with_header(header::ALLOW, "POST, OPTIONS"));
    }
    let call_limiter = &gate.node.call_limiter;
    gate.charge_address(connection.peer, headers)?;
    let now = SystemTime::now();
    let _connection = gate.admit(connection.peer, headers, RequestKind::Call).await?;
    let accepted = accepted(gate, method, headers, connection.peer, now).await?;
    let caller = call_limiter.by_identity(&accepted.identity);
    gate.charge_calls(caller, 1)?;
    let AcceptedCredential { credential, origin, .. } = accepted;
    let (tickets, from_cookie) = (&gate.node.tickets, credential.carrier == Carrier::Cookie);
    let origin = origin.map(|origin| origin.to_string());
    let user = call_limiter.hash_of(&accepted.identity);
    let ticket = tickets.issue(user, credential.secret, from_cookie, origin, now).await;
    let ticket = ticket.map_err(redeem::refused)?;
    let body = json!({ "ticket": ticket.text(), "expires_in_s": tickets.validity().as_secs() });
    let answer = warp::reply::with_header(warp::reply::json(&body), "cache-control", "no-store");
    Ok(answer.into_response())
}

/// A verified credential, and the page that has sent it.
struct AcceptedCredential {
    credential: PresentedCredential,
    origin: Option<WebOrigin>,
    identity: Arc<Identity>,
}

/// The credential of the request, if one of the listener's endpoints lets the page in and accepts the credential. Which
/// endpoint the client connects to is not known yet: that one decides again.
async fn accepted(
    gate: &Gate,
    method: &Method,
    headers: &HeaderMap,
    peer: Peer,
    now: SystemTime,
) -> Result<AcceptedCredential, Problem> {
    let mut refusal = None;
    for endpoint in gate.endpoints() {
        let sender = match endpoint.origins.decide(headers) {
            Ok(sender) => sender,
            Err(problem) => {
                refusal.get_or_insert(problem);
                continue;
            }
        };
        let credential = match PresentedCredential::in_request(&endpoint.origins, &sender, headers) {
            Ok(Some(credential)) => credential,
            Ok(None) => {
                refusal = Some(no_credential());
                continue;
            }
            Err(problem) => {
                refusal = Some(problem);
                continue;
            }
        };
        credential.check_content_type(method, headers)?;
        let requester = Requester { policy: &endpoint.origins, sender: &sender, headers, peer };
        match identify(gate, endpoint, &credential, &requester, now).await {
            Ok(identity) => {
                let origin = sender.origin.page().cloned();
                return Ok(AcceptedCredential { credential, origin, identity });
            }
            Err(error) => {
                refusal = Some(unauthorized(&error));
                // Other endpoints would give the same answer, which costs a check of the signature each.
                if !matches!(error, AuthError::MissingRole { .. } | AuthError::Malformed { .. }) {
                    break;
                }
            }
        }
    }
    Err(refusal.unwrap_or_else(no_credential))
}

/// The identity at the endpoint, or at one of its paths.
async fn identify(
    gate: &Gate,
    endpoint: &Endpoint,
    credential: &PresentedCredential,
    requester: &Requester<'_>,
    now: SystemTime,
) -> Result<Arc<Identity>, AuthError> {
    let mut outcome = Err(AuthError::IdentityNotTrusted);
    for policy in endpoint.policies() {
        let facts = |service: &ServiceConfig| requester.facts(service, &gate.trusted_proxies);
        outcome = gate.node.verify(policy, Via::Socket, credential.secret.expose(), facts, now).await;
        if !matches!(outcome, Err(AuthError::MissingRole { .. })) {
            break;
        }
    }
    outcome
}

fn no_credential() -> Problem {
    Problem::unauthorized("a ticket needs a credential: send the header `Authorization: Bearer <token>`")
}
