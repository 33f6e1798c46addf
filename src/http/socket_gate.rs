//! `SocketGate`: decides about a socket before its first request and before TLS: which client has opened it, and whether
//! its address may have one more.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::time::timeout_at;
use tracing::debug;
use tracing::info;
use tracing::warn;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::http::header;

use crate::http::problem::Problem;
use crate::http::problem::retry_after_seconds;
use crate::http::proxy_protocol;
use crate::http::proxy_protocol::ProxiedClient;
use crate::http::proxy_protocol::ProxyHeaderError;
use crate::http::trusted_proxies::Forwarded;
use crate::http::trusted_proxies::TrustedProxies;
use crate::net::peer;
use crate::net::peer::Peer;
use crate::net::socket::RegisteredSocket;
use crate::node::Node;
use crate::node::address_limiter::AddressRefusal;
use crate::node::connection_counts::CountedConnection;
use crate::node::permit::Permit;
use crate::node::refusals::Refused;
use crate::telemetry::limit::LimitByReason;
use crate::telemetry::limit::LogLimit;

/// `Retry-After` for an address with too many connections: enough time to notice that some of them are dead.
const ADDRESS_RETRY_AFTER: Duration = Duration::from_secs(30);

static REFUSALS: LimitByReason = LimitByReason::per_second(10);
static PROXY_HEADERS: LogLimit = LogLimit::per_second(1);
static NO_CLIENT_ADDRESS: LogLimit = LogLimit::every(60, 1);
static UNLISTED_PROXY: LogLimit = LogLimit::every(60, 1);
static UNEXPECTED_HEADER: LogLimit = LogLimit::every(60, 1);

/// The address of a client that a proxy has not named.
const UNKNOWN_CLIENT: SocketAddr = SocketAddr::new(peer::NO_ADDRESS, 0);

/// What an HTTP request is, for the limits of its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestKind {
    /// A handshake that is the first request of its socket.
    FirstHandshake,
    /// A handshake after other requests on its socket.
    LaterHandshake,
    /// A call. Calls have another rate limit.
    Call,
}

impl RequestKind {
    /// A handshake, which may be the first request of its socket.
    pub fn handshake(is_first: bool) -> Self {
        if is_first { Self::FirstHandshake } else { Self::LaterHandshake }
    }
}

/// Checks the sockets of the node's listeners.
#[derive(Clone, Debug)]
pub struct SocketGate {
    node: Arc<Node>,
    proxies: TrustedProxies,
}

impl SocketGate {
    pub fn new(node: &Arc<Node>) -> Self {
        Self { node: Arc::clone(node), proxies: TrustedProxies::new(&node.http.trusted_proxies) }
    }

    /// Counts a socket that was just accepted, if its peer is the client: not a trusted proxy, whose clients are known
    /// later, and not a program on this machine.
    pub fn admit_peer(&self, peer: Peer) -> Result<Option<CountedConnection>, Problem> {
        if self.proxies.trusts_peer(peer) || peer.limited_address().is_loopback() {
            return Ok(None);
        }
        self.admit_socket(peer)
    }

    /// Counts a socket for which the node has no room.
    pub fn count_full_node(&self) {
        self.node.refusals.count(Refused::Sockets);
    }

    /// Whether this peer is a trusted proxy, and the configuration requires a PROXY header of those. Sockets of others
    /// remain as they are: their PROXY header is not a request, and is refused like any other.
    pub fn expects_proxy_header(&self, peer: Peer) -> bool {
        self.node.http.proxy_protocol && self.proxies.trusts_peer(peer)
    }

    /// Reads the PROXY header of a socket that must have one, and counts the socket for the client that it names. Returns
    /// the client as the peer of all that follows.
    pub async fn identify(
        &self,
        socket: &RegisteredSocket,
        peer: Peer,
        permit: &mut Permit,
        scratch: &RefCell<Vec<u8>>,
        deadline: tokio::time::Instant,
    ) -> Result<Peer, Option<Problem>> {
        let header = timeout_at(deadline, proxy_protocol::read_header(socket, scratch)).await;
        match header.map_err(|_| None)? {
            Ok(ProxiedClient::Address(client)) => {
                let client = Peer::Tcp(client);
                // It may be a proxy in front of this one, whose clients are known from its headers.
                if !self.proxies.trusts_peer(client) {
                    permit.count_address(self.admit_socket(client).map_err(Some)?);
                }
                Ok(client)
            }
            Ok(ProxiedClient::Proxy) => Ok(peer),
            // Not the proxy's address: headers with addresses are those of the client then.
            Ok(ProxiedClient::Unknown) => {
                self.warn_about_unknown_client(peer);
                Ok(Peer::Tcp(UNKNOWN_CLIENT))
            }
            Err(error) => Err(self.reject_proxy_header(peer, &error)),
        }
    }

    /// Counts a request whose client is known only from its headers, and further handshakes on a socket. Others were
    /// counted with their socket.
    pub fn admit_request(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        kind: RequestKind,
    ) -> Result<Option<CountedConnection>, Problem> {
        let (address, is_counted) = match self.proxies.read(peer, headers) {
            Forwarded::Untrusted => {
                self.warn_about_unlisted_proxy(peer, headers);
                (peer.limited_address(), true)
            }
            Forwarded::Absent => {
                self.warn_about_proxy(peer, kind);
                return Ok(None);
            }
            // Else a client could write such headers to escape the limits.
            Forwarded::Ambiguous => (peer.limited_address(), false),
            Forwarded::Address(client) => (client, false),
        };
        let is_charged = match kind {
            RequestKind::FirstHandshake => !is_counted,
            RequestKind::LaterHandshake => !(is_counted && address.is_loopback()),
            RequestKind::Call => false,
        };
        let limiter = &self.node.address_limiter;
        if is_charged {
            limiter.charge_handshake(address, Instant::now()).map_err(|refusal| self.refuse(refusal))?;
        }
        if is_counted {
            return Ok(None);
        }
        limiter.acquire_connection(address).map_err(|refusal| self.refuse(refusal))
    }

