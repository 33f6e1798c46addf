//! Tests of keys in all their forms, and of the errors for those that cannot be used.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use super::ClaimRules;
use super::VerificationKeys;
use super::public_key::PublicKey;
use super::public_key::PublicKeyError;
use crate::auth::setup_error::KeyError;
use crate::auth::tests::key;
use crate::auth::tests::signer::Signer;
use crate::config::auth::AuthConfig;
use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::algorithm::KeyFamily;
use crate::config::auth::issuer::IssuerConfig;
use crate::config::auth::key::KeyConfig;
use crate::config::auth::key::KeyMaterial;
use crate::config::secret::Secret;

/// Read at run time: `include_str` would make the tests' files part of the build.
fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)).unwrap()
}

fn load(configs: Vec<KeyConfig>) -> Result<VerificationKeys, KeyError> {
    VerificationKeys::new(configs, &ClaimRules::default())
}

fn public(algorithm: KeyAlgorithm, text: &str) -> KeyConfig {
    let (material, key) = (KeyMaterial::Public(Secret::new(text)), String::new());
    KeyConfig { kid: "main".to_owned(), algorithm, material, key }
}

fn parse_jwk(jwk: &Value) -> Result<PublicKey, PublicKeyError> {
    PublicKey::parse(&jwk.to_string())
}

#[test]
fn setup_errors_of_keys_name_key_and_fix() {
    let strong = "s".repeat(32);
    let weak = "w".repeat(31);
    let weak_error =
        |bytes| KeyError::WeakSecret { kid: "main".to_owned(), algorithm: KeyAlgorithm::Hs256, bytes };
    let cases = [
        (vec![key("main", &weak)], weak_error(31)),
        (vec![key("main", "")], weak_error(0)),
        (vec![key("a", &strong), key("a", &strong)], KeyError::Duplicate { kid: "a".to_owned() }),
        (vec![key("a", &strong), key("", &strong)], KeyError::Unnamed),
    ];
    for (configs, error) in cases {
        assert_eq!(load(configs).unwrap_err(), error);
    }
    let message = load(vec![key("main", &weak)]).unwrap_err().to_string();
    assert!(
        message.contains("\"main\"") && message.contains("openssl rand") && !message.contains(&weak),
        "{message}"
    );
}

#[test]
fn every_wrong_key_is_found_at_its_place_with_help() {
    let public = |at: usize, algorithm, text: &str| KeyConfig {
        key: format!("auth.issuer[0].key[{at}].public_key"),
        ..public(algorithm, text)
    };
    let keys = vec![
        public(0, KeyAlgorithm::Rs256, &file("p256.pem")),
        public(1, KeyAlgorithm::Es256, &file("p256.pem")),
        public(2, KeyAlgorithm::Es256, &file("p256-private.pem")),
    ];
    let wrong = [public(0, KeyAlgorithm::Es256, "no key")];
    let with_keys = |keys: &[KeyConfig]| IssuerConfig {
        keys: keys.to_vec(),
        ..AuthConfig::default().all_issuers()[0].clone()
    };
    let issuers = vec![with_keys(&keys), with_keys(&wrong)];
    let found = super::inspect(&AuthConfig { issuers, ..AuthConfig::default() });
    let shown: Vec<_> = found.iter().map(|found| (&*found.key, &*found.message, &*found.help)).collect();
    let expected = [
        (
            "auth.issuer[0].key[0].public_key",
            "the key \"main\" is a key on the curve P-256, which is no key for RS256",
            "write its own algorithm, or its own key",
        ),
        (
            "auth.issuer[0].key[2].public_key",
            "the key \"main\" is a private key, and Tidegate needs only the public one",
            "remove the private key from this machine, and write the output of `openssl pkey -in private.pem -pubout`",
        ),
    ];
    assert_eq!(shown[..2], expected);
    assert!(shown.len() == 3 && shown[2].1.starts_with("the key \"main\" is neither PEM"), "{shown:?}");
}

#[test]
fn jwt_09_a_secret_is_as_long_as_its_hash() {
    for (algorithm, min) in [(KeyAlgorithm::Hs256, 32), (KeyAlgorithm::Hs384, 48), (KeyAlgorithm::Hs512, 64)]
    {
        let with = |bytes: usize| {
            let material = KeyMaterial::Secret(Secret::new("s".repeat(bytes)));
            let config = KeyConfig { kid: "main".to_owned(), algorithm, material, key: String::new() };
            load(vec![config])
        };
        assert!(with(min).is_ok());
        let error = with(min - 1).unwrap_err();
        assert_eq!(error, KeyError::WeakSecret { kid: "main".to_owned(), algorithm, bytes: min - 1 });
        assert!(error.to_string().contains(&format!("{algorithm} needs at least {min}")), "{error}");
    }
}

