//! API keys. Their errors are in `tests/config/mistakes/api-key.txt`.

use super::*;
use crate::config::auth::api_key::ApiKeyConfig;
use crate::config::auth::api_key::KeyDigest;

/// The SHA-256 of `abc` (FIPS 180-4, appendix).
const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

const ROLES: &str = r#"
[[role]]
name = "reader"
subscribe = { allow = ["prices.*", "user.{sub}.>", "inbox.{claims.sub}"] }
"#;

/// A key, with some lines replaced; "-" removes a line.
fn key(changes: &[(&str, &str)]) -> String {
    let mut lines = vec![("name", "reports"), ("sha256", HASH), ("user", "reporter"), ("role", "reader")];
    for (name, value) in changes {
        lines.retain(|(usual, _)| usual != name);
        lines.push((name, value));
    }
    let lines = lines.into_iter().filter(|(_, value)| *value != "-");
    let lines: String = lines.map(|(name, value)| format!("{name} = \"{value}\"\n")).collect();
    format!("{ROLES}[[auth.api_key]]\n{lines}")
}

#[test]
fn a_key_has_a_name_a_hash_a_user_and_a_role() {
    let upper = HASH.to_uppercase();
    for hash in [HASH, &upper] {
        let keys = load_file(&key(&[("sha256", hash)])).unwrap().config.auth.api_keys;
        assert_eq!(keys.len(), 1);
        let ApiKeyConfig { name, sha256: KeyDigest(digest), user, role } = &keys[0];
        assert_eq!((name.as_str(), user.as_str(), role.as_str()), ("reports", "reporter", "reader"));
        assert_eq!((digest[0], digest[1], digest[31]), (0xba, 0x78, 0xad));
    }
}

#[test]
fn tok_04_neither_a_key_nor_its_hash_is_shown() {
    let loaded = load_file(&key(&[])).unwrap();
    let printed = format!("{loaded:?} {loaded:#?}");
    assert!(printed.contains("***") && !printed.contains(HASH) && !printed.contains("186, 120"), "{printed}");
    for line in ["sha256 = \"the-key-itself\"", "sha256 = [\"the-key-itself\"]", "key = \"the-key-itself\""] {
        let file = format!("{}\n{line}", key(&[("sha256", "-")]));
        let printed = load_file(&file).unwrap_err().to_string();
        assert!(printed.contains("auth.api_key[0].") && !printed.contains("the-key-itself"), "{printed}");
    }
}
