//! `[auth]`: which tokens are accepted, and where a token has the client's role.

pub mod api_key;

use std::time::Duration;

use tidegate_document::diagnostic::ValueError;
use tidegate_document::section::choose;
use tidegate_protocol::permissions::Role;

use crate::config::auth::api_key::ApiKeyConfig;
use crate::config::reader::SetValue;
use crate::config::role;
use crate::config::role::Fillable;
use crate::config::secret::Secret;
use crate::config::table::ConfigTable;
use crate::config::tree::Layer;

/// Secrets from documentation, Tidegate's and others': everyone knows them.
pub const SAMPLE_SECRETS: [&str; 3] = [
    "replace-me-with-at-least-32-random-bytes",
    "a-string-secret-at-least-256-bits-long",
    "your-256-bit-secret-your-256-bit-secret",
];

const MIN_SECRET_BYTES: usize = 32;

/// The longest validity of a ticket, in seconds. Nodes keep tickets for this time.
pub const MAX_TICKET_S: u64 = 60;

/// Algorithms of other servers. Their error says that they are not supported yet.
const UNSUPPORTED_ALGORITHMS: [&str; 12] = [
    "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
    "EdDSA",
];

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
    /// API keys of programs that have no token.
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
            api_keys: Vec::new(),
        }
    }
}

impl AuthConfig {
    /// Whether the names of users are encoded in subjects.
    pub fn encodes_users(&self) -> bool {
        !self.user_claim.is_empty()
    }

    pub(super) fn read(table: &ConfigTable<'_>, roles: &[Role]) -> Self {
        let default = Self::default();
        let year = 365 * 24 * 3600;
        Self {
            issuer: table.parsed("issuer", default.issuer, without_blanks),
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
            keys: keys(table),
            api_keys: api_key::read(table, roles),
        }
    }
}

/// `hmac_secret` replaces the whole list of keys. A variable or a flag overrides a list in the file; in the file,
/// setting both is an error.
fn keys(table: &ConfigTable<'_>) -> Vec<KeyConfig> {
    let Some(short) = table.secret("hmac_secret", "hmac_secret_file") else {
        return listed_keys(table);
    };
    check_secret(table, &short);
    if short.layer > Layer::File {
        if table.has("key") {
            table.warning("key", format!("this list is not used, because {} overrides it", short.key));
        }
    } else if !listed_keys(table).is_empty() {
        let message = format!("{} is set too, and replaces the whole list of keys", short.key);
        table.error("key", message, "keep one of them and remove the other");
    }
    vec![KeyConfig { kid: "main".to_owned(), algorithm: KeyAlgorithm::Hs256, secret: short.value }]
}

fn listed_keys(table: &ConfigTable<'_>) -> Vec<KeyConfig> {
    let keys = table.tables("key", key).unwrap_or_default();
    let kids = keys.iter().map(|(path, key)| (path.as_str(), key.kid.as_str()));
    table.reject_duplicates(kids, "kid", "give each key its own kid");
    keys.into_iter().map(|(_, key)| key).collect()
}

fn key(table: &ConfigTable<'_>) -> Option<KeyConfig> {
    let feature = "algorithms with public keys";
    table.not_yet(&[("public_key", feature), ("public_key_file", feature), ("jwks_url", feature)]);
    let kid = table.parsed("kid", "main".to_owned(), kid);
    let algorithm = table.parsed("algorithm", KeyAlgorithm::Hs256, algorithm);
    let Some(secret) = table.secret("secret", "secret_file") else {
        let help = "set it to at least 32 random bytes (openssl rand -base64 48), or name a secret_file";
        table.error("secret", "is missing or empty", help);
        return None;
    };
    check_secret(table, &secret);
    Some(KeyConfig { kid, algorithm, secret: secret.value })
}

/// RFC 7518 §3.2: the key must be at least as long as the hash. RFC 8725 §3.5: it must not be a memorable password.
fn check_secret(table: &ConfigTable<'_>, secret: &SetValue<Secret>) {
    let text = secret.value.expose();
    let help = "use at least 32 random bytes of your own: openssl rand -base64 48";
    if SAMPLE_SECRETS.contains(&text) {
        let message = "the secret is a sample from documentation, which everyone knows";
        table.reject(secret, ValueError::new(message, help));
    } else if !text.is_empty() && text.len() < MIN_SECRET_BYTES {
        let message = format!("the secret has {} bytes; HS256 needs at least {MIN_SECRET_BYTES}", text.len());
        table.reject(secret, ValueError::new(message, help));
    }
}

fn algorithm(text: &str) -> Result<KeyAlgorithm, ValueError> {
    if UNSUPPORTED_ALGORITHMS.contains(&text) {
        return Err(ValueError::new(
            "is not supported yet",
            "write \"HS256\", the only algorithm of this version",
        ));
    }
    choose(text, &[("HS256", KeyAlgorithm::Hs256)])
}

fn kid(text: &str) -> Result<String, ValueError> {
    let valid = !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control);
    let wrong = || ValueError::new("is not a key id", "copy the `kid` from the header of your tokens");
    if valid { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn without_blanks(text: &str) -> Result<String, ValueError> {
    let help = "remove the blanks: tokens must have exactly this value";
    let wrong = || ValueError::new("has blanks at the start or the end", help);
    if text.trim() == text { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn claim(text: &str) -> Result<String, ValueError> {
    let wrong = || {
        ValueError::new(
            "is not the path of a claim",
            "write \"role\", or a path such as \"realm_access.roles\"",
        )
    };
    if text.split('.').all(|name| !name.trim().is_empty()) { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// A claim, or nothing. `help` is for a text that is neither.
fn claim_or_none(text: &str, help: &str) -> Result<String, ValueError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    claim(text).map_err(|wrong| ValueError::new(wrong.message, help))
}

/// RFC 6265 §4.1.1: the name of a cookie is a token (RFC 9110 §5.6.2).
fn cookie(text: &str) -> Result<String, ValueError> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let wrong =
        || ValueError::new("is not the name of a cookie", "write a name such as \"__Host-session\", or \"\"");
    if text.chars().all(is_legal) { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn anonymous_role(text: &str, roles: &[Role]) -> Result<String, ValueError> {
    if text.is_empty() { Ok(String::new()) } else { role::named(text, roles, Fillable::Nothing) }
}

fn token_type(text: &str) -> Result<String, ValueError> {
    let valid = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    let wrong = || ValueError::new("is not a token type", "copy the `typ` from the header of your tokens");
    if valid { Ok(text.to_owned()) } else { Err(wrong()) }
}
