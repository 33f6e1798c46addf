//! Tests of `auth.user_claim`: which claims are users, and how their names get into subjects.

use super::*;

use crate::auth::policy::Via;
use crate::config::auth::api_key::ApiKeyConfig;
use crate::config::auth::api_key::KeyDigest;
use crate::config::endpoint::access::AccessConfig;
use crate::config::endpoint::access::HintSource;
use crate::config::endpoint::access::IdentityHint;
use crate::config::endpoint::access::TrustClientIdentityConfig;

fn by(claim: &str) -> AuthConfig {
    AuthConfig { user_claim: claim.to_owned(), ..config() }
}

#[test]
fn a_user_of_any_characters_is_one_token_in_subjects() {
    let ann = with_claims(by("email"), json!({"email": "ann@example.com", "email_verified": true})).unwrap();
    assert_eq!((&*ann.user, ann.user_token()), ("ann@example.com", "ann@example=2Ecom"));
    assert!(may_subscribe(&ann, "user.ann@example=2Ecom.notifications"));
    for other in ["user.ann@example.com.x", "user.alice.x", "user.ann@example.*", "user.*.x"] {
        assert!(!may_subscribe(&ann, other), "{other}");
    }
    let alice = with_claims(by("sub"), json!({})).unwrap();
    assert_eq!((&*alice.user, &alice.encoded_user), ("alice", &None));
}

#[test]
fn sub_01_no_two_users_have_one_subject() {
    let users = ["a.b", "a=2Eb", "a=3D2Eb", "a=b", "*", ">", "a b", "\u{ff0a}", "..", "A.b", "a.b ", "%2E"];
    let identities = users.map(|user| with_claims(by("sub"), json!({"sub": user})).unwrap());
    for (identity, user) in identities.iter().zip(users) {
        assert_eq!(&*identity.user, user, "clients see the name itself");
        let others = identities.iter().filter(|other| other.user != identity.user);
        for other in others {
            assert!(!may_subscribe(identity, &format!("user.{}.x", other.user_token())), "{user}");
        }
        assert!(may_subscribe(identity, &format!("user.{}.x", identity.user_token())), "{user}");
        assert!(!may_subscribe(identity, "user.*.x") && !may_subscribe(identity, "user.>"), "{user}");
    }
    // The first token of a pattern may be the user; system subjects stay out of reach.
    let roles = vec![role("user", &["{sub}.>"])];
    let authenticator = Authenticator::new(by("sub"), roles).unwrap();
    for sub in ["$SYS", "*", ">", "_INBOX"] {
        let token = sign(HEADER, &claims_with(json!({"sub": sub})), SECRET.as_bytes());
        let identity = authenticator.authenticate(&token, at(NOW)).unwrap();
        for reached in ["$SYS.x", "_INBOX.x", "prices.x", ">", "*.x"] {
            assert!(!may_subscribe(&identity, reached), "{sub}: {reached}");
        }
    }
}

#[test]
fn users_are_texts_and_whole_numbers_that_javascript_can_hold() {
    let exact = 1_u64 << 53;
    for (sub, user) in [
        (json!(7), "7"),
        (json!(0), "0"),
        (json!(-5), "-5"),
        (json!(exact), "9007199254740992"),
        (json!("7"), "7"),
    ] {
        assert_eq!(&*with_claims(by("sub"), json!({"sub": sub})).unwrap().user, user);
    }
    let negative = -9_007_199_254_740_993_i64;
    for (sub, reason) in [
        (json!(exact + 1), "bad_user"),
        (json!(u64::MAX), "bad_user"),
        (json!(negative), "bad_user"),
        (json!(1.5), "bad_user"),
        (json!(7.0), "bad_user"),
        (json!(true), "bad_claim"),
        (json!(["alice"]), "bad_claim"),
        (json!({"a": 1}), "bad_claim"),
        (json!(""), "bad_user"),
        (json!("a\r\nPUB x 1"), "bad_user"),
        (json!("a\0"), "bad_user"),
        (json!("a\"b"), "bad_user"),
        (json!("a\\b"), "bad_user"),
        (json!("a".repeat(129)), "bad_user"),
        (json!(".".repeat(43)), "bad_user"),
    ] {
        assert_refused(with_claims(by("sub"), json!({"sub": sub.clone()})), reason, &sub.to_string());
    }
    assert!(with_claims(by("sub"), json!({"sub": ".".repeat(42)})).is_ok());
    // Without the key, a number is no user, and nothing is encoded.
    assert_refused(with_claims(config(), json!({"sub": 7})), "bad_claim", "7");
    let plain = with_claims(config(), json!({"sub": "a=2Eb"})).unwrap();
    assert_eq!((plain.user_token(), &plain.encoded_user), ("a=2Eb", &None));
}

