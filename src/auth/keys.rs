//! `VerificationKeys`: the keys of one issuer, each with one algorithm.

pub(super) mod der;
pub mod public_key;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Validation;
use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::quote::quoted;

use crate::auth::keys::public_key::PublicKey;
use crate::auth::setup_error::KeyError;
use crate::config::auth::AuthConfig;
use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::algorithm::KeyFamily;
use crate::config::auth::key::KeyConfig;
use crate::config::auth::key::KeyMaterial;
use crate::config::secret::Secret;

/// The keys by `kid`.
#[derive(Default)]
pub struct VerificationKeys(HashMap<String, Arc<VerificationKey>>);

/// A key with its only algorithm, whatever `alg` a token has (RFC 8725 §3.1). A public key can therefore never be the
/// secret of HS256.
pub struct VerificationKey {
    pub algorithm: KeyAlgorithm,
    pub decoding: DecodingKey,
    /// What jsonwebtoken checks. Times are checked by `Claims`: jsonwebtoken reads the clock itself, rounds `exp`, and
    /// gives it the leeway of `nbf`.
    pub validation: Validation,
    /// Tells this key from others with the same `kid`.
    fingerprint: [u8; digest::SHA256_OUTPUT_LEN],
}

/// What jsonwebtoken checks in the claims of a token. `Claims` checks the same and more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClaimRules {
    /// Empty: any.
    pub issuer: String,
    /// Empty: only tokens without an audience.
    pub audience: String,
    /// Whether `sub` is the user.
    pub needs_subject: bool,
}

/// What is wrong with the configured keys of all issuers, so that one run shows all of it. The lengths of secrets and
/// repeated names are checked with the configuration.
pub fn inspect(config: &AuthConfig) -> Vec<Diagnostic> {
    let issuers = config.all_issuers();
    let keys = issuers.iter().flat_map(|issuer| &issuer.keys);
    let wrong = keys.filter_map(|key| {
        let (message, help) = match VerificationKey::of(key, &ClaimRules::default()).err()? {
            KeyError::Unusable { kid, problem } => {
                let problem = problem.to_string();
                let (message, help) = problem
                    .split_once("; ")
                    .or_else(|| problem.split_once(": "))
                    .unwrap_or((problem.as_str(), "write a public key of the issuer that can be used"));
                (format!("the key {} {message}", quoted(&kid)), help.to_owned())
            }
            KeyError::WrongFamily { kid, algorithm, found } => {
                let message = format!("the key {} is {found}, which is no key for {algorithm}", quoted(&kid));
                (message, "write its own algorithm, or its own key".to_owned())
            }
            KeyError::WeakSecret { .. }
            | KeyError::Duplicate { .. }
            | KeyError::Unnamed
            | KeyError::SelfTest { .. } => return None,
        };
        Some(Diagnostic::error(&key.key, message, help))
    });
    wrong.collect()
}

impl VerificationKeys {
    /// The keys of the configuration. Each is tested: a secret signs and verifies a token, a public key is parsed by the
    /// cryptographic library.
    pub fn new(configs: Vec<KeyConfig>, rules: &ClaimRules) -> Result<Self, KeyError> {
        let several = configs.len() > 1;
        let mut keys = Self::default();
        for config in configs {
            if several && config.kid.is_empty() {
                return Err(KeyError::Unnamed);
            }
            let key = VerificationKey::of(&config, rules)?;
            if !keys.insert(config.kid.clone(), key) {
                return Err(KeyError::Duplicate { kid: config.kid });
            }
        }
        Ok(keys)
    }

    /// Adds a key. Returns false, and keeps the earlier key, if there is one with this `kid`.
    pub(super) fn insert(&mut self, kid: String, key: VerificationKey) -> bool {
        let is_new = !self.0.contains_key(&kid);
        if is_new {
            self.0.insert(kid, Arc::new(key));
        }
        is_new
    }

    /// The key with this `kid`.
    pub(super) fn get(&self, kid: &str) -> Option<&Arc<VerificationKey>> {
        self.0.get(kid)
    }

    /// The key for tokens without `kid`: the only one, if there are no others.
    pub(super) fn only(&self) -> Option<&Arc<VerificationKey>> {
        self.0.values().next().filter(|_| self.0.len() == 1)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every key is in `later` too, unchanged.
    pub(super) fn are_all_in(&self, later: &Self) -> bool {
        self.0.iter().all(|(kid, key)| later.get(kid).is_some_and(|same| same.is(key)))
    }
}

impl fmt::Debug for VerificationKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl VerificationKey {
    fn of(config: &KeyConfig, rules: &ClaimRules) -> Result<Self, KeyError> {
        let KeyConfig { kid, algorithm, material, key: _ } = config;
        let (kid, algorithm) = (kid.clone(), *algorithm);
        match material {
            KeyMaterial::Secret(secret) => Self::from_secret(&kid, algorithm, secret, rules),
            KeyMaterial::Public(text) => match PublicKey::parse(text.expose()) {
                Err(problem) => Err(KeyError::Unusable { kid, problem }),
                Ok(public) if public.family() != algorithm.family() => {
                    let found = family_name(public.family());
                    Err(KeyError::WrongFamily { kid, algorithm, found })
                }
                Ok(public) => Ok(Self::from_public(algorithm, &public, rules)),
            },
        }
    }

