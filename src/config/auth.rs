//! `[auth]`: which tokens are accepted, and where a token has the client's role.

pub mod algorithm;
pub mod api_key;
pub mod issuer;
pub mod key;
pub mod remote_keys;
pub mod service;
mod texts;

use std::path::PathBuf;
use std::time::Duration;

use tidegate_document::diagnostic::ValueError;
use tidegate_protocol::permissions::Role;

use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::algorithm::public_algorithm;
use crate::config::auth::api_key::ApiKeyConfig;
use crate::config::auth::issuer::IssuerConfig;
use crate::config::auth::issuer::IssuerDefaults;
use crate::config::auth::key::KeyConfig;
use crate::config::auth::remote_keys::RemoteKeysConfig;
use crate::config::auth::service::ServiceConfig;
use crate::config::auth::texts::claim;
use crate::config::auth::texts::claim_or_none;
use crate::config::auth::texts::cookie;
use crate::config::auth::texts::token_type;
use crate::config::auth::texts::without_blanks;
use crate::config::role;
use crate::config::role::Fillable;
use crate::config::table::ConfigTable;

/// The longest validity of a ticket, in seconds. Nodes keep tickets for this time.
pub const MAX_TICKET_S: u64 = 60;

#[derive(Clone, Debug, PartialEq)]
pub struct AuthConfig {
    /// The issuer that a token must have. Empty: any.
    pub issuer: String,
    /// The audience that a token must have. Empty: only tokens without an audience.
    pub audience: String,
    /// The claim with the user, whose name may then have any characters. Empty: `sub`, which must be one token.
    pub user_claim: String,
    /// The path of the claim with the role or roles, with dots.
    pub role_claim: String,
    /// The role of tokens without that claim. Empty: they are rejected.
    pub default_role: String,
    /// The role of clients without a credential. Empty: a credential is required.
    pub anonymous_role: String,
    /// The name of the cookie that holds a token. Empty: cookies are not read.
    pub cookie: String,
    /// How long a ticket is valid. Zero: there are no tickets.
    pub ticket: Duration,
    pub leeway: Duration,
    /// Zero: no limit.
    pub max_token_lifetime: Duration,
    pub max_token_bytes: usize,
    /// How many verified tokens are cached. 0: none.
    pub token_cache: usize,
    /// The accepted types of token. Empty: any.
    pub token_types: Vec<String>,
    /// The claim with the type of a token. Empty: the header `typ`.
    pub token_type_claim: String,
    pub keys: Vec<KeyConfig>,
    /// The keys that the issuer publishes.
    pub remote_keys: Option<RemoteKeysConfig>,
    /// The algorithms that published keys may have. Empty: all with public keys.
    pub algorithms: Vec<KeyAlgorithm>,
    /// The certificates to trust when keys are fetched, in PEM. `None`: those of the system.
    pub jwks_ca_file: Option<PathBuf>,
    /// How often published keys are fetched.
    pub jwks_refresh: Duration,
    /// The shortest time between two fetches because of a token with an unknown key.
    pub jwks_min_refetch: Duration,
    /// The issuers, if there are several: then `issuer`, `keys` and `remote_keys` are empty, and the other fields are
    /// defaults of theirs.
    pub issuers: Vec<IssuerConfig>,
    /// API keys of programs that have no token.
    pub api_keys: Vec<ApiKeyConfig>,
    /// The service that judges all credentials that none of the keys can verify. `None`: they are rejected.
    pub service: Option<ServiceConfig>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            user_claim: String::new(),
            role_claim: "role".to_owned(),
            default_role: String::new(),
            anonymous_role: String::new(),
            cookie: String::new(),
            ticket: Duration::from_secs(30),
            leeway: Duration::from_secs(5),
            max_token_lifetime: Duration::ZERO,
            max_token_bytes: 8192,
            token_cache: 32_768,
            token_types: Vec::new(),
            token_type_claim: String::new(),
            keys: Vec::new(),
            remote_keys: None,
            algorithms: Vec::new(),
            jwks_ca_file: None,
            jwks_refresh: Duration::from_secs(600),
            jwks_min_refetch: Duration::from_secs(30),
            issuers: Vec::new(),
            api_keys: Vec::new(),
            service: None,
        }
    }
}

