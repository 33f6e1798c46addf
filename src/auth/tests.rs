//! Tests of the `Authenticator`: tables of tokens with their identities or errors.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use serde_json::Value;
use serde_json::json;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::Template;
use tidegate_protocol::template::TemplateError;

use super::Authenticator;
use super::error::AuthError;
use super::jwt::mint_hs256;
use super::setup_error::AuthSetupError;
use super::setup_error::KeyError;
use super::setup_error::RoleError;
use super::setup_error::wrong_role;
use crate::config::auth::AuthConfig;
use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::key::KeyConfig;
use crate::config::secret::Secret;

mod algorithms;
mod default_role;
mod issuers;
pub(crate) mod signer;
mod tokens_page;
mod user_claim;

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const SECRET: &str = "a secret for these tests and nothing else";
pub(crate) const HEADER: &str = r#"{"alg":"HS256","typ":"JWT","kid":"main"}"#;

pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(crate) fn key(kid: &str, secret: &str) -> KeyConfig {
    KeyConfig::hs256(kid, Secret::new(secret))
}

pub(crate) fn config() -> AuthConfig {
    AuthConfig { keys: vec![key("main", SECRET)], ..AuthConfig::default() }
}

pub(crate) fn role(name: &str, subscribe: &[&str]) -> Role {
    let allow = subscribe.iter().map(|text| Template::parse(text).unwrap()).collect();
    Role { name: name.to_owned(), subscribe: RuleTemplates { allow, deny: Vec::new() }, ..Role::default() }
}

pub(crate) fn roles() -> Vec<Role> {
    vec![
        role("user", &["prices.*", "user.{sub}.>"]),
        role("admin", &["admin.>"]),
        role("member", &["org.{claims.org.id}.>", "team.{org.team}.>"]),
        role("guest", &["prices.*"]),
    ]
}

pub(crate) fn authenticator(config: AuthConfig) -> Authenticator {
    Authenticator::new(config, roles()).unwrap()
}

/// A token of exactly these bytes, always signed with HS256, whatever its header has.
pub(crate) fn sign(header: &str, claims: &str, secret: &[u8]) -> String {
    sign_segments(&URL_SAFE_NO_PAD.encode(header), &URL_SAFE_NO_PAD.encode(claims), secret)
}

