//! `PrivateKey`: signs tokens with a private key, as an issuer does. Nodes only verify tokens and have no such key.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::EcdsaSigningAlgorithm;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::RsaEncoding;
use aws_lc_rs::signature::RsaKeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use thiserror::Error;

/// The algorithms, by their names in tokens.
pub const PRIVATE_KEY_ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// Why a private key cannot sign.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum PrivateKeyError {
    #[error("there is no algorithm \"{0}\"; use one of {known}", known = PRIVATE_KEY_ALGORITHMS.join(", "))]
    UnknownAlgorithm(String),
    #[error(
        "the file is not a private key in the format PKCS#8 (-----BEGIN PRIVATE KEY-----); convert it with \
         `openssl pkcs8 -topk8 -nocrypt -in FILE`"
    )]
    NotPkcs8,
    #[error("the key does not fit the algorithm {algorithm}; {help}")]
    WrongKey { algorithm: &'static str, help: &'static str },
    #[error("the key cannot sign with {0}")]
    Signing(&'static str),
}

/// A private key with its algorithm.
#[derive(Debug)]
pub struct PrivateKey {
    algorithm: &'static str,
    pair: KeyPair,
}

#[derive(Debug)]
enum KeyPair {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// Reads a key in PEM.
    pub fn from_pem(algorithm: &str, pem: &str) -> Result<Self, PrivateKeyError> {
        let Some(algorithm) = PRIVATE_KEY_ALGORITHMS.into_iter().find(|known| *known == algorithm) else {
            return Err(PrivateKeyError::UnknownAlgorithm(algorithm.to_owned()));
        };
        let der = pkcs8(pem).ok_or(PrivateKeyError::NotPkcs8)?;
        let pair = match algorithm {
            "ES256" => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &der),
            "ES384" => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, &der),
            "EdDSA" => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok().map(KeyPair::Ed25519),
            _ => RsaKeyPair::from_pkcs8(&der).ok().map(|pair| KeyPair::Rsa(Box::new(pair), rsa(algorithm))),
        };
        let help = match algorithm {
            "ES256" => "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`",
            "ES384" => "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384`",
            "EdDSA" => "make one with `openssl genpkey -algorithm ed25519`",
            _ => "make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`",
        };
        let pair = pair.ok_or(PrivateKeyError::WrongKey { algorithm, help })?;
        Ok(Self { algorithm, pair })
    }

    /// A token with these claims. `typ` is `JWT` if there is none.
    pub fn mint(
        &self,
        typ: Option<&str>,
        kid: Option<&str>,
        claims: &Value,
    ) -> Result<String, PrivateKeyError> {
        let mut header = json!({ "typ": typ.unwrap_or("JWT"), "alg": self.algorithm });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let signature = self.sign(message.as_bytes()).ok_or(PrivateKeyError::Signing(self.algorithm))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let rng = SystemRandom::new();
        match &self.pair {
            KeyPair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &rng, message, &mut signature).ok()?;
                Some(signature)
            }
            KeyPair::Ecdsa(pair) => Some(pair.sign(&rng, message).ok()?.as_ref().to_vec()),
            KeyPair::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, der: &[u8]) -> Option<KeyPair> {
    EcdsaKeyPair::from_pkcs8(algorithm, der).ok().map(KeyPair::Ecdsa)
}

fn rsa(algorithm: &str) -> &'static dyn RsaEncoding {
    match algorithm {
        "RS384" => &signature::RSA_PKCS1_SHA384,
        "RS512" => &signature::RSA_PKCS1_SHA512,
        "PS256" => &signature::RSA_PSS_SHA256,
        "PS384" => &signature::RSA_PSS_SHA384,
        "PS512" => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

/// The bytes of the first private key in a PEM file, if its format is PKCS#8.
fn pkcs8(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests;
