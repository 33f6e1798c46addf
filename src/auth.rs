//! `Authenticator`: turns a credential into an `Identity`, or into an `AuthError` with the reason.

pub mod api_key;
pub mod cache;
pub mod claim_argument;
pub mod claims;
pub mod credential;
pub mod decisions;
pub mod error;
pub mod explanation;
pub mod issuer;
pub mod jwt;
pub mod key_fetcher;
pub mod key_set;
pub mod key_source;
pub mod keys;
pub mod policy;
pub mod private_key;
pub mod revocation;
pub mod roles;
pub mod service;
pub mod setup_error;
pub mod shares;
pub mod ticket;
pub mod unverified_token;
pub mod user;

use std::sync::Arc;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Role;

use crate::auth::api_key::ApiKeys;
use crate::auth::cache::CacheAnswer;
use crate::auth::cache::CacheCounts;
use crate::auth::cache::StaleTokens;
use crate::auth::cache::TokenCache;
use crate::auth::cache::TokenDigest;
use crate::auth::cache::VerifiedToken;
use crate::auth::error::AuthError;
use crate::auth::issuer::Issuers;
use crate::auth::issuer::KeyLookup;
use crate::auth::issuer::PendingKeys;
use crate::auth::jwt::Jws;
use crate::auth::jwt::SignedClaims;
use crate::auth::key_source::KeySource;
use crate::auth::roles::Roles;
use crate::auth::service::ConnectService;
use crate::auth::setup_error::AuthSetupError;
use crate::auth::setup_error::wrong_role;
use crate::auth::user::User;
use crate::auth::user::UserEncoding;
use crate::config::auth::AuthConfig;
use crate::config::auth::issuer::IssuerConfig;

/// Built once and shared by all threads. Its roles and rules never change; of its keys, only those that issuers publish.
/// To change them, build another authenticator, whose token cache is empty, and replace this one
/// (`Node::current_authenticator`).
#[derive(Debug)]
pub struct Authenticator {
    /// Without keys, which are in `issuers` and `api_keys`.
    config: AuthConfig,
    issuers: Issuers,
    roles: Roles,
    api_keys: ApiKeys,
    anonymous: Option<Arc<Identity>>,
    cache: Option<TokenCache>,
    exposed_claims: Vec<Box<str>>,
    /// Judges the credentials that none of the keys can verify.
    service: Option<Arc<ConnectService>>,
}

/// Which kinds of credentials are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcceptedCredentials {
    Tokens,
    TokensAndApiKeys,
}

impl Authenticator {
    /// Checks all keys and roles, so that errors show at startup.
    pub fn new(config: AuthConfig, roles: Vec<Role>) -> Result<Self, AuthSetupError> {
        Self::reusing(config, roles, &[])
    }

    /// The same. It takes over those of the earlier sources of published keys whose settings are the same, so that their
    /// keys need not be fetched again.
    pub fn reusing(
        mut config: AuthConfig,
        roles: Vec<Role>,
        earlier: &[Arc<KeySource>],
    ) -> Result<Self, AuthSetupError> {
        let roles = Roles::new(roles)?;
        let issuers = Issuers::new(&config, &roles, earlier)?;
        (config.keys, config.issuers) = (Vec::new(), Vec::new());
        let api_keys = ApiKeys::new(std::mem::take(&mut config.api_keys), &roles, &issuers)?;
        let anonymous = match config.anonymous_role.as_str() {
            "" => None,
            role => {
                let identity = roles.anonymous(role);
                Some(Arc::new(identity.map_err(|problem| wrong_role("auth.anonymous_role", role, problem))?))
            }
        };
        let cache = (config.token_cache > 0).then(|| TokenCache::new(config.token_cache));
        let exposed_claims = Vec::new();
        let service = config.service.take().map(|service| Arc::new(ConnectService::new(service)));
        Ok(Self { config, issuers, roles, api_keys, anonymous, cache, exposed_claims, service })
    }

    /// Copies these claims of each token into the `Identity`, because vocabularies use them.
    pub fn with_exposed_claims(self, claims: Vec<Box<str>>) -> Self {
        Self { exposed_claims: claims, ..self }
    }

