//! `Authenticator`: a credential becomes an `Identity`, or an `AuthError` that says what was wrong with it.

pub mod api_key;
pub mod cache;
pub mod claims;
pub mod credential;
pub mod jwt;
pub mod policy;
pub mod roles;

use std::sync::Arc;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use thiserror::Error;

use crate::auth::api_key::ApiKeys;
use crate::auth::cache::Found;
use crate::auth::cache::Revocation;
use crate::auth::cache::TokenCache;
use crate::auth::cache::TokenDigest;
use crate::auth::cache::VerifiedToken;
use crate::auth::jwt::KeyError;
use crate::auth::jwt::Keys;
use crate::auth::roles::RoleError;
use crate::auth::roles::Roles;
use crate::config::auth::AuthConfig;
use crate::protocol::error::ErrorCode;
use crate::protocol::identity::Identity;
use crate::protocol::permissions::Role;
use crate::protocol::template::TemplateError;

/// Built once and shared by all threads. Keys, roles and rules never change in it: whoever changes them builds another,
/// which knows nothing of the tokens that this one has verified.
#[derive(Debug)]
pub struct Authenticator {
    config: AuthConfig,
    issuer: Arc<str>,
    keys: Keys,
    roles: Roles,
    api_keys: ApiKeys,
    anonymous: Option<Arc<Identity>>,
    cache: Option<TokenCache>,
    told: Vec<Box<str>>,
}

/// What is taken for a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepts {
    Tokens,
    TokensAndApiKeys,
}

impl Authenticator {
    /// Checks everything that can be wrong with keys and roles before the first client comes.
    pub fn new(mut config: AuthConfig, roles: Vec<Role>) -> Result<Self, AuthSetupError> {
        let keys = Keys::new(std::mem::take(&mut config.keys))?;
        let roles = Roles::new(roles)?;
        let issuer: Arc<str> = Arc::from(config.issuer.as_str());
        let api_keys = ApiKeys::new(std::mem::take(&mut config.api_keys), &roles, user_issuer(&issuer))?;
        let anonymous = match config.anonymous_role.as_str() {
            "" => None,
            role => {
                let identity = roles.anonymous(role);
                Some(Arc::new(identity.map_err(|problem| wrong_role("auth.anonymous_role", role, problem))?))
            }
        };
        let cache = (config.token_cache > 0).then(|| TokenCache::new(config.token_cache));
        Ok(Self { config, issuer, keys, roles, api_keys, anonymous, cache, told: Vec::new() })
    }

    /// The same, which tells these claims of a token beside who it is: vocabularies speak of them.
    pub fn telling(self, claims: Vec<Box<str>>) -> Self {
        Self { told: claims, ..self }
    }

    /// Who comes with this credential, at the time `now`. What has two dots is a token, wherever it comes from; a key
    /// is known by its hash alone, and nothing tells one that is wrong from one that there never was.
    pub fn identify(
        &self,
        credential: &str,
        accepts: Accepts,
        now: SystemTime,
    ) -> Result<Arc<Identity>, AuthError> {
        match accepts {
            Accepts::TokensAndApiKeys if !is_token(credential) => {
                let max = self.config.max_token_bytes;
                if credential.len() > max {
                    return Err(AuthError::TooLong { max });
                }
                self.api_keys.find(credential).ok_or(AuthError::UnknownApiKey)
            }
            Accepts::Tokens | Accepts::TokensAndApiKeys => self.authenticate(credential, now),
        }
    }

    /// Who holds this token, at the time `now`. The answer is the same whether the token is remembered or not.
    pub fn authenticate(&self, token: &str, now: SystemTime) -> Result<Arc<Identity>, AuthError> {
        let max = self.config.max_token_bytes;
        if token.len() > max {
            return Err(AuthError::TooLong { max });
        }
        let Some(cache) = &self.cache else {
            return self.verify(token, now).map(|verified| verified.identity);
        };
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let digest = TokenDigest::of(token);
        match cache.find(&digest, since_1970) {
            Some(Found::Identity(identity)) => return Ok(identity),
            Some(Found::Expired) => return Err(AuthError::Expired),
            None => {}
        }
        let known = cache.known();
        let verified = self.verify(token, now).inspect_err(|error| {
            if *error == AuthError::Expired {
                cache.insert_expired(digest, since_1970, known);
            }
        })?;
        let identity = Arc::clone(&verified.identity);
        cache.insert(digest, verified, since_1970, known);
        Ok(identity)
    }

