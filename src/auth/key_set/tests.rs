//! Tests of key sets and discovery documents.

use serde_json::Value;
use serde_json::json;

use super::DocumentError;
use super::MAX_KEYS;
use super::SkipReason;
use super::parse_discovery;
use super::parse_key_set;
use crate::auth::keys::ClaimRules;
use crate::auth::keys::public_key::PublicKeyError;
use crate::auth::tests::signer::Signer;
use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::algorithm::KeyAlgorithm::Es256;
use crate::config::auth::algorithm::KeyAlgorithm::Ps256;
use crate::config::auth::algorithm::KeyAlgorithm::Ps512;
use crate::config::auth::algorithm::KeyAlgorithm::Rs256;
use crate::config::auth::algorithm::KeyAlgorithm::Rs384;

/// The `kid` of each key, with something about it.
type ByKid<T> = Vec<(String, T)>;

/// The algorithm of each usable key, and why the others are skipped.
fn parse(keys: &[Value], allowed: &[KeyAlgorithm]) -> (ByKid<KeyAlgorithm>, ByKid<SkipReason>) {
    let document = json!({ "keys": keys }).to_string();
    let set = parse_key_set(document.as_bytes(), allowed, &ClaimRules::default()).unwrap();
    let kids = keys.iter().map(|key| key["kid"].as_str().unwrap_or_default());
    let used = kids.filter_map(|kid| Some((kid.to_owned(), set.keys.get(kid)?.algorithm)));
    (used.collect(), set.skipped.into_iter().map(|skipped| (skipped.kid, skipped.reason)).collect())
}

fn changed(jwk: &Value, name: &str, value: Value) -> Value {
    let mut jwk = jwk.clone();
    jwk[name] = value;
    jwk.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    jwk
}

#[test]
fn jwt_10_keys_that_cannot_verify_tokens_are_skipped_and_the_others_are_used() {
    let rsa = Signer::new(Rs256).jwk("rsa");
    let ec = Signer::new(Es256).jwk("ec");
    let oct = Signer::new(KeyAlgorithm::Hs256).jwk("oct");
    let keys = [
        rsa.clone(),
        changed(&changed(&rsa, "kid", json!("enc")), "use", json!("enc")),
        changed(&changed(&rsa, "kid", json!("oaep")), "alg", json!("RSA-OAEP")),
        changed(&changed(&rsa, "kid", json!("hmac")), "alg", json!("HS256")),
        changed(&changed(&rsa, "kid", json!("curve")), "alg", json!("ES256")),
        changed(&changed(&rsa, "kid", json!("number")), "alg", json!(7)),
        changed(&changed(&rsa, "kid", json!("private")), "d", json!("AQAB")),
        changed(&changed(&rsa, "kid", json!("new")), "kty", json!("AKP")),
        oct,
        json!("text"),
        changed(&ec, "kid", json!("rsa")),
        ec.clone(),
    ];
    let (used, skipped) = parse(&keys, &[]);
    assert_eq!(used, [("rsa".to_owned(), Rs256), ("rsa".to_owned(), Rs256), ("ec".to_owned(), Es256)]);
    let reasons = [
        ("enc", SkipReason::Key(PublicKeyError::NotForSignatures)),
        ("oaep", SkipReason::Algorithm),
        ("hmac", SkipReason::Algorithm),
        ("curve", SkipReason::Algorithm),
        ("number", SkipReason::Algorithm),
        ("private", SkipReason::Key(PublicKeyError::Private)),
        ("new", SkipReason::Key(PublicKeyError::Unsupported { kind: "AKP".to_owned() })),
        ("oct", SkipReason::Key(PublicKeyError::Symmetric)),
        ("", SkipReason::NotAnObject),
        ("rsa", SkipReason::Duplicate),
    ];
    assert_eq!(skipped, reasons.map(|(kid, reason)| (kid.to_owned(), reason)));
}

#[test]
fn algorithms_is_a_list_of_what_is_allowed() {
    let rsa = Signer::new(Rs256).jwk("rsa");
    let ec = Signer::new(Es256).jwk("ec");
    let (used, skipped) = parse(&[rsa, ec], &[Es256]);
    assert_eq!(used, [("ec".to_owned(), Es256)]);
    assert_eq!(skipped, [("rsa".to_owned(), SkipReason::NotAllowed(Rs256))]);
}

