//! Tests of claims: strict parsing, placeholders, and the checks of `exp`, `nbf`, `iat`, `iss`, `aud` and `sub`.

use std::borrow::Cow;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::template::PlaceholderValue;

use super::Claims;
use super::parse_object;
use crate::auth::tests::HEADER;
use crate::auth::tests::NOW;
use crate::auth::tests::SECRET;
use crate::auth::tests::assert_refused;
use crate::auth::tests::at;
use crate::auth::tests::authenticate;
use crate::auth::tests::authenticator;
use crate::auth::tests::claims_with;
use crate::auth::tests::config;
use crate::auth::tests::sign;
use crate::auth::tests::with_claims;
use crate::config::auth::AuthConfig;

#[test]
fn objects_are_parsed_strictly() {
    for json in [r"{}", r#"{"a":{"b":[1,-1,1.5,null,true,"x"]},"b":1}"#, r#" {"a":"é"} "#] {
        let lenient: Value = serde_json::from_str(json).unwrap();
        assert_eq!(parse_object(json.as_bytes()).ok().as_ref(), lenient.as_object(), "{json}");
    }
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000));
    let bad = [
        "",
        "[]",
        "1",
        "\"a\"",
        "null",
        "{",
        "{}x",
        "{} {}",
        r#"{"a":1,"a":1}"#,
        r#"{"x":[{"a":1,"b":2,"a":3}]}"#,
        r#"{"a":1,"\u0061":2}"#,
        &deep,
        &deep_objects,
    ];
    for json in bad {
        assert!(parse_object(json.as_bytes()).is_err(), "{json}");
    }
    assert!(parse_object(b"{\"a\":\"\xff\"}").is_err());
}

#[test]
fn placeholders_are_claim_paths() {
    let json = r#"{"sub":"alice","org":{"id":7,"name":"acme"},"https://x.io/team":"red","f":1.5,"b":true,
        "n":null,"l":["a"],"neg":-3,"mixed":["a",7,-1],"empty":[],"deep":["a",["b"]],"nulls":["a",null],
        "fractions":[1,1.5],"objects":[{"a":1}]}"#;
    let claims = Claims::parse(json.as_bytes()).unwrap();
    for (placeholder, value) in [
        ("sub", "alice"),
        ("claims.sub", "alice"),
        ("org.id", "7"),
        ("claims.org.name", "acme"),
        ("https://x.io/team", "red"),
        ("claims.https://x.io/team", "red"),
        ("neg", "-3"),
    ] {
        assert_eq!(
            claims.placeholder(placeholder),
            Some(PlaceholderValue::One(Cow::Borrowed(value))),
            "{placeholder}"
        );
    }
    for (placeholder, values) in
        [("l", &["a"][..]), ("claims.l", &["a"]), ("mixed", &["a", "7", "-1"]), ("empty", &[])]
    {
        let values = values.iter().map(|value| Cow::Borrowed(*value)).collect();
        assert_eq!(claims.placeholder(placeholder), Some(PlaceholderValue::Each(values)), "{placeholder}");
    }
    for placeholder in ["", "claims", "user", "org.x", "claims.claims.sub", "https://x.io/other"] {
        assert_eq!(claims.placeholder(placeholder), None, "{placeholder}");
    }
    for placeholder in
        ["org", "org.id.x", "sub.x", "f", "b", "n", "l.0", "deep", "nulls", "fractions", "objects"]
    {
        assert_eq!(claims.placeholder(placeholder), Some(PlaceholderValue::Unusable), "{placeholder}");
    }
}

