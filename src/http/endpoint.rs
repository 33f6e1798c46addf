//! `Endpoint`: a path or several where clients connect, with a vocabulary and an access policy.

use std::sync::Arc;

use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::url;
use tidegate_vocabulary::Vocabulary;
use tidegate_vocabulary::binding::Binding;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::model::NoMatch;
use tidegate_vocabulary::placeholder::Placeholder;
use tidegate_vocabulary::time_format::TimeFormat;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::Version;

use crate::auth::policy::Policy;
use crate::auth::policy::Via;
use crate::config::endpoint::access::HintSource;
use crate::http::origin::OriginPolicy;
use crate::http::problem::Problem;
use crate::net::peer::Peer;

/// One or more paths where clients connect, with a vocabulary and an access policy.
#[derive(Clone, Debug)]
pub struct Endpoint {
    kind: EndpointKind,
    /// Decides which clients may connect, with a credential and without.
    pub policy: Arc<Policy>,
    /// The same for each path of the vocabulary, in its order.
    path_policies: Vec<Arc<Policy>>,
    /// Decides which pages may talk to this endpoint.
    pub origins: Arc<OriginPolicy>,
}

/// Paths and their vocabulary.
#[derive(Clone, Debug)]
enum EndpointKind {
    /// One of Tidegate's own vocabularies, at one path.
    BuiltIn { path: String, vocabulary: Vocabulary },
    /// A vocabulary from a file, with the paths in that file.
    File {
        number: VocabularyId,
        vocabulary: Arc<CompiledVocabulary>,
        identity_hint: Option<Arc<Placeholder>>,
    },
}

/// A request that may be a handshake.
#[derive(Clone, Copy)]
pub struct HandshakeRequest<'r> {
    pub method: &'r Method,
    pub version: Version,
    /// The path, not decoded.
    pub path: &'r str,
    /// The query string, without `?`.
    pub query: Option<&'r str>,
    pub headers: &'r HeaderMap,
    /// The address at the other end of the socket: the client, or a proxy.
    pub peer: Peer,
    /// Whether it is the first request of its socket.
    pub is_first: bool,
}

impl Endpoint {
    /// An endpoint with one of Tidegate's own vocabularies.
    pub fn built_in(path: String, vocabulary: Vocabulary, policy: Policy, origins: OriginPolicy) -> Self {
        let policy = Arc::new(policy.for_endpoint(&path));
        let (kind, origins) = (EndpointKind::BuiltIn { path, vocabulary }, Arc::new(origins));
        Self { kind, policy, path_policies: Vec::new(), origins }
    }

    /// An endpoint with the vocabulary of a file; `number` is its place in `Vocabularies`.
    pub fn from_file(
        number: VocabularyId,
        vocabulary: Arc<CompiledVocabulary>,
        policy: Policy,
        origins: OriginPolicy,
    ) -> Self {
        let of_message =
            policy.identity_hint(Via::Socket).filter(|claimed| claimed.source == HintSource::Message);
        let identity_hint = of_message
            .and_then(|claimed| Placeholder::parse(&claimed.to_string(), TimeFormat::default()).ok())
            .map(Arc::new);
        let policy = policy.for_endpoint(&vocabulary.name);
        let at_paths = vocabulary.paths.iter().map(|path| Arc::new(policy.at_path(&path.name)));
        let path_policies = at_paths.collect();
        let kind = EndpointKind::File { number, vocabulary, identity_hint };
        Self { kind, policy: Arc::new(policy), path_policies, origins: Arc::new(origins) }
    }

    /// The policy for a client with this vocabulary: that of the path that it has connected to.
    pub fn policy_for(&self, vocabulary: &Vocabulary) -> &Arc<Policy> {
        match vocabulary {
            Vocabulary::Described(binding) => self.policy_at(binding),
            Vocabulary::Native | Vocabulary::Echo(_) => &self.policy,
        }
    }

