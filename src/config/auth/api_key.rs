//! `[[auth.api_key]]`: keys of programs. What is in the file is a key's hash, and even that is never shown.

use std::fmt;

use tidegate_document::diagnostic::Wrong;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::template::is_token_value;

use crate::config::reader::SetValue;
use crate::config::role;
use crate::config::role::Filled;
use crate::config::secret::Secret;
use crate::config::table::ConfigTable;

/// The hashes of nothing and of a line without anything on it: what a script writes whose variable is empty.
const OF_NOTHING: [&str; 2] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b",
];

const HASH_IT: &str = "write what this says: printf %s \"$KEY\" | sha256sum";

/// Who may come with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyConfig {
    /// What the key is called in logs.
    pub name: String,
    pub sha256: KeyDigest,
    pub user: String,
    pub role: String,
}

/// The SHA-256 of a key. A short key could be guessed from it, so it is treated as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Debug for KeyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// All keys; each name and each key is there once.
pub(super) fn read(table: &ConfigTable<'_>, roles: &[Role]) -> Vec<ApiKeyConfig> {
    let keys = table.tables("api_key", |table| api_key(table, roles)).unwrap_or_default();
    let names = keys.iter().map(|(path, key)| (path.as_str(), key.name.as_str()));
    table.refuse_twins(names, "name", "give every key a name of its own");
    for (at, (_, key)) in keys.iter().enumerate() {
        if let Some((first, _)) = keys[..at].iter().find(|(_, other)| other.sha256 == key.sha256) {
            let problem = format!("it is that of {first} too, and nobody could tell who comes with it");
            table.mistake(&format!("api_key[{at}].sha256"), problem, "make a key for each of them");
        }
    }
    keys.into_iter().map(|(_, key)| key).collect()
}

fn api_key(table: &ConfigTable<'_>, roles: &[Role]) -> Option<ApiKeyConfig> {
    let name =
        table.required("name", "name the key as logs are to call it, such as name = \"reports\"", name);
    let sha256 = digest(table);
    let user =
        table.required("user", "name the user that comes with the key, such as user = \"reports\"", user);
    let role = table.required("role", "name a [[role]] of the file", |text| {
        role::named(text, roles, Filled::WithTheUser)
    });
    Some(ApiKeyConfig { name: name?, sha256: sha256?, user: user?, role: role? })
}

/// Read as a secret, for a key may be here by mistake.
fn digest(table: &ConfigTable<'_>) -> Option<KeyDigest> {
    let Some(found) = table.written("sha256") else {
        table.mistake("sha256", "is missing or empty", HASH_IT);
        return None;
    };
    let text = found.value.expose().to_lowercase();
    if OF_NOTHING.contains(&text.as_str()) {
        table
            .refuse_found(&found, Wrong::new("it is the SHA-256 of nothing, which everybody knows", HASH_IT));
    }
    from_hex(&text).map(KeyDigest).or_else(|| {
        refuse(table, &found);
        None
    })
}

fn refuse(table: &ConfigTable<'_>, found: &SetValue<Secret>) {
    // What is no text has been refused already, and is empty.
    if !found.value.expose().is_empty() {
        let problem = "it is no SHA-256, which has 64 digits of 0 to 9 and a to f";
        table.refuse_found(found, Wrong::new(problem, HASH_IT));
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

fn name(text: &str) -> Result<String, Wrong> {
    let fine = !text.trim().is_empty() && text.len() <= 128 && !text.chars().any(char::is_control);
    let wrong = || Wrong::new("is not a name for a key", "write a word or two, at most 128 bytes");
    if fine { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn user(text: &str) -> Result<String, Wrong> {
    let cure = "write 1 to 128 letters, digits and \"_-=@:\"; it stands where a role says {sub}";
    let wrong = || Wrong::new("cannot be part of a subject", cure);
    if is_token_value(text) { Ok(text.to_owned()) } else { Err(wrong()) }
}
