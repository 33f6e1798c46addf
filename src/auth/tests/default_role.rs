//! Tests of `auth.default_role`, the roles of paths, and `auth.token_type_claim`.

use super::*;

use crate::auth::AcceptedCredentials;
use crate::auth::Unidentified;
use crate::auth::policy::Via;
use crate::config::endpoint::access::AccessConfig;

/// A configuration for an issuer whose tokens have no role, and whose refresh tokens have the same key.
fn without_roles() -> AuthConfig {
    AuthConfig {
        default_role: "user".to_owned(),
        token_types: vec!["access".to_owned()],
        token_type_claim: "token_type".to_owned(),
        ..config()
    }
}

/// The claims of such an issuer, with these changes; `null` is kept.
fn roleless(changes: Value) -> String {
    let mut claims = json!({
        "sub": "alice", "email": "ann@example.com", "exp": 1_800_000_060.25, "iat": NOW, "token_type": "access"
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.to_string()
}

#[test]
fn a_token_without_a_role_claim_has_the_default_role() {
    let identity = authenticate(without_roles(), HEADER, &roleless(json!({}))).unwrap();
    assert_eq!((roles_of(&identity), &*identity.user), (vec!["user"], "alice"));
    assert!(may_subscribe(&identity, "user.alice.notifications") && !may_subscribe(&identity, "admin.users"));
    assert_eq!(identity.expires, Some(at(NOW + 60) + Duration::from_millis(250)));
    let admin = authenticate(without_roles(), HEADER, &roleless(json!({"role": "admin"}))).unwrap();
    assert_eq!(roles_of(&admin), ["admin"], "a role in the token is not replaced");
    let off = AuthConfig { default_role: String::new(), ..without_roles() };
    assert_refused(authenticate(off, HEADER, &roleless(json!({}))), "missing_role", "without the key");
}

#[test]
fn acl_01_only_an_absent_role_claim_has_the_default_role() {
    for (claim, changes, reason) in [
        ("role", json!({"role": null}), "bad_claim"),
        ("role", json!({"role": 1}), "bad_claim"),
        ("role", json!({"role": true}), "bad_claim"),
        ("role", json!({"role": {}}), "bad_claim"),
        ("role", json!({"role": [null]}), "bad_claim"),
        ("role", json!({"role": ""}), "missing_role"),
        ("role", json!({"role": []}), "missing_role"),
        ("role", json!({"role": [""]}), "missing_role"),
        ("role", json!({"role": "User"}), "unknown_role"),
        ("role", json!({"role": ["unknown"]}), "unknown_role"),
        ("realm_access.roles", json!({"realm_access": null}), "missing_role"),
        ("realm_access.roles", json!({"realm_access": "user"}), "missing_role"),
        ("realm_access.roles", json!({"realm_access": ["user"]}), "missing_role"),
        ("realm_access.roles", json!({"realm_access": {"roles": null}}), "bad_claim"),
        ("realm_access.roles", json!({"realm_access": {"roles": []}}), "missing_role"),
        ("realm_access.roles", json!({"realm_access.roles": []}), "missing_role"),
    ] {
        let config = AuthConfig { role_claim: claim.to_owned(), ..without_roles() };
        assert_refused(
            authenticate(config, HEADER, &roleless(changes.clone())),
            reason,
            &changes.to_string(),
        );
    }
    for changes in [json!({}), json!({"realm_access": {}}), json!({"roles": ["admin"]})] {
        let config = AuthConfig { role_claim: "realm_access.roles".to_owned(), ..without_roles() };
        let identity = authenticate(config, HEADER, &roleless(changes)).unwrap();
        assert_eq!(roles_of(&identity), ["user"]);
    }
}

#[test]
fn jwt_07_a_refresh_token_under_the_same_key_is_refused() {
    for kind in [json!("refresh"), json!("Access"), json!(""), json!(["access"]), json!(1), Value::Null] {
        let claims = roleless(json!({"token_type": kind.clone()}));
        assert_refused(authenticate(without_roles(), HEADER, &claims), "wrong_token_type", &kind.to_string());
        // A role does not make it an access token.
        let claims = roleless(json!({"token_type": kind, "role": "user"}));
        assert_refused(authenticate(without_roles(), HEADER, &claims), "wrong_token_type", &claims);
    }
    let absent = json!({"sub": "alice", "exp": NOW + 60}).to_string();
    assert_refused(authenticate(without_roles(), HEADER, &absent), "wrong_token_type", "absent");
    let expired = roleless(json!({"token_type": "refresh", "exp": NOW - 1}));
    let error = authenticate(without_roles(), HEADER, &expired).unwrap_err();
    assert_eq!(error, AuthError::WrongTokenType { name: "token_type".to_owned() }, "not `expired`");
    assert!(error.to_string().contains("\"token_type\" is not in auth.token_types"), "{error}");
    // The claim replaces the header.
    let other = r#"{"alg":"HS256","typ":"at+jwt","kid":"main"}"#;
    assert!(authenticate(without_roles(), other, &roleless(json!({}))).is_ok());
    let nested = AuthConfig { token_type_claim: "token.use".to_owned(), ..without_roles() };
    assert!(authenticate(nested, HEADER, &roleless(json!({"token": {"use": "access"}}))).is_ok());
}

#[test]
fn a_path_has_its_own_default_role_and_the_cache_keeps_them_apart() {
    let mut roles = roles();
    roles.push(role("reader", &["news.*"]));
    let config = AuthConfig { default_role: String::new(), ..without_roles() };
    let authenticator = Authenticator::new(config, roles).unwrap();
    let path_roles = vec![("news".to_owned(), "reader".to_owned()), ("chat".to_owned(), "user".to_owned())];
    let access = AccessConfig { path_roles, ..AccessConfig::default() };
    let policy = authenticator.policy(&access, "endpoint[0]").unwrap();
    let token = sign(HEADER, &roleless(json!({})), SECRET.as_bytes());
    let identify = |path: &str| {
        let known = authenticator.identify_at(&policy.at_path(path), Via::Socket, &token, at(NOW));
        known.map(|known| roles_of(&known).join(" ")).map_err(Unidentified::into_refusal)
    };
    for _ in 0..2 {
        assert_eq!(identify("news").unwrap(), "reader");
        assert_eq!(identify("chat").unwrap(), "user");
        assert_eq!(identify("other").unwrap_err().reason(), "missing_role");
    }
    let http = authenticator.identify_at(&policy, Via::Http, &token, at(NOW));
    let http = http.map_err(Unidentified::into_refusal);
    assert_refused(http, "missing_role", "an HTTP call is at no path");
    // No text that a client sends is mistaken for a token with a role.
    for prefix in ["reader", "\0\0\0\0\0\0\0\u{6}reader"] {
        let forged = format!("{prefix}{token}");
        let refused = authenticator.identify(&forged, AcceptedCredentials::Tokens, at(NOW));
        assert_refused(refused, "malformed", prefix);
    }
}

#[test]
fn an_unknown_default_role_is_a_setup_error() {
    let config = AuthConfig { default_role: "unknown".to_owned(), ..config() };
    let error = Authenticator::new(config, roles()).unwrap_err();
    assert_eq!(error, wrong_role("auth.default_role", "unknown", RoleError::Unknown));
    let path_roles = vec![("news".to_owned(), "unknown".to_owned())];
    let access = AccessConfig { path_roles, ..AccessConfig::default() };
    let error = authenticator(super::config()).policy(&access, "endpoint[0]").unwrap_err();
    assert_eq!(error, wrong_role("endpoint[0].roles.news", "unknown", RoleError::Unknown));
}

#[test]
fn acl_01_only_a_scope_is_a_list_in_one_text() {
    for (claim, changes, expected) in [
        ("scope", json!({"scope": "openid user admin user"}), Ok("user admin")),
        ("scp", json!({"scp": " admin  "}), Ok("admin")),
        ("scp", json!({"scp": ["user", "openid"]}), Ok("user")),
        ("scope", json!({"scope": ["user admin"]}), Err("unknown_role")),
        ("scope", json!({"scope": "user,admin"}), Err("unknown_role")),
        ("scope", json!({"scope": "user\tadmin"}), Err("unknown_role")),
        ("scope", json!({"scope": " "}), Err("missing_role")),
        ("scope", json!({"scope": ""}), Err("missing_role")),
        ("roles", json!({"roles": "user admin"}), Err("unknown_role")),
        ("my.scope", json!({"my": {"scope": "user admin"}}), Err("unknown_role")),
    ] {
        let config = AuthConfig { role_claim: claim.to_owned(), ..without_roles() };
        match (authenticate(config, HEADER, &roleless(changes.clone())), expected) {
            (Ok(identity), expected) => assert_eq!(Ok(roles_of(&identity).join(" ").as_str()), expected),
            (refused, expected) => assert_refused(refused, expected.unwrap_err(), &changes.to_string()),
        }
    }
}