    /// Forgets tokens that were verified, so that they are verified when they come again; gives back how many.
    pub fn forget(&self, revocation: Revocation<'_>) -> usize {
        self.cache.as_ref().map_or(0, |cache| cache.revoke(revocation))
    }

    /// How many tokens are remembered.
    pub fn remembered(&self) -> usize {
        self.cache.as_ref().map_or(0, TokenCache::len)
    }

    /// Who connects without a credential; `None` if a credential is required.
    pub fn anonymous(&self) -> Option<Arc<Identity>> {
        self.anonymous.clone()
    }

    fn verify(&self, token: &str, now: SystemTime) -> Result<VerifiedToken, AuthError> {
        let claims = jwt::verify(token, &self.keys, &self.config)?;
        let life = claims.check_times(&self.config, now)?;
        let issuer = claims.check_issuer(&self.config.issuer)?;
        claims.check_audience(&self.config.audience)?;
        let user = Arc::from(claims.subject()?);
        let (roles, permissions) = self.roles.entitlements(&claims, &self.config.role_claim)?;
        let issuer = issuer.map(|issuer| self.shared_issuer(issuer));
        let expires = Some(life.expires()?);
        let name = claims.id().and_then(|jti| self.cache.as_ref().map(|cache| cache.name(jti)));
        Ok(VerifiedToken {
            identity: Arc::new(Identity {
                user,
                roles,
                permissions,
                issuer,
                claims: claims.only(&self.told).map(Arc::from),
                expires,
                anonymous: false,
            }),
            from: life.from,
            until: life.until,
            issued: life.issued,
            name,
        })
    }

    /// Who comes without a token is a user of the one issuer that is believed, if there is one: the same name is the
    /// same user, who may come with a token too.
    fn user_issuer(&self) -> Option<Arc<str>> {
        user_issuer(&self.issuer).cloned()
    }

    fn shared_issuer(&self, issuer: &str) -> Arc<str> {
        if *issuer == *self.issuer { Arc::clone(&self.issuer) } else { issuer.into() }
    }
}

/// Why a token was refused. Messages never contain the token or a value from it.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum AuthError {
    #[error("the token has more than {max} bytes; make it smaller or raise auth.max_token_bytes")]
    TooLong { max: usize },
    #[error("the token is malformed: {problem}")]
    Malformed { problem: &'static str },
    #[error("the token is malformed: its {part} {how}")]
    Unreadable { part: &'static str, how: &'static str },
    #[error("the token names no key that is configured; set its \"kid\" to that of an [[auth.key]]")]
    UnknownKey,
    #[error("the token's \"alg\" is not the algorithm of its key; sign it with the one in [[auth.key]]")]
    WrongAlgorithm,
    #[error("the token has a \"crit\" header, and no critical extension is supported; issue it without")]
    CriticalHeader,
    #[error("the token wraps another token (\"cty\" is \"JWT\"); send the inner one")]
    NestedToken,
    #[error("the token's \"typ\" is not in auth.token_types; send the right kind of token")]
    WrongTokenType,
    #[error(
        "the token's signature does not fit its key; check that issuer and Tidegate have the same secret"
    )]
    BadSignature,
    #[error("the token lacks the claim \"{claim}\"; let the issuer add it")]
    MissingClaim { claim: String },
    #[error("the token's claim \"{claim}\" has the wrong type or an impossible value")]
    BadClaim { claim: String },
    #[error(
        "the token's \"{claim}\" counts milliseconds; it must count seconds since 1970 (RFC 7519), so divide it by 1000"
    )]
    Milliseconds { claim: &'static str },
    #[error("the token has expired; get a new one")]
    Expired,
    #[error("the token's \"nbf\" lies in the future; wait, or set the clocks right")]
    NotYetValid,
    #[error("the token's \"iat\" lies in the future; set the clocks right")]
    IssuedInFuture,
    #[error("the token lives longer than auth.max_lifetime allows; issue it for a shorter time")]
    LivesTooLong,
    #[error("the token's \"iss\" is not auth.issuer")]
    WrongIssuer,
    #[error(
        "the token's \"aud\" does not name auth.audience; set that key to the audience that tokens are issued for"
    )]
    WrongAudience,
    #[error(
        "the token's \"sub\" cannot be part of a subject; it must have 1 to 128 characters, only letters, digits \
         and \"_-=@:\""
    )]
    BadSubject,
    #[error(
        "the token has no role: its claim \"{claim}\" is absent or empty; let the issuer add it, or name the claim that \
         has the role with auth.role_claim"
    )]
    MissingRole { claim: String },
    #[error("the token's claim \"{claim}\" names no [[role]] that is configured; names are compared exactly")]
    NoRole { claim: String },
    #[error("the role \"{role}\" cannot be filled from the token: {problem}")]
    RoleTemplate { role: String, problem: TemplateError },
    #[error("the token cannot be signed: {problem}")]
    Signing { problem: String },
    #[error("this is no token, and no API key that is configured; send one of them, whole")]
    UnknownApiKey,
    #[error("a credential is required here; send a token")]
    NotBelieved,
    #[error(
        "the user's name cannot be part of a subject; it must have 1 to 128 characters, only letters, digits and \
         \"_-=@:\""
    )]
    BadUser,
}

