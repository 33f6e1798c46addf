//! Tests of several issuers: keys and users of one are never those of another.

use serde_json::Value;
use serde_json::json;

use super::NOW;
use super::assert_refused;
use super::at;
use super::may_subscribe;
use super::roles;
use super::roles_of;
use super::signer::Signer;
use crate::auth::AcceptedCredentials;
use crate::auth::Authenticator;
use crate::auth::cache::StaleTokens;
use crate::auth::error::AuthError;
use crate::auth::setup_error::AuthSetupError;
use crate::auth::setup_error::KeyError;
use crate::config::auth::AuthConfig;
use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::api_key::ApiKeyConfig;
use crate::config::auth::api_key::KeyDigest;
use crate::config::auth::issuer::IssuerConfig;

const A: &str = "https://a.example";
const B: &str = "https://b.example/";

fn issuer(name: &str, prefix: &str, keys: &[(&str, &Signer)]) -> IssuerConfig {
    let keys = keys.iter().map(|(kid, signer)| signer.config(kid)).collect();
    IssuerConfig {
        issuer: name.to_owned(),
        user_prefix: prefix.to_owned(),
        keys,
        ..AuthConfig::default().all_issuers().remove(0)
    }
}

fn with(issuers: Vec<IssuerConfig>, rest: AuthConfig) -> Authenticator {
    Authenticator::new(AuthConfig { issuers, ..rest }, roles()).unwrap()
}

fn claims(issuer: &str, user: &str) -> Value {
    json!({"iss": issuer, "sub": user, "role": "user", "exp": NOW + 60})
}

#[test]
fn a_key_of_one_issuer_verifies_no_token_of_another() {
    let (a, b) = (Signer::new(KeyAlgorithm::Es256), Signer::new(KeyAlgorithm::Es256));
    let issuers = vec![issuer(A, "a:", &[("same", &a), ("a", &a)]), issuer(B, "b:", &[("same", &b)])];
    let authenticator = with(issuers, AuthConfig::default());
    let refused = |token: &str, reason: &str, case: &str| {
        assert_refused(authenticator.authenticate(token, at(NOW)), reason, case);
    };
    for (signer, name, user) in [(&a, A, "a:alice"), (&b, B, "b:alice")] {
        let identity =
            authenticator.authenticate(&signer.token("same", &claims(name, "alice")), at(NOW)).unwrap();
        assert_eq!((&*identity.user, identity.issuer.as_deref()), (user, Some(name)));
        assert!(
            may_subscribe(&identity, &format!("user.{user}.x")) && !may_subscribe(&identity, "user.alice.x")
        );
    }
    refused(&a.token("same", &claims(B, "alice")), "bad_signature", "a signs for b");
    refused(&b.token("same", &claims(A, "alice")), "bad_signature", "b signs for a");
    refused(&a.token("a", &claims(B, "alice")), "unknown_key", "the kid of a is unknown to b");
    refused(&b.token("a", &claims(A, "alice")), "bad_signature", "b signs with the kid of a");
    for (name, reason) in [
        (json!("https://a.example/"), "wrong_issuer"),
        (json!("https://A.example"), "wrong_issuer"),
        (json!("https://c.example"), "wrong_issuer"),
        (json!(""), "wrong_issuer"),
        (json!([A]), "bad_claim"),
        (json!([A, B]), "bad_claim"),
        (json!(null), "bad_claim"),
        (json!(42), "bad_claim"),
    ] {
        let mut claims = claims(A, "alice");
        claims["iss"] = name.clone();
        refused(&a.token("same", &claims), reason, &name.to_string());
    }
    let mut without = claims(A, "alice");
    without.as_object_mut().unwrap().remove("iss");
    refused(&a.token("same", &without), "missing_claim", "no iss");
}

#[test]
fn users_of_two_issuers_never_have_one_name() {
    let (a, b) = (Signer::new(KeyAlgorithm::Hs256), Signer::new(KeyAlgorithm::Hs256));
    for user_claim in ["", "sub"] {
        let issuers = vec![issuer(A, "", &[("a", &a)]), issuer(B, "b:", &[("b", &b)])];
        let rest = AuthConfig { user_claim: user_claim.to_owned(), ..AuthConfig::default() };
        let authenticator = with(issuers, rest);
        let user = |signer: &Signer, name: &str, user: &str| {
            let token = signer.token(if name == A { "a" } else { "b" }, &claims(name, user));
            authenticator.authenticate(&token, at(NOW)).map(|identity| identity.user.to_string())
        };
        assert_eq!(user(&a, A, "alice").as_deref(), Ok("alice"));
        assert_eq!(user(&b, B, "alice").as_deref(), Ok("b:alice"));
        assert_eq!(user(&a, A, "b").as_deref(), Ok("b"));
        assert_eq!(user(&a, A, "B:alice").as_deref(), Ok("B:alice"));
        assert_eq!(user(&b, B, "b:alice").as_deref(), Ok("b:b:alice"));
        for imitation in ["b:alice", "b:", "b:b:alice"] {
            assert_eq!(user(&a, A, imitation), Err(AuthError::UserOfAnotherIssuer), "{imitation}");
        }
        let longest = "x".repeat(126);
        assert_eq!(user(&b, B, &longest), Ok(format!("b:{longest}")));
        assert_eq!(user(&b, B, &"x".repeat(127)), Err(AuthError::BadUser), "the prefix counts");
        assert!(user(&a, A, &"x".repeat(127)).is_ok());
    }
}