    fn admit_socket(&self, client: Peer) -> Result<Option<CountedConnection>, Problem> {
        let address = client.limited_address();
        let limiter = &self.node.address_limiter;
        let admitted = limiter
            .charge_handshake(address, Instant::now())
            .and_then(|()| limiter.acquire_connection(address));
        admitted.map_err(|refusal| {
            let problem = self.refuse(refusal);
            self.log_refusal(client, &problem);
            problem
        })
    }

    /// Counts a refusal, and says how to go on.
    fn refuse(&self, refusal: AddressRefusal) -> Problem {
        let (refused, problem, retry_after) = match refusal {
            AddressRefusal::Connections(limit) => {
                let detail = format!(
                    "this address has as many connections to this node as allowed ({limit}): close one of them, or try \
                     again later"
                );
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "limit_exceeded", detail);
                (Refused::AddressConnections, problem, ADDRESS_RETRY_AFTER)
            }
            AddressRefusal::Handshakes(retry_after) => {
                let detail = "this address opens connections too fast: wait for the time in `Retry-After`";
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
                (Refused::AddressHandshakes, problem, retry_after)
            }
        };
        self.node.refusals.count(refused);
        let seconds = retry_after_seconds(retry_after).to_string();
        problem.refused_by(refused).with_header(header::RETRY_AFTER, &seconds)
    }

    /// Logs a socket that is refused before its request is read.
    fn log_refusal(&self, peer: Peer, problem: &Problem) {
        let Some(suppressed) = REFUSALS.pass(problem.reason) else { return };
        info!(
            status = problem.status.as_u16(),
            code = problem.code,
            reason = problem.reason,
            limit = problem.limit,
            detail = &*problem.detail,
            %peer,
            node = &*self.node.name,
            suppressed,
            "socket rejected"
        );
    }

    /// Counts and logs that a proxy has sent no usable header. The answer tells its operator; `None` if the socket has
    /// ended.
    fn reject_proxy_header(&self, peer: Peer, error: &ProxyHeaderError) -> Option<Problem> {
        if let ProxyHeaderError::Ended(_) = error {
            debug!(%peer, %error, "socket of a proxy ended early");
            return None;
        }
        self.node.refusals.count(Refused::ProxyHeader);
        if let Some(suppressed) = PROXY_HEADERS.pass() {
            let advice = "socket of a trusted proxy rejected: make the proxy send the PROXY protocol, or set \
                          http.proxy_protocol to false";
            warn!(%peer, %error, node = &*self.node.name, suppressed, "{advice}");
        }
        let detail =
            format!("{error}: trusted proxies must send one before the request (http.proxy_protocol)");
        Some(
            Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
                .with_reason(Refused::ProxyHeader.name()),
        )
    }

    /// Programs on this machine are not limited, so all clients of a proxy there would not be either.
    fn warn_about_unlisted_proxy(&self, peer: Peer, headers: &HeaderMap) {
        if peer.limited_address().is_loopback()
            && headers.contains_key("x-forwarded-for")
            && let Some(suppressed) = UNLISTED_PROXY.pass()
        {
            let advice = "a program on this machine sends X-Forwarded-For, and is not in http.trusted_proxies: limits for \
                          each address do not apply to its clients; list it if it is a proxy";
            warn!(%peer, node = &*self.node.name, suppressed, "{advice}");
        }
    }

    /// Logs that a socket begins with a PROXY header that no one reads: the request after it cannot be understood.
    pub fn warn_about_header(&self, peer: Peer) {
        if let Some(suppressed) = UNEXPECTED_HEADER.pass() {
            let advice = if self.node.http.proxy_protocol {
                "a socket begins with a PROXY header, and its peer is no trusted proxy: list the proxy in \
                 http.trusted_proxies"
            } else {
                "a socket begins with a PROXY header, which is not expected: set http.proxy_protocol to true and list the \
                 proxy in http.trusted_proxies, or turn off the PROXY protocol of the proxy"
            };
            warn!(%peer, node = &*self.node.name, suppressed, "{advice}");
        }
    }

    fn warn_about_unknown_client(&self, peer: Peer) {
        if let Some(suppressed) = NO_CLIENT_ADDRESS.pass() {
            let advice = "a trusted proxy names no client in its PROXY header, so limits for each address do not apply to \
                          its clients: make it send their addresses";
            warn!(%peer, node = &*self.node.name, suppressed, "{advice}");
        }
    }

    /// A proxy that names no client makes the limits of addresses useless.
    fn warn_about_proxy(&self, peer: Peer, kind: RequestKind) {
        if kind != RequestKind::Call
            && let Some(suppressed) = NO_CLIENT_ADDRESS.pass()
        {
            let advice = "a trusted proxy names no client, so limits for each address do not apply to its clients: make it \
                          set X-Forwarded-For";
            warn!(%peer, node = &*self.node.name, suppressed, "{advice}");
        }
    }
}
