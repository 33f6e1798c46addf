//! `Authenticator`: a credential becomes an `Identity`, or an `AuthError` that says what was wrong with it.

pub mod api_key;
pub mod cache;
pub mod claims;
pub mod credential;
pub mod error;
pub mod jwt;
pub mod policy;
pub mod roles;
pub mod setup_error;

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
use crate::config::auth::AuthConfig;

/// Built once and shared by all threads. Keys, roles and rules never change in it: whoever changes them builds another,
/// which knows nothing of the tokens that this one has verified,
/// and puts it in this one's place (`node::authenticator`).
#[derive(Debug)]
pub struct Authenticator {
    config: AuthConfig,
    issuer: Arc<str>,
    keys: VerificationKeys,
    roles: Roles,
    api_keys: ApiKeys,
    anonymous: Option<Arc<Identity>>,
    cache: Option<TokenCache>,
    outgoing: Vec<Box<str>>,
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
        let keys = VerificationKeys::new(std::mem::take(&mut config.keys))?;
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
        Ok(Self { config, issuer, keys, roles, api_keys, anonymous, cache, outgoing: Vec::new() })
    }

    /// The same, which tells these claims of a token next to who it is: vocabularies speak of them.
    pub fn telling(self, claims: Vec<Box<str>>) -> Self {
        Self { outgoing: claims, ..self }
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
            Some(CacheAnswer::Identity(identity)) => return Ok(identity),
            Some(CacheAnswer::Expired) => return Err(AuthError::Expired),
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
                claims: claims.only(&self.outgoing).map(Arc::from),
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

fn user_issuer(required: &Arc<str>) -> Option<&Arc<str>> {
    Some(required).filter(|issuer| !issuer.is_empty())
}

/// A JWT has two dots (RFC 7515 §3.1). What has more is no key either.
fn is_token(credential: &str) -> bool {
    credential.bytes().filter(|byte| *byte == b'.').count() >= 2
}

#[cfg(test)]
pub(crate) mod tests;
