//! Door: who comes in by a handshake, in the order in which that is decided: the node's limits, the shape of the
//! request, the credential.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use thiserror::Error;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::auth::credential;
use crate::auth::credential::CredentialError;
use crate::auth::credential::Presented;
use crate::auth::error::AuthError;
use crate::auth::policy::Entrance;
use crate::auth::setup_error::AuthSetupError;
use crate::config::endpoint::EndpointConfig;
use crate::config::endpoint::VocabularyFile;
use crate::http::endpoint;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::Knock;
use crate::http::error::Problem;
use crate::http::extensions;
use crate::http::extensions::Agreed;
use crate::http::extensions::Compression;
use crate::http::handshake;
use crate::http::proxies::Proxies;
use crate::node::Node;
use crate::node::admission::Turn;
use crate::node::permit::Permit;
use crate::node::slots::Slot;
use crate::node::users::TooManySockets;
use crate::node::users::UserKey;
use crate::protocol::frame::Encoding;
use crate::protocol::identity::Identity;
use crate::shard::nodes::Nodes;
use crate::vocabulary::Vocabulary;
use crate::vocabulary::entered::Entered;

/// After how many seconds somebody may try again who has too many sockets.
const COME_BACK_S: &str = "30";

/// How often, and after which pauses, a seat is looked for.
const SEAT_TRIES: u32 = 10;
const SEAT_PAUSE: Duration = Duration::from_millis(25);

/// The endpoints of one listener, and what is asked of those who come to them.
#[derive(Debug)]
pub struct Door {
    endpoints: Vec<Endpoint>,
    /// The node that they belong to.
    pub node: Arc<Node>,
    /// What it and other nodes know together.
    pub nodes: Nodes,
    /// Whose word is taken for where clients are.
    pub proxies: Proxies,
    compression: Compression,
}

/// Why there is no door.
#[derive(Debug, Error)]
pub enum DoorError {
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

/// What a good handshake is answered with, and who came.
#[derive(Debug)]
pub struct Welcome {
    /// The answer.
    pub answer: Response,
    /// What is spoken.
    pub vocabulary: Vocabulary,
    /// How publications are put into bytes for the client.
    pub encoding: Encoding,
    /// Who it is, if a credential came with the handshake or none is needed.
    pub identity: Option<Arc<Identity>>,
}

impl Door {
    /// The door of a listener: `None` is `http.listen`. What is counted is counted for all doors together.
    pub fn new(
        endpoints: &[EndpointConfig],
        listen: Option<SocketAddr>,
        node: &Arc<Node>,
        nodes: &Nodes,
    ) -> Result<Self, DoorError> {
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
            nodes: nodes.clone(),
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

    /// Looks at the request of somebody who was admitted.
    pub fn judge(&self, endpoint: &Endpoint, knock: &Knock<'_>) -> Result<Welcome, Problem> {
        let headers = knock.headers;
        let key = handshake::key(knock.method, knock.version, headers)?;
        let authorization = authorization(headers)?;
        let protocols: Result<Vec<_>, _> =
            headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().map(header::HeaderValue::to_str).collect();
        let protocols = protocols.map_err(|_| unreadable("Sec-WebSocket-Protocol"))?;
        let vocabulary = endpoint.enter(knock)?;
        let presented = presented(authorization, protocols.into_iter(), &vocabulary.subprotocols())?;
        let subprotocol = handshake::subprotocol(&presented.subprotocols, &vocabulary)?;
        let agreed = extensions::negotiate(headers, self.compression)?;
        let in_query;
        let token = match presented.token() {
            Some(token) => Some(token),
            None => {
                in_query = endpoint.credential_in_query(&vocabulary, knock.query);
                in_query.as_deref()
            }
        };
        let identity = self.identify(endpoint, &vocabulary, token)?;
        let answer = handshake::accept(key, subprotocol, agreed.and_then(Agreed::answer));
        let encoding = agreed.map_or(Encoding::JsonText, Agreed::encoding);
        Ok(Welcome { answer, vocabulary, encoding, identity })
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

    /// Who calls, by the header `Authorization`, or because a name is enough, or none is needed.
    pub fn identify_caller(
        &self,
        endpoint: &Endpoint,
        headers: &HeaderMap,
        entered: &Entered,
    ) -> Result<Option<Arc<Identity>>, Problem> {
        let presented = presented(authorization(headers)?, std::iter::empty(), &[])?;
        self.who(endpoint, Entrance::Http, Some(entered), presented.token())
    }

    /// Who comes with this credential; without one, who is believed, or nobody if that is enough.
    fn who(
        &self,
        endpoint: &Endpoint,
        entrance: Entrance,
        entered: Option<&Entered>,
        token: Option<&str>,
    ) -> Result<Option<Arc<Identity>>, Problem> {
        let (authenticator, policy) = (self.node.authenticator(), &endpoint.policy);
        match (token, entered.and_then(|entered| endpoint.believed(entrance, entered))) {
            (Some(token), _) => {
                let known = authenticator.admit(policy, entrance, token, SystemTime::now());
                known.map(Some).map_err(|error| unauthorized(&error))
            }
            (None, Some(user)) => {
                let known = authenticator.believe(policy, &user).map(Some);
                known.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_user", error.to_string()))
            }
            (None, None) => Ok(policy.anonymous(entrance)),
        }
    }

    fn identify(
        &self,
        endpoint: &Endpoint,
        vocabulary: &Vocabulary,
        token: Option<&str>,
    ) -> Result<Option<Arc<Identity>>, Problem> {
        let entered = if let Vocabulary::Described(entered) = vocabulary { Some(&**entered) } else { None };
        let identity = self.who(endpoint, Entrance::Socket, entered, token)?;
        match &identity {
            Some(identity) if !endpoint::permits(vocabulary, identity) => {
                let detail = "this path is another user's: the credential must be that user's";
                Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
            }
            None if !endpoint::can_wait(vocabulary) => {
                let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", ways_in(vocabulary));
                Err(problem.with_header(header::WWW_AUTHENTICATE, "Bearer"))
            }
            Some(_) | None => Ok(identity),
        }
    }
}

fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = values.next().map(header::HeaderValue::to_str);
    if values.next().is_some() {
        let detail = "the header `Authorization` stands there twice: send one credential";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_credential", detail));
    }
    authorization.transpose().map_err(|_| unreadable("Authorization"))
}

fn presented<'h>(
    authorization: Option<&str>,
    protocols: impl Iterator<Item = &'h str>,
    spoken: &[&str],
) -> Result<Presented, Problem> {
    credential::from_handshake(authorization, protocols).map_err(|error| {
        let mut detail = error.to_string();
        if let (CredentialError::OnlyBearerItem, Some(name)) = (error, spoken.first()) {
            detail += &format!(": \"{name}\"");
        }
        Problem::new(StatusCode::BAD_REQUEST, "bad_credential", detail)
    })
}

/// How a client may show a credential in a handshake with this vocabulary.
fn ways_in(vocabulary: &Vocabulary) -> String {
    let mut ways = "this endpoint needs a credential: the header `Authorization: Bearer <token>`".to_owned();
    if let Some(name) = vocabulary.subprotocols().first() {
        ways += &format!(
            "; in a browser the subprotocols [\"{name}\", \"base64url.bearer.<token>\"], the token in base64url without \
             padding"
        );
    }
    if let Some(parameter) = endpoint::query_of_credential(vocabulary) {
        ways += &format!("; or the parameter `?{parameter}=<token>` of the address");
    }
    ways
}

fn unreadable(name: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "bad_header",
        format!("`{name}` has characters that no header may have"),
    )
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
