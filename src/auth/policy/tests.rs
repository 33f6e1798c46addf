//! Tests of the credentials that an endpoint accepts, and of clients without one.

use std::sync::Arc;

use tidegate_protocol::identity::Identity;

use crate::auth::AcceptedCredentials;
use crate::auth::Authenticator;
use crate::auth::Unidentified;
use crate::auth::error::AuthError;
use crate::auth::policy::Via;
use crate::auth::setup_error::RoleError;
use crate::auth::setup_error::wrong_role;
use crate::auth::tests::NOW;
use crate::auth::tests::assert_refused;
use crate::auth::tests::at;
use crate::auth::tests::authenticator;
use crate::auth::tests::config;
use crate::auth::tests::may_subscribe;
use crate::auth::tests::role;
use crate::auth::tests::roles;
use crate::config::auth::AuthConfig;
use crate::config::endpoint::access::AccessConfig;
use crate::config::endpoint::access::HintSource;
use crate::config::endpoint::access::IdentityHint;
use crate::config::endpoint::access::TrustClientIdentityConfig;

fn with_guests() -> Authenticator {
    let mut roles = roles();
    roles.push(role("hooks", &["hooks.>"]));
    Authenticator::new(AuthConfig { anonymous_role: "guest".to_owned(), ..config() }, roles).unwrap()
}

fn trusting(role: &str) -> AccessConfig {
    let user = IdentityHint { source: HintSource::Path, name: "user_id".to_owned() };
    AccessConfig {
        trust_client_identity: Some(TrustClientIdentityConfig {
            user,
            http_user: None,
            role: role.to_owned(),
        }),
        ..AccessConfig::default()
    }
}

fn role_of(identity: Option<Arc<Identity>>) -> Option<String> {
    let identity = identity?;
    assert!(identity.anonymous && &*identity.user == "anonymous");
    Some(identity.roles[0].to_string())
}

#[test]
fn without_a_credential_a_client_has_the_role_of_the_endpoint_or_the_default() {
    let authenticator = with_guests();
    let named = |role: Option<&str>| role.map(str::to_owned);
    for (sockets, http, expected_sockets, expected_http) in [
        (None, None, Some("guest"), Some("guest")),
        (Some(""), None, None, None),
        (Some("admin"), None, Some("admin"), Some("admin")),
        (None, Some("hooks"), Some("guest"), Some("hooks")),
        (Some("admin"), Some(""), Some("admin"), None),
        (Some(""), Some("hooks"), None, Some("hooks")),
    ] {
        let (anonymous_role, anonymous_http_role) = (named(sockets), named(http));
        let access = AccessConfig { anonymous_role, anonymous_http_role, ..AccessConfig::default() };
        let policy = authenticator.policy(&access, "endpoint[0]").unwrap();
        assert_eq!(role_of(policy.anonymous(Via::Socket)).as_deref(), expected_sockets, "{access:?}");
        assert_eq!(role_of(policy.anonymous(Via::Http)).as_deref(), expected_http, "{access:?}");
    }
}

#[test]
fn sockets_accept_keys_if_the_endpoint_does_and_http_always_does() {
    let authenticator = with_guests();
    for (api_keys, sockets) in
        [(false, AcceptedCredentials::Tokens), (true, AcceptedCredentials::TokensAndApiKeys)]
    {
        let access = AccessConfig { api_keys, ..AccessConfig::default() };
        let policy = authenticator.policy(&access, "endpoint[0]").unwrap();
        assert_eq!(policy.accepts(Via::Socket), sockets);
        assert_eq!(policy.accepts(Via::Http), AcceptedCredentials::TokensAndApiKeys);
    }
    let policy = authenticator.policy(&AccessConfig::default(), "endpoint[0]").unwrap();
    let identify =
        |via| authenticator.identify_at(&policy, via, "key", at(NOW)).map_err(Unidentified::into_refusal);
    assert_refused(identify(Via::Socket), "malformed", "no token");
    assert_refused(identify(Via::Http), "unknown_api_key", "no key");
}

#[test]
fn a_trusted_identity_is_a_user_with_that_role_and_no_other() {
    let issuer = "https://issuer".to_owned();
    let authenticator = authenticator(AuthConfig { issuer, ..config() });
    let policy = authenticator.policy(&trusting("user"), "endpoint[0]").unwrap();
    assert_eq!(policy.identity_hint(Via::Socket).unwrap().to_string(), "path.user_id");
    assert_eq!(policy.anonymous(Via::Socket), None);
    let alice = authenticator.trust_client_identity(&policy, "alice").unwrap();
    assert_eq!((&*alice.user, alice.anonymous, alice.expires), ("alice", false, None));
    assert_eq!(alice.issuer.as_deref(), Some("https://issuer"), "the same user as a token's");
    assert!(may_subscribe(&alice, "user.alice.x") && !may_subscribe(&alice, "user.bob.x"));
    for name in ["", "a.b", "*", ">", "a b", "a\0", "é", &"a".repeat(129)] {
        assert_eq!(authenticator.trust_client_identity(&policy, name), Err(AuthError::BadUser), "{name:?}");
    }
    let strict = authenticator.policy(&AccessConfig::default(), "endpoint[0]").unwrap();
    assert!(strict.identity_hint(Via::Socket).is_none());
    assert_eq!(authenticator.trust_client_identity(&strict, "alice"), Err(AuthError::IdentityNotTrusted));
}

#[test]
fn unusable_roles_are_found_when_the_policy_is_built() {
    let authenticator = with_guests();
    let refused = |access: &AccessConfig| authenticator.policy(access, "endpoint[3]").unwrap_err();
    let anonymous =
        |role: &str| AccessConfig { anonymous_role: Some(role.to_owned()), ..AccessConfig::default() };
    let http =
        |role: &str| AccessConfig { anonymous_http_role: Some(role.to_owned()), ..AccessConfig::default() };
    let placeholder = |placeholder: &str| RoleError::Placeholder { placeholder: placeholder.to_owned() };
    for (access, key, role, problem) in [
        (anonymous("nobody"), "anonymous_role", "nobody", RoleError::Unknown),
        (anonymous("user"), "anonymous_role", "user", placeholder("sub")),
        (http("user"), "anonymous_http_role", "user", placeholder("sub")),
        (trusting("member"), "trust_client_identity.role", "member", placeholder("claims.org.id")),
        (trusting("nobody"), "trust_client_identity.role", "nobody", RoleError::Unknown),
    ] {
        assert_eq!(refused(&access), wrong_role(&format!("endpoint[3].{key}"), role, problem));
    }
}
