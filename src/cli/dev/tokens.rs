//! The tokens that `tidegate dev` prints.

use std::borrow::Cow;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context as _;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::permissions::Permissions;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::is_user;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::PlaceholderValue;

use crate::auth::jwt;
use crate::cli::claims;
use crate::cli::signing_key::SigningKey;
use crate::cli::signing_key::signing_key;
use crate::config::Config;

const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// A user that gets a token.
#[derive(Clone)]
pub(super) struct TokenUser {
    pub(super) user: String,
    pub(super) role: String,
}

/// A user with its token.
pub(super) struct PrintedToken {
    pub(super) user: String,
    pub(super) role: String,
    pub(super) text: String,
    permissions: Permissions,
}

impl TokenUser {
    pub(super) fn new(user: &str, role: &str) -> Self {
        Self { user: user.to_owned(), role: role.to_owned() }
    }

    /// This user with a token that the configuration accepts.
    pub(super) fn with_token(self, config: &Config) -> anyhow::Result<PrintedToken> {
        let text = token(config, &self.user, &self.role)?;
        let role =
            config.roles.iter().find(|role| role.name == self.role).context("there is no such role")?;
        let prefix = signing_key(&config.auth).map(|key| key.issuer.user_prefix).unwrap_or_default();
        let user = format!("{prefix}{}", self.user);
        let permissions = permissions(role, Some(&user)).unwrap_or_default();
        Ok(PrintedToken { user, role: self.role, text, permissions })
    }
}

impl PrintedToken {
    /// Whether it is for HTTP calls only.
    pub(super) fn is_for_calls_only(&self) -> bool {
        self.permissions.subscribe.allow.is_empty()
    }

    pub(super) fn may_read(&self, subject: &Pattern) -> bool {
        self.permissions.decide(Operation::Subscribe, subject).is_allowed()
    }
}

/// One user for each role of the configuration that a token with nothing but a user and a role can have. The roles of
/// clients without a credential need no token.
pub(super) fn users_of(config: &Config) -> Vec<TokenUser> {
    let anonymous: Vec<&str> = anonymous_roles(config).collect();
    let roles = config
        .roles
        .iter()
        .filter(|role| !anonymous.contains(&&*role.name) && role.required_placeholders().all(is_user));
    roles
        .map(|role| TokenUser::new(if role.name == "user" { "demo" } else { &role.name }, &role.name))
        .collect()
}

/// The roles of WebSocket clients without a credential.
pub(super) fn anonymous_roles(config: &Config) -> impl Iterator<Item = &str> {
    let of_endpoints = config
        .endpoints
        .iter()
        .map(|endpoint| endpoint.access.anonymous_role.as_deref().unwrap_or(&config.auth.anonymous_role));
    of_endpoints.filter(|role| !role.is_empty())
}

/// Whether a client with this role and no credential may read a subject.
pub(super) fn may_anonymous_read(config: &Config, role: &str, subject: &Pattern) -> bool {
    let role = config.roles.iter().find(|known| known.name == role);
    let permissions = role.and_then(|role| permissions(role, None));
    permissions.is_some_and(|permissions| permissions.decide(Operation::Subscribe, subject).is_allowed())
}

/// What a role allows this user. `None` if it needs more than the user.
fn permissions(role: &Role, user: Option<&str>) -> Option<Permissions> {
    role.fill(|name| user.filter(|_| is_user(name)).map(|user| PlaceholderValue::One(Cow::Borrowed(user))))
        .ok()
}

/// A token that this configuration accepts.
fn token(config: &Config, user: &str, role: &str) -> anyhow::Result<String> {
    let auth = &config.auth;
    let SigningKey { issuer, key, secret } =
        signing_key(auth).context("there is no key to sign the token with")?;
    let longest = Some(auth.max_token_lifetime).filter(|longest| !longest.is_zero());
    let lifetime = longest.map_or(TOKEN_LIFETIME, |longest| longest.min(TOKEN_LIFETIME));
    let claims = claims::claims(auth, &issuer, user, &[role.to_owned()], lifetime, SystemTime::now());
    Ok(jwt::mint_as(key.algorithm, claims::header_type(&issuer), &secret, Some(&key.kid), &claims)?)
}
