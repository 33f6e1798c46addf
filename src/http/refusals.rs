//! Refusals: a line in the log for each request that is not let in, which says why, who it was said to be, and where from.

use std::net::IpAddr;
use std::net::SocketAddr;

use tracing::info;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::header;

use crate::auth::credential;
use crate::auth::jwt;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::error::Problem;
use crate::http::gate::Gate;
use crate::http::request_id;
use crate::telemetry::limit::LimitByReason;

static LINES: LimitByReason = LimitByReason::per_second(10);

/// A request to an endpoint.
#[derive(Clone, Copy)]
pub struct Refused<'r> {
    /// What it wants.
    pub what: &'static str,
    /// Where it wants to.
    pub endpoint: &'r Endpoint,
    /// Who is at the other end of the socket.
    pub peer: SocketAddr,
    /// Its headers.
    pub headers: &'r HeaderMap,
    /// The same as a handshake, whose query may have a credential too.
    pub handshake: Option<&'r HandshakeRequest<'r>>,
    /// Its id.
    pub id: &'r HeaderValue,
}

impl Refused<'_> {
    /// Says why it was refused.
    pub fn log(&self, problem: &Problem, gate: &Gate) {
        let Some(suppressed) = LINES.pass(problem.reason) else { return };
        info!(
            status = problem.status.as_u16(),
            code = problem.code,
            reason = problem.reason,
            detail = &*problem.detail,
            claimed_user = self.claimed_user(),
            peer = %self.peer,
            forwarded = self.forwarded(gate).map(display),
            endpoint = &*self.endpoint.policy.endpoint,
            node = &*gate.node.name,
            request = request_id::text(self.id),
            suppressed,
            "{} refused", self.what
        );
    }

    fn forwarded(&self, gate: &Gate) -> Option<IpAddr> {
        gate.proxies.forwarded(self.peer.ip(), self.headers)
    }

    /// Who the credential says to be, whether it is any good or not. Nothing else of it is shown.
    fn claimed_user(&self) -> Option<String> {
        let authorization = self.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let protocols = self.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let presented =
            credential::from_handshake(authorization, protocols.filter_map(|value| value.to_str().ok()));
        if let Some(token) = presented.as_ref().ok().and_then(|presented| presented.token()) {
            return jwt::claimed_user(token);
        }
        jwt::claimed_user(&self.endpoint.credential_of(self.handshake?)?)
    }
}