    /// The configurations of all issuers, without their keys.
    pub fn issuer_configs(&self) -> impl Iterator<Item = &IssuerConfig> + Clone {
        self.issuers.configs()
    }

    /// The sources of published keys. `key_fetcher::run` must run for each.
    pub fn key_sources(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        self.issuers.key_sources()
    }

    /// The identity of this credential at the time `now`. A credential with two dots is a token, and any other is an API
    /// key. Keys are looked up by hash, so a mistyped key and one that never existed get the same error.
    pub fn identify(
        &self,
        credential: &str,
        accepts: AcceptedCredentials,
        now: SystemTime,
    ) -> Result<Arc<Identity>, AuthError> {
        self.identify_with(credential, accepts, None, now).map_err(Unidentified::into_refusal)
    }

    /// The service that judges the credentials that none of the keys can verify.
    pub fn service(&self) -> Option<&Arc<ConnectService>> {
        self.service.as_ref()
    }

    /// The same where tokens without a role claim have the role `default_role`; `None`: the default role of their issuer.
    fn identify_with(
        &self,
        credential: &str,
        accepts: AcceptedCredentials,
        default_role: Option<&str>,
        now: SystemTime,
    ) -> Result<Arc<Identity>, Unidentified> {
        let is_token = is_token(credential);
        // Without keys, the service judges tokens too.
        if is_token && (self.service.is_none() || self.issuers.have_keys()) {
            return self.authenticate_with(credential, default_role, now);
        }
        let max = self.config.max_token_bytes;
        if credential.len() > max {
            return Err(AuthError::TooLong { max }.into());
        }
        let of_key = self.api_keys.find(credential).filter(|_| !is_token);
        match (of_key, &self.service, accepts) {
            (Some(identity), _, AcceptedCredentials::TokensAndApiKeys) => Ok(identity),
            // No service learns a key that is known here.
            (Some(_), _, AcceptedCredentials::Tokens) => Err(AuthError::ApiKeysNotAccepted.into()),
            // The error says what is wrong with it as a token.
            (None, None, AcceptedCredentials::Tokens) => {
                self.authenticate_with(credential, default_role, now)
            }
            (None, Some(service), _) => Err(Unidentified::NeedsService(Arc::clone(service))),
            (None, None, AcceptedCredentials::TokensAndApiKeys) => Err(AuthError::UnknownApiKey.into()),
        }
    }

    /// The identity of this token at the time `now`. The result is the same whether the token is cached or not.
    pub fn authenticate(&self, token: &str, now: SystemTime) -> Result<Arc<Identity>, AuthError> {
        self.authenticate_with(token, None, now).map_err(Unidentified::into_refusal)
    }

    fn authenticate_with(
        &self,
        token: &str,
        default_role: Option<&str>,
        now: SystemTime,
    ) -> Result<Arc<Identity>, Unidentified> {
        let max = self.config.max_token_bytes;
        if token.len() > max {
            return Err(AuthError::TooLong { max }.into());
        }
        let Some(cache) = &self.cache else {
            return self.verify(token, default_role, now).map(|verified| verified.identity);
        };
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let digest = TokenDigest::of(token, default_role.unwrap_or_default());
        match cache.find(&digest, since_1970) {
            Some(CacheAnswer::Identity(identity)) => return Ok(identity),
            Some(CacheAnswer::Expired) => return Err(AuthError::Expired.into()),
            None => {}
        }
        let removals = cache.removal_count();
        let verified = self.verify(token, default_role, now).inspect_err(|error| {
            if matches!(error, Unidentified::Refused(AuthError::Expired)) {
                cache.insert_expired(digest, since_1970, removals);
            }
        })?;
        let identity = Arc::clone(&verified.identity);
        cache.insert(digest, verified, since_1970, removals);
        Ok(identity)
    }

