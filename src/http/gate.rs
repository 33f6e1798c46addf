//! `Gate`: decides whether a handshake is accepted. It checks the node's limits first, then the request, then the
//! origin of the page, then the credential.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use thiserror::Error;
use tidegate_protocol::identity::Identity;
use tidegate_vocabulary::Vocabulary;
use tidegate_vocabulary::binding::Binding;
use tidegate_vocabulary::vocabularies::Vocabularies;
use tidegate_vocabulary::vocabularies::VocabularyPlace;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;

use crate::auth::Authenticator;
use crate::auth::error::AuthError;
use crate::auth::policy::Policy;
use crate::auth::policy::Via;
use crate::auth::service::ConnectService;
use crate::auth::setup_error::AuthSetupError;
use crate::config::auth::service::ServiceConfig;
use crate::config::endpoint::EndpointConfig;
use crate::config::endpoint::VocabularyFile;
use crate::config::http::HttpConfig;
use crate::config::listen_address::ListenAddress;
use crate::http::client_facts::Requester;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::evaluate::Accepted;
use crate::http::evaluate::ValidHandshake;
use crate::http::extensions::Compression;
use crate::http::handshake;
use crate::http::origin::OriginPolicy;
use crate::http::origin::Sender;
use crate::http::presented::Carrier;
use crate::http::presented::PresentedCredential;
use crate::http::problem::Problem;
use crate::http::problem::retry_after_seconds;
use crate::http::problem::too_many_calls;
use crate::http::redeem;
use crate::http::socket_gate::RequestKind;
use crate::http::socket_gate::SocketGate;
use crate::http::trusted_proxies::TrustedProxies;
use crate::net::peer::Peer;
use crate::node::Node;
use crate::node::admission::HandshakeSlot;
use crate::node::call_limiter::Caller;
use crate::node::connection_counts::CountedConnection;
use crate::node::connection_counts::LimitReached;
use crate::node::limits::RequestLimits;
use crate::node::permit::Permit;
use crate::node::refusals::Refused;
use crate::node::slots::Slot;
use crate::node::user_slots::UserKey;

/// `Retry-After` for a user or an origin with too many connections: enough time to notice that one of them is dead.
const USER_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How often to try again for a slot of the user, and the pause before each try.
const USER_SLOT_TRIES: u32 = 10;
const USER_SLOT_PAUSE: Duration = Duration::from_millis(25);

/// The endpoints of one listener, and the checks for clients that connect to them.
#[derive(Debug)]
pub struct Gate {
    endpoints: Vec<Endpoint>,
    pub node: Arc<Node>,
    pub limits: RequestLimits,
    /// The proxies whose `X-Forwarded-For` and `Forwarded` headers are trusted.
    pub trusted_proxies: TrustedProxies,
    /// `Strict-Transport-Security` (RFC 6797), for all responses of a TLS listener.
    pub hsts: Option<HeaderValue>,
    socket_gate: SocketGate,
    compression: Compression,
}

/// What the gates of all listeners have in common. It may be newer than what the node has, which is replaced only when
/// all gates could be made.
#[derive(Clone, Copy)]
pub struct GateSettings<'s> {
    pub http: &'s HttpConfig,
    pub limits: RequestLimits,
    /// Checks the roles of endpoints.
    pub authenticator: &'s Authenticator,
    pub vocabularies: &'s Vocabularies,
    pub node: &'s Arc<Node>,
}

