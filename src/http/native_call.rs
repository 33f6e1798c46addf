//! `NativeCall`: what the HTTP calls of the native protocol have in common: who calls, and whether a page may.

use std::sync::Arc;
use std::time::SystemTime;

use tidegate_protocol::identity::Identity;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::auth::policy::Via;
use crate::connection::auditing::CallRecord;
use crate::http::client_facts::Requester;
use crate::http::connection_info::ConnectionInfo;
use crate::http::cors;
use crate::http::endpoint::Endpoint;
use crate::http::gate::Gate;
use crate::http::origin::OriginPolicy;
use crate::http::presented::PresentedCredential;
use crate::http::presented::is_json;
use crate::http::problem::Problem;
use crate::http::rejection_log::RejectedRequest;
use crate::http::request_id;
use crate::http::socket_gate::RequestKind;
use crate::net::peer::Peer;
use crate::node::call_limiter::Caller;
use crate::node::permit::Permit;

/// A POST with a JSON body, at a path of the native protocol.
pub struct NativeCall {
    /// The word for logs.
    pub what: &'static str,
    pub method: Method,
    pub headers: HeaderMap,
    pub connection: ConnectionInfo,
    /// The headers that pages may send, besides those of all calls.
    pub own_headers: &'static [&'static str],
}

/// A call whose caller is known.
pub struct AcceptedCall {
    pub identity: Arc<Identity>,
    /// Who makes it, and where, for the audit feed.
    pub record: CallRecord,
    /// The caller's address, for limits.
    pub address: Caller,
    /// What the call counts for: the identity, or the address of a caller without a credential.
    pub counted: Caller,
    _connection: Permit,
}

impl NativeCall {
    /// Answers the call: a preflight of a browser here, and a POST by `answer`.
    pub async fn answer(
        &self,
        gate: &Gate,
        answer: impl Future<Output = Result<Response, Problem>>,
    ) -> Response {
        let policy = policy_for(gate, &self.headers);
        let answer = match (&self.method, policy) {
            (&Method::OPTIONS, Some(policy)) => {
                let own: Vec<Box<str>> = self.own_headers.iter().map(|name| Box::from(*name)).collect();
                cors::preflight(policy, &self.headers, &own)
            }
            (&Method::POST, _) => answer.await,
            _ => Err(other_method()),
        };
        if let Err(problem) = &answer
            && [401, 403, 429, 503].contains(&problem.status.as_u16())
            && let Some(endpoint) = native_endpoints(gate).next()
        {
            let Self { what, headers, connection: ConnectionInfo { peer, request_id: id, .. }, .. } = self;
            RejectedRequest { what, endpoint, peer: *peer, headers, handshake: None, id }.log(problem, gate);
        }
        let mut answer = answer.unwrap_or_else(Reply::into_response);
        if let Some(policy) = policy {
            cors::apply(policy, &self.headers, &mut answer);
        }
        answer
    }

    /// Finds out who calls. The body must be JSON, which no HTML form can send (adm-02).
    pub async fn accept(&self, gate: &Gate) -> Result<AcceptedCall, Problem> {
        let Self { headers, connection, .. } = self;
        let address = gate.charge_address(connection.peer, headers)?;
        let permit = gate.admit(connection.peer, headers, RequestKind::Call).await?;
        let (identity, endpoint, has_credential) = identify(gate, headers, connection.peer).await?;
        let counted = if has_credential { gate.node.call_limiter.by_identity(&identity) } else { address };
        if counted != address {
            gate.charge_calls(counted, 1)?;
        }
        let record = CallRecord {
            identity: Arc::clone(&identity),
            endpoint: endpoint.policy.endpoint.clone(),
            client_address: gate.trusted_proxies.client_address(connection.peer, headers),
            request: request_id::as_str(&connection.request_id).into(),
        };
        Ok(AcceptedCall { identity, record, address, counted, _connection: permit })
    }
}

/// The identity of the caller, where, and whether it has a credential: at the first native endpoint of the listener that lets the
/// page in and accepts the credential.
async fn identify<'g>(
    gate: &'g Gate,
    headers: &HeaderMap,
    peer: Peer,
) -> Result<(Arc<Identity>, &'g Endpoint, bool), Problem> {
    let (mut refusal, now) = (None, SystemTime::now());
    for endpoint in native_endpoints(gate) {
        match identify_at(gate, endpoint, (headers, peer), now).await {
            Ok((identity, has_credential)) => return Ok((identity, endpoint, has_credential)),
            Err(problem) => _ = refusal.get_or_insert(problem),
        }
    }
    Err(refusal.unwrap_or_else(no_credential))
}

async fn identify_at(
    gate: &Gate,
    endpoint: &Endpoint,
    (headers, peer): (&HeaderMap, Peer),
    now: SystemTime,
) -> Result<(Arc<Identity>, bool), Problem> {
    let sender = endpoint.origins.decide(headers)?;
    if !is_json(headers) {
        let detail = "the body must be JSON: set `Content-Type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_content_type", detail));
    }
    let credential = PresentedCredential::in_request(&endpoint.origins, &sender, headers)?;
    let requester = Requester { policy: &endpoint.origins, sender: &sender, headers, peer };
    let identity = gate.identify(endpoint, Via::Http, None, credential.as_ref(), &requester, now).await?;
    Ok((identity.ok_or_else(no_credential)?, credential.is_some()))
}

fn native_endpoints(gate: &Gate) -> impl Iterator<Item = &Endpoint> {
    gate.endpoints().filter(|endpoint| endpoint.native_path().is_some())
}

/// The policy that says what a page may read: of those that let it in, one that accepts cookies if there is one.
fn policy_for<'g>(gate: &'g Gate, headers: &HeaderMap) -> Option<&'g OriginPolicy> {
    let policies = || native_endpoints(gate).map(|endpoint| &*endpoint.origins);
    let allowed = || policies().filter(|policy| policy.decide(headers).is_ok());
    allowed()
        .find(|policy| policy.cookie.is_some())
        .or_else(|| allowed().next())
        .or_else(|| policies().next())
}

fn no_credential() -> Problem {
    Problem::unauthorized(
        "this call needs a credential: send the header `Authorization: Bearer <token or API key>`",
    )
}

fn other_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "use POST for this call")
        .with_header(header::ALLOW, "POST, OPTIONS")
}
