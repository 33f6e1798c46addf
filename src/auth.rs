//! `Authenticator`: turns a credential into an `Identity`, or into an `AuthError` with the reason.

pub mod api_key;
pub mod cache;
pub mod claims;
pub mod credential;
pub mod error;
pub mod jwt;
pub mod policy;
pub mod private_key;
pub mod roles;
pub mod setup_error;
pub mod unverified_token;
pub mod user;

use std::sync::Arc;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Role;

use crate::auth::api_key::ApiKeys;
use crate::auth::cache::CacheAnswer;
use crate::auth::cache::Revocation;
use crate::auth::cache::TokenCache;
use crate::auth::cache::TokenDigest;
use crate::auth::cache::VerifiedToken;
use crate::auth::error::AuthError;
use crate::auth::jwt::VerificationKeys;
use crate::auth::roles::Roles;
use crate::auth::setup_error::AuthSetupError;
use crate::auth::setup_error::wrong_role;
use crate::auth::user::User;
use crate::auth::user::UserEncoding;
use crate::config::auth::AuthConfig;

/// Built once and shared by all threads. Its keys, roles and rules never change. To change them, build another
/// authenticator, whose token cache is empty, and replace this one (`node::authenticator`).
#[derive(Debug)]
pub struct Authenticator {
    config: AuthConfig,
    issuer: Arc<str>,
    /// The role of tokens without a role claim.
    default_role: Option<Arc<str>>,
    keys: VerificationKeys,
    roles: Roles,
    api_keys: ApiKeys,
    anonymous: Option<Arc<Identity>>,
    cache: Option<TokenCache>,
    exposed_claims: Vec<Box<str>>,
}

/// Which kinds of credentials are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcceptedCredentials {
    Tokens,
    TokensAndApiKeys,
}

impl Authenticator {
    /// Checks all keys and roles, so that errors show at startup.
    pub fn new(mut config: AuthConfig, roles: Vec<Role>) -> Result<Self, AuthSetupError> {
        let keys = VerificationKeys::new(std::mem::take(&mut config.keys))?;
        let roles = Roles::new(roles)?;
        let issuer: Arc<str> = Arc::from(config.issuer.as_str());
        let encoding = user_encoding(&config);
        let api_keys = std::mem::take(&mut config.api_keys);
        let api_keys = ApiKeys::new(api_keys, encoding, &roles, user_issuer(&issuer))?;
        let anonymous = match config.anonymous_role.as_str() {
            "" => None,
            role => {
                let identity = roles.anonymous(role);
                Some(Arc::new(identity.map_err(|problem| wrong_role("auth.anonymous_role", role, problem))?))
            }
        };
        let default_role = roles.default_role("auth.default_role", &config.default_role)?;
        let cache = (config.token_cache > 0).then(|| TokenCache::new(config.token_cache));
        let exposed_claims = Vec::new();
        Ok(Self { config, issuer, default_role, keys, roles, api_keys, anonymous, cache, exposed_claims })
    }

    /// Copies these claims of each token into the `Identity`, because vocabularies use them.
    pub fn with_exposed_claims(self, claims: Vec<Box<str>>) -> Self {
        Self { exposed_claims: claims, ..self }
    }

    /// The identity of this credential at the time `now`. A credential with two dots is a token, and any other is an API
    /// key. Keys are looked up by hash, so a mistyped key and one that never existed get the same error.
    pub fn identify(
        &self,
        credential: &str,
        accepts: AcceptedCredentials,
        now: SystemTime,
    ) -> Result<Arc<Identity>, AuthError> {
        self.identify_with(credential, accepts, self.default_role.as_deref(), now)
    }

    /// The same where tokens without a role claim have the role `default_role`.
    fn identify_with(
        &self,
        credential: &str,
        accepts: AcceptedCredentials,
        default_role: Option<&str>,
        now: SystemTime,
    ) -> Result<Arc<Identity>, AuthError> {
        match accepts {
            AcceptedCredentials::TokensAndApiKeys if !is_token(credential) => {
                let max = self.config.max_token_bytes;
                if credential.len() > max {
                    return Err(AuthError::TooLong { max });
                }
                self.api_keys.find(credential).ok_or(AuthError::UnknownApiKey)
            }
            AcceptedCredentials::Tokens | AcceptedCredentials::TokensAndApiKeys => {
                self.authenticate_with(credential, default_role, now)
            }
        }
    }