/// Why the configured endpoints cannot be served.
#[derive(Debug, Error)]
pub enum GateError {
    #[error(transparent)]
    Vocabulary(#[from] UnknownVocabulary),
    /// The role of an endpoint does not exist, or cannot be used there.
    #[error(transparent)]
    Policy(#[from] AuthSetupError),
}

/// The name of the vocabulary is none of Tidegate's own.
#[derive(Debug, Error)]
#[error("there is no vocabulary `{0}`: write `native`, or the name of a vocabulary file")]
pub struct UnknownVocabulary(String);

impl Gate {
    /// The gate of one listener; `None` is `http.listen`.
    pub fn new(
        endpoints: &[EndpointConfig],
        listen: Option<&ListenAddress>,
        settings: GateSettings<'_>,
    ) -> Result<Self, GateError> {
        let GateSettings { http, limits, authenticator, vocabularies, node } = settings;
        // Endpoints of other listeners have a place too.
        let mut place = VocabularyPlace(0);
        let mut own_endpoints = Vec::new();
        for (at, endpoint) in endpoints.iter().enumerate() {
            let EndpointConfig { listen: own, path, vocabulary, file, access, replace_connections, .. } =
                endpoint;
            place.0 += u16::from(file.is_some());
            if own.as_ref() != listen {
                continue;
            }
            let mut policy = authenticator.policy(access, &format!("endpoint[{at}]"))?;
            if *replace_connections {
                policy = policy.with_one_connection_at(&name_on_all_nodes(endpoint, &endpoints[..at]));
            }
            let origins = OriginPolicy::new(http, endpoint, authenticator.cookie());
            own_endpoints.push(match vocabularies.at(place).filter(|_| file.is_some()) {
                Some((id, vocabulary)) => Endpoint::from_file(id, Arc::clone(vocabulary), policy, origins),
                None => {
                    let named = Vocabulary::by_name(vocabulary);
                    let vocabulary = named.ok_or_else(|| UnknownVocabulary(vocabulary.clone()))?;
                    Endpoint::built_in(path.clone(), vocabulary, policy, origins)
                }
            });
        }
        let compression =
            if node.agrees_to_compression { Compression::Agreed } else { Compression::Declined };
        Ok(Self {
            endpoints: own_endpoints,
            node: Arc::clone(node),
            limits,
            trusted_proxies: TrustedProxies::new(&node.http.trusted_proxies),
            hsts: None,
            socket_gate: SocketGate::new(node),
            compression,
        })
    }

    /// Tells browsers to use TLS only, for this time.
    pub fn with_hsts(self, max_age: Option<Duration>) -> Self {
        let value = max_age.map(|max_age| format!("max-age={}", max_age.as_secs()));
        Self { hsts: value.and_then(|value| HeaderValue::from_str(&value).ok()), ..self }
    }

    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter()
    }

    /// The endpoint that serves this path. Among several, it is the first that has one of the subprotocols that the
    /// client offers, or else the first of all.
    pub fn endpoint(&self, path: &str, headers: &HeaderMap) -> Option<&Endpoint> {
        let mut here = self.endpoints.iter().filter(|endpoint| endpoint.is_at(path));
        let first = here.next()?;
        let mut others = here.peekable();
        if others.peek().is_none() {
            return Some(first);
        }
        let requested =
            |endpoint: &&Endpoint| endpoint.speaks_one_of(handshake::offered_subprotocols(headers));
        Some(std::iter::once(first).chain(others).find(requested).unwrap_or(first))
    }

    /// Takes a connection slot of the node and of the client's address, and waits for a handshake slot. Keep the permit
    /// for as long as the connection lives.
    pub async fn admit(&self, peer: Peer, headers: &HeaderMap, kind: RequestKind) -> Result<Permit, Problem> {
        self.reject_if_draining()?;
        // First the address, so that one address takes no more of the node's slots than it may have.
        let address_permit = self.socket_gate.admit_request(peer, headers, kind)?;
        let now = Instant::now();
        let mut permit = self.node.admission.acquire_connection(now).map_err(|retry_after| {
            self.node.refusals.count(Refused::Connections);
            let detail = "this node has reached its limit of connections: try again later";
            Problem::busy_retry_after(detail, retry_after).refused_by(Refused::Connections)
        })?;
        permit.count_address(address_permit);
        match self.node.admission.acquire_handshake(now) {
            HandshakeSlot::Now => {}
            HandshakeSlot::After(wait) => {
                self.node.counts.handshake_waits.count();
                let nanoseconds = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
                self.node.counts.handshake_wait_ns.add(nanoseconds);
                tokio::time::sleep(wait).await;
                self.reject_if_draining()?;
            }
            HandshakeSlot::Rejected(retry_after) => {
                self.node.refusals.count(Refused::Handshakes);
                let detail = "too many clients are connecting to this node at once: try again later";
                return Err(Problem::busy_retry_after(detail, retry_after).refused_by(Refused::Handshakes));
            }
        }
        Ok(permit)
    }

    /// Counts one HTTP call for the address of its client, and returns that as the caller.
    pub fn charge_address(&self, peer: Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
        let address = self.node.call_limiter.by_address(self.trusted_proxies.client(peer, headers));
        self.charge_calls(address, 1)?;
        Ok(address)
    }

    /// Counts HTTP calls for their caller.
    pub fn charge_calls(&self, caller: Caller, calls: u32) -> Result<(), Problem> {
        let charged = self.node.call_limiter.charge(caller, calls, Instant::now());
        charged.map_err(|wait| too_many_calls(caller, wait))
    }

    fn reject_if_draining(&self) -> Result<(), Problem> {
        if self.node.readiness.is_draining() {
            let detail = "this node is shutting down: connect to another node";
            return Err(Problem::busy(detail).with_reason("draining"));
        }
        Ok(())
    }

    /// Checks the request and the credential of a client that was admitted, at the time `now`. `check` may refuse a valid
    /// handshake before its credential is used.
    pub async fn evaluate(
        &self,
        endpoint: &Endpoint,
        handshake_request: &HandshakeRequest<'_>,
        now: SystemTime,
        check: impl FnOnce(&ValidHandshake) -> Result<(), Problem>,
    ) -> Result<Accepted, Problem> {
        let valid = ValidHandshake::evaluate(endpoint, self.compression, handshake_request)?;
        check(&valid)?;
        let (binding, credential) = (valid.binding(), valid.credential.as_ref());
        let HandshakeRequest { headers, peer, .. } = *handshake_request;
        let requester = Requester { policy: &endpoint.origins, sender: &valid.sender, headers, peer };
        let identity = self.identify(endpoint, Via::Socket, binding, credential, &requester, now).await?;
        // Any program can write an origin, so a refused credential takes no place of its pages.
        let origin = self.count_origin(&valid.sender)?;
        valid.authorize(identity, origin)
    }

    /// Counts one more connection of the pages of an origin; `None` for a program, and if there is no limit.
    pub fn count_origin(&self, sender: &Sender) -> Result<Option<CountedConnection>, Problem> {
        let Some(origin) = sender.origin.page() else { return Ok(None) };
        self.node.origin_limiter.acquire(origin).map_err(|LimitReached(limit)| {
            self.node.refusals.count(Refused::OriginConnections);
            let detail =
                format!("the pages of {origin} have as many connections to this node as allowed ({limit}): try again later");
            too_many_connections(detail).refused_by(Refused::OriginConnections)
        })
    }

    /// Takes one of the user's connection slots. If all are taken, it tries again for a moment: a page that is reloaded
    /// closes its socket and opens the next at once, and two threads may see them in the other order.
    pub async fn acquire_user_slot(
        &self,
        identity: Option<&Identity>,
    ) -> Result<Option<Slot<UserKey>>, Problem> {
        let Some(identity) = identity else { return Ok(None) };
        let mut tries = USER_SLOT_TRIES;
        loop {
            match self.node.user_slots.acquire(identity) {
                Ok(slot) => return Ok(slot),
                Err(error) if tries == 0 => {
                    self.node.refusals.count(Refused::UserConnections);
                    return Err(too_many_connections(error.to_string()).with_limit(Refused::UserConnections));
                }
                Err(_) => tokio::time::sleep(USER_SLOT_PAUSE).await,
            }
            tries -= 1;
        }
    }

    /// The identity for this credential. Without a credential: the user that the client claims if the endpoint trusts
    /// it, else the anonymous identity, else `None`. It waits for a ticket, if the keys of an issuer must be fetched, or for
    /// the service that judges the credential. That service also judges clients without a credential whose request has one
    /// of its listed headers or cookies.
    pub async fn identify(
        &self,
        endpoint: &Endpoint,
        via: Via,
        binding: Option<&Binding>,
        credential: Option<&PresentedCredential>,
        requester: &Requester<'_>,
        now: SystemTime,
    ) -> Result<Option<Arc<Identity>>, Problem> {
        let policy = match (via, binding) {
            (Via::Socket, Some(binding)) => endpoint.policy_at(binding),
            (Via::Socket, None) | (Via::Http, _) => &endpoint.policy,
        };
        let redeemed;
        let credential = match credential {
            Some(PresentedCredential { carrier: Carrier::Ticket, secret: ticket }) => {
                let (tickets, origins) = (&self.node.tickets, &endpoint.origins);
                // Boxed, because few clients need its memory.
                redeemed = Box::pin(redeem::redeem(tickets, ticket.expose(), origins, requester.sender, now))
                    .await?;
                Some(redeemed.expose())
            }
            presented => presented.map(|presented| presented.secret.expose()),
        };
        match (credential, binding.and_then(|binding| endpoint.claimed_user(via, binding))) {
            (Some(credential), _) => {
                let facts = |service: &ServiceConfig| requester.facts(service, &self.trusted_proxies);
                let identity = self.node.verify(policy, via, credential, facts, now).await;
                identity.map(Some).map_err(|error| unauthorized(&error))
            }
            (None, Some(user)) => {
                let identity = self.node.authenticator().trust_client_identity(policy, &user);
                let identity = identity
                    .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_user", error.to_string()))?;
                self.node.revocations.apply(identity, now).map(Some).map_err(|error| unauthorized(&error))
            }
            (None, None) => match self.node.authenticator().service() {
                None => Ok(policy.anonymous(via)),
                Some(service) => Box::pin(self.identify_by_facts(service, policy, via, requester, now)).await,
            },
        }
    }

    /// The identity of a client without a credential: the service's, if the request has what the service knows clients by.
    async fn identify_by_facts(
        &self,
        service: &ConnectService,
        policy: &Policy,
        via: Via,
        requester: &Requester<'_>,
        now: SystemTime,
    ) -> Result<Option<Arc<Identity>>, Problem> {
        let facts = requester.facts(&service.config, &self.trusted_proxies);
        if !facts.may_identify() {
            return Ok(policy.anonymous(via));
        }
        let identity = self.node.ask_connect_service(service, None, (&policy.endpoint, &facts), now).await;
        identity.map(Some).map_err(|error| unauthorized(&error))
    }
}

/// The name of an endpoint: its path or its vocabulary, and a number if earlier endpoints have the same. It has no
/// address, because nodes have different ones.
fn name_on_all_nodes(endpoint: &EndpointConfig, earlier: &[EndpointConfig]) -> String {
    let name = |endpoint: &EndpointConfig| match &endpoint.file {
        Some(VocabularyFile(vocabulary)) => vocabulary.name.to_string(),
        None => endpoint.path.clone(),
    };
    let own = name(endpoint);
    match earlier.iter().filter(|earlier| name(earlier) == own).count() {
        0 => own,
        same => format!("{own}#{}", same + 1),
    }
}

/// RFC 6750 §3 and §3.1: a request with an invalid or expired token gets 401 and the error `invalid_token`. If the token
/// cannot be verified now, it gets 503.
pub fn unauthorized(error: &AuthError) -> Problem {
    if let Some(retry_after) = error.retry_after() {
        let seconds = retry_after_seconds(retry_after);
        return Problem::unavailable(error.to_string(), seconds).with_reason(error.reason());
    }
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{}\"", error.reason());
    let code = if *error == AuthError::Expired { error.code().name() } else { "invalid_token" };
    Problem::new(StatusCode::UNAUTHORIZED, code, error.to_string())
        .with_reason(error.reason())
        .with_header(header::WWW_AUTHENTICATE, &challenge)
}

fn too_many_connections(detail: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "limit_exceeded", detail)
        .with_reason("too_many_connections")
        .with_header(header::RETRY_AFTER, &retry_after_seconds(USER_RETRY_AFTER).to_string())
}
