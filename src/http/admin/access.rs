//! Who may use the admin listener: that depends on where it listens.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tidegate_protocol::identity::Identity;
use tracing::info;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::http::uri::Authority;

use crate::auth::Authenticator;
use crate::auth::policy::Policy;
use crate::auth::policy::Via;
use crate::auth::service::ClientFacts;
use crate::auth::setup_error::AuthSetupError;
use crate::config::auth::service::ServiceConfig;
use crate::config::endpoint::access::AccessConfig;
use crate::config::listen_address::ListenAddress;
use crate::http::accept::SocketCount;
use crate::http::admin::view::AdminView;
use crate::http::authorization::authorization;
use crate::http::authorization::credentials;
use crate::http::connection_info::ConnectionInfo;
use crate::http::gate::unauthorized;
use crate::http::presented::is_json;
use crate::http::problem::Problem;
use crate::http::request_id;
use crate::lane::inbox::InboxSender;
use crate::node::Node;
use crate::node::current::Current;
use crate::node::limits::RequestLimits;
use crate::shard::cluster::Cluster;
use crate::shard::handle::Shards;
use crate::telemetry::limit::LimitByReason;

static REJECTIONS: LimitByReason = LimitByReason::per_second(10);

/// What the routes of the admin listener read.
#[derive(Debug)]
pub struct Admin {
    pub node: Arc<Node>,
    pub shards: Shards,
    /// The other nodes.
    pub cluster: Cluster,
    /// The inbox of each shard.
    pub inboxes: Vec<InboxSender>,
    /// The sockets of the public listeners.
    pub sockets: SocketCount,
    /// What the configuration in use means for the pages.
    pub view: Current<AdminView>,
    /// The limits of bodies.
    pub limits: RequestLimits,
    reach: Reach,
    /// The policy of the listener itself.
    pub(super) policy: Policy,
}

/// Who can connect to the listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// Programs on this machine, and so the pages in its browsers.
    Loopback,
    /// Programs on this machine that may use the file of the Unix socket.
    Unix,
    /// Other machines.
    Network,
}

impl Admin {
    /// The admin listener at this address.
    pub fn new(
        listen: &ListenAddress,
        authenticator: &Authenticator,
        (node, shards, cluster): (&Arc<Node>, &Shards, &Cluster),
        inboxes: &[InboxSender],
        sockets: &SocketCount,
        limits: RequestLimits,
    ) -> Result<Self, AuthSetupError> {
        let reach = match listen {
            ListenAddress::Unix(_) => Reach::Unix,
            ListenAddress::Tcp(address) if address.ip().is_loopback() => Reach::Loopback,
            ListenAddress::Tcp(_) => Reach::Network,
        };
        Ok(Self {
            node: Arc::clone(node),
            shards: shards.clone(),
            cluster: cluster.clone(),
            inboxes: inboxes.to_vec(),
            sockets: sockets.clone(),
            view: Current::new(AdminView::default()),
            limits,
            reach,
            policy: authenticator.policy(&AccessConfig::default(), "admin")?,
        })
    }