impl AuthError {
    /// What a client is told to act on.
    pub fn code(&self) -> ErrorCode {
        if *self == Self::Expired { ErrorCode::TokenExpired } else { ErrorCode::Unauthorized }
    }

    /// A stable word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Malformed { .. } | Self::Unreadable { .. } => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::CriticalHeader => "critical_header",
            Self::NestedToken => "nested_token",
            Self::WrongTokenType => "wrong_token_type",
            Self::BadSignature => "bad_signature",
            Self::MissingClaim { .. } => "missing_claim",
            Self::BadClaim { .. } => "bad_claim",
            Self::Milliseconds { .. } => "milliseconds",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::LivesTooLong => "lives_too_long",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::BadSubject => "bad_subject_token",
            Self::MissingRole { .. } => "missing_role",
            Self::NoRole { .. } => "unknown_role",
            Self::RoleTemplate { problem, .. } => template_reason(problem),
            Self::Signing { .. } => "signing_failed",
            Self::UnknownApiKey => "unknown_api_key",
            Self::NotBelieved => "not_believed",
            Self::BadUser => "bad_user",
        }
    }
}

/// Why `[auth]` and `[[role]]` cannot be used. Each message names the key and the fix.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum AuthSetupError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("a [[role]] has no name; set `name` to what tokens say")]
    UnnamedRole,
    #[error(
        "[[role]] \"{name}\" stands there twice; give each role its own name or put their rules together"
    )]
    DuplicateRole { name: String },
    #[error("{key} is \"{role}\", {problem}")]
    Role { key: String, role: String, problem: RoleError },
}

fn user_issuer(required: &Arc<str>) -> Option<&Arc<str>> {
    Some(required).filter(|issuer| !issuer.is_empty())
}

fn wrong_role(key: &str, role: &str, problem: RoleError) -> AuthSetupError {
    AuthSetupError::Role { key: key.to_owned(), role: role.to_owned(), problem }
}

/// A JWT has two dots (RFC 7515 §3.1). What has more is no key either.
fn is_token(credential: &str) -> bool {
    credential.bytes().filter(|byte| *byte == b'.').count() >= 2
}

fn template_reason(error: &TemplateError) -> &'static str {
    match error {
        TemplateError::Missing { .. } => "missing_claim",
        TemplateError::BadToken { .. } => "bad_subject_token",
        TemplateError::TooManyValues { .. } => "too_many_values",
        TemplateError::Unclosed
        | TemplateError::Unopened
        | TemplateError::BadHole { .. }
        | TemplateError::TwoHoles { .. }
        | TemplateError::Pattern(_) => "bad_template",
    }
}

#[cfg(test)]
pub(crate) mod tests;
