//! API keys: what each needs, and that neither a key nor its hash is ever shown.

use super::*;
use crate::config::auth::api_key::ApiKeyConfig;
use crate::config::auth::api_key::KeyDigest;

/// The SHA-256 of `abc` (FIPS 180-4, appendix).
const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

const ROLES: &str = r#"
[[role]]
name = "reader"
subscribe = { allow = ["prices.*", "user.{sub}.>", "inbox.{claims.sub}"] }
[[role]]
name = "member"
subscribe = { allow = ["org.{org}.>"] }
"#;

/// A key with these lines in place of the usual ones.
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
fn every_mistake_in_a_key_is_named() {
    let long = "a".repeat(129);
    for (name, value, problem, cure) in [
        ("name", "-", "is missing", "name = \"reports\""),
        ("name", " ", "\" \" is not a name for a key", "at most 128 bytes"),
        ("name", long.as_str(), "is not a name for a key", "at most 128 bytes"),
        ("sha256", "-", "is missing or empty", "sha256sum"),
        ("sha256", "", "is missing or empty", "sha256sum"),
        ("sha256", &HASH[1..], "it is no SHA-256", "sha256sum"),
        ("sha256", &format!("{HASH}0"), "it is no SHA-256", "sha256sum"),
        ("sha256", &HASH.replace('b', "g"), "it is no SHA-256", "sha256sum"),
        ("sha256", &HASH.replace("ba", "+1"), "it is no SHA-256", "sha256sum"),
        (
            "sha256",
            "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "the SHA-256 of nothing",
            "sha256sum",
        ),
        ("user", "-", "is missing", "user = \"reports\""),
        ("user", "a.b", "\"a.b\" cannot be part of a subject", "letters, digits"),
        ("user", ">", "\">\" cannot be part of a subject", "letters, digits"),
        ("role", "-", "is missing", "[[role]]"),
        ("role", "raeder", "\"raeder\" is not the name of a role", "did you mean \"reader\"?"),
        ("role", "member", "\"member\" has the placeholder {org}, which only a token can fill", "{sub}"),
    ] {
        let mistake = mistake_in(&key(&[(name, value)]));
        assert_eq!(mistake.key, format!("auth.api_key[0].{name}"), "{mistake}");
        assert!(mistake.message.contains(problem) && mistake.help.contains(cure), "{mistake}");
    }
    let nothing = mistakes_in("[[auth.api_key]]");
    assert_eq!(nothing.len(), 4, "all of them at once: {nothing:#?}");
}

#[test]
fn names_and_hashes_are_unique() {
    let second = |name: &str, hash: &str| {
        let first = key(&[]);
        format!(
            "{first}[[auth.api_key]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nuser = \"b\"\nrole = \"reader\""
        )
    };
    let other = HASH.replace('a', "c");
    load_file(&second("other", &other)).unwrap();
    let name = mistake_in(&second("reports", &other));
    assert_eq!(
        (name.key.as_str(), name.message.as_str()),
        ("auth.api_key[1].name", "\"reports\" is that of auth.api_key[0] too")
    );
    let hash = mistake_in(&second("other", &HASH.to_uppercase()));
    assert_eq!(hash.key, "auth.api_key[1].sha256");
    assert!(hash.message.starts_with("it is that of auth.api_key[0] too"), "{hash}");
    assert!(!hash.to_string().to_lowercase().contains(HASH), "{hash}");
}

#[test]
fn tok_04_neither_a_key_nor_its_hash_is_shown() {
    let loaded = load_file(&key(&[])).unwrap();
    let printed = format!("{loaded:?} {loaded:#?}");
    assert!(printed.contains("***") && !printed.contains(HASH) && !printed.contains("186, 120"), "{printed}");
    for line in ["sha256 = \"the-key-itself\"", "sha256 = [\"the-key-itself\"]", "key = \"the-key-itself\""] {
        let file = format!("{}\n{line}", key(&[("sha256", "-")]));
        let said = load_file(&file).unwrap_err().to_string();
        assert!(said.contains("auth.api_key[0].") && !said.contains("the-key-itself"), "{said}");
    }
}