#[test]
fn each_issuer_has_its_own_rules() {
    let (a, b) = (Signer::new(KeyAlgorithm::Hs256), Signer::new(KeyAlgorithm::Hs256));
    let issuers = vec![
        IssuerConfig { audience: "one".to_owned(), ..issuer(A, "a:", &[("a", &a)]) },
        IssuerConfig {
            audience: "two".to_owned(),
            role_claim: "realm.roles".to_owned(),
            default_role: "guest".to_owned(),
            token_types: vec!["access".to_owned()],
            token_type_claim: "kind".to_owned(),
            ..issuer(B, "b:", &[("b", &b)])
        },
    ];
    let authenticator = with(issuers, AuthConfig::default());
    let check = |token: String| {
        let identity = authenticator.authenticate(&token, at(NOW));
        identity.map(|identity| roles_of(&identity).join(",")).map_err(|error| error.reason())
    };
    let of_a = |changes: Value| {
        let mut claims = claims(A, "alice");
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        check(a.token("a", &claims))
    };
    let of_b = |changes: Value| {
        let mut claims = json!({"iss": B, "sub": "alice", "exp": NOW + 60});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        check(b.token("b", &claims))
    };
    assert_eq!(of_a(json!({"aud": "one"})).as_deref(), Ok("user"));
    assert_eq!(of_a(json!({"aud": "two"})), Err("wrong_audience"));
    assert_eq!(of_a(json!({"aud": "one", "role": []})), Err("missing_role"));
    assert_eq!(of_b(json!({"aud": "two", "kind": "access"})).as_deref(), Ok("guest"));
    assert_eq!(
        of_b(json!({"aud": ["x", "two"], "kind": "access", "realm": {"roles": ["admin"]}})).as_deref(),
        Ok("admin")
    );
    assert_eq!(of_b(json!({"aud": "one", "kind": "access"})), Err("wrong_audience"));
    assert_eq!(of_b(json!({"aud": "two", "kind": "refresh"})), Err("wrong_token_type"));
    assert_eq!(of_b(json!({"aud": "two"})), Err("wrong_token_type"));
}

#[test]
fn a_user_with_an_api_key_is_that_of_the_issuer_with_its_prefix() {
    let signer = Signer::new(KeyAlgorithm::Hs256);
    let api_key = |key: &str, user: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
        let sha256 = KeyDigest(digest.as_ref().try_into().unwrap());
        ApiKeyConfig { name: key.to_owned(), sha256, user: user.to_owned(), role: "user".to_owned() }
    };
    let api_keys = || vec![api_key("key-a", "alice"), api_key("key-b", "b:alice")];
    let of = |issuers: Vec<IssuerConfig>, key: &str| {
        let rest = AuthConfig { api_keys: api_keys(), ..AuthConfig::default() };
        let accepts = AcceptedCredentials::TokensAndApiKeys;
        let identity = with(issuers, rest).identify(key, accepts, at(NOW)).unwrap();
        identity.issuer.as_deref().map(str::to_owned)
    };
    let (a, b) = (issuer(A, "", &[("a", &signer)]), issuer(B, "b:", &[("b", &signer)]));
    assert_eq!(of(vec![a.clone(), b.clone()], "key-a").as_deref(), Some(A));
    assert_eq!(of(vec![a.clone(), b.clone()], "key-b").as_deref(), Some(B));
    assert_eq!(of(vec![a], "key-b").as_deref(), Some(A));
    assert_eq!(of(vec![b], "key-a"), None);
}

#[test]
fn a_removed_key_removes_the_cached_tokens_of_its_issuer_alone() {
    let (a, b) = (Signer::new(KeyAlgorithm::Hs256), Signer::new(KeyAlgorithm::Hs256));
    let issuers = vec![issuer(A, "a:", &[("a", &a)]), issuer(B, "b:", &[("b", &b)])];
    let authenticator = with(issuers, AuthConfig::default());
    for token in [
        a.token("a", &claims(A, "alice")),
        a.token("a", &claims(A, "bob")),
        b.token("b", &claims(B, "alice")),
    ] {
        authenticator.authenticate(&token, at(NOW)).unwrap();
    }
    assert_eq!(authenticator.forget(StaleTokens::OfIssuer("https://c.example")), 0);
    assert_eq!((authenticator.forget(StaleTokens::OfIssuer(A)), authenticator.cached_tokens()), (2, 1));
}

#[test]
fn errors_of_keys_name_their_issuer() {
    let weak = crate::config::auth::key::KeyConfig::hs256("k", crate::config::secret::Secret::new("short"));
    let issuers = vec![IssuerConfig { keys: vec![weak], ..issuer(A, "", &[]) }];
    let error = Authenticator::new(AuthConfig { issuers, ..AuthConfig::default() }, roles()).unwrap_err();
    let weak = KeyError::WeakSecret { kid: "k".to_owned(), algorithm: KeyAlgorithm::Hs256, bytes: 5 };
    let problem = Box::new(AuthSetupError::Key(weak));
    assert_eq!(error, AuthSetupError::OfIssuer { issuer: A.to_owned(), problem });
    assert!(
        error.to_string().starts_with("in the [[auth.issuer]] \"https://a.example\": [[auth.key]] \"k\"")
    );
}
