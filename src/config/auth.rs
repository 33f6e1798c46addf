//! `[auth]`: which tokens are believed, and what they say about a client's role.

pub mod api_key;

use std::time::Duration;

use tidegate_document::diagnostic::Wrong;
use tidegate_document::section::choose;
use tidegate_protocol::permissions::Role;

use crate::config::auth::api_key::ApiKeyConfig;
use crate::config::reader::SetValue;
use crate::config::role;
use crate::config::role::Filled;
use crate::config::secret::Secret;
use crate::config::table::ConfigTable;
use crate::config::tree::Layer;

/// Secrets that are in documentation, ours and others': everyone has them.
pub const SAMPLE_SECRETS: [&str; 3] = [
    "replace-me-with-at-least-32-random-bytes",
    "a-string-secret-at-least-256-bits-long",
    "your-256-bit-secret-your-256-bit-secret",
];

const SHORTEST_SECRET: usize = 32;

/// Algorithms that other servers know, for a better answer than "unknown".
const NOT_YET: [&str; 12] = [
    "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
    "EdDSA",
];

#[derive(Clone, Debug, PartialEq)]
pub struct AuthConfig {
    /// Required in a token when not empty; so is the audience.
    pub issuer: String,
    pub audience: String,
    /// A dotted path to the claim with the role or roles.
    pub role_claim: String,
    /// The role of clients without a credential. Empty: a credential is required.
    pub anonymous_role: String,
    pub leeway: Duration,
    /// Zero: no cap.
    pub max_lifetime: Duration,
    pub max_token_bytes: usize,
    /// Verified tokens that are remembered. 0: none.
    pub token_cache: usize,
    /// The `typ` headers that are accepted. Empty: any.
    pub token_types: Vec<String>,
    pub keys: Vec<KeyConfig>,
    /// Keys of programs, which come with no token.
    pub api_keys: Vec<ApiKeyConfig>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KeyConfig {
    pub kid: String,
    pub algorithm: KeyAlgorithm,
    pub secret: Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    Hs256,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            role_claim: "role".to_owned(),
            anonymous_role: String::new(),
            leeway: Duration::from_secs(5),
            max_lifetime: Duration::ZERO,
            max_token_bytes: 8192,
            token_cache: 32_768,
            token_types: Vec::new(),
            keys: Vec::new(),
            api_keys: Vec::new(),
        }
    }
}

impl AuthConfig {
    pub(super) fn read(table: &ConfigTable<'_>, roles: &[Role]) -> Self {
        let default = Self::default();
        let year = 365 * 24 * 3600;
        Self {
            issuer: table.parsed("issuer", default.issuer, named),
            audience: table.parsed("audience", default.audience, named),
            role_claim: table.parsed("role_claim", default.role_claim, claim),
            anonymous_role: table
                .parsed("anonymous_role", default.anonymous_role, |text| anonymous_role(text, roles)),
            leeway: table.duration("leeway_s", default.leeway, 0..=300),
            max_lifetime: table.duration("max_lifetime_s", default.max_lifetime, 0..=10 * year),
            max_token_bytes: table.count("max_token_bytes", default.max_token_bytes, 256..=65_536),
            token_cache: table.count("token_cache", default.token_cache, 0..=4_194_304),
            token_types: table.list("token_types", token_type).unwrap_or(default.token_types),
            keys: keys(table),
            api_keys: api_key::read(table, roles),
        }
    }
}

/// `hmac_secret` represents the whole list of keys; from a stronger source than the file, it replaces the
/// list.
fn keys(table: &ConfigTable<'_>) -> Vec<KeyConfig> {
    let Some(short) = table.secret("hmac_secret", "hmac_secret_file") else {
        return listed_keys(table);
    };
    vet(table, &short);
    if short.layer > Layer::File {
        if table.has("key") {
            table.warning(
                "key",
                format!("the keys of this list are not used, because {} replaces them", short.key),
            );
        }
    } else if !listed_keys(table).is_empty() {
        let problem = format!("{} is set as well, and stands for the whole list of keys", short.key);
        table.mistake("key", problem, "keep one of them, and remove the other");
    }
    vec![KeyConfig { kid: "main".to_owned(), algorithm: KeyAlgorithm::Hs256, secret: short.value }]
}

fn listed_keys(table: &ConfigTable<'_>) -> Vec<KeyConfig> {
    let keys = table.tables("key", key).unwrap_or_default();
    let kids = keys.iter().map(|(path, key)| (path.as_str(), key.kid.as_str()));
    table.refuse_twins(kids, "kid", "give every key a kid of its own");
    keys.into_iter().map(|(_, key)| key).collect()
}

fn key(table: &ConfigTable<'_>) -> Option<KeyConfig> {
    let later = "algorithms with public keys";
    table.not_yet(&[("public_key", later), ("public_key_file", later), ("jwks_url", later)]);
    let kid = table.parsed("kid", "main".to_owned(), kid);
    let algorithm = table.parsed("algorithm", KeyAlgorithm::Hs256, algorithm);
    let Some(secret) = table.secret("secret", "secret_file") else {
        let cure = "set it to at least 32 random bytes (openssl rand -base64 48), or name a secret_file";
        table.mistake("secret", "is missing or empty", cure);
        return None;
    };
    vet(table, &secret);
    Some(KeyConfig { kid, algorithm, secret: secret.value })
}

/// RFC 7518 §3.2: the key is at least as long as the hash. RFC 8725 §3.5: it is not a word of people.
fn vet(table: &ConfigTable<'_>, secret: &SetValue<Secret>) {
    let text = secret.value.expose();
    let cure = "use at least 32 random bytes of your own: openssl rand -base64 48";
    if SAMPLE_SECRETS.contains(&text) {
        let problem = "the secret is a sample out of documentation, which everyone has";
        table.refuse_found(secret, Wrong::new(problem, cure));
    } else if !text.is_empty() && text.len() < SHORTEST_SECRET {
        let problem =
            format!("the secret has {} bytes, and HS256 needs at least {SHORTEST_SECRET}", text.len());
        table.refuse_found(secret, Wrong::new(problem, cure));
    }
}

fn algorithm(text: &str) -> Result<KeyAlgorithm, Wrong> {
    if NOT_YET.contains(&text) {
        return Err(Wrong::new(
            "is not supported yet",
            "HS256 is the only algorithm of this version: write \"HS256\"",
        ));
    }
    choose(text, &[("HS256", KeyAlgorithm::Hs256)])
}

fn kid(text: &str) -> Result<String, Wrong> {
    let fine = !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control);
    let wrong = || Wrong::new("is not a key id", "write what stands as `kid` in the header of your tokens");
    if fine { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn named(text: &str) -> Result<String, Wrong> {
    let wrong = || Wrong::new("has blanks around it, which no token has", "write it exactly as tokens do");
    if text.trim() == text { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn claim(text: &str) -> Result<String, Wrong> {
    let wrong = || {
        Wrong::new("is not the path of a claim", "write \"role\", or a path such as \"realm_access.roles\"")
    };
    if text.split('.').all(|name| !name.trim().is_empty()) { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn anonymous_role(text: &str, roles: &[Role]) -> Result<String, Wrong> {
    if text.is_empty() { Ok(String::new()) } else { role::named(text, roles, Filled::WithNothing) }
}

fn token_type(text: &str) -> Result<String, Wrong> {
    let fine = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    let wrong =
        || Wrong::new("is not a token type", "write what stands as `typ` in the header of your tokens");
    if fine { Ok(text.to_owned()) } else { Err(wrong()) }
}