    /// The policies of the endpoint and of its paths.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        std::iter::once(&self.policy).chain(&self.path_policies)
    }

    /// The policy at the path of this binding.
    pub fn policy_at(&self, binding: &Binding) -> &Arc<Policy> {
        self.path_policies.get(usize::from(binding.path.0)).unwrap_or(&self.policy)
    }

    /// The path, if the vocabulary is Tidegate's native one.
    pub fn native_path(&self) -> Option<&str> {
        match &self.kind {
            EndpointKind::BuiltIn { path, vocabulary: Vocabulary::Native } => Some(path),
            EndpointKind::BuiltIn { .. } | EndpointKind::File { .. } => None,
        }
    }

    /// The number and the vocabulary of the file, if the vocabulary is from one.
    pub fn file(&self) -> Option<(VocabularyId, &Arc<CompiledVocabulary>)> {
        match &self.kind {
            EndpointKind::BuiltIn { .. } => None,
            EndpointKind::File { number, vocabulary, .. } => Some((*number, vocabulary)),
        }
    }

    /// Whether the vocabulary has HTTP calls.
    pub fn has_calls(&self) -> bool {
        self.file().is_some_and(|(_, vocabulary)| !vocabulary.http_routes.is_empty())
    }

    /// Whether this path is one of the endpoint's.
    pub fn is_at(&self, path: &str) -> bool {
        match &self.kind {
            EndpointKind::BuiltIn { path: own, .. } => own == path,
            EndpointKind::File { vocabulary, .. } => vocabulary.paths.iter().any(|rule| rule.is_at(path)),
        }
    }

    /// The template of this path, as the configuration or the vocabulary's file has it, if it is one of the endpoint's
    /// or of its calls.
    pub fn template_of(&self, path: &str) -> Option<&str> {
        match &self.kind {
            EndpointKind::BuiltIn { path: own, .. } => (own == path).then_some(own),
            EndpointKind::File { vocabulary, .. } => {
                let of_socket =
                    vocabulary.paths.iter().find(|rule| rule.is_at(path)).map(|rule| &*rule.template);
                of_socket.or_else(|| vocabulary.http_template(path))
            }
        }
    }

    /// Whether a client that offers these subprotocols asks for this endpoint's vocabulary.
    pub fn speaks_one_of<'o>(&self, mut offered: impl Iterator<Item = &'o str>) -> bool {
        match &self.kind {
            EndpointKind::BuiltIn { vocabulary, .. } => {
                let own = vocabulary.subprotocols();
                offered.any(|name| own.contains(&name))
            }
            EndpointKind::File { vocabulary, .. } => {
                offered.any(|name| vocabulary.subprotocols.iter().any(|own| **own == *name))
            }
        }
    }

    /// The vocabulary for this request, bound to the parameters of its path and query.
    pub fn bind(&self, handshake_request: &HandshakeRequest<'_>) -> Result<Vocabulary, Problem> {
        let (number, vocabulary, identity_hint) = match &self.kind {
            EndpointKind::BuiltIn { vocabulary, .. } => return Ok(vocabulary.clone()),
            EndpointKind::File { number, vocabulary, identity_hint } => (*number, vocabulary, identity_hint),
        };
        let header = |name: &str| Some(handshake_request.headers.get(name)?.as_bytes());
        let binding = vocabulary.bind(number, handshake_request.path, handshake_request.query, header).map_err(|none| match none {
            NoMatch::UnknownPath => {
            let detail = "this node serves nothing at this path: check the URL";
            Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
            }
            NoMatch::BadValue => {
                let detail = "a parameter in the path has a value that is not allowed there: use only letters, digits \
                 and _-=@:/+^&#~";
                Problem::new(StatusCode::BAD_REQUEST, "bad_path", detail)
            }
            NoMatch::BadParameter(wrong) => Problem::new(StatusCode::BAD_REQUEST, "bad_request", wrong),
        })?;
        Ok(Vocabulary::Described(Arc::new(Binding { identity_hint: identity_hint.clone(), ..binding })))
    }

    pub fn credential_in_request(&self, handshake_request: &HandshakeRequest<'_>) -> Option<String> {
        let vocabulary = self.bind(handshake_request).ok()?;
        self.credential_in_query(&vocabulary, handshake_request.query)
    }

    /// The credential in the query, if the vocabulary allows one there.
    pub fn credential_in_query(&self, vocabulary: &Vocabulary, query: Option<&str>) -> Option<String> {
        let name = credential_parameter(vocabulary)?;
        url::query_value(query?, name).filter(|token| !token.is_empty())
    }

    /// The user that a client without a credential claims in path or query, if the policy trusts such claims.
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

/// The query parameter that may hold a credential.
pub fn credential_parameter(vocabulary: &Vocabulary) -> Option<&str> {
    let Vocabulary::Described(binding) = vocabulary else { return None };
    binding.path_rule()?.token_query.as_deref()
}

/// Whether the path that the client has chosen permits this identity.
pub fn permits(vocabulary: &Vocabulary, identity: &Identity) -> bool {
    vocabulary.dialect().permits(SessionScope { identity: Some(identity), ..SessionScope::default() })
}

/// Whether a client may connect without a credential and authenticate with a message.
pub fn can_authenticate_later(vocabulary: &Vocabulary) -> bool {
    let Vocabulary::Described(binding) = vocabulary else { return true };
    binding.can_authenticate()
}
