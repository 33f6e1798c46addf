//! Door: who comes in by a handshake, in the order in which that is decided: the node's limits, the shape of the
//! request, the credential.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use thiserror::Error;
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
use crate::http::error::Problem;
use crate::http::evaluate::Accepted;
use crate::http::evaluate::ProperHandshake;
use crate::http::evaluate::authorization;
use crate::http::evaluate::presented;
use crate::http::extensions::Compression;
use crate::http::proxies::Proxies;
use crate::node::Node;
use crate::node::admission::Turn;
use crate::node::permit::Permit;
use crate::node::slots::Slot;
use crate::node::users::TooManySockets;
use crate::node::users::UserKey;

/// After how many seconds somebody may try again who has too many sockets.
const COME_BACK_S: &str = "30";

/// How often, and after which pauses, a seat is looked for.
const SEAT_TRIES: u32 = 10;
const SEAT_PAUSE: Duration = Duration::from_millis(25);

/// The endpoints of one listener, and what is asked of those who come to them.
#[derive(Debug)]
pub struct Gate {
    endpoints: Vec<Endpoint>,
    /// The node that they belong to.
    pub node: Arc<Node>,
    /// Whose word is taken for where clients are.
    pub proxies: Proxies,
    compression: Compression,
}

/// Why there is no door.
#[derive(Debug, Error)]
pub enum GateError {
    /// An endpoint speaks a language that there is not.
    #[error(transparent)]
    Vocabulary(#[from] UnknownVocabulary),
    /// An endpoint names a role that will not do.
    #[error(transparent)]
    Policy(#[from] AuthSetupError),
}

/// An endpoint speaks a language that there is not.
#[derive(Debug, Error)]
#[error("there is no vocabulary `{0}`: this version has `native`")]
pub struct UnknownVocabulary(String);

impl Gate {
    /// The door of a listener: `None` is `http.listen`. What is counted is counted for all doors together.
    pub fn new(
        endpoints: &[EndpointConfig],
        listen: Option<SocketAddr>,
        node: &Arc<Node>,
    ) -> Result<Self, GateError> {
        // As `Vocabularies` numbers them: those of all listeners.
        let mut number = 0;
        let mut here = Vec::new();
        let authenticator = node.authenticator();
        for (at, endpoint) in endpoints.iter().enumerate() {
            let EndpointConfig { listen: own, path, vocabulary, file, access } = endpoint;
            number += u16::from(file.is_some());
            if *own != listen {
                continue;
            }
            let policy = authenticator.policy(access, &format!("endpoint[{at}]"))?;
            here.push(match file {
                Some(VocabularyFile(described)) => Endpoint::described(number, Arc::clone(described), policy),
                None => {
                    let known = Vocabulary::by_name(vocabulary);
                    let known = known.ok_or_else(|| UnknownVocabulary(vocabulary.clone()))?;
                    Endpoint::plain(path.clone(), known, policy)
                }
            });
        }
        let compression =
            if node.agrees_to_compression { Compression::Agreed } else { Compression::Declined };
        Ok(Self {
            endpoints: here,
            node: Arc::clone(node),
            proxies: Proxies::new(&node.http.trusted_proxies),
            compression,
        })
    }

    /// All endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter()
    }

    /// The endpoint at a path, if there is one.
    pub fn endpoint(&self, path: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.is_at(path))
    }

    /// Waits for a turn, if it comes soon. What it gives is to be kept for as long as the connection lives.
    pub async fn admit(&self) -> Result<Permit, Problem> {
        self.stays()?;
        let now = Instant::now();
        let seat = self.node.admission.seat(now).map_err(|retry_after| {
            let detail = "this node has as many connections as it may: try again";
            Problem::busy_until(detail, retry_after)
        })?;
        match self.node.admission.turn(now) {
            Turn::Now => {}
            Turn::After(wait) => {
                tokio::time::sleep(wait).await;
                self.stays()?;
            }
            Turn::Never(retry_after) => {
                let detail = "more clients connect than this node takes at once: try again";
                return Err(Problem::busy_until(detail, retry_after));
            }
        }
        Ok(seat)
    }