    /// Whether a user can have this name. Otherwise says which names users have.
    pub fn check_user(&self, name: &str) -> Result<(), &'static str> {
        let encoding = self.issuers.encoding();
        User::new(name, encoding).map(drop).ok_or(match encoding {
            UserEncoding::Verbatim => "it must have 1 to 128 characters, only letters, digits and `_-=@:`",
            UserEncoding::Encoded => {
                "it must be text without quotation marks, backslashes and control characters, of 1 to 128 bytes as a token"
            }
        })
    }

    /// Removes tokens from the cache, so that they are verified again; returns how many.
    pub fn forget(&self, stale: StaleTokens<'_>) -> usize {
        self.cache.as_ref().map_or(0, |cache| cache.forget(stale))
    }

    /// The name of the cookie that may hold a token. Empty: cookies are not read.
    pub fn cookie(&self) -> &str {
        &self.config.cookie
    }

    /// The number of tokens in the cache.
    pub fn cached_tokens(&self) -> usize {
        self.cache.as_ref().map_or(0, TokenCache::len)
    }

    /// How often tokens were in the cache.
    pub fn cache_counts(&self) -> CacheCounts {
        self.cache.as_ref().map(TokenCache::counts).unwrap_or_default()
    }

    /// The identity of clients without a credential; `None` if a credential is required.
    pub fn anonymous(&self) -> Option<Arc<Identity>> {
        self.anonymous.clone()
    }

    fn verify(
        &self,
        token: &str,
        default_role: Option<&str>,
        now: SystemTime,
    ) -> Result<VerifiedToken, Unidentified> {
        let token = Jws::parse(token, self.config.max_token_bytes)?;
        let issuer = self.issuers.of_token(&token)?;
        let rules = &issuer.config;
        if rules.token_type_claim.is_empty() {
            token.check_type(&rules.token_types)?;
        }
        let key = match issuer.find_key(token.kid()?) {
            KeyLookup::Found(key) => key,
            KeyLookup::Unknown => return Err(AuthError::UnknownKey.into()),
            KeyLookup::Unnamed => return Err(AuthError::UnnamedKey.into()),
            KeyLookup::NotFetched(source) => return Err(Unidentified::NeedsKeys(PendingKeys::new(source))),
        };
        let SignedClaims { claims, objection } = token.verify(&key)?;
        if !rules.token_type_claim.is_empty() {
            claims.check_type(&rules.token_type_claim, &rules.token_types)?;
        }
        let validity = claims.check_times(&self.config, now)?;
        let claimed_issuer = claims.check_issuer(&rules.issuer)?;
        claims.check_audience(&rules.audience)?;
        let user = self.issuers.user(issuer, &claims)?;
        if let Some(objection) = objection {
            return Err(objection.into());
        }
        let default_role = default_role.or(issuer.default_role.as_deref());
        let (roles, permissions) =
            self.roles.entitlements(&claims, &user, &rules.role_claim, default_role)?;
        let expires = Some(validity.expires()?);
        Ok(VerifiedToken {
            identity: Arc::new(Identity {
                user: user.name,
                encoded_user: user.encoded,
                roles,
                permissions,
                issuer: issuer.name_in(claimed_issuer),
                claims: claims.select(&self.exposed_claims).map(Arc::new),
                channels: None,
                expires,
                token_id: claims.id().map(Arc::from),
                issued: validity.issued.and_then(|issued| UNIX_EPOCH.checked_add(issued)),
                anonymous: false,
            }),
            from: validity.from,
            until: validity.until,
        })
    }
}

/// Why a client has no identity.
#[derive(Debug)]
pub enum Unidentified {
    Refused(AuthError),
    /// The issuer of the token may have published the key since the last fetch. Wait for that, and try again once.
    NeedsKeys(PendingKeys),
    /// The service must judge the credential. It alone can say more.
    NeedsService(Arc<ConnectService>),
}

impl Unidentified {
    /// The error for the client, if it does not wait any more.
    pub fn into_refusal(self) -> AuthError {
        match self {
            Self::Refused(error) => error,
            Self::NeedsKeys(pending) => pending.refusal(),
            Self::NeedsService(_) => AuthError::NeedsService,
        }
    }
}

impl From<AuthError> for Unidentified {
    fn from(error: AuthError) -> Self {
        Self::Refused(error)
    }
}

/// RFC 7515 §3.1: a JWT has two dots. A credential with more is a malformed token, not a key.
fn is_token(credential: &str) -> bool {
    credential.bytes().filter(|byte| *byte == b'.').count() >= 2
}

#[cfg(test)]
pub(crate) mod tests;
