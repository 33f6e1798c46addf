//! Tests of API keys: their users, which credentials count as keys, and that no output shows a key.

use std::sync::Arc;

use tidegate_protocol::identity::Identity;

use crate::auth::AcceptedCredentials;
use crate::auth::Authenticator;
use crate::auth::error::AuthError;
use crate::auth::setup_error::RoleError;
use crate::auth::setup_error::wrong_role;
use crate::auth::tests::HEADER;
use crate::auth::tests::NOW;
use crate::auth::tests::SECRET;
use crate::auth::tests::assert_refused;
use crate::auth::tests::at;
use crate::auth::tests::claims_with;
use crate::auth::tests::config;
use crate::auth::tests::may_subscribe;
use crate::auth::tests::roles;
use crate::auth::tests::roles_of;
use crate::auth::tests::sign;
use crate::config::auth::AuthConfig;
use crate::config::auth::api_key::ApiKeyConfig;
use crate::config::auth::api_key::KeyDigest;

const KEY: &str = "4f1c0c8e-reports-9d5b";

fn api_key(name: &str, key: &str, user: &str, role: &str) -> ApiKeyConfig {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    let sha256 = KeyDigest(digest.as_ref().try_into().unwrap());
    ApiKeyConfig { name: name.to_owned(), sha256, user: user.to_owned(), role: role.to_owned() }
}

fn with_keys(keys: Vec<ApiKeyConfig>) -> AuthConfig {
    AuthConfig { api_keys: keys, ..config() }
}

fn two_keys() -> Authenticator {
    let keys = vec![api_key("reports", KEY, "reporter", "user"), api_key("other", "other", "bob", "guest")];
    Authenticator::new(with_keys(keys), roles()).unwrap()
}

fn identify(authenticator: &Authenticator, credential: &str) -> Result<Arc<Identity>, AuthError> {
    authenticator.identify(credential, AcceptedCredentials::TokensAndApiKeys, at(NOW))
}

#[test]
fn a_key_gives_its_user_and_role_without_an_expiry() {
    let authenticator = two_keys();
    let reporter = identify(&authenticator, KEY).unwrap();
    assert_eq!((&*reporter.user, reporter.anonymous, reporter.expires), ("reporter", false, None));
    assert_eq!((reporter.issuer.as_deref(), roles_of(&reporter)), (None, vec!["user"]));
    assert!(may_subscribe(&reporter, "user.reporter.x") && may_subscribe(&reporter, "prices.A"));
    assert!(!may_subscribe(&reporter, "user.bob.x"));
    assert_eq!(&*identify(&authenticator, "other").unwrap().user, "bob");
    assert!(Arc::ptr_eq(&reporter, &identify(&authenticator, KEY).unwrap()), "made once");
}

#[test]
fn with_a_required_issuer_a_user_of_a_key_is_the_same_as_one_of_a_token() {
    let issuer = "https://issuer".to_owned();
    let config = AuthConfig { issuer, ..with_keys(vec![api_key("a", KEY, "alice", "user")]) };
    let authenticator = Authenticator::new(config, roles()).unwrap();
    let by_key = identify(&authenticator, KEY).unwrap();
    let claims = claims_with(serde_json::json!({"iss": "https://issuer"}));
    let by_token = identify(&authenticator, &sign(HEADER, &claims, SECRET.as_bytes())).unwrap();
    assert_eq!((&by_key.user, &by_key.issuer), (&by_token.user, &by_token.issuer));
}

#[test]
fn tok_04_a_mistyped_key_and_an_unknown_one_get_the_same_error() {
    let (authenticator, none) = (two_keys(), Authenticator::new(config(), roles()).unwrap());
    let upper = KEY.to_uppercase();
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for wrong in ["", "x", &KEY[1..], &format!("{KEY} "), upper.as_str(), "one.dot", hash] {
        for authenticator in [&authenticator, &none] {
            assert_eq!(identify(authenticator, wrong), Err(AuthError::UnknownApiKey), "{wrong}");
        }
    }
    assert_refused(identify(&authenticator, &"x".repeat(8193)), "too_long", "a long one");
}

#[test]
fn a_credential_with_two_dots_is_a_token_and_without_api_keys_any_is() {
    let dotted = vec![api_key("dotted", "a.b.c", "alice", "user"), api_key("reports", KEY, "bob", "user")];
    let authenticator = Authenticator::new(with_keys(dotted), roles()).unwrap();
    assert_refused(identify(&authenticator, "a.b.c"), "malformed", "two dots");
    let token = sign(HEADER, &claims_with(serde_json::json!({})), SECRET.as_bytes());
    assert_eq!(&*identify(&authenticator, &token).unwrap().user, "alice");
    let at_socket = authenticator.identify(KEY, AcceptedCredentials::Tokens, at(NOW));
    assert_refused(at_socket, "api_key_not_accepted", "a key");
    let unknown = authenticator.identify("unknown", AcceptedCredentials::Tokens, at(NOW));
    assert_refused(unknown, "malformed", "no key");
    assert_eq!(&*authenticator.identify(&token, AcceptedCredentials::Tokens, at(NOW)).unwrap().user, "alice");
}

#[test]
fn a_role_of_a_key_that_cannot_be_filled_is_a_setup_error() {
    let refused = |role: &str| {
        let keys = vec![api_key("a", "a", "alice", "user"), api_key("b", "b", "bob", role)];
        Authenticator::new(with_keys(keys), roles()).unwrap_err()
    };
    let placeholder = RoleError::Placeholder { placeholder: "claims.org.id".to_owned() };
    assert_eq!(refused("member"), wrong_role("auth.api_key[1].role", "member", placeholder));
    assert_eq!(refused("nobody"), wrong_role("auth.api_key[1].role", "nobody", RoleError::Unknown));
}

#[test]
fn tok_04_no_key_is_shown() {
    let authenticator = two_keys();
    let error = identify(&authenticator, "sentinel").unwrap_err();
    let shown = format!("{authenticator:?} {error} {error:?} {:?}", identify(&authenticator, KEY));
    assert!(!shown.contains("sentinel") && !shown.contains(KEY) && shown.contains("***"), "{shown}");
}
