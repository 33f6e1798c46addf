//! `[[auth.api_key]]`: API keys of programs. The file contains only the hash of a key, and no message shows it.

use std::fmt;

use tidegate_document::diagnostic::ValueError;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::template::is_token_value;

use crate::config::reader::SetValue;
use crate::config::role;
use crate::config::secret::Secret;
use crate::config::table::ConfigTable;

/// The hashes of an empty text and of an empty line: a script writes one of them if its variable is empty.
const HASHES_OF_NOTHING: [&str; 2] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b",
];

const HASH_IT: &str = "write the output of: printf %s \"$KEY\" | sha256sum";

/// One API key, and the identity of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyConfig {
    /// The name of the key in logs.
    pub name: String,
    pub sha256: KeyDigest,
    pub user: String,
    pub role: String,
}

/// The SHA-256 of a key. It is secret too, because a short key could be guessed from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Debug for KeyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// Reads all keys. Names and keys must be unique.
pub(super) fn read(table: &ConfigTable<'_>, roles: &[Role]) -> Vec<ApiKeyConfig> {
    let keys = table.tables("api_key", |table| api_key(table, roles)).unwrap_or_default();
    let names = keys.iter().map(|(path, key)| (path.as_str(), key.name.as_str()));
    table.reject_duplicates(names, "name", "give each key its own name");
    for (at, (_, key)) in keys.iter().enumerate() {
        if let Some((first, _)) = keys[..at].iter().find(|(_, other)| other.sha256 == key.sha256) {
            let message = format!("{first} has the same key, so their clients could not be told apart");
            table.error(&format!("api_key[{at}].sha256"), message, "generate a key for each of them");
        }
    }
    keys.into_iter().map(|(_, key)| key).collect()
}

fn api_key(table: &ConfigTable<'_>, roles: &[Role]) -> Option<ApiKeyConfig> {
    let name = table.required("name", "give the key a name for logs, such as name = \"reports\"", name);
    let sha256 = digest(table);
    let user =
        table.required("user", "name the user that this key identifies, such as user = \"reports\"", user);
    let role = table.required("role", "write the name of a [[role]]", |text| role::of_api_key(text, roles));
    Some(ApiKeyConfig { name: name?, sha256: sha256?, user: user?, role: role? })
}

/// Reads the hash as a secret, because it may be the key itself by mistake.
fn digest(table: &ConfigTable<'_>) -> Option<KeyDigest> {
    let Some(found) = table.secret_text("sha256") else {
        table.error("sha256", "is missing or empty", HASH_IT);
        return None;
    };
    let text = found.value.expose().to_lowercase();
    if HASHES_OF_NOTHING.contains(&text.as_str()) {
        let message = "this is the SHA-256 of an empty key, which everyone knows";
        table.reject(&found, ValueError::new(message, HASH_IT));
    }
    from_hex(&text).map(KeyDigest).or_else(|| {
        reject_digest(table, &found);
        None
    })
}

fn reject_digest(table: &ConfigTable<'_>, found: &SetValue<Secret>) {
    // A value that is not a text has an error already, and is empty.
    if !found.value.expose().is_empty() {
        let message = "this is not a SHA-256: that has 64 hexadecimal digits";
        table.reject(found, ValueError::new(message, HASH_IT));
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

fn name(text: &str) -> Result<String, ValueError> {
    let valid = !text.trim().is_empty() && text.len() <= 128 && !text.chars().any(char::is_control);
    let wrong = || ValueError::new("is not a valid name for a key", "write a word or two, at most 128 bytes");
    if valid { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn user(text: &str) -> Result<String, ValueError> {
    let help = "write 1 to 128 letters, digits and \"_-=@:\"; the user replaces {sub} in roles";
    let wrong = || ValueError::new("cannot be part of a subject", help);
    if is_token_value(text) { Ok(text.to_owned()) } else { Err(wrong()) }
}
