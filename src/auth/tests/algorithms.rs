//! Tests of all algorithms: each key has one, and no token can change it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use super::NOW;
use super::assert_refused;
use super::at;
use super::authenticator;
use super::config;
use super::signer::Signer;
use crate::auth::Authenticator;
use crate::config::auth::AuthConfig;
use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::algorithm::KeyFamily;

fn claims() -> Value {
    json!({"sub": "alice", "role": "user", "exp": NOW + 60})
}

/// A signer for each algorithm. Keys of RSA are expensive, so those of RS are used for PS too.
fn signers() -> Vec<Signer> {
    KeyAlgorithm::NAMES.map(|(_, algorithm)| Signer::new(algorithm)).into_iter().collect()
}

fn with_key(signer: &Signer) -> Authenticator {
    authenticator(AuthConfig { keys: vec![signer.config("main")], ..config() })
}

#[test]
fn each_algorithm_accepts_its_own_tokens_and_no_others() {
    let signers = signers();
    for own in &signers {
        let authenticator = with_key(own);
        let identity = authenticator.authenticate(&own.token("main", &claims()), at(NOW)).unwrap();
        assert_eq!(&*identity.user, "alice");
        let (head, signature) = {
            let token = own.token("main", &claims());
            let (head, signature) = token.rsplit_once('.').unwrap();
            (head.to_owned(), URL_SAFE_NO_PAD.decode(signature).unwrap())
        };
        let with = |signature: &[u8]| format!("{head}.{}", URL_SAFE_NO_PAD.encode(signature));
        let flipped = {
            let mut bytes = signature.clone();
            bytes[7] ^= 1;
            bytes
        };
        let longer = [signature.as_slice(), &[0]].concat();
        let zeros = vec![0; signature.len()];
        for wrong in [&flipped[..], &signature[1..], &longer, &zeros, &[]] {
            assert_refused(
                authenticator.authenticate(&with(wrong), at(NOW)),
                "bad_signature",
                own.algorithm.name(),
            );
        }
        for other in signers.iter().filter(|other| other.algorithm != own.algorithm) {
            let case = format!("{} for {}", other.algorithm, own.algorithm);
            let honest = other.token("main", &claims());
            assert_refused(authenticator.authenticate(&honest, at(NOW)), "wrong_algorithm", &case);
            let labelled = other.sign(&json!({"alg": own.algorithm.name(), "kid": "main"}), &claims());
            assert_refused(authenticator.authenticate(&labelled, at(NOW)), "bad_signature", &case);
        }
    }
}

#[test]
fn one_rsa_key_has_one_algorithm() {
    let signer = Signer::new(KeyAlgorithm::Rs256);
    let authenticator = with_key(&signer);
    let signer = signer.for_algorithm(KeyAlgorithm::Ps256);
    let token = signer.token("main", &claims());
    assert_refused(authenticator.authenticate(&token, at(NOW)), "wrong_algorithm", "PS256 for RS256");
    let labelled = signer.sign(&json!({"alg": "RS256", "kid": "main"}), &claims());
    assert_refused(authenticator.authenticate(&labelled, at(NOW)), "bad_signature", "PS256 called RS256");
}

#[test]
fn jwt_01_no_key_accepts_a_token_without_an_algorithm() {
    for signer in signers() {
        let authenticator = with_key(&signer);
        for name in ["none", "None", "NONE", "nOnE", "", " ", "null", "ES512", "RS1"] {
            let signed = signer.sign(&json!({"alg": name, "kid": "main"}), &claims());
            let unsigned = format!("{}.", signed.rsplit_once('.').unwrap().0);
            for token in [signed, unsigned] {
                assert_refused(authenticator.authenticate(&token, at(NOW)), "wrong_algorithm", name);
            }
        }
        for header in [json!({"kid": "main"}), json!({"ALG": signer.algorithm.name(), "kid": "main"})] {
            let token = signer.sign(&header, &claims());
            assert_refused(authenticator.authenticate(&token, at(NOW)), "wrong_algorithm", "no alg");
        }
    }
}