#[test]
fn keys_show_no_secret() {
    let keys = load(vec![key("main", "sentinel-sentinel-sentinel-sentinel")]).unwrap();
    assert_eq!(format!("{keys:?}"), r#"{"main"}"#);
    assert_eq!(format!("{:?}", keys.get("main").unwrap()), "VerificationKey(Hs256)");
}

#[test]
fn public_keys_have_many_forms() {
    let rsa = PublicKey::parse(&file("rsa.pem")).unwrap();
    for name in ["rsa-pkcs1.pem", "rsa-certificate.pem"] {
        assert_eq!(PublicKey::parse(&file(name)).unwrap(), rsa, "{name}");
    }
    let p256 = PublicKey::parse(&file("p256.pem")).unwrap();
    for name in ["p256-certificate.pem", "p256-certificate-v1.pem"] {
        assert_eq!(PublicKey::parse(&file(name)).unwrap(), p256, "{name}");
    }
    let padded = format!("Bag Attributes: none\r\n\r\n  {}\r\n\r\n", file("p256.pem").replace('\n', "\r\n"));
    assert_eq!(PublicKey::parse(&padded).unwrap(), p256, "other lines are ignored");
    for (key, family) in [
        (&rsa, KeyFamily::Rsa),
        (&p256, KeyFamily::P256),
        (&PublicKey::parse(&file("p384.pem")).unwrap(), KeyFamily::P384),
        (&PublicKey::parse(&file("ed25519.pem")).unwrap(), KeyFamily::Ed25519),
    ] {
        assert_eq!(key.family(), family);
    }
    for (_, algorithm) in KeyAlgorithm::NAMES.iter().filter(|(_, algorithm)| !algorithm.is_symmetric()) {
        let signer = Signer::new(*algorithm);
        let from_jwk = parse_jwk(&signer.jwk("main")).unwrap();
        assert_eq!(from_jwk, PublicKey::parse(&signer.pem()).unwrap(), "{algorithm}");
        assert!(load(vec![public(*algorithm, &signer.jwk("main").to_string())]).is_ok());
    }
}

#[test]
fn jwt_09_keys_that_cannot_be_used_have_clear_errors() {
    let p256 = file("p256.pem");
    let body: String = p256.lines().filter(|line| !line.starts_with("-----")).collect();
    let pem = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----");
    let unsupported = |kind: &str| PublicKeyError::Unsupported { kind: kind.to_owned() };
    let damaged = PublicKeyError::Damaged("it is not valid DER");
    let cases = [
        (file("p256-private.pem"), PublicKeyError::Private),
        (file("ed25519-private.pem"), PublicKeyError::Private),
        (pem("ENCRYPTED PRIVATE KEY", "AAAA"), PublicKeyError::Private),
        (pem("RSA PRIVATE KEY", "AAAA"), PublicKeyError::Private),
        (pem("OPENSSH PRIVATE KEY", "AAAA"), PublicKeyError::Private),
        (format!("{p256}{}", file("p256-private.pem")), PublicKeyError::Private),
        (String::new(), PublicKeyError::Unknown),
        (body.clone(), PublicKeyError::Unknown),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI".to_owned(), PublicKeyError::Unknown),
        (pem("CERTIFICATE REQUEST", &body), PublicKeyError::Unknown),
        (format!("{p256}{p256}"), PublicKeyError::Several),
        (p256.replace("-----END", "-----FIN"), PublicKeyError::Damaged("its last line is missing")),
        (p256.replace("MFkw", "MF!w"), PublicKeyError::Damaged("it is not base64")),
        (pem("PUBLIC KEY", "AAAA"), damaged.clone()),
        (pem("PUBLIC KEY", ""), damaged.clone()),
        (pem("CERTIFICATE", &body), damaged.clone()),
        (pem("RSA PUBLIC KEY", &body), damaged),
        (p256.replace("FOw==", "FOA=="), PublicKeyError::Damaged("its numbers are no key")),
        (file("rsa-1024.pem"), PublicKeyError::RsaSize { bits: 1024 }),
        (file("p521.pem"), unsupported("EC with another curve")),
        (file("secp256k1.pem"), unsupported("EC with another curve")),
        (file("ed448.pem"), unsupported("that its object identifier names")),
        ("{".to_owned(), PublicKeyError::Damaged("it is not JSON")),
    ];
    for (text, error) in cases {
        assert_eq!(PublicKey::parse(&text).unwrap_err(), error, "{text}");
        let message = load(vec![public(KeyAlgorithm::Es256, &text)]).unwrap_err().to_string();
        assert!(message.starts_with("[[auth.key]] \"main\": the key "), "{message}");
        let secret = text.lines().nth(1).filter(|line| line.len() > 8);
        assert!(secret.is_none_or(|secret| !message.contains(secret)), "{message}");
    }
}

#[test]
fn jwt_09_a_jwk_must_be_a_public_key_for_signatures() {
    let rsa = Signer::new(KeyAlgorithm::Rs256);
    let ec = Signer::new(KeyAlgorithm::Es256);
    let with = |signer: &Signer, name: &str, value: Value| {
        let mut jwk = signer.jwk("main");
        jwk[name] = value;
        jwk.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        parse_jwk(&jwk)
    };
    let member = PublicKeyError::Damaged("a member is missing or not base64url");
    let numbers = PublicKeyError::Damaged("its numbers are no key");
    let unsupported = |kind: &str| PublicKeyError::Unsupported { kind: kind.to_owned() };
    let point = |name: &str| json!(ec.jwk("main")[name].as_str().unwrap().replace(|_: char| true, "A"));
    let modulus = rsa.jwk("main")["n"].as_str().unwrap().to_owned();
    for (result, error) in [
        (parse_jwk(&Signer::new(KeyAlgorithm::Hs256).jwk("main")), PublicKeyError::Symmetric),
        (with(&rsa, "d", json!("AQAB")), PublicKeyError::Private),
        (with(&ec, "d", json!("AQAB")), PublicKeyError::Private),
        (with(&rsa, "use", json!("enc")), PublicKeyError::NotForSignatures),
        (with(&rsa, "use", json!(1)), PublicKeyError::NotForSignatures),
        (with(&rsa, "key_ops", json!(["encrypt"])), PublicKeyError::NotForSignatures),
        (with(&rsa, "key_ops", json!("verify")), PublicKeyError::NotForSignatures),
        (with(&rsa, "kty", json!("EC")), unsupported("EC")),
        (with(&rsa, "kty", json!("AKP")), unsupported("AKP")),
        (with(&ec, "crv", json!("P-521")), unsupported("EC P-521")),
        (with(&ec, "crv", json!("secp256k1\n")), unsupported("EC secp256k1")),
        (with(&rsa, "kty", json!(null)), PublicKeyError::Damaged("\"kty\" is missing or not a text")),
        (with(&rsa, "n", json!(null)), member.clone()),
        (with(&rsa, "n", json!(7)), member.clone()),
        (with(&rsa, "n", json!(format!("{modulus}="))), member.clone()),
        (with(&ec, "y", json!(null)), member),
        (with(&rsa, "n", json!("AQAB")), PublicKeyError::RsaSize { bits: 17 }),
        (with(&rsa, "n", json!("")), PublicKeyError::RsaSize { bits: 0 }),
        (with(&rsa, "n", json!("v".repeat(1368))), PublicKeyError::RsaSize { bits: 8208 }),
        (with(&rsa, "e", json!("AQ")), numbers.clone()),
        (with(&rsa, "e", json!("Ag")), numbers.clone()),
        (with(&rsa, "e", json!("")), numbers.clone()),
        (with(&rsa, "e", json!(modulus)), numbers.clone()),
        (with(&ec, "y", point("y")), numbers.clone()),
        (with(&ec, "x", json!("AQAB")), numbers.clone()),
        (with(&ec, "crv", json!("P-384")), numbers),
    ] {
        assert_eq!(result.unwrap_err(), error);
    }
    assert!(with(&rsa, "key_ops", json!(["verify"])).is_ok());
    assert!(with(&rsa, "use", json!(null)).is_ok());
    assert!(with(&rsa, "x5c", json!("not looked at")).is_ok());
}

#[test]
fn jwt_09_a_key_of_another_family_than_its_algorithm_is_refused() {
    let files = [
        ("rsa.pem", KeyFamily::Rsa),
        ("p256.pem", KeyFamily::P256),
        ("p384.pem", KeyFamily::P384),
        ("ed25519.pem", KeyFamily::Ed25519),
    ];
    for (name, family) in files {
        for (_, algorithm) in KeyAlgorithm::NAMES {
            let result = load(vec![public(algorithm, &file(name))]);
            if algorithm.family() == family {
                assert!(result.is_ok(), "{name} {algorithm}");
            } else {
                let message = result.unwrap_err().to_string();
                assert!(message.contains(&format!("which is no key for {algorithm}")), "{message}");
            }
        }
    }
}