    /// The identity of this token at the time `now`. The result is the same whether the token is cached or not.
    pub fn authenticate(&self, token: &str, now: SystemTime) -> Result<Arc<Identity>, AuthError> {
        self.authenticate_with(token, self.default_role.as_deref(), now)
    }

    fn authenticate_with(
        &self,
        token: &str,
        default_role: Option<&str>,
        now: SystemTime,
    ) -> Result<Arc<Identity>, AuthError> {
        let max = self.config.max_token_bytes;
        if token.len() > max {
            return Err(AuthError::TooLong { max });
        }
        let Some(cache) = &self.cache else {
            return self.verify(token, default_role, now).map(|verified| verified.identity);
        };
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let digest = TokenDigest::of(token, default_role.unwrap_or_default());
        match cache.find(&digest, since_1970) {
            Some(CacheAnswer::Identity(identity)) => return Ok(identity),
            Some(CacheAnswer::Expired) => return Err(AuthError::Expired),
            None => {}
        }
        let revocations = cache.revocation_count();
        let verified = self.verify(token, default_role, now).inspect_err(|error| {
            if *error == AuthError::Expired {
                cache.insert_expired(digest, since_1970, revocations);
            }
        })?;
        let identity = Arc::clone(&verified.identity);
        cache.insert(digest, verified, since_1970, revocations);
        Ok(identity)
    }

    /// Removes tokens from the cache, so that they are verified again; returns how many.
    pub fn forget(&self, revocation: Revocation<'_>) -> usize {
        self.cache.as_ref().map_or(0, |cache| cache.revoke(revocation))
    }

    /// The number of tokens in the cache.
    pub fn cached_tokens(&self) -> usize {
        self.cache.as_ref().map_or(0, TokenCache::len)
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
    ) -> Result<VerifiedToken, AuthError> {
        let claims = jwt::verify(token, &self.keys, &self.config)?;
        let AuthConfig { token_type_claim, token_types, .. } = &self.config;
        if !token_type_claim.is_empty() {
            claims.check_type(token_type_claim, token_types)?;
        }
        let validity = claims.check_times(&self.config, now)?;
        let issuer = claims.check_issuer(&self.config.issuer)?;
        claims.check_audience(&self.config.audience)?;
        let user = match self.config.user_claim.as_str() {
            "" => User { name: Arc::from(claims.subject()?), encoded: None },
            claim => claims.user(claim)?,
        };
        let role_claim = &self.config.role_claim;
        let (roles, permissions) = self.roles.entitlements(&claims, &user, role_claim, default_role)?;
        let issuer = issuer.map(|issuer| self.shared_issuer(issuer));
        let expires = Some(validity.expires()?);
        let jti_hash = claims.id().and_then(|jti| self.cache.as_ref().map(|cache| cache.hash_jti(jti)));
        Ok(VerifiedToken {
            identity: Arc::new(Identity {
                user: user.name,
                encoded_user: user.encoded,
                roles,
                permissions,
                issuer,
                claims: claims.select(&self.exposed_claims).map(Arc::from),
                expires,
                anonymous: false,
            }),
            from: validity.from,
            until: validity.until,
            issued: validity.issued,
            jti_hash,
        })
    }

    /// The issuer of users without a token: the required issuer, if there is one. Then the same name with a token is the
    /// same user.
    fn user_issuer(&self) -> Option<Arc<str>> {
        user_issuer(&self.issuer).cloned()
    }

    fn shared_issuer(&self, issuer: &str) -> Arc<str> {
        if *issuer == *self.issuer { Arc::clone(&self.issuer) } else { issuer.into() }
    }
}

fn user_encoding(config: &AuthConfig) -> UserEncoding {
    if config.encodes_users() { UserEncoding::Encoded } else { UserEncoding::Verbatim }
}

fn user_issuer(required: &Arc<str>) -> Option<&Arc<str>> {
    Some(required).filter(|issuer| !issuer.is_empty())
}

/// RFC 7515 §3.1: a JWT has two dots. A credential with more is a malformed token, not a key.
fn is_token(credential: &str) -> bool {
    credential.bytes().filter(|byte| *byte == b'.').count() >= 2
}

#[cfg(test)]
pub(crate) mod tests;