pub(crate) fn sign_segments(header: &str, claims: &str, secret: &[u8]) -> String {
    let message = format!("{header}.{claims}");
    // jsonwebtoken refuses an empty secret.
    if secret.is_empty() {
        return format!("{message}.");
    }
    let key = EncodingKey::from_secret(secret).unwrap();
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn good_claims() -> Value {
    json!({"sub": "alice", "role": "user", "exp": NOW + 60})
}

/// Valid claims with these changes; `null` removes a claim.
pub(crate) fn claims_with(changes: Value) -> String {
    let mut claims = good_claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims.to_string()
}

pub(crate) fn authenticate(
    config: AuthConfig,
    header: &str,
    claims: &str,
) -> Result<Arc<Identity>, AuthError> {
    authenticator(config).authenticate(&sign(header, claims, SECRET.as_bytes()), at(NOW))
}

pub(crate) fn with_claims(config: AuthConfig, changes: Value) -> Result<Arc<Identity>, AuthError> {
    authenticate(config, HEADER, &claims_with(changes))
}

#[track_caller]
pub(crate) fn assert_refused(result: Result<Arc<Identity>, AuthError>, reason: &str, case: &str) {
    match result {
        Ok(_) => panic!("accepted: {case}"),
        Err(error) => assert_eq!(error.reason(), reason, "{case}: {error}"),
    }
}

pub(crate) fn roles_of(identity: &Identity) -> Vec<&str> {
    identity.roles.iter().map(|name| &**name).collect()
}

pub(crate) fn may_subscribe(identity: &Identity, requested: &str) -> bool {
    identity.permissions.decide(Operation::Subscribe, &Pattern::parse(requested).unwrap()).is_allowed()
}

#[test]
fn a_valid_token_becomes_an_identity() {
    let config =
        AuthConfig { issuer: "https://issuer".to_owned(), audience: "tidegate".to_owned(), ..config() };
    let claims =
        claims_with(json!({"iss": "https://issuer", "aud": ["x", "tidegate"], "iat": NOW, "nbf": NOW}));
    let identity = authenticate(config, HEADER, &claims).unwrap();
    assert_eq!(&*identity.user, "alice");
    assert_eq!(roles_of(&identity), ["user"]);
    assert_eq!(identity.issuer.as_deref(), Some("https://issuer"));
    assert_eq!(identity.expires, Some(at(NOW + 60)));
    assert!(!identity.anonymous);
    assert!(may_subscribe(&identity, "user.alice.>") && may_subscribe(&identity, "prices.*"));
    assert!(!may_subscribe(&identity, "user.bob.>") && !may_subscribe(&identity, "user.*.x"));
}

#[test]
fn sub_01_the_subject_claim_is_one_token() {
    let long = "a".repeat(129);
    for sub in
        ["*", ">", "a.b", "a.>", " ", "a b", "\t", "a\r\nPUB x 1", "%2E", "\0", "＊", "..", "auth0|7", &long]
    {
        assert_refused(with_claims(config(), json!({"sub": sub})), "bad_subject_token", sub);
    }
    for sub in ["7", "alice@example", "a_b-c=d:e"] {
        assert_eq!(&*with_claims(config(), json!({"sub": sub})).unwrap().user, sub);
    }
}

#[test]
fn acl_01_roles_are_compared_exactly() {
    let granted = [
        ("role", json!({"role": "admin"})),
        ("role", json!({"role": ["admin"]})),
        ("role", json!({"role": ["unknown", "admin", "admin"]})),
        ("realm_access.roles", json!({"realm_access": {"roles": ["admin"]}})),
        ("https://example.com/roles", json!({"https://example.com/roles": ["admin"]})),
    ];
    for (claim, changes) in granted {
        let identity = with_claims(AuthConfig { role_claim: claim.to_owned(), ..config() }, changes).unwrap();
        assert_eq!(roles_of(&identity), ["admin"]);
        assert!(may_subscribe(&identity, "admin.users"), "{claim}");
        assert!(!may_subscribe(&identity, "prices.AAPL"), "{claim}");
    }
    let both = with_claims(config(), json!({"role": ["user", "admin"]})).unwrap();
    assert_eq!(roles_of(&both), ["user", "admin"]);
    assert!(may_subscribe(&both, "admin.users") && may_subscribe(&both, "user.alice.x"));
    let only_user = with_claims(config(), json!({"role": ["user", "Admin", "admin,user", ""]})).unwrap();
    assert_eq!(roles_of(&only_user), ["user"]);
    assert!(!may_subscribe(&only_user, "admin.users"));
    let refused = [
        ("role", json!({"role": "admin,user"}), "unknown_role"),
        ("role", json!({"role": "admin user"}), "unknown_role"),
        ("role", json!({"role": ["Admin"]}), "unknown_role"),
        ("role", json!({"role": "ADMIN"}), "unknown_role"),
        ("role", json!({"role": " admin"}), "unknown_role"),
        ("role", json!({"role": ""}), "missing_role"),
        ("role", json!({"role": []}), "missing_role"),
        ("role", json!({"role": null, "roles": ["admin"]}), "missing_role"),
        ("role", json!({"role": 1}), "bad_claim"),
        ("role", json!({"role": true}), "bad_claim"),
        ("role", json!({"role": {"admin": true}}), "bad_claim"),
        ("role", json!({"role": ["admin", 1]}), "bad_claim"),
        ("role", json!({"role": [["admin"]]}), "bad_claim"),
        ("realm_access.roles", json!({"realm_access": "admin"}), "missing_role"),
        ("realm_access.roles", json!({"realm_access.roles": ["admin"]}), "missing_role"),
        ("realm_access.roles", json!({"role": "admin"}), "missing_role"),
    ];
    for (claim, changes, reason) in refused {
        let config = AuthConfig { role_claim: claim.to_owned(), ..config() };
        assert_refused(with_claims(config, changes.clone()), reason, &changes.to_string());
    }
}

#[test]
fn roles_are_filled_from_claims() {
    let identity = with_claims(config(), json!({"role": "member", "org": {"id": 7, "team": "red"}})).unwrap();
    assert!(may_subscribe(&identity, "org.7.>") && may_subscribe(&identity, "team.red.>"));
    assert!(!may_subscribe(&identity, "org.8.x") && !may_subscribe(&identity, "team.blue.x"));
    for (org, reason) in [
        (json!({"id": 7}), "missing_claim"),
        (json!({"id": true, "team": "red"}), "missing_claim"),
        (json!({"id": 7.5, "team": "red"}), "missing_claim"),
        (json!({"id": "*", "team": "red"}), "bad_subject_token"),
        (json!({"id": "7", "team": "red.>"}), "bad_subject_token"),
        (json!({"id": "7", "team": ""}), "bad_subject_token"),
    ] {
        let changes = json!({"role": ["user", "member"], "org": org});
        assert_refused(with_claims(config(), changes.clone()), reason, &changes.to_string());
    }
}

#[test]
fn a_subject_claim_gives_no_access_to_the_system_subjects() {
    let config = config();
    let authenticator = Authenticator::new(config, vec![role("user", &["{sub}.>"])]).unwrap();
    for sub in ["tidegate", "_live", "_INBOX", "_R_"] {
        let token = sign(HEADER, &claims_with(json!({"sub": sub})), SECRET.as_bytes());
        let identity = authenticator.authenticate(&token, at(NOW)).unwrap();
        assert!(!may_subscribe(&identity, &format!("{sub}.x")), "{sub}");
    }
}

#[test]
fn a_list_claim_permits_a_channel_for_each_value() {
    let family = role("family", &["account.{accounts}.updates", "user.{sub}.*"]);
    let authenticator = Authenticator::new(config(), vec![family]).unwrap();
    let with_accounts = |accounts: Value| {
        let claims = claims_with(json!({"role": "family", "accounts": accounts}));
        authenticator.authenticate(&sign(HEADER, &claims, SECRET.as_bytes()), at(NOW))
    };
    for (accounts, open, closed) in [
        (json!(["a1", 7]), &["account.a1.updates", "account.7.updates"][..], &["account.a2.updates"][..]),
        (json!("a1"), &["account.a1.updates"], &["account.7.updates"]),
        (json!([]), &[], &["account.a1.updates", "account.*.updates"]),
    ] {
        let identity = with_accounts(accounts.clone()).unwrap();
        for channel in open.iter().chain(&["user.alice.x"]) {
            assert!(may_subscribe(&identity, channel), "{accounts}: {channel}");
        }
        for channel in closed.iter().chain(&["account.*.updates", "account.>", "user.bob.x"]) {
            assert!(!may_subscribe(&identity, channel), "{accounts}: {channel}");
        }
    }
    let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    for (accounts, reason) in [
        (Value::Null, "missing_claim"),
        (json!(["a", null]), "missing_claim"),
        (json!([["a"]]), "missing_claim"),
        (json!({"a": 1}), "missing_claim"),
        (json!(["a", "*"]), "bad_subject_token"),
        (json!(["a.b"]), "bad_subject_token"),
        (json!([""]), "bad_subject_token"),
        (json!(many), "too_many_values"),
    ] {
        assert_refused(with_accounts(accounts.clone()), reason, &accounts.to_string());
    }
}

#[test]
fn a_default_replaces_an_absent_claim_and_no_other() {
    for template in ["account.{accounts|default:[]}.updates", "account.{claims.accounts|default:[]}.updates"]
    {
        let family = role("family", &[template, "user.{sub}.*"]);
        let config = AuthConfig { anonymous_role: "open".to_owned(), ..config() };
        let open = role("open", &["prices.*", template]);
        let authenticator = Authenticator::new(config, vec![family, open]).unwrap();
        let with_accounts = |changes: Value| {
            let mut claims = good_claims();
            claims["role"] = json!("family");
            claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            authenticator.authenticate(&sign(HEADER, &claims.to_string(), SECRET.as_bytes()), at(NOW))
        };
        let without = with_accounts(json!({})).unwrap();
        assert!(may_subscribe(&without, "user.alice.x") && !may_subscribe(&without, "account.*.updates"));
        assert!(may_subscribe(&with_accounts(json!({"accounts": ["a1"]})).unwrap(), "account.a1.updates"));
        for (accounts, reason) in [
            (Value::Null, "missing_claim"),
            (json!(true), "missing_claim"),
            (json!({}), "missing_claim"),
            (json!([null]), "missing_claim"),
            (json!(""), "bad_subject_token"),
            (json!(["a.b"]), "bad_subject_token"),
        ] {
            assert_refused(
                with_accounts(json!({"accounts": accounts.clone()})),
                reason,
                &format!("{template} {accounts}"),
            );
        }
        // A placeholder with a default can be filled without a token.
        assert!(may_subscribe(&authenticator.anonymous().unwrap(), "prices.AAPL"));
    }
    let nested = role("family", &["account.{org.accounts|default:[]}.updates"]);
    let authenticator = Authenticator::new(config(), vec![nested]).unwrap();
    for (org, reason) in
        [(json!({}), None), (json!("x"), Some("missing_claim")), (json!(["x"]), Some("missing_claim"))]
    {
        let claims = claims_with(json!({"role": "family", "org": org}));
        let result = authenticator.authenticate(&sign(HEADER, &claims, SECRET.as_bytes()), at(NOW));
        match reason {
            None => assert_eq!(result.unwrap().permissions.subscribe.allow, []),
            Some(reason) => assert_refused(result, reason, &claims),
        }
    }
}

#[test]
fn anonymous_clients() {
    assert_eq!(authenticator(config()).anonymous(), None);
    let with_guests = |name: &str| AuthConfig { anonymous_role: name.to_owned(), ..config() };
    let guest = authenticator(with_guests("guest")).anonymous().unwrap();
    assert_eq!(
        (&*guest.user, guest.anonymous, guest.expires, guest.issuer.as_deref()),
        ("anonymous", true, None, None)
    );
    assert_eq!(roles_of(&guest), ["guest"]);
    assert!(may_subscribe(&guest, "prices.AAPL") && !may_subscribe(&guest, "user.anonymous.x"));
    let refused = |role: &str| Authenticator::new(with_guests(role), roles()).unwrap_err();
    let wrong = |role: &str, problem| wrong_role("auth.anonymous_role", role, problem);
    assert_eq!(refused("nobody"), wrong("nobody", RoleError::Unknown));
    let placeholder = wrong("user", RoleError::Placeholder { placeholder: "sub".to_owned() });
    assert_eq!(refused("user"), placeholder);
    assert!(
        placeholder
            .to_string()
            .starts_with("auth.anonymous_role is \"user\", which has the placeholder \"{sub}\""),
        "{placeholder}"
    );
}

#[test]
fn setup_errors_name_key_and_fix() {
    let weak = AuthConfig { keys: vec![key("main", "short")], ..config() };
    let error = Authenticator::new(weak, roles()).unwrap_err();
    assert_eq!(
        error,
        AuthSetupError::Key(KeyError::WeakSecret {
            kid: "main".to_owned(),
            algorithm: KeyAlgorithm::Hs256,
            bytes: 5
        })
    );
    assert!(error.to_string().contains("[[auth.key]] \"main\""), "{error}");
    let twice = Authenticator::new(config(), vec![role("a", &[]), role("a", &["x"])]).unwrap_err();
    assert_eq!(twice, AuthSetupError::DuplicateRole { name: "a".to_owned() });
    assert_eq!(Authenticator::new(config(), vec![role("", &[])]).unwrap_err(), AuthSetupError::UnnamedRole);
}

#[test]
fn nothing_shows_tokens_or_secrets() {
    let authenticator = authenticator(config());
    assert!(!format!("{authenticator:?}").contains(SECRET));
    let claims = claims_with(json!({"sub": "sentinel.sentinel", "role": "sentinel"}));
    for (header, claims, secret) in [
        (r#"{"alg":"sentinel"}"#, claims.as_str(), SECRET),
        (r#"{"alg":"HS256","kid":"sentinel"}"#, claims.as_str(), SECRET),
        (HEADER, claims.as_str(), "sentinel"),
        (HEADER, claims.as_str(), SECRET),
        (HEADER, r#"{"sentinel":1,"sentinel":2}"#, SECRET),
    ] {
        let error =
            authenticator.authenticate(&sign(header, claims, secret.as_bytes()), at(NOW)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("sentinel"), "{error:?}");
    }
}

#[test]
fn reasons_are_stable_words() {
    let errors = [
        (AuthError::Expired, "expired"),
        (AuthError::BadSignature, "bad_signature"),
        (AuthError::MissingRole { claim: "role".to_owned() }, "missing_role"),
        (AuthError::NoRole { claim: "role".to_owned() }, "unknown_role"),
        (
            AuthError::RoleTemplate {
                role: "r".to_owned(),
                problem: TemplateError::BadToken { placeholder: "h".to_owned() },
            },
            "bad_subject_token",
        ),
        (AuthError::Signing { problem: "p".to_owned() }, "signing_failed"),
        (AuthError::UnknownApiKey, "unknown_api_key"),
        (AuthError::ApiKeysNotAccepted, "api_key_not_accepted"),
    ];
    for (error, reason) in errors {
        assert_eq!(error.reason(), reason);
    }
}

#[test]
fn an_authenticator_is_shared_by_threads() {
    let authenticator = authenticator(config());
    let token = mint_hs256(&Secret::new(SECRET), Some("main"), &good_claims()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(&*authenticator.authenticate(&token, at(NOW)).unwrap().user, "alice"));
        }
    });
}

#[test]
fn an_absent_role_and_an_unknown_one_have_different_errors() {
    let error = |role: Value| {
        let mut claims = good_claims();
        claims["role"] = role;
        let token = mint_hs256(&Secret::new(SECRET), Some("main"), &claims).unwrap();
        authenticator(config()).authenticate(&token, at(NOW)).unwrap_err()
    };
    let mut without = good_claims();
    without.as_object_mut().unwrap().remove("role");
    let token = mint_hs256(&Secret::new(SECRET), Some("main"), &without).unwrap();
    let refused = authenticator(config()).authenticate(&token, at(NOW)).unwrap_err();
    assert_eq!(refused, AuthError::MissingRole { claim: "role".to_owned() });
    let ways = ["\"role\"", "auth.role_claim", "auth.default_role"];
    assert!(ways.iter().all(|way| refused.to_string().contains(way)), "{refused}");
    for absent in [json!([]), json!(""), json!(["", ""])] {
        assert_eq!(error(absent), AuthError::MissingRole { claim: "role".to_owned() });
    }
    for unknown in [json!("nobody"), json!(["nobody", ""])] {
        assert_eq!(error(unknown), AuthError::NoRole { claim: "role".to_owned() });
    }
}
