//! `Signer`: signs tokens with any algorithm, without jsonwebtoken, and writes the public key in every form.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::encoding::PublicKeyX509Der;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::RsaEncoding;
use aws_lc_rs::signature::RsaKeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::key::KeyConfig;
use crate::config::auth::key::KeyMaterial;
use crate::config::secret::Secret;

/// A new key for one algorithm.
pub(crate) struct Signer {
    pub(crate) algorithm: KeyAlgorithm,
    private: Private,
}

enum Private {
    Secret(String),
    Rsa(Box<RsaKeyPair>),
    Elliptic(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn new(algorithm: KeyAlgorithm) -> Self {
        use KeyAlgorithm as A;
        let private = match algorithm {
            A::Hs256 | A::Hs384 | A::Hs512 => {
                let mut random = [0; 32];
                aws_lc_rs::rand::fill(&mut random).unwrap();
                Private::Secret(random.iter().map(|byte| format!("{byte:02x}")).collect())
            }
            A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512 => {
                Private::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
            }
            A::Es256 => {
                let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                Private::Elliptic(EcdsaKeyPair::generate(kind).unwrap())
            }
            A::Es384 => {
                let kind = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
                Private::Elliptic(EcdsaKeyPair::generate(kind).unwrap())
            }
            A::EdDsa => Private::Edwards(Ed25519KeyPair::generate().unwrap()),
        };
        Self { algorithm, private }
    }

    /// The same key for another algorithm of its family.
    pub(crate) fn for_algorithm(self, algorithm: KeyAlgorithm) -> Self {
        assert_eq!(self.algorithm.family(), algorithm.family());
        Self { algorithm, ..self }
    }

    /// A token with this header and these claims.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.signature(message.as_bytes())))
    }

    /// A token with this `kid` and the key's own algorithm.
    pub(crate) fn token(&self, kid: &str, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm.name(), "kid": kid, "typ": "JWT"}), claims)
    }

    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        use KeyAlgorithm as A;
        let random = SystemRandom::new();
        match (&self.private, self.algorithm) {
            (Private::Secret(secret), algorithm) => {
                let hashes = [
                    (A::Hs256, hmac::HMAC_SHA256),
                    (A::Hs384, hmac::HMAC_SHA384),
                    (A::Hs512, hmac::HMAC_SHA512),
                ];
                let hash = hashes.into_iter().find(|(name, _)| *name == algorithm).unwrap().1;
                hmac::sign(&hmac::Key::new(hash, secret.as_bytes()), message).as_ref().to_vec()
            }
            (Private::Rsa(key), algorithm) => {
                let paddings: [(A, &'static dyn RsaEncoding); 6] = [
                    (A::Rs256, &signature::RSA_PKCS1_SHA256),
                    (A::Rs384, &signature::RSA_PKCS1_SHA384),
                    (A::Rs512, &signature::RSA_PKCS1_SHA512),
                    (A::Ps256, &signature::RSA_PSS_SHA256),
                    (A::Ps384, &signature::RSA_PSS_SHA384),
                    (A::Ps512, &signature::RSA_PSS_SHA512),
                ];
                let padding = paddings.into_iter().find(|(name, _)| *name == algorithm).unwrap().1;
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            (Private::Elliptic(key), _) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            (Private::Edwards(key), _) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// The public key as `SubjectPublicKeyInfo` in DER.
    pub(crate) fn der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match &self.private {
            Private::Secret(_) => panic!("a secret has no public key"),
            Private::Rsa(key) => key.public_key().as_der().unwrap(),
            Private::Elliptic(key) => key.public_key().as_der().unwrap(),
            Private::Edwards(key) => key.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub(crate) fn pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(self.der()))
    }

    /// The public key as a JWK with this `kid`.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.private {
            Private::Secret(secret) => json!({"kty": "oct", "k": text(secret.as_bytes())}),
            Private::Rsa(key) => json!({
                "kty": "RSA",
                "n": text(key.public_key().modulus().big_endian_without_leading_zero()),
                "e": text(key.public_key().exponent().big_endian_without_leading_zero()),
            }),
            Private::Elliptic(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if self.algorithm == KeyAlgorithm::Es256 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
            }
            Private::Edwards(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref())})
            }
        };
        jwk["kid"] = json!(kid);
        jwk["alg"] = json!(self.algorithm.name());
        jwk["use"] = json!("sig");
        jwk
    }

    /// The key in the configuration.
    pub(crate) fn config(&self, kid: &str) -> KeyConfig {
        let material = match &self.private {
            Private::Secret(secret) => KeyMaterial::Secret(Secret::new(secret.as_str())),
            Private::Rsa(_) | Private::Elliptic(_) | Private::Edwards(_) => {
                KeyMaterial::Public(Secret::new(self.pem()))
            }
        };
        KeyConfig { kid: kid.to_owned(), algorithm: self.algorithm, material, key: String::new() }
    }
}
