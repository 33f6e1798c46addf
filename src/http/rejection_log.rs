//! Logs each rejected request: why, which user the credential names, and from which address.

use std::cell::LazyCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::header;

use crate::auth::credential;
use crate::auth::jwt;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::gate::Gate;
use crate::http::problem::Problem;
use crate::http::request_id;
use crate::http::trace;
use crate::net::peer::Peer;
use crate::node::audit::event::AuditEvent;
use crate::node::audit::event::AuditKind;
use crate::node::refused_requests::RefusedRequest;
use crate::node::refused_requests::RefusedWhat;
use crate::telemetry::limit::LimitByReason;

static LINES: LimitByReason = LimitByReason::per_second(10);

/// A rejected request to an endpoint.
#[derive(Clone, Copy)]
pub struct RejectedRequest<'r> {
    /// The kind of request, for the message: `handshake`, `preflight`, `call`, `publish`, `user call`, `ticket` or `stream`.
    pub what: &'static str,
    pub endpoint: &'r Endpoint,
    /// The address at the other end of the socket: the client, or a proxy.
    pub peer: Peer,
    pub headers: &'r HeaderMap,
    /// The request as a handshake, if it is one: its query may have a credential too.
    pub handshake: Option<&'r HandshakeRequest<'r>>,
    /// The request's `X-Request-Id`.
    pub id: &'r HeaderValue,
}

impl RejectedRequest<'_> {
    /// Counts the rejected request, and logs and passes on why it was rejected.
    pub fn log(&self, problem: &Problem, gate: &Gate) {
        problem.count_rejection(&gate.node.counts);
        if let Some((vocabulary, _)) =
            self.endpoint.file().filter(|_| ["handshake", "call"].contains(&self.what))
        {
            gate.node.counts.refused_by_vocabulary.count(vocabulary);
        }
        // Decodes the credential, so only if someone will read it: a flood of requests is above all limits.
        let claimed_user = LazyCell::new(|| self.claimed_user(problem));
        if let Some(audit) = &gate.node.audit {
            // These have no shard of their own.
            audit.record_with(0, || self.event(problem, gate, claimed_user.as_deref()));
        }
        if let Some(suppressed) = LINES.pass(problem.reason) {
            self.log_line(problem, gate, claimed_user.as_deref(), suppressed);
        }
        let address = gate.trusted_proxies.client_address(self.peer, self.headers).ip();
        gate.node.refused_requests.note(address, || RefusedRequest {
            at: Instant::now(),
            operation: self.what,
            code: problem.code,
            reason: problem.reason,
            limit: problem.limit,
            what: RefusedWhat::Request {
                status: problem.status.as_u16(),
                claimed_user: claimed_user.clone(),
                policy: Arc::clone(&self.endpoint.policy),
            },
        });
    }

    fn log_line(&self, problem: &Problem, gate: &Gate, claimed_user: Option<&str>, suppressed: u64) {
        info!(
            status = problem.status.as_u16(),
            code = problem.code,
            reason = problem.reason,
            limit = problem.limit,
            detail = &*problem.detail,
            claimed_user,
            peer = %self.peer,
            forwarded = self.forwarded(gate).map(display),
            endpoint = &*self.endpoint.policy.endpoint,
            node = &*gate.node.name,
            request = request_id::as_str(self.id),
            trace_id = trace::id_of(self.headers),
            suppressed,
            "{} rejected", self.what
        );
    }

    /// The event for the audit feed.
    fn event<'e>(
        &'e self,
        problem: &'e Problem,
        gate: &Gate,
        claimed_user: Option<&'e str>,
    ) -> AuditEvent<'e> {
        AuditEvent {
            operation: Some(self.what),
            status: Some(problem.status.as_u16()),
            code: Some(problem.code),
            reason: Some(problem.reason),
            limit: problem.limit,
            detail: Some(&problem.detail),
            claimed_user,
            peer: Some(self.peer.to_string()),
            forwarded: self.forwarded(gate),
            endpoint: Some(&self.endpoint.policy.endpoint),
            request: Some(request_id::as_str(self.id)),
            ..AuditEvent::new(AuditKind::Refused)
        }
    }

    fn forwarded(&self, gate: &Gate) -> Option<IpAddr> {
        gate.trusted_proxies.forwarded(self.peer, self.headers)
    }

    /// The user that the credential names, whether the credential is valid or not. Nothing else of it is logged.
    /// The origin is decided before any credential is read, and stays so here.
    fn claimed_user(&self, problem: &Problem) -> Option<String> {
        if problem.refuses_origin() {
            return None;
        }
        let authorization = self.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let protocols = self.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let credentials =
            credential::from_handshake(authorization, protocols.filter_map(|value| value.to_str().ok()));
        if let Some(token) = credentials.as_ref().ok().and_then(|credentials| credentials.token()) {
            return jwt::claimed_user(token);
        }
        jwt::claimed_user(&self.endpoint.credential_in_request(self.handshake?)?)
    }
}
