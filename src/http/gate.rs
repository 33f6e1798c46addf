//! `Gate`: decides whether a handshake is accepted. It checks the node's limits first, then the request, then the
//! credential.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use thiserror::Error;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::identity::Identity;
use tidegate_vocabulary::Vocabulary;
use tidegate_vocabulary::binding::Binding;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::http::header;

use crate::auth::error::AuthError;
use crate::auth::policy::Via;
use crate::auth::setup_error::AuthSetupError;
use crate::config::endpoint::EndpointConfig;
use crate::config::endpoint::VocabularyFile;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::evaluate::Accepted;
use crate::http::evaluate::ValidHandshake;
use crate::http::evaluate::authorization;
use crate::http::evaluate::credentials;
use crate::http::extensions::Compression;
use crate::http::handshake;
use crate::http::problem::Problem;
use crate::http::problem::retry_after_seconds;
use crate::http::trusted_proxies::TrustedProxies;
use crate::node::Node;
use crate::node::admission::HandshakeSlot;
use crate::node::permit::Permit;
use crate::node::slots::Slot;
use crate::node::user_slots::TooManyConnections;
use crate::node::user_slots::UserKey;

/// `Retry-After` for a user with too many connections: enough time to notice that one of them is dead.
const USER_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How often to try again for a slot of the user, and the pause before each try.
const USER_SLOT_TRIES: u32 = 10;
const USER_SLOT_PAUSE: Duration = Duration::from_millis(25);

