//! Endpoint: where clients come to, what is spoken there, and who comes in.

use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::url;
use tidegate_vocabulary::Vocabulary;
use tidegate_vocabulary::binding::Binding;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::model::NoMatch;
use tidegate_vocabulary::placeholder::Placeholder;
use tidegate_vocabulary::placeholder::TimeFormat;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::Version;

use crate::auth::policy::Policy;
use crate::auth::policy::Via;
use crate::config::endpoint::access::HintSource;
use crate::http::error::Problem;

/// Where clients come to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    way: Way,
    /// Who comes in.
    pub policy: Arc<Policy>,
}

/// What is spoken where.
#[derive(Clone, Debug)]
enum Way {
    /// One of Tidegate's own vocabularies, at one path.
    Plain { path: String, vocabulary: Vocabulary },
    /// One that a file describes, with the paths that it names.
    Described { number: u16, described: Arc<CompiledVocabulary>, identity_hint: Option<Arc<Placeholder>> },
}

/// A request that may be a handshake.
#[derive(Clone, Copy)]
pub struct HandshakeRequest<'r> {
    /// Its method.
    pub method: &'r Method,
    /// Its version.
    pub version: Version,
    /// The path, as it was sent.
    pub path: &'r str,
    /// What is behind it.
    pub query: Option<&'r str>,
    /// Its headers.
    pub headers: &'r HeaderMap,
    /// Who is at the other end of the socket.
    pub peer: SocketAddr,
}

impl Endpoint {
    /// One that speaks a vocabulary of Tidegate's own.
    pub fn plain(path: String, vocabulary: Vocabulary, policy: Policy) -> Self {
        let policy = Arc::new(policy.at(&path));
        Self { way: Way::Plain { path, vocabulary }, policy }
    }

    /// One that speaks what a file describes, the vocabulary with that number.
    pub fn described(number: u16, described: Arc<CompiledVocabulary>, policy: Policy) -> Self {
        let of_message =
            policy.identity_hint(Via::Socket).filter(|claimed| claimed.source == HintSource::Message);
        let identity_hint = of_message
            .and_then(|claimed| Placeholder::parse(&claimed.to_string(), TimeFormat::default()).ok())
            .map(Arc::new);
        let policy = Arc::new(policy.at(&described.name));
        Self { way: Way::Described { number, described, identity_hint }, policy }
    }

    /// The vocabulary of its file, with its number, if it has one.
    pub fn file(&self) -> Option<(u16, &Arc<CompiledVocabulary>)> {
        match &self.way {
            Way::Plain { .. } => None,
            Way::Described { number, described, .. } => Some((*number, described)),
        }
    }

    /// Whether HTTP requests may ask for something there.
    pub fn has_calls(&self) -> bool {
        self.file().is_some_and(|(_, described)| !described.calls.is_empty())
    }

    /// Whether clients come to it by this path.
    pub fn is_at(&self, path: &str) -> bool {
        match &self.way {
            Way::Plain { path: own, .. } => own == path,
            Way::Described { described, .. } => described.paths.iter().any(|rule| rule.is_at(path)),
        }
    }

    /// What is spoken with a client that has come.
    pub fn enter(&self, handshake_request: &HandshakeRequest<'_>) -> Result<Vocabulary, Problem> {
        let (number, described, identity_hint) = match &self.way {
            Way::Plain { vocabulary, .. } => return Ok(vocabulary.clone()),
            Way::Described { number, described, identity_hint } => (*number, described, identity_hint),
        };
        let header = |name: &str| handshake_request.headers.get(name)?.to_str().ok();
        let binding = described.enter(number, handshake_request.path, handshake_request.query, header).map_err(|none| match none {
            NoMatch::Elsewhere => Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here"),
            NoMatch::BadValue => {
                let detail = "a part of the path cannot be what this frontend expects there: one word of letters, \
                              digits and _-=@:/+^&#~";
                Problem::new(StatusCode::BAD_REQUEST, "bad_path", detail)
            }
        })?;
        Ok(Vocabulary::Described(Arc::new(Binding { identity_hint: identity_hint.clone(), ..binding })))
    }

    /// The credential in the query of a request, for logs.
    pub fn credential_of(&self, handshake_request: &HandshakeRequest<'_>) -> Option<String> {
        let vocabulary = self.enter(handshake_request).ok()?;
        self.credential_in_query(&vocabulary, handshake_request.query)
    }

    /// The credential in the query, where the vocabulary takes one.
    pub fn credential_in_query(&self, vocabulary: &Vocabulary, query: Option<&str>) -> Option<String> {
        let name = query_of_credential(vocabulary)?;
        url::in_query(query?, name).filter(|token| !token.is_empty())
    }

    /// The user that a client without a credential names in the path or the query, where the endpoint trusts that.
    pub fn claimed_user(&self, via: Via, binding: &Binding) -> Option<String> {
        let claimed = self.policy.identity_hint(via)?;
        let given = match claimed.source {
            HintSource::Path => &binding.parameters,
            HintSource::Query => &binding.query,
            HintSource::Message => return None,
        };
        given.get(&claimed.name).map(str::to_owned)
    }
}

/// The parameter of the query that may hold a credential.
pub fn query_of_credential(vocabulary: &Vocabulary) -> Option<&str> {
    let Vocabulary::Described(binding) = vocabulary else { return None };
    binding.rules()?.token_query.as_deref()
}

/// Whether somebody may be where they have come to.
pub fn permits(vocabulary: &Vocabulary, identity: &Identity) -> bool {
    vocabulary.dialect().permits(SessionScope { identity: Some(identity), ..SessionScope::default() })
}

/// Whether a client without an identity can get one by what it says.
pub fn can_wait(vocabulary: &Vocabulary) -> bool {
    let Vocabulary::Described(binding) = vocabulary else { return true };
    binding.can_authenticate()
}