    /// Whether a request may read. A request with a token needs one of a role with `admin`. Without one it must come over a
    /// socket that other machines cannot reach, and must name this machine: otherwise a page whose name points to
    /// 127.0.0.1 could read everything.
    /// No page of another origin may read, with a token or without.
    pub(super) async fn authorize(&self, headers: &HeaderMap) -> Result<(), Problem> {
        check_origin(headers)?;
        let credentials = credentials(authorization(headers)?, std::iter::empty(), &[])?;
        let Some(token) = credentials.token() else {
            return match self.reach {
                Reach::Unix => Ok(()),
                Reach::Loopback if names_loopback(headers) => Ok(()),
                Reach::Loopback => {
                    let detail = "the header `Host` names another machine: use 127.0.0.1 or localhost, or send a token";
                    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).with_reason("foreign_host"))
                }
                Reach::Network => Err(Problem::unauthorized(
                    "the admin listener needs a token: send the header `Authorization: Bearer <token>`",
                )),
            };
        };
        if self.verify(token).await?.permissions.admin {
            return Ok(());
        }
        let detail =
            "the roles of this token may not use the admin listener: send one of a role with admin = true";
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).with_reason("not_admin"))
    }

    /// Who may change something with a request. It needs a token of a role with `control`, wherever it comes from. Its
    /// body must be JSON and it may have no origin but that of this listener, so that no other page can send it (adm-02).
    pub(super) async fn authorize_change(&self, headers: &HeaderMap) -> Result<Arc<Identity>, Problem> {
        check_origin(headers)?;
        if !is_json(headers) {
            let detail = "the body must be JSON: set `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_content_type", detail));
        }
        let credentials = credentials(authorization(headers)?, std::iter::empty(), &[])?;
        let token = credentials.token().ok_or_else(|| {
            Problem::unauthorized("a change needs a token: send the header `Authorization: Bearer <token>`")
        })?;
        let identity = self.verify(token).await?;
        if identity.permissions.control {
            return Ok(identity);
        }
        let detail = "the roles of this token may not change users: send one of a role with control = true";
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).with_reason("no_control"))
    }

    /// The identity of an operator.
    async fn verify(&self, token: &str) -> Result<Arc<Identity>, Problem> {
        let facts = |_: &ServiceConfig| ClientFacts::default();
        let identity = self.node.verify(&self.policy, Via::Http, token, facts, SystemTime::now()).await;
        identity.map_err(|error| unauthorized(&error))
    }

    /// Counts and logs a rejected request.
    pub(super) fn log(&self, problem: &Problem, connection: &ConnectionInfo) {
        problem.count_rejection(&self.node.counts);
        let Some(suppressed) = REJECTIONS.pass(problem.reason) else { return };
        info!(
            status = problem.status.as_u16(),
            reason = problem.reason,
            peer = %connection.peer,
            node = &*self.node.name,
            request = request_id::as_str(&connection.request_id),
            trace_id = connection.trace_id(),
            suppressed,
            "admin request rejected"
        );
    }
}

/// Refuses a request of a page of another origin.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    if is_of_this_listener(headers) {
        return Ok(());
    }
    let detail = "a page of another origin may not use the admin listener";
    Err(Problem::origin_not_allowed(detail))
}

/// Whether a request comes from a program, or from a page of this listener: its `Origin` has the host of `Host`.
fn is_of_this_listener(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else {
        return !headers.contains_key(header::ORIGIN);
    };
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let of = |scheme: &[u8]| origin.as_bytes().strip_prefix(scheme);
    host.is_some() && (of(b"http://") == host || of(b"https://") == host)
}

/// Whether the host of a request is this machine.
fn names_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(authority) = host.and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adm_02_only_programs_and_pages_of_this_listener_may_change_something() {
        let is_allowed = |origins: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:9090"));
            for origin in origins {
                headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            is_of_this_listener(&headers)
        };
        assert!(is_allowed(&[]) && is_allowed(&["http://127.0.0.1:9090"]));
        for origin in ["null", "", "http://127.0.0.1", "http://127.0.0.1:9091", "https://evil.example"] {
            assert!(!is_allowed(&[origin]), "{origin}");
        }
        assert!(!is_allowed(&["http://127.0.0.1:9090"; 2]));
    }

    #[test]
    fn adm_01_only_names_of_this_machine_are_loopback() {
        let is_loopback = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            names_loopback(&headers)
        };
        for host in ["127.0.0.1", "127.0.0.1:9090", "127.1.2.3", "localhost:9090", "LOCALHOST", "[::1]:9090"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "attacker.example:9090",
            "127.0.0.1.attacker.example",
            "localhost.attacker.example",
            "192.0.2.1",
            "[::]:9090",
            "0.0.0.0",
            "127.0.0.1@attacker.example",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
        assert!(!names_loopback(&HeaderMap::new()));
    }
}
