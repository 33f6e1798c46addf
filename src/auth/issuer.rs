//! `Issuers`: whose tokens are accepted. A key of one issuer never verifies a token of another, and users of two issuers
//! never have the same name.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::auth::claims::Claims;
use crate::auth::error::AuthError;
use crate::auth::jwt::Jws;
use crate::auth::key_source::KeySource;
use crate::auth::key_source::KeySourceSettings;
use crate::auth::keys::ClaimRules;
use crate::auth::keys::VerificationKey;
use crate::auth::keys::VerificationKeys;
use crate::auth::roles::Roles;
use crate::auth::setup_error::AuthSetupError;
use crate::auth::user::User;
use crate::auth::user::UserEncoding;
use crate::config::auth::AuthConfig;
use crate::config::auth::issuer::IssuerConfig;

/// All issuers; at least one.
#[derive(Debug)]
pub struct Issuers {
    issuers: Vec<Issuer>,
    encoding: UserEncoding,
    user_claim: String,
}

/// One issuer.
#[derive(Debug)]
pub struct Issuer {
    /// Shared by the identities of its users.
    name: Arc<str>,
    /// Its keys are in the other fields.
    pub config: IssuerConfig,
    /// The role of tokens without a role claim.
    pub default_role: Option<Arc<str>>,
    keys: VerificationKeys,
    /// The keys that it publishes.
    source: Option<Arc<KeySource>>,
}

/// The result of looking for the key of a token.
#[derive(Debug)]
pub enum KeyLookup<'i> {
    Found(Arc<VerificationKey>),
    /// The issuer has no such key.
    Unknown,
    /// The token names no key, and the issuer has several.
    Unnamed,
    /// The issuer may have published it since the last fetch.
    NotFetched(&'i Arc<KeySource>),
}

impl Issuers {
    /// Checks the keys of all issuers. `earlier` are sources to take over, so that their keys need not be fetched again.
    pub fn new(
        config: &AuthConfig,
        roles: &Roles,
        earlier: &[Arc<KeySource>],
    ) -> Result<Self, AuthSetupError> {
        let is_list = !config.issuers.is_empty();
        let encoding = if config.encodes_users() { UserEncoding::Encoded } else { UserEncoding::Verbatim };
        let build = |issuer: IssuerConfig| {
            let name = issuer.issuer.clone();
            Issuer::new(issuer, config, roles, earlier).map_err(|problem| match is_list {
                true => AuthSetupError::OfIssuer { issuer: name, problem: Box::new(problem) },
                false => problem,
            })
        };
        let issuers = config.all_issuers().into_iter().map(build).collect::<Result<_, _>>()?;
        Ok(Self { issuers, encoding, user_claim: config.user_claim.clone() })
    }

    /// The configurations of all issuers, without their keys.
    pub fn configs(&self) -> impl Iterator<Item = &IssuerConfig> + Clone {
        self.issuers.iter().map(|issuer| &issuer.config)
    }

    /// The issuer of a token: the only one, or the one that the token names. The token is not verified yet.
    pub fn of_token(&self, token: &Jws<'_>) -> Result<&Issuer, AuthError> {
        if let [only] = self.issuers.as_slice() {
            return Ok(only);
        }
        let claims = token.unverified_claims()?;
        let named = claims.issuer()?.ok_or_else(|| AuthError::MissingClaim { claim: "iss".to_owned() })?;
        self.issuers.iter().find(|issuer| *issuer.name == *named).ok_or(AuthError::WrongIssuer)
    }

    /// The user of a token of this issuer: its prefix and the name in the token.
    pub fn user(&self, issuer: &Issuer, claims: &Claims) -> Result<User, AuthError> {
        let prefix = &issuer.config.user_prefix;
        let user = match self.user_claim.as_str() {
            "" => claims.subject().map(|name| User { name: Arc::from(name), encoded: None })?,
            claim => claims.user(claim)?,
        };
        let user = if prefix.is_empty() {
            user
        } else {
            let name = format!("{prefix}{}", user.name);
            User::new(&name, self.encoding).ok_or(AuthError::BadUser)?
        };
        // A user of the issuer without a prefix may not have the name of a user of another.
        if !std::ptr::eq(self.of_user(&user.name), issuer) {
            return Err(AuthError::UserOfAnotherIssuer);
        }
        Ok(user)
    }

    /// The issuer to which a user with this name belongs. It decides by the prefix.
    fn of_user(&self, name: &str) -> *const Issuer {
        let prefixed = |issuer: &&Issuer| {
            let prefix = &issuer.config.user_prefix;
            !prefix.is_empty() && name.starts_with(prefix.as_str())
        };
        let plain = |issuer: &&Issuer| issuer.config.user_prefix.is_empty();
        let found = self.issuers.iter().find(prefixed).or_else(|| self.issuers.iter().find(plain));
        found.map_or(std::ptr::null(), std::ptr::from_ref)
    }

