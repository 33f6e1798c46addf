//! Tests of headers, keys and signatures, most of them through the `Authenticator`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tidegate_protocol::template::PlaceholderValue;

use super::Jws;
use super::SignedClaims;
use super::is_media_type;
use super::mint_hs256;
use crate::auth::error::AuthError;
use crate::auth::keys::ClaimRules;
use crate::auth::keys::VerificationKeys;
use crate::auth::tests::HEADER;
use crate::auth::tests::NOW;
use crate::auth::tests::SECRET;
use crate::auth::tests::assert_refused;
use crate::auth::tests::at;
use crate::auth::tests::authenticate;
use crate::auth::tests::authenticator;
use crate::auth::tests::claims_with;
use crate::auth::tests::config;
use crate::auth::tests::key;
use crate::auth::tests::sign;
use crate::auth::tests::sign_segments;
use crate::config::auth::AuthConfig;
use crate::config::secret::Secret;

#[test]
fn minted_tokens_verify() {
    let (one, two) = ("1".repeat(32), "2".repeat(64));
    let rules = ClaimRules { needs_subject: true, ..ClaimRules::default() };
    let keys = VerificationKeys::new(vec![key("one", &one), key("two", &two)], &rules).unwrap();
    let claims = json!({"sub": "alice", "exp": NOW, "org": {"id": 7}});
    let verify = |token: &str, kid: &str| {
        let token = Jws::parse(token, 8192)?;
        assert_eq!(token.kid(), Ok(Some(kid)));
        token.verify(keys.get(kid).unwrap())
    };
    for (kid, secret) in [("one", &one), ("two", &two)] {
        let token = mint_hs256(&Secret::new(secret), Some(kid), &claims).unwrap();
        let SignedClaims { claims, objection } = verify(&token, kid).unwrap();
        assert_eq!((claims.subject(), objection), (Ok("alice"), None));
        assert_eq!(claims.placeholder("org.id"), Some(PlaceholderValue::One("7".into())));
    }
    let foreign = mint_hs256(&Secret::new(&one), Some("two"), &claims).unwrap();
    assert_eq!(verify(&foreign, "two").unwrap_err(), AuthError::BadSignature);
}

/// What jsonwebtoken finds wrong. `Claims` finds the same, so no other test depends on it.
#[test]
fn jwt_06_jsonwebtoken_objects_to_wrong_claims_too() {
    let rules =
        ClaimRules { issuer: "issuer".to_owned(), audience: "tidegate".to_owned(), needs_subject: true };
    let keys = VerificationKeys::new(vec![key("main", SECRET)], &rules).unwrap();
    let objection = |changes: serde_json::Value| {
        let mut claims = json!({"sub": "alice", "iss": "issuer", "aud": ["x", "tidegate"], "exp": NOW});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let token = mint_hs256(&Secret::new(SECRET), Some("main"), &claims).unwrap();
        let signed = Jws::parse(&token, 8192).unwrap().verify(keys.get("main").unwrap()).unwrap();
        signed.objection
    };
    let missing = |claim: &str| Some(AuthError::MissingClaim { claim: claim.to_owned() });
    let wrong_type = Some(AuthError::Malformed { problem: "a registered claim has the wrong type" });
    for (changes, expected) in [
        (json!({}), None),
        (json!({"aud": "tidegate"}), None),
        (json!({"aud": "x"}), Some(AuthError::WrongAudience)),
        (json!({"aud": []}), Some(AuthError::WrongAudience)),
        (json!({"aud": {"a": 1}}), missing("aud")),
        (json!({"aud": ["tidegate", 1]}), missing("aud")),
        (json!({"sub": ["alice"]}), wrong_type),
        (json!({"aud": null}), missing("aud")),
        (json!({"iss": "other"}), Some(AuthError::WrongIssuer)),
        (json!({"iss": 42}), missing("iss")),
        (json!({"sub": 7}), missing("sub")),
        (json!({"exp": "123"}), missing("exp")),
        (json!({"exp": -1}), missing("exp")),
        // What it does not find: `Claims` must.
        (json!({"iss": ["issuer"]}), None),
        (json!({"sub": ""}), None),
        (json!({"exp": 0, "nbf": NOW + 3600, "iat": NOW + 3600}), None),
    ] {
        assert_eq!(objection(changes.clone()), expected, "{changes}");
    }
}

#[test]
fn media_types() {
    for (named, accepted, same) in [
        ("JWT", "JWT", true),
        ("jwt", "JWT", true),
        ("application/JWT", "jwt", true),
        ("at+jwt", "APPLICATION/at+jwt", true),
        ("at+jwt", "JWT", false),
        ("text/jwt", "jwt", false),
        ("application/x/jwt", "x/jwt", false),
        ("", "JWT", false),
    ] {
        assert_eq!(is_media_type(named, accepted), same, "{named} {accepted}");
    }
}