impl AuthConfig {
    /// Whether the names of users are encoded in subjects.
    pub fn encodes_users(&self) -> bool {
        !self.user_claim.is_empty()
    }

    /// All issuers: the list, or else the one that the other fields describe.
    pub fn all_issuers(&self) -> Vec<IssuerConfig> {
        if !self.issuers.is_empty() {
            return self.issuers.clone();
        }
        vec![IssuerConfig {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            user_prefix: String::new(),
            role_claim: self.role_claim.clone(),
            default_role: self.default_role.clone(),
            token_types: self.token_types.clone(),
            token_type_claim: self.token_type_claim.clone(),
            keys: self.keys.clone(),
            remote_keys: self.remote_keys.clone(),
        }]
    }

    /// What an issuer in the list has unless it says otherwise.
    fn issuer_defaults(&self) -> IssuerDefaults {
        IssuerDefaults {
            audience: self.audience.clone(),
            role_claim: self.role_claim.clone(),
            default_role: self.default_role.clone(),
            token_types: self.token_types.clone(),
            token_type_claim: self.token_type_claim.clone(),
            algorithms: self.algorithms.clone(),
            jwks_ca_file: self.jwks_ca_file.clone(),
        }
    }

    pub(super) fn read(table: &ConfigTable<'_>, roles: &[Role]) -> Self {
        let default = Self::default();
        let year = 365 * 24 * 3600;
        // One key is a text for one issuer, or a list of tables for several.
        let has_list = table.is_list("issuer");
        let auth = Self {
            issuer: if has_list && !table.is_survey() {
                String::new()
            } else {
                table.parsed("issuer", default.issuer, without_blanks)
            },
            audience: table.parsed("audience", default.audience, without_blanks),
            user_claim: table.parsed("user_claim", default.user_claim, |text| {
                claim_or_none(text, "write a claim such as \"email\" or \"sub\"")
            }),
            role_claim: table.parsed("role_claim", default.role_claim, claim),
            default_role: table
                .parsed("default_role", default.default_role, |text| role::default_role(text, roles)),
            anonymous_role: table
                .parsed("anonymous_role", default.anonymous_role, |text| anonymous_role(text, roles)),
            cookie: table.parsed("cookie", default.cookie, cookie),
            ticket: table.duration("ticket_s", default.ticket, 0..=MAX_TICKET_S),
            leeway: table.duration("leeway_s", default.leeway, 0..=300),
            max_token_lifetime: table.duration(
                "max_token_lifetime_s",
                default.max_token_lifetime,
                0..=10 * year,
            ),
            max_token_bytes: table.count("max_token_bytes", default.max_token_bytes, 256..=65_536),
            token_cache: table.count("token_cache", default.token_cache, 0..=4_194_304),
            token_types: table.list("token_types", token_type).unwrap_or(default.token_types),
            token_type_claim: table.parsed("token_type_claim", default.token_type_claim, |text| {
                claim_or_none(text, "write a claim such as \"token_type\"")
            }),
            algorithms: table.list("algorithms", public_algorithm).unwrap_or(default.algorithms),
            jwks_ca_file: remote_keys::ca_file(table),
            jwks_refresh: table.duration("jwks_refresh_s", default.jwks_refresh, 10..=86_400),
            jwks_min_refetch: table.duration("jwks_min_refetch_s", default.jwks_min_refetch, 1..=3600),
            api_keys: api_key::read(table, roles),
            service: table.section("service", service::read),
            keys: Vec::new(),
            remote_keys: None,
            issuers: Vec::new(),
        };
        let issuers = if has_list { issuer::read(table, &auth.issuer_defaults(), roles) } else { Vec::new() };
        if has_list && !table.is_survey() {
            return Self { issuers, ..auth };
        }
        let keys = key::keys(table);
        issuer::check_algorithms(table, &keys, &auth.algorithms);
        let ca_file = auth.jwks_ca_file.clone();
        let remote_keys = remote_keys::read(table, &auth.issuer, &auth.algorithms, ca_file);
        Self { keys, remote_keys: remote_keys.ok().flatten(), ..auth }
    }
}

fn anonymous_role(text: &str, roles: &[Role]) -> Result<String, ValueError> {
    if text.is_empty() { Ok(String::new()) } else { role::named(text, roles, Fillable::Nothing) }
}