/// The endpoints of one listener, and the checks for clients that connect to them.
#[derive(Debug)]
pub struct Gate {
    endpoints: Vec<Endpoint>,
    pub node: Arc<Node>,
    /// The proxies whose `X-Forwarded-For` and `Forwarded` headers are trusted.
    pub trusted_proxies: TrustedProxies,
    compression: Compression,
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
    /// The gate of one listener; `None` is `http.listen`. The limits are those of the node, for all listeners together.
    pub fn new(
        endpoints: &[EndpointConfig],
        listen: Option<SocketAddr>,
        node: &Arc<Node>,
    ) -> Result<Self, GateError> {
        // `Vocabularies` numbers the files of all listeners, so count those of other listeners too.
        let mut number = VocabularyId::NATIVE;
        let mut own_endpoints = Vec::new();
        let authenticator = node.authenticator();
        for (at, endpoint) in endpoints.iter().enumerate() {
            let EndpointConfig { listen: own, path, vocabulary, file, access, replace_connections } =
                endpoint;
            number.0 += u16::from(file.is_some());
            if *own != listen {
                continue;
            }
            let mut policy = authenticator.policy(access, &format!("endpoint[{at}]"))?;
            if *replace_connections {
                policy = policy.with_one_connection_at(&name_on_all_nodes(endpoint, &endpoints[..at]));
            }
            own_endpoints.push(match file {
                Some(VocabularyFile(vocabulary)) => {
                    Endpoint::from_file(number, Arc::clone(vocabulary), policy)
                }
                None => {
                    let named = Vocabulary::by_name(vocabulary);
                    let vocabulary = named.ok_or_else(|| UnknownVocabulary(vocabulary.clone()))?;
                    Endpoint::built_in(path.clone(), vocabulary, policy)
                }
            });
        }
        let compression =
            if node.agrees_to_compression { Compression::Agreed } else { Compression::Declined };
        Ok(Self {
            endpoints: own_endpoints,
            node: Arc::clone(node),
            trusted_proxies: TrustedProxies::new(&node.http.trusted_proxies),
            compression,
        })
    }

    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter()
    }

    /// The endpoint that serves this path. Among several, it is the first that has one of the subprotocols that the
    /// client offers, or else the first of all.
    pub fn endpoint(&self, path: &str, headers: &HeaderMap) -> Option<&Endpoint> {
        let mut here = self.endpoints.iter().filter(|endpoint| endpoint.is_at(path));
        let requested =
            |endpoint: &&Endpoint| endpoint.speaks_one_of(handshake::offered_subprotocols(headers));
        here.clone().find(requested).or_else(|| here.next())
    }

    /// Takes a connection slot and waits for a handshake slot. Keep the permit for as long as the connection lives.
    pub async fn admit(&self) -> Result<Permit, Problem> {
        self.reject_if_draining()?;
        let now = Instant::now();
        let permit = self.node.admission.acquire_connection(now).map_err(|retry_after| {
            let detail = "this node has reached its limit of connections: try again later";
            Problem::busy_retry_after(detail, retry_after)
        })?;
        match self.node.admission.acquire_handshake(now) {
            HandshakeSlot::Now => {}
            HandshakeSlot::After(wait) => {
                tokio::time::sleep(wait).await;
                self.reject_if_draining()?;
            }
            HandshakeSlot::Rejected(retry_after) => {
                let detail = "too many clients are connecting to this node at once: try again later";
                return Err(Problem::busy_retry_after(detail, retry_after));
            }
        }
        Ok(permit)
    }

    fn reject_if_draining(&self) -> Result<(), Problem> {
        if self.node.readiness.is_draining() {
            return Err(Problem::busy("this node is shutting down: connect to another node"));
        }
        Ok(())
    }

    /// Checks the request and the credential of a client that was admitted, at the time `now`.
    pub async fn evaluate(
        &self,
        endpoint: &Endpoint,
        handshake_request: &HandshakeRequest<'_>,
        now: SystemTime,
    ) -> Result<Accepted, Problem> {
        let valid = ValidHandshake::evaluate(endpoint, self.compression, handshake_request)?;
        let (binding, credential) = (valid.binding(), valid.credential());
        let identity = self.identify(endpoint, Via::Socket, binding, credential, now).await?;
        valid.authorize(identity)
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
                Err(error) if tries == 0 => return Err(too_many_connections(&error)),
                Err(_) => tokio::time::sleep(USER_SLOT_PAUSE).await,
            }
            tries -= 1;
        }
    }

    /// The identity of a request that is not an upgrade. It comes from the header `Authorization`, or from the
    /// endpoint's rules for requests without a credential.
    pub async fn identify_by_header(
        &self,
        endpoint: &Endpoint,
        via: Via,
        binding: Option<&Binding>,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<Arc<Identity>>, Problem> {
        let credentials = credentials(authorization(headers)?, std::iter::empty(), &[])?;
        self.identify(endpoint, via, binding, credentials.token(), now).await
    }

    /// The identity for this credential. Without a credential: the user that the client claims if the endpoint trusts
    /// it, else the anonymous identity, else `None`. It waits only if the keys of an issuer must be fetched.
    async fn identify(
        &self,
        endpoint: &Endpoint,
        via: Via,
        binding: Option<&Binding>,
        credential: Option<&str>,
        now: SystemTime,
    ) -> Result<Option<Arc<Identity>>, Problem> {
        let policy = match (via, binding) {
            (Via::Socket, Some(binding)) => endpoint.policy_at(binding),
            (Via::Socket, None) | (Via::Http, _) => &endpoint.policy,
        };
        let authenticator = self.node.authenticator();
        match (credential, binding.and_then(|binding| endpoint.claimed_user(via, binding))) {
            (Some(credential), _) => {
                let identity = authenticator.identify_or_wait(policy, via, credential, now).await;
                identity.map(Some).map_err(|error| unauthorized(&error))
            }
            (None, Some(user)) => {
                let identity = authenticator.trust_client_identity(policy, &user).map(Some);
                identity.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_user", error.to_string()))
            }
            (None, None) => Ok(policy.anonymous(via)),
        }
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
fn unauthorized(error: &AuthError) -> Problem {
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

fn too_many_connections(error: &TooManyConnections) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "limit_exceeded", error.to_string())
        .with_reason("too_many_connections")
        .with_header(header::RETRY_AFTER, &retry_after_seconds(USER_RETRY_AFTER).to_string())
}
