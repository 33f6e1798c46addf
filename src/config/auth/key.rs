//! `[[auth.key]]`: the keys that sign tokens. A secret for HS256 and its kin, a public key for all other algorithms.

use tidegate_document::diagnostic::ValueError;

use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::algorithm::algorithm;
use crate::config::reader::SetValue;
use crate::config::secret::Secret;
use crate::config::table::ConfigTable;
use crate::config::tree::Layer;

/// Secrets from documentation, Tidegate's and others': everyone knows them.
pub const SAMPLE_SECRETS: [&str; 3] = [
    "replace-me-with-at-least-32-random-bytes",
    "a-string-secret-at-least-256-bits-long",
    "your-256-bit-secret-your-256-bit-secret",
];

#[derive(Clone, Debug, PartialEq)]
pub struct KeyConfig {
    pub kid: String,
    pub algorithm: KeyAlgorithm,
    pub material: KeyMaterial,
    /// The configuration key of the material, such as `auth.key[0].public_key_file`.
    pub key: String,
}

/// A key as the configuration has it.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyMaterial {
    Secret(Secret),
    /// A public key or a certificate in PEM, or a JWK. A private key may be here by mistake, so it is never printed.
    Public(Secret),
}

impl KeyConfig {
    /// A key for HS256.
    pub fn hs256(kid: &str, secret: Secret) -> Self {
        let (material, key) = (KeyMaterial::Secret(secret), String::new());
        Self { kid: kid.to_owned(), algorithm: KeyAlgorithm::Hs256, material, key }
    }
}

/// The keys of `[auth]`. `hmac_secret` replaces the whole list. A variable or a flag overrides a list in the file; in
/// the file, setting both is an error.
pub(super) fn keys(table: &ConfigTable<'_>) -> Vec<KeyConfig> {
    let Some(short) = table.secret("hmac_secret", "hmac_secret_file") else {
        return listed_keys(table);
    };
    check_secret(table, &short, KeyAlgorithm::Hs256);
    if short.layer > Layer::File {
        if table.has("key") {
            table.warning("key", format!("this list is not used, because {} overrides it", short.key));
        }
    } else if !listed_keys(table).is_empty() {
        let message = format!("{} is set too, and replaces the whole list of keys", short.key);
        table.error("key", message, "keep one of them and remove the other");
    }
    vec![KeyConfig { key: short.key, ..KeyConfig::hs256("main", short.value) }]
}

/// The list `key` of a table.
pub(super) fn listed_keys(table: &ConfigTable<'_>) -> Vec<KeyConfig> {
    let keys = table.tables("key", key).unwrap_or_default();
    let kids = keys.iter().map(|(path, key)| (path.as_str(), key.kid.as_str()));
    table.reject_duplicates(kids, "kid", "give each key its own kid");
    keys.into_iter().map(|(_, key)| key).collect()
}

fn key(table: &ConfigTable<'_>) -> Option<KeyConfig> {
    let kid = table.parsed("kid", "main".to_owned(), kid);
    let algorithm = table.parsed("algorithm", KeyAlgorithm::Hs256, algorithm);
    let secret = table.secret("secret", "secret_file");
    let public = table.public_text("public_key", "public_key_file");
    let (material, key) = if algorithm.is_symmetric() {
        if let Some(public) = public {
            let message = format!("{algorithm} is an algorithm with a secret, and this is a public key");
            let help =
                "write the algorithm of the key, such as algorithm = \"RS256\", or replace it with a secret";
            table.reject(&public, ValueError::new(message, help));
            return None;
        }
        let Some(secret) = secret else {
            let help = "set it to at least 32 random bytes (openssl rand -base64 48), or name a secret_file; tokens with a \
                 public key need another `algorithm`, such as \"RS256\"";
            table.error("secret", "is missing or empty", help);
            return None;
        };
        check_secret(table, &secret, algorithm);
        (KeyMaterial::Secret(secret.value), secret.key)
    } else {
        if let Some(secret) = secret {
            let message = format!("{algorithm} is an algorithm with a public key, and this is a secret");
            let help = "replace it with public_key or public_key_file; never give Tidegate a private key";
            table.reject(&secret, ValueError::new(message, help));
            return None;
        }
        let Some(public) = public else {
            let help =
                "name a public_key_file with the issuer's public key or certificate in PEM, or with its JWK";
            table.error("public_key", "is missing or empty", help);
            return None;
        };
        (KeyMaterial::Public(public.value), public.key)
    };
    Some(KeyConfig { kid, algorithm, material, key })
}

/// RFC 7518 §3.2: the key must be at least as long as the hash. RFC 8725 §3.5: it must not be a memorable password.
fn check_secret(table: &ConfigTable<'_>, secret: &SetValue<Secret>, algorithm: KeyAlgorithm) {
    let text = secret.value.expose();
    let min = algorithm.min_secret_bytes().unwrap_or_default();
    // `openssl` writes 4 characters for 3 bytes.
    let help = format!("use at least {min} random bytes of your own: openssl rand -base64 {}", min.max(48));
    if SAMPLE_SECRETS.contains(&text) {
        let message = "the secret is a sample from documentation, which everyone knows";
        table.reject(secret, ValueError::new(message, help));
    } else if !text.is_empty() && text.len() < min {
        let message = format!("the secret has {} bytes; {algorithm} needs at least {min}", text.len());
        table.reject(secret, ValueError::new(message, help));
    }
}

fn kid(text: &str) -> Result<String, ValueError> {
    let valid = !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control);
    let wrong = || ValueError::new("is not a key id", "copy the `kid` from the header of your tokens");
    if valid { Ok(text.to_owned()) } else { Err(wrong()) }
}