#[test]
fn jwt_01_no_algorithm_none() {
    for alg in
        ["none", "None", "NONE", "nOnE", " none", "hs256", "HS256 ", "HS384", "HS512", "RS256", "ES256", ""]
    {
        for kid in [r#","kid":"main""#, ""] {
            let header = format!(r#"{{"alg":"{alg}"{kid}}}"#);
            let signed = sign(&header, &claims_with(json!({})), SECRET.as_bytes());
            let unsigned = format!("{}.", signed.rsplit_once('.').unwrap().0);
            for token in [signed, unsigned] {
                let result = authenticator(config()).authenticate(&token, at(NOW));
                assert_refused(result, "wrong_algorithm", &header);
            }
        }
    }
    assert_refused(authenticate(config(), "{}", &claims_with(json!({}))), "wrong_algorithm", "no alg");
    for alg in ["null", "1", "[\"HS256\"]"] {
        let header = format!(r#"{{"alg":{alg}}}"#);
        assert_refused(authenticate(config(), &header, &claims_with(json!({}))), "malformed", &header);
    }
    let signed = sign(HEADER, &claims_with(json!({})), SECRET.as_bytes());
    let stripped = format!("{}.", signed.rsplit_once('.').unwrap().0);
    assert_refused(authenticator(config()).authenticate(&stripped, at(NOW)), "bad_signature", "no signature");
}

#[test]
fn jwt_02_a_public_key_is_no_secret() {
    let der = STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE").unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&der));
    let jwk = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx","e":"AQAB"}"#;
    for key in [pem.as_bytes(), pem.trim_end().as_bytes(), der.as_slice(), jwk.as_bytes(), b""] {
        for (header, reason) in
            [(HEADER, "bad_signature"), (r#"{"alg":"RS256","kid":"main"}"#, "wrong_algorithm")]
        {
            let token = sign(header, &claims_with(json!({})), key);
            assert_refused(authenticator(config()).authenticate(&token, at(NOW)), reason, header);
        }
    }
}

#[test]
fn jwt_03_keys_inside_the_token_are_ignored() {
    let own = "the attacker's own secret, 32 bytes long";
    let own_key = format!(r#"{{"kty":"oct","k":"{}"}}"#, URL_SAFE_NO_PAD.encode(own));
    for extra in [
        format!(r#""jwk":{own_key}"#),
        r#""jku":"http://127.0.0.1:1/keys""#.to_owned(),
        r#""x5u":"http://127.0.0.1:1/certificate""#.to_owned(),
        r#""x5c":["MIIB"]"#.to_owned(),
    ] {
        let header = format!(r#"{{"alg":"HS256","kid":"main",{extra}}}"#);
        let forged = sign(&header, &claims_with(json!({})), own.as_bytes());
        assert_refused(authenticator(config()).authenticate(&forged, at(NOW)), "bad_signature", &header);
        assert!(authenticate(config(), &header, &claims_with(json!({}))).is_ok(), "{header}");
    }
    // jsonwebtoken parses the fields that it knows, so a valid token may not have them with another type.
    for extra in [r#""jwk":"not even a key""#, r#""x5c":"MIIB""#, r#""x5c":[1]"#, r#""jku":7"#] {
        let header = format!(r#"{{"alg":"HS256","kid":"main",{extra}}}"#);
        assert_refused(authenticate(config(), &header, &claims_with(json!({}))), "malformed", &header);
    }
}

#[test]
fn jwt_04_kid_is_looked_up_and_nothing_else() {
    let two_keys =
        || AuthConfig { keys: vec![key("main", SECRET), key("other", &"o".repeat(32))], ..config() };
    let long = "k".repeat(4096);
    let kids = [
        "../../dev/null",
        "' OR 1=1--",
        "MAIN",
        "main ",
        "main\0",
        "",
        "ключ",
        "https://evil/keys",
        "*",
        &long,
    ];
    for kid in kids {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        for config in [config(), two_keys()] {
            assert_refused(authenticate(config, &header, &claims_with(json!({}))), "unknown_key", kid);
        }
    }
    let huge = json!({"alg": "HS256", "kid": "k".repeat(10 * 1024)}).to_string();
    assert_refused(authenticate(config(), &huge, &claims_with(json!({}))), "too_long", "10 KiB");
    for kid in [json!(7), json!(null), json!(["main"]), json!({"a": "main"})] {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        assert_refused(authenticate(config(), &header, &claims_with(json!({}))), "malformed", &header);
    }
    let without = r#"{"alg":"HS256"}"#;
    assert!(authenticate(config(), without, &claims_with(json!({}))).is_ok());
    assert_refused(
        authenticate(two_keys(), without, &claims_with(json!({}))),
        "missing_kid",
        "none, two keys",
    );
    assert!(authenticate(two_keys(), HEADER, &claims_with(json!({}))).is_ok());
    for (header, reason) in [
        (r#"{"alg":"HS256","kid":"other"}"#, "bad_signature"),
        (r#"{"alg":"RS256","kid":"main"}"#, "wrong_algorithm"),
    ] {
        assert_refused(authenticate(two_keys(), header, &claims_with(json!({}))), reason, header);
    }
    let no_keys = AuthConfig { keys: Vec::new(), ..config() };
    assert_refused(authenticate(no_keys, without, &claims_with(json!({}))), "unknown_key", "no keys");
}

#[test]
fn jwt_07_critical_nested_and_other_types() {
    let with_header = |config: AuthConfig, extra: &str| {
        authenticate(config, &format!(r#"{{"alg":"HS256","kid":"main",{extra}}}"#), &claims_with(json!({})))
    };
    for crit in [r#""crit":["b64"],"b64":false"#, r#""crit":[]"#, r#""crit":null"#, r#""crit":"exp""#] {
        assert_refused(with_header(config(), crit), "critical_header", crit);
    }
    for cty in ["JWT", "jwt", "application/JWT"] {
        assert_refused(with_header(config(), &format!(r#""cty":"{cty}""#)), "nested_token", cty);
    }
    assert_refused(with_header(config(), r#""cty":1"#), "malformed", "cty 1");
    let id_tokens = || AuthConfig { token_types: vec!["JWT".to_owned(), "id_token".to_owned()], ..config() };
    for typ in ["at+jwt", "application/at+jwt", "", "JWT2"] {
        assert_refused(with_header(id_tokens(), &format!(r#""typ":"{typ}""#)), "wrong_token_type", typ);
    }
    assert_refused(with_header(id_tokens(), r#""x":1"#), "wrong_token_type", "absent");
    assert_refused(with_header(config(), r#""typ":1"#), "malformed", "typ 1");
    for typ in ["JWT", "jwt", "application/jwt", "id_token"] {
        assert!(with_header(id_tokens(), &format!(r#""typ":"{typ}""#)).is_ok(), "{typ}");
    }
    assert!(with_header(config(), r#""typ":"at+jwt""#).is_ok(), "any type without a list");
}

#[test]
fn jwt_08_malformed() {
    let good = sign(HEADER, &claims_with(json!({})), SECRET.as_bytes());
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three segments")
    };
    let other_header = |json: &[u8]| format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode(json));
    let padded = format!("{}.{claims}.{signature}", URL_SAFE.encode(format!("{HEADER} ")));
    assert!(padded.contains('='));
    let cases = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        header.to_owned(),
        format!("{header}.{claims}"),
        format!("{good}.{signature}"),
        format!("{good}."),
        format!(".{good}"),
        padded,
        format!("{good}="),
        format!("{header}.{claims}.++//"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        format!("{good}\0"),
        format!("\0{good}"),
        format!("{header}.{claims}.é"),
        format!("Bearer {good}"),
        other_header(b"\"\xff\""),
        other_header(b"[]"),
        other_header(br#"{"alg":"HS256","alg":"HS256"}"#),
        other_header("[".repeat(1000).as_bytes()),
    ];
    let authenticator = authenticator(config());
    assert!(authenticator.authenticate(&good, at(NOW)).is_ok());
    for token in cases {
        assert_refused(authenticator.authenticate(&token, at(NOW)), "malformed", &token);
    }
    let cut = &good[..good.len() - 3];
    assert_refused(authenticator.authenticate(cut, at(NOW)), "bad_signature", "cut short");
    for huge in ["a".repeat(1 << 20), ".".repeat(1 << 20), format!("{good}{}", "A".repeat(8192))] {
        assert_refused(authenticator.authenticate(&huge, at(NOW)), "too_long", "huge");
    }
}

#[test]
fn jwt_08_malformed_claims_of_a_signed_token() {
    let in_depth = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let deep = format!(r#"{{"sub":"alice","role":"user","exp":{},"x":{in_depth}}}"#, NOW + 60);
    let twice = format!(r#"{{"sub":"alice","sub":"bob","role":"user","exp":{}}}"#, NOW + 60);
    let role_twice = format!(r#"{{"sub":"alice","role":"user","exp":{},"role":"admin"}}"#, NOW + 60);
    for claims in ["", "null", "[]", "\"x\"", "{", "not json", &deep, &twice, &role_twice] {
        assert_refused(authenticate(config(), HEADER, claims), "malformed", claims);
    }
    let header = URL_SAFE_NO_PAD.encode(HEADER);
    let good = URL_SAFE_NO_PAD.encode(claims_with(json!({})));
    let bad_utf8 = URL_SAFE_NO_PAD.encode(b"{\"sub\":\"\xff\"}");
    let segments = [
        bad_utf8,
        format!("{good}="),
        format!(" {good}"),
        format!("{good}\0"),
        "+/".to_owned(),
        String::new(),
    ];
    for claims in segments {
        let token = sign_segments(&header, &claims, SECRET.as_bytes());
        assert_refused(authenticator(config()).authenticate(&token, at(NOW)), "malformed", &claims);
    }
}

#[test]
fn jwt_08_the_size_limit_is_exact() {
    let token = sign(HEADER, &claims_with(json!({})), SECRET.as_bytes());
    let limit = |max_token_bytes: usize| authenticator(AuthConfig { max_token_bytes, ..config() });
    assert!(limit(token.len()).authenticate(&token, at(NOW)).is_ok());
    assert_refused(limit(token.len() - 1).authenticate(&token, at(NOW)), "too_long", "one byte over");
}