#[test]
fn a_key_without_alg_has_one_algorithm_too() {
    let rsa = changed(&Signer::new(Rs256).jwk("k"), "alg", Value::Null);
    for (allowed, expected) in [
        (&[][..], Ok(Rs256)),
        (&[Rs256, Ps256], Ok(Rs256)),
        (&[Ps512], Ok(Ps512)),
        (&[Es256, Rs384], Ok(Rs384)),
        (&[Ps256, Ps512], Err(SkipReason::Ambiguous)),
        (&[Es256], Err(SkipReason::NotAllowed(Rs256))),
    ] {
        let (used, skipped) = parse(std::slice::from_ref(&rsa), allowed);
        let found = used.first().map(|(_, algorithm)| *algorithm).ok_or_else(|| skipped[0].1.clone());
        assert_eq!(found, expected, "{allowed:?}");
    }
    for algorithm in [Es256, KeyAlgorithm::Es384, KeyAlgorithm::EdDsa] {
        let key = changed(&Signer::new(algorithm).jwk("k"), "alg", Value::Null);
        assert_eq!(parse(&[key], &[]).0, [("k".to_owned(), algorithm)]);
    }
}

#[test]
fn a_set_has_a_bounded_number_of_keys() {
    let ec = Signer::new(Es256).jwk("k");
    let keys: Vec<_> =
        (0..MAX_KEYS + 2).map(|number| changed(&ec, "kid", json!(format!("{number}")))).collect();
    let (used, skipped) = parse(&keys, &[]);
    assert_eq!(used.len(), MAX_KEYS);
    assert_eq!(skipped, ["100", "101"].map(|kid| (kid.to_owned(), SkipReason::TooMany)));
    let long = changed(&changed(&ec, "use", json!("enc")), "kid", json!("é".repeat(1000)));
    assert_eq!(parse(&[long], &[]).1[0].0, "é".repeat(64));
}

#[test]
fn a_document_that_is_no_key_set_has_a_clear_error() {
    let deep = format!("{{\"keys\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    for (document, error) in [
        ("", DocumentError::Json("are not JSON")),
        ("<html>", DocumentError::Json("are not JSON")),
        ("[]", DocumentError::Json("are JSON, but not an object")),
        (r#"{"keys":[],"keys":[]}"#, DocumentError::Json("contain a duplicate name")),
        (deep.as_str(), DocumentError::Json("are nested too deeply")),
        ("{}", DocumentError::NoKeys),
        (r#"{"keys":{}}"#, DocumentError::NoKeys),
    ] {
        assert_eq!(parse_key_set(document.as_bytes(), &[], &ClaimRules::default()).unwrap_err(), error);
    }
    let empty = parse_key_set(br#"{"keys":[]}"#, &[], &ClaimRules::default()).unwrap();
    assert!(empty.keys.is_empty(), "an issuer may remove all of its keys");
}

#[test]
fn a_discovery_document_must_name_its_issuer() {
    let document = |issuer: Value, url: Value| json!({"issuer": issuer, "jwks_uri": url}).to_string();
    let parse = |document: &str| parse_discovery(document.as_bytes(), "https://a.example");
    let good = document(json!("https://a.example"), json!("https://keys.example/set"));
    assert_eq!(parse(&good).unwrap().as_str(), "https://keys.example/set");
    for issuer in
        [json!("https://a.example/"), json!("https://b.example"), json!(["https://a.example"]), json!(null)]
    {
        let error = parse(&document(issuer, json!("https://keys.example/set"))).unwrap_err();
        assert_eq!(error, DocumentError::OtherIssuer);
    }
    for url in ["http://keys.example/set", "file:///etc/passwd", "keys", "https://u:p@keys.example/"] {
        let error = parse(&document(json!("https://a.example"), json!(url))).unwrap_err();
        assert!(matches!(error, DocumentError::KeySetUrl(_)), "{url}: {error}");
    }
    let none = document(json!("https://a.example"), json!(7));
    assert_eq!(parse(&none).unwrap_err(), DocumentError::NoKeySetUrl);
}