#[test]
fn an_email_must_be_verified_and_a_name_is_tried_before_a_path() {
    let email = json!("ann@example.com");
    for (claim, changes, reason) in [
        ("email", json!({"email": email, "email_verified": true}), None),
        ("email", json!({"email": email}), Some("email_not_verified")),
        ("email", json!({"email": email, "email_verified": false}), Some("email_not_verified")),
        ("email", json!({"email": email, "email_verified": "true"}), Some("email_not_verified")),
        ("email", json!({"email": email, "email_verified": 1}), Some("email_not_verified")),
        ("email", json!({"email_verified": true}), Some("missing_claim")),
        ("me.email", json!({"me": {"email": email, "email_verified": true}}), None),
        ("me.email", json!({"me": {"email": email}, "email_verified": true}), Some("email_not_verified")),
        ("me.email", json!({"me.email": email, "me.email_verified": true}), None),
        ("https://x.io/email", json!({"https://x.io/email": email}), Some("email_not_verified")),
        (
            "https://x.io/email",
            json!({"https://x.io/email": email, "https://x.io/email_verified": true}),
            None,
        ),
        ("me.mail", json!({"me.mail": email, "me": {"mail": "other"}}), None),
        ("me.mail", json!({"me": {"mail": email}}), None),
        ("me.mail", json!({"me": email}), Some("missing_claim")),
    ] {
        let mut claims = good_claims();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims.as_object_mut().unwrap().remove("sub");
        match (authenticate(by(claim), HEADER, &claims.to_string()), reason) {
            (result, Some(reason)) => assert_refused(result, reason, &format!("{claim}: {changes}")),
            (result, None) => assert_eq!(&*result.unwrap().user, "ann@example.com", "{claim}: {changes}"),
        }
    }
}

#[test]
fn users_without_a_token_are_encoded_too() {
    let user = IdentityHint { source: HintSource::Path, name: "user_id".to_owned() };
    let trusted = TrustClientIdentityConfig { user, http_user: None, role: "user".to_owned() };
    let access = AccessConfig { trust_client_identity: Some(trusted), ..AccessConfig::default() };
    let api_keys = vec![ApiKeyConfig {
        name: "key".to_owned(),
        sha256: KeyDigest(std::array::from_fn(|_| 0)),
        user: "a=b".to_owned(),
        role: "user".to_owned(),
    }];
    let encoding = Authenticator::new(AuthConfig { api_keys, ..by("email") }, roles()).unwrap();
    let policy = encoding.policy(&access, "endpoint[0]").unwrap();
    let ann = encoding.trust_client_identity(&policy, "ann@example.com").unwrap();
    assert!(
        may_subscribe(&ann, "user.ann@example=2Ecom.x") && !may_subscribe(&ann, "user.ann@example.com.x")
    );
    let token = json!({"email": "ann@example.com", "email_verified": true});
    let token = sign(HEADER, &claims_with(token), SECRET.as_bytes());
    let known = encoding.identify_at(&policy, Via::Socket, &token, at(NOW)).unwrap();
    assert!(ann.may_become(&known), "the same user with a token");
    assert!(encoding.trust_client_identity(&policy, "a\nb").is_err());
    let verbatim = authenticator(config());
    assert_eq!(verbatim.trust_client_identity(&policy, "a.b").unwrap_err(), AuthError::BadUser);
}