    fn stays(&self) -> Result<(), Problem> {
        if self.node.readiness.is_draining() {
            return Err(Problem::busy("this node is about to end: connect to another"));
        }
        Ok(())
    }

    /// Judges the request of somebody who was admitted, at the time `now`.
    pub async fn evaluate(
        &self,
        endpoint: &Endpoint,
        handshake_request: &HandshakeRequest<'_>,
        now: SystemTime,
    ) -> Result<Accepted, Problem> {
        let proper = ProperHandshake::evaluate(endpoint, self.compression, handshake_request)?;
        let (binding, credential) = (proper.binding(), proper.credential());
        let identity = self.identify(endpoint, Via::Socket, binding, credential, now).await?;
        proper.welcome(identity)
    }

    /// Counts a socket as one of its user's. If there is one too many, one of them may be about to close: a page that is
    /// loaded again ends its socket and opens the next in one breath, and they may be on two threads.
    pub async fn user_seat(&self, identity: Option<&Identity>) -> Result<Option<Slot<UserKey>>, Problem> {
        let Some(identity) = identity else { return Ok(None) };
        let mut tries = SEAT_TRIES;
        loop {
            match self.node.users.seat(identity) {
                Ok(seat) => return Ok(seat),
                Err(error) if tries == 0 => return Err(too_many_sockets(&error)),
                Err(_) => tokio::time::sleep(SEAT_PAUSE).await,
            }
            tries -= 1;
        }
    }

    /// Who sends a request without an upgrade, by the header `Authorization`, or because a name is enough, or none is
    /// needed.
    pub async fn identify_by_header(
        &self,
        endpoint: &Endpoint,
        via: Via,
        binding: Option<&Binding>,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<Arc<Identity>>, Problem> {
        let presented = presented(authorization(headers)?, std::iter::empty(), &[])?;
        self.identify(endpoint, via, binding, presented.token(), now).await
    }

    /// Who comes with this credential; without one, the user that a trusted client names, or no one if that is enough.
    /// Today this never waits. It is `async` for credentials that need something from elsewhere, such as a key set
    /// that is fetched.
    #[expect(clippy::unused_async, reason = "callers are ready for a credential that is verified elsewhere")]
    async fn identify(
        &self,
        endpoint: &Endpoint,
        via: Via,
        binding: Option<&Binding>,
        credential: Option<&str>,
        now: SystemTime,
    ) -> Result<Option<Arc<Identity>>, Problem> {
        let (authenticator, policy) = (self.node.authenticator(), &endpoint.policy);
        match (credential, binding.and_then(|binding| endpoint.claimed_user(via, binding))) {
            (Some(credential), _) => {
                let known = authenticator.admit(policy, via, credential, now);
                known.map(Some).map_err(|error| unauthorized(&error))
            }
            (None, Some(user)) => {
                let known = authenticator.trust_client_identity(policy, &user).map(Some);
                known.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_user", error.to_string()))
            }
            (None, None) => Ok(policy.anonymous(via)),
        }
    }
}

fn unauthorized(error: &AuthError) -> Problem {
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{}\"", error.reason());
    let code = if *error == AuthError::Expired { error.code().name() } else { "invalid_token" };
    Problem::new(StatusCode::UNAUTHORIZED, code, error.to_string())
        .because(error.reason())
        .with_header(header::WWW_AUTHENTICATE, &challenge)
}

/// The user is told to come back when a socket that is gone without a word has been noticed.
fn too_many_sockets(error: &TooManySockets) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "limit_exceeded", error.to_string())
        .because("too_many_connections")
        .with_header(header::RETRY_AFTER, COME_BACK_S)
}
