//! Tokens of each algorithm, verified with the public key.

use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::UnparsedPublicKey;
use aws_lc_rs::signature::VerificationAlgorithm;

use super::*;
use crate::auth::unverified_token::UnverifiedToken;

/// A private key as `openssl genpkey` writes it.
fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

fn rsa_pem() -> String {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::encoding::Pkcs8V1Der;
    use aws_lc_rs::rsa;
    let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    pem(der.as_ref())
}

fn ec_pem(algorithm: &'static EcdsaSigningAlgorithm) -> String {
    pem(EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap().as_ref())
}

fn ed_pem() -> String {
    pem(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref())
}

fn public_key(key: &PrivateKey) -> Vec<u8> {
    match &key.pair {
        KeyPair::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
        KeyPair::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
        KeyPair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
    }
}

#[test]
fn tokens_of_each_algorithm_verify_with_the_public_key() {
    let rsa = rsa_pem();
    let cases: [(&str, String, &dyn VerificationAlgorithm); 9] = [
        ("RS256", rsa.clone(), &signature::RSA_PKCS1_2048_8192_SHA256),
        ("RS384", rsa.clone(), &signature::RSA_PKCS1_2048_8192_SHA384),
        ("RS512", rsa.clone(), &signature::RSA_PKCS1_2048_8192_SHA512),
        ("PS256", rsa.clone(), &signature::RSA_PSS_2048_8192_SHA256),
        ("PS384", rsa.clone(), &signature::RSA_PSS_2048_8192_SHA384),
        ("PS512", rsa, &signature::RSA_PSS_2048_8192_SHA512),
        ("ES256", ec_pem(&signature::ECDSA_P256_SHA256_FIXED_SIGNING), &signature::ECDSA_P256_SHA256_FIXED),
        ("ES384", ec_pem(&signature::ECDSA_P384_SHA384_FIXED_SIGNING), &signature::ECDSA_P384_SHA384_FIXED),
        ("EdDSA", ed_pem(), &signature::ED25519),
    ];
    assert_eq!(cases.each_ref().map(|(name, ..)| *name), PRIVATE_KEY_ALGORITHMS);
    for (algorithm, pem, verification) in cases {
        let key = PrivateKey::from_pem(algorithm, &pem).unwrap();
        let token = key.mint(Some("at+jwt"), Some("k1"), &json!({ "sub": "alice" })).unwrap();
        let (message, sent) = token.rsplit_once('.').unwrap();
        let sent = URL_SAFE_NO_PAD.decode(sent).unwrap();
        let public = public_key(&key);
        let public = UnparsedPublicKey::new(verification, &public);
        assert!(public.verify(message.as_bytes(), &sent).is_ok(), "{algorithm}");
        let found = UnverifiedToken::read(&token).unwrap();
        let header = json!({ "typ": "at+jwt", "alg": algorithm, "kid": "k1" });
        assert_eq!(
            (Value::Object(found.header), Value::Object(found.claims)),
            (header, json!({ "sub": "alice" }))
        );
    }
}

#[test]
fn a_wrong_file_or_key_is_an_error_with_a_fix() {
    let ec = ec_pem(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
    for (algorithm, pem, words) in [
        ("HS256", &ec[..], "there is no algorithm \"HS256\"; use one of RS256"),
        ("ES256", "secret", "convert it with `openssl pkcs8"),
        ("ES256", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----", "convert it with"),
        ("ES384", &ec, "does not fit the algorithm ES384; make one with `openssl genpkey -algorithm EC"),
        ("RS256", &ec, "does not fit the algorithm RS256; make one with `openssl genpkey -algorithm RSA"),
        ("EdDSA", &ec, "does not fit the algorithm EdDSA; make one with `openssl genpkey -algorithm ed25519"),
    ] {
        let error = PrivateKey::from_pem(algorithm, pem).unwrap_err().to_string();
        assert!(error.contains(words), "{algorithm}: {error}");
    }
}