    pub(super) fn from_public(algorithm: KeyAlgorithm, key: &PublicKey, rules: &ClaimRules) -> Self {
        let text = format!("{algorithm} {key:?}");
        Self::new(algorithm, key.decoding_key(), text.as_bytes(), rules)
    }

    fn from_secret(
        kid: &str,
        algorithm: KeyAlgorithm,
        secret: &Secret,
        rules: &ClaimRules,
    ) -> Result<Self, KeyError> {
        let kid = kid.to_owned();
        let (bytes, min) = (secret.expose().as_bytes(), algorithm.min_secret_bytes().unwrap_or(usize::MAX));
        if bytes.len() < min {
            return Err(KeyError::WeakSecret { kid, algorithm, bytes: bytes.len() });
        }
        let failed = |problem: String| KeyError::SelfTest { kid: kid.clone(), problem };
        let decoding = DecodingKey::from_secret(bytes).map_err(|error| failed(error.to_string()))?;
        let key = Self::new(algorithm, decoding, bytes, rules);
        key.self_test(bytes)
            .map_err(|error| failed(error.to_string()))?
            .then_some(key)
            .ok_or_else(|| failed("the signature does not match".to_owned()))
    }

    fn new(algorithm: KeyAlgorithm, decoding: DecodingKey, material: &[u8], rules: &ClaimRules) -> Self {
        let mut fingerprint = [0; digest::SHA256_OUTPUT_LEN];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, material).as_ref());
        Self { algorithm, decoding, validation: rules.validation(algorithm), fingerprint }
    }

    /// Signs and verifies a text, so that a missing cryptographic library shows at startup.
    fn self_test(&self, secret: &[u8]) -> Result<bool, jsonwebtoken::errors::Error> {
        let (algorithm, text) = (library_algorithm(self.algorithm), b"self-test");
        let signature = jsonwebtoken::crypto::sign(text, &EncodingKey::from_secret(secret)?, algorithm)?;
        jsonwebtoken::crypto::verify(&signature, text, &self.decoding, algorithm)
    }

    fn is(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.fingerprint == other.fingerprint
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("VerificationKey").field(&self.algorithm).finish()
    }
}

impl ClaimRules {
    /// jsonwebtoken 12 checks `iss`, `aud` and `sub` only if they are there, so they are required; and it takes a list as
    /// `iss`, which `Claims` does not.
    fn validation(&self, algorithm: KeyAlgorithm) -> Validation {
        let mut validation = Validation::new(library_algorithm(algorithm));
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let mut required = vec!["exp"];
        if !self.issuer.is_empty() {
            validation.set_issuer(&[&self.issuer]);
            required.push("iss");
        }
        // Without an audience here, `validate_aud` rejects tokens that have one.
        if !self.audience.is_empty() {
            validation.set_audience(&[&self.audience]);
            required.push("aud");
        }
        if self.needs_subject {
            required.push("sub");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

pub(super) fn library_algorithm(algorithm: KeyAlgorithm) -> Algorithm {
    match algorithm {
        KeyAlgorithm::Hs256 => Algorithm::HS256,
        KeyAlgorithm::Hs384 => Algorithm::HS384,
        KeyAlgorithm::Hs512 => Algorithm::HS512,
        KeyAlgorithm::Rs256 => Algorithm::RS256,
        KeyAlgorithm::Rs384 => Algorithm::RS384,
        KeyAlgorithm::Rs512 => Algorithm::RS512,
        KeyAlgorithm::Ps256 => Algorithm::PS256,
        KeyAlgorithm::Ps384 => Algorithm::PS384,
        KeyAlgorithm::Ps512 => Algorithm::PS512,
        KeyAlgorithm::Es256 => Algorithm::ES256,
        KeyAlgorithm::Es384 => Algorithm::ES384,
        KeyAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// The family in error messages.
fn family_name(family: KeyFamily) -> &'static str {
    match family {
        KeyFamily::Secret => "a secret",
        KeyFamily::Rsa => "an RSA key",
        KeyFamily::P256 => "a key on the curve P-256",
        KeyFamily::P384 => "a key on the curve P-384",
        KeyFamily::Ed25519 => "an Ed25519 key",
    }
}

#[cfg(test)]
mod tests;