#[test]
fn jwt_05_expiry() {
    let leeway = |seconds: u64| AuthConfig { leeway: Duration::from_secs(seconds), ..config() };
    for (seconds, exp, accepted) in [
        (0, NOW + 1, true),
        (0, NOW, false),
        (0, NOW - 1, false),
        (5, NOW + 1, true),
        (5, NOW, false),
        (300, NOW, false),
        (300, NOW - 1, false),
        (5, 0, false),
    ] {
        let result = with_claims(leeway(seconds), json!({"exp": exp}));
        match accepted {
            true => {
                assert_eq!(result.unwrap().expires, Some(at(exp)), "exp {exp}, leeway {seconds}")
            }
            false => assert_refused(result, "expired", &format!("exp {exp}, leeway {seconds}")),
        }
    }
    assert_refused(with_claims(config(), json!({"exp": null})), "missing_claim", "absent");
    let odd = [
        json!("123"),
        json!(1e300),
        json!(-1),
        json!(-1.5),
        json!(1_u64 << 63),
        json!(u64::MAX),
        json!(253_402_300_800_000_u64),
        json!(true),
        json!([NOW + 60]),
        json!({"n": NOW}),
    ];
    for exp in odd {
        assert_refused(with_claims(config(), json!({"exp": exp})), "bad_claim", &format!("exp {exp}"));
    }
    for raw in [r#""exp":null"#, r#""exp":1e400"#, r#""exp":0x7fffffff"#] {
        let claims = format!(r#"{{"sub":"alice","role":"user",{raw}}}"#);
        let result = authenticate(config(), HEADER, &claims);
        let reason = if raw.contains("null") { "bad_claim" } else { "malformed" };
        assert_refused(result, reason, raw);
    }
    let fraction = with_claims(leeway(0), json!({"exp": (NOW as f64) + 0.5})).unwrap();
    assert_eq!(fraction.expires, Some(at(NOW) + Duration::from_millis(500)));
}

#[test]
fn jwt_05_not_before_issued_at_and_lifetime() {
    for (claim, reason) in [("nbf", "not_yet_valid"), ("iat", "issued_in_future")] {
        for (time, accepted) in
            [(NOW - 60, true), (NOW, true), (NOW + 5, true), (NOW + 6, false), (NOW + 3600, false)]
        {
            let result = with_claims(config(), json!({claim: time}));
            match accepted {
                true => assert!(result.is_ok(), "{claim} {time}"),
                false => assert_refused(result, reason, &format!("{claim} {time}")),
            }
        }
        for odd in [json!("123"), json!(1e300), json!(-1), json!(u64::MAX), json!([])] {
            assert_refused(with_claims(config(), json!({claim: odd})), "bad_claim", claim);
        }
    }
    let capped = || AuthConfig { max_token_lifetime: Duration::from_secs(3600), ..config() };
    let century = NOW + 100 * 365 * 24 * 3600;
    assert!(with_claims(capped(), json!({"iat": NOW, "exp": NOW + 3600})).is_ok());
    assert_refused(with_claims(capped(), json!({"iat": NOW, "exp": NOW + 3601})), "lives_too_long", "3601 s");
    assert_refused(with_claims(capped(), json!({"iat": NOW, "exp": century})), "lives_too_long", "100 years");
    assert_refused(with_claims(capped(), json!({"exp": NOW + 60})), "missing_claim", "a cap needs iat");
    assert!(with_claims(config(), json!({"iat": NOW, "exp": century})).is_ok(), "no cap");
}

#[test]
fn a_clock_before_1970_does_not_panic() {
    let token = sign(HEADER, &claims_with(json!({"iat": NOW})), SECRET.as_bytes());
    let result = authenticator(config()).authenticate(&token, UNIX_EPOCH - Duration::from_secs(1));
    assert_refused(result, "issued_in_future", "before 1970");
}

#[test]
fn jwt_06_issuer_audience_and_subject() {
    let strict = || AuthConfig { issuer: "me".to_owned(), audience: "tidegate".to_owned(), ..config() };
    let good = json!({"iss": "me", "aud": "tidegate"});
    assert!(with_claims(strict(), good.clone()).is_ok());
    let cases = [
        ("iss", json!(null), "missing_claim"),
        ("iss", json!("you"), "wrong_issuer"),
        ("iss", json!(""), "wrong_issuer"),
        ("iss", json!("me "), "wrong_issuer"),
        ("iss", json!(42), "bad_claim"),
        ("iss", json!(["me"]), "bad_claim"),
        ("aud", json!(null), "missing_claim"),
        ("aud", json!("x"), "wrong_audience"),
        ("aud", json!("Tidegate"), "wrong_audience"),
        ("aud", json!(""), "wrong_audience"),
        ("aud", json!([]), "wrong_audience"),
        ("aud", json!(["x", "y"]), "wrong_audience"),
        ("aud", json!({"a": 1}), "bad_claim"),
        ("aud", json!(["x", 1]), "bad_claim"),
        ("aud", json!(["tidegate", 1]), "bad_claim"),
        ("aud", json!(7), "bad_claim"),
        ("sub", json!(null), "missing_claim"),
        ("sub", json!(7), "bad_claim"),
        ("sub", json!(["alice"]), "bad_claim"),
        ("sub", json!(""), "bad_subject_token"),
    ];
    for (claim, value, reason) in cases {
        let mut changes = good.clone();
        changes[claim] = value.clone();
        assert_refused(with_claims(strict(), changes), reason, &format!("{claim} {value}"));
    }
    for claim in ["iss", "aud", "sub"] {
        let mut claims: Value = serde_json::from_str(&claims_with(good.clone())).unwrap();
        claims[claim] = Value::Null;
        assert_refused(authenticate(strict(), HEADER, &claims.to_string()), "bad_claim", "null");
    }
}

#[test]
fn jwt_06_without_a_configured_issuer_and_audience() {
    assert_eq!(with_claims(config(), json!({})).unwrap().issuer, None);
    assert_eq!(with_claims(config(), json!({"iss": "any"})).unwrap().issuer.as_deref(), Some("any"));
    assert_refused(with_claims(config(), json!({"iss": 42})), "bad_claim", "iss 42");
    assert_refused(
        with_claims(config(), json!({"aud": "somebody else"})),
        "wrong_audience",
        "aud, none configured",
    );
    assert_refused(with_claims(config(), json!({"aud": ""})), "wrong_audience", "empty aud, none configured");
}

#[test]
fn an_unreadable_token_gets_an_exact_error() {
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    for (json, how) in [
        (r#"{"name":"\ud83d"}"#, "half a character"),
        (r#"{"name":"\udc00x"}"#, "half a character"),
        (r#"{"name":"\ud83d\u0041"}"#, "half a character"),
        (r#"{"a":1,"a":2}"#, "duplicate"),
        ("[1]", "not an object"),
        ("{", "not JSON"),
        (&deep, "too deep"),
    ] {
        let error = Claims::parse(json.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(how), "{json}: {error}");
        assert_eq!(error.reason(), "malformed");
    }
}

#[test]
fn a_time_in_milliseconds_gets_an_error_of_its_own() {
    assert_refused(
        with_claims(config(), json!({"exp": 253_402_300_800_u64})),
        "milliseconds",
        "after the year 9999",
    );
    for claim in ["exp", "nbf", "iat"] {
        let json = format!(r#"{{"exp":4000000000,"{claim}":1790000000000}}"#)
            .replace(r#""exp":4000000000,"exp""#, r#""exp""#);
        let error = Claims::parse(json.as_bytes()).unwrap().check_times(&config(), at(NOW)).unwrap_err();
        assert_eq!(error.reason(), "milliseconds", "{claim}");
        assert!(
            error.to_string().contains(claim) && error.to_string().contains("divide it by 1000"),
            "{error}"
        );
    }
}