#[test]
fn jwt_02_no_public_key_is_the_secret_of_an_hmac() {
    for signer in signers().iter().filter(|signer| signer.algorithm.family() != KeyFamily::Secret) {
        let authenticator = with_key(signer);
        let (pem, der, jwk) = (signer.pem(), signer.der(), signer.jwk("main"));
        let jwk_text = jwk.to_string();
        let number =
            |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap_or_default()).unwrap_or_default();
        let (modulus, x) = (number("n"), number("x"));
        // The key after the algorithm: PKCS #1, a point, or the number of Ed25519.
        let inner = |length: usize| der[der.len().saturating_sub(length)..].to_vec();
        let (pkcs1, point) = (inner(270), inner(65));
        let secrets = [
            pem.as_bytes(),
            pem.trim_end().as_bytes(),
            pem.lines().nth(1).unwrap().as_bytes(),
            der.as_slice(),
            jwk_text.as_bytes(),
            &modulus,
            &x,
            &pkcs1,
            &point,
            b"",
        ];
        for secret in secrets {
            for (name, hash, reason) in [
                ("HS256", hmac::HMAC_SHA256, "wrong_algorithm"),
                ("HS384", hmac::HMAC_SHA384, "wrong_algorithm"),
                ("HS512", hmac::HMAC_SHA512, "wrong_algorithm"),
                (signer.algorithm.name(), hmac::HMAC_SHA256, "bad_signature"),
            ] {
                let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
                let head = format!("{}.{}", part(&json!({"alg": name, "kid": "main"})), part(&claims()));
                let tag = hmac::sign(&hmac::Key::new(hash, secret), head.as_bytes());
                let token = format!("{head}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()));
                assert_refused(authenticator.authenticate(&token, at(NOW)), reason, name);
            }
        }
    }
}

#[test]
fn jwt_03_a_key_inside_the_token_does_not_verify_it() {
    for algorithm in [KeyAlgorithm::Rs256, KeyAlgorithm::Es256, KeyAlgorithm::EdDsa] {
        let (own, foreign) = (Signer::new(algorithm), Signer::new(algorithm));
        let authenticator = with_key(&own);
        let certificate = json!([base64::engine::general_purpose::STANDARD.encode(foreign.der())]);
        for (name, value) in [
            ("jwk", foreign.jwk("main")),
            ("jku", json!("https://attacker.example/keys")),
            ("x5u", json!("https://attacker.example/certificate")),
            ("x5c", certificate),
        ] {
            let header = json!({"alg": algorithm.name(), "kid": "main", name: value});
            let forged = foreign.sign(&header, &claims());
            assert_refused(authenticator.authenticate(&forged, at(NOW)), "bad_signature", name);
            let honest = own.sign(&header, &claims());
            assert!(authenticator.authenticate(&honest, at(NOW)).is_ok(), "{name} is ignored");
        }
    }
}

#[test]
fn jwt_04_the_kid_of_another_key_changes_nothing() {
    let (secret, rsa) = (Signer::new(KeyAlgorithm::Hs256), Signer::new(KeyAlgorithm::Rs256));
    let keys = vec![secret.config("secret"), rsa.config("rsa")];
    let authenticator = authenticator(AuthConfig { keys, ..config() });
    for (signer, own, other) in [(&secret, "secret", "rsa"), (&rsa, "rsa", "secret")] {
        assert!(authenticator.authenticate(&signer.token(own, &claims()), at(NOW)).is_ok());
        let token = signer.token(other, &claims());
        assert_refused(authenticator.authenticate(&token, at(NOW)), "wrong_algorithm", other);
        let without = signer.sign(&json!({"alg": signer.algorithm.name()}), &claims());
        assert_refused(authenticator.authenticate(&without, at(NOW)), "missing_kid", "no kid, two keys");
    }
}
