//! `[[auth.issuer]]`: one of several issuers of tokens, each with its own keys and its own users.

use std::path::PathBuf;

use tidegate_document::diagnostic::ValueError;
use tidegate_document::quote::quoted;
use tidegate_protocol::permissions::Role;

use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::algorithm::public_algorithm;
use crate::config::auth::key;
use crate::config::auth::key::KeyConfig;
use crate::config::auth::remote_keys;
use crate::config::auth::remote_keys::RemoteKeysConfig;
use crate::config::auth::texts::claim;
use crate::config::auth::texts::claim_or_none;
use crate::config::auth::texts::token_type;
use crate::config::auth::texts::without_blanks;
use crate::config::role;
use crate::config::table::ConfigTable;

/// The longest prefix, in bytes: most of the 128 bytes of a user's token are for the name.
const MAX_PREFIX: usize = 32;

/// An issuer, and what its tokens must have.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerConfig {
    /// The `iss` of its tokens. Empty: any, for the only issuer.
    pub issuer: String,
    /// The audience that its tokens must have. Empty: only tokens without an audience.
    pub audience: String,
    /// What comes before the names of its users.
    pub user_prefix: String,
    /// The path of the claim with the role or roles, with dots.
    pub role_claim: String,
    /// The role of tokens without that claim. Empty: they are rejected.
    pub default_role: String,
    /// The accepted types of token. Empty: any.
    pub token_types: Vec<String>,
    /// The claim with the type of a token. Empty: the header `typ`.
    pub token_type_claim: String,
    pub keys: Vec<KeyConfig>,
    /// The keys that it publishes.
    pub remote_keys: Option<RemoteKeysConfig>,
}

/// What issuers in a list have unless they say otherwise: the same keys of `[auth]`.
#[derive(Debug)]
pub(super) struct IssuerDefaults {
    pub(super) audience: String,
    pub(super) role_claim: String,
    pub(super) default_role: String,
    pub(super) token_types: Vec<String>,
    pub(super) token_type_claim: String,
    pub(super) algorithms: Vec<KeyAlgorithm>,
    pub(super) jwks_ca_file: Option<PathBuf>,
}

/// Reads the list of issuers. Keys that an issuer does not have are those of `[auth]`.
pub(super) fn read(table: &ConfigTable<'_>, default: &IssuerDefaults, roles: &[Role]) -> Vec<IssuerConfig> {
    let issuers = table.tables("issuer", |table| issuer(table, default, roles)).unwrap_or_default();
    let names = issuers.iter().map(|(path, issuer)| (path.as_str(), issuer.issuer.as_str()));
    table.reject_duplicates(names, "issuer", "list each issuer once, with all of its keys");
    if !issuers.is_empty() {
        let secret = table.secret("hmac_secret", "hmac_secret_file").map(|secret| secret.key);
        let url = table.non_empty("jwks_url").map(|url| url.key);
        let listed = table.has("key").then(|| table.path_to("key"));
        let discovery = table.boolean("discovery", false).then(|| table.path_to("discovery"));
        for key in [secret, url, listed, discovery].into_iter().flatten() {
            let help = "move it below its [[auth.issuer]]; keys are lists there: [[auth.issuer.key]]";
            table.error_at(&key, "belongs to an issuer, and there is a list of issuers", help);
        }
    }
    for (at, (path, issuer)) in issuers.iter().enumerate() {
        for (other_path, other) in &issuers[..at] {
            check_prefixes(table, (path, &issuer.user_prefix), (other_path, &other.user_prefix));
        }
    }
    issuers.into_iter().map(|(_, issuer)| issuer).collect()
}

/// Two issuers whose users have the same name would be one user to permissions, so one prefix may not begin with
/// another. One of them may be empty: its users may not begin with the prefix of another, which is checked for each
/// token.
fn check_prefixes(table: &ConfigTable<'_>, (path, prefix): (&str, &str), (other_path, other): (&str, &str)) {
    let help = "give each issuer its own prefix, such as \"staff:\"; at most one may have none";
    let message = match (prefix.is_empty(), other.is_empty()) {
        (true, true) => format!("is missing: {other_path} has none either, so their users could meet"),
        (true, false) | (false, true) => return,
        (false, false) if prefix.starts_with(other) || other.starts_with(prefix) => {
            format!("is {}, and {other_path} has {}: their users could meet", quoted(prefix), quoted(other))
        }
        (false, false) => return,
    };
    table.error_at(&format!("{path}.user_prefix"), message, help);
}

fn issuer(table: &ConfigTable<'_>, default: &IssuerDefaults, roles: &[Role]) -> Option<IssuerConfig> {
    let issuer = table.required("issuer", "write the `iss` of the issuer's tokens", issuer_name);
    let algorithms = table.list("algorithms", public_algorithm).unwrap_or_else(|| default.algorithms.clone());
    let ca_file = remote_keys::ca_file(table).or_else(|| default.jwks_ca_file.clone());
    let remote_keys =
        remote_keys::read(table, issuer.as_deref().unwrap_or("https://issuer"), &algorithms, ca_file);
    let keys = key::listed_keys(table);
    check_algorithms(table, &keys, &algorithms);
    if keys.is_empty() && matches!(remote_keys, Ok(None)) && !table.has("key") {
        let help = "set jwks_url, or discovery = true, or list its keys as [[auth.issuer.key]]";
        table.error("issuer", "has no keys, so none of its tokens can be verified", help);
    }
    // All keys are read, also those of an issuer without a name.
    let read = IssuerConfig {
        issuer: String::new(),
        audience: table.optional("audience", without_blanks).unwrap_or_else(|| default.audience.clone()),
        user_prefix: table.parsed("user_prefix", String::new(), user_prefix),
        role_claim: table.optional("role_claim", claim).unwrap_or_else(|| default.role_claim.clone()),
        default_role: table
            .optional("default_role", |text| role::default_role(text, roles))
            .unwrap_or_else(|| default.default_role.clone()),
        token_types: table.list("token_types", token_type).unwrap_or_else(|| default.token_types.clone()),
        token_type_claim: table
            .optional("token_type_claim", |text| claim_or_none(text, "write a claim such as \"token_type\""))
            .unwrap_or_else(|| default.token_type_claim.clone()),
        keys,
        remote_keys: remote_keys.ok().flatten(),
    };
    Some(IssuerConfig { issuer: issuer?, ..read })
}

/// Keys in the file must be among the algorithms too, if there is such a list.
pub(super) fn check_algorithms(table: &ConfigTable<'_>, keys: &[KeyConfig], algorithms: &[KeyAlgorithm]) {
    for key in keys {
        if !algorithms.is_empty() && !key.algorithm.is_symmetric() && !algorithms.contains(&key.algorithm) {
            let message = format!("lacks {}, the algorithm of the key {}", key.algorithm, quoted(&key.kid));
            table.error("algorithms", message, "add it, or remove the key");
        }
    }
}

fn issuer_name(text: &str) -> Result<String, ValueError> {
    if text.is_empty() {
        return Err(ValueError::new("is empty", "write the `iss` of the issuer's tokens"));
    }
    without_blanks(text)
}

fn user_prefix(text: &str) -> Result<String, ValueError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '@' | ':');
    let wrong = || {
        let help = format!("write at most {MAX_PREFIX} letters, digits and \"_-@:\", such as \"staff:\"");
        ValueError::new("cannot be the beginning of a user", help)
    };
    if text.len() <= MAX_PREFIX && text.chars().all(is_allowed) { Ok(text.to_owned()) } else { Err(wrong()) }
}