    /// The issuer of a user without a token, who is the same user as one with a token of that issuer. `None` if any
    /// issuer may have the user.
    pub fn name_of_user(&self, name: &str) -> Option<&Arc<str>> {
        let of_user = self.of_user(name);
        let issuer = self.issuers.iter().find(|issuer| std::ptr::eq(*issuer, of_user))?;
        Some(&issuer.name).filter(|name| !name.is_empty())
    }

    /// Whether there is a key that can verify tokens, or an issuer that publishes some.
    pub fn have_keys(&self) -> bool {
        self.issuers.iter().any(|issuer| issuer.source.is_some() || !issuer.keys.is_empty())
    }

    /// How names become tokens of subjects.
    pub fn encoding(&self) -> UserEncoding {
        self.encoding
    }

    /// The sources of published keys.
    pub fn key_sources(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        self.issuers.iter().filter_map(|issuer| issuer.source.as_ref())
    }
}

impl Issuer {
    fn new(
        config: IssuerConfig,
        auth: &AuthConfig,
        roles: &Roles,
        earlier: &[Arc<KeySource>],
    ) -> Result<Self, AuthSetupError> {
        let mut config = config;
        let rules = ClaimRules {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            needs_subject: !auth.encodes_users(),
        };
        let keys = VerificationKeys::new(std::mem::take(&mut config.keys), &rules)?;
        let source = config.remote_keys.take().map(|remote| {
            let (refresh, min_refetch) = (auth.jwks_refresh, auth.jwks_min_refetch);
            let settings = KeySourceSettings { remote, rules, refresh, min_refetch };
            let same = earlier.iter().find(|source| source.settings == settings).cloned();
            same.unwrap_or_else(|| {
                let keys = earlier.iter().find(|source| source.settings.reads_same_keys_as(&settings));
                let keys = keys.and_then(|source| source.keys());
                Arc::new(KeySource::new(settings, keys, Instant::now()))
            })
        });
        Ok(Self {
            name: Arc::from(config.issuer.as_str()),
            default_role: roles.default_role("auth.default_role", &config.default_role)?,
            config,
            keys,
            source,
        })
    }

    /// The key with this `kid`; without `kid`, the only key there is.
    pub fn find_key(&self, kid: Option<&str>) -> KeyLookup<'_> {
        let found = |key: &Arc<VerificationKey>| KeyLookup::Found(Arc::clone(key));
        let Some(source) = &self.source else {
            let absent =
                if kid.is_none() && self.keys.len() > 1 { KeyLookup::Unnamed } else { KeyLookup::Unknown };
            let key = kid.map_or_else(|| self.keys.only(), |kid| self.keys.get(kid));
            return key.map_or(absent, found);
        };
        let published = source.keys();
        match (kid, published) {
            (Some(kid), published) => {
                let key = self.keys.get(kid);
                let key = key.or_else(|| published.as_ref().and_then(|published| published.get(kid)));
                key.map_or(KeyLookup::NotFetched(source), found)
            }
            (None, None) => KeyLookup::NotFetched(source),
            // With several keys, another fetch would not tell which one it is.
            (None, Some(published)) => match (self.keys.len(), published.len()) {
                (1, 0) => self.keys.only().map_or(KeyLookup::Unknown, found),
                (0, 1) => published.only().map_or(KeyLookup::Unknown, found),
                (0, 0) => KeyLookup::NotFetched(source),
                _ => KeyLookup::Unnamed,
            },
        }
    }

    /// The `iss` of an identity: shared, or that of the token if any is accepted.
    pub fn name_in(&self, claimed: Option<&str>) -> Option<Arc<str>> {
        let claimed = claimed?;
        Some(if *claimed == *self.name { Arc::clone(&self.name) } else { claimed.into() })
    }
}

/// A token whose key must be fetched first.
#[derive(Debug)]
pub struct PendingKeys {
    source: Arc<KeySource>,
}

impl PendingKeys {
    pub fn new(source: &Arc<KeySource>) -> Self {
        Self { source: Arc::clone(source) }
    }

    /// Waits for the fetch, if one is possible now. Then identify the client again.
    pub async fn wait(&self) {
        self.source.wait_for_fetch(Instant::now()).await;
    }

    /// The error if the key is still not there.
    pub fn refusal(&self) -> AuthError {
        match self.source.keys() {
            Some(_) => AuthError::UnknownKey,
            None => {
                let retry_after: Duration = self.source.retry_after(Instant::now());
                AuthError::KeysUnavailable { retry_after }
            }
        }
    }
}
