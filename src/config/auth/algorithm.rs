//! `KeyAlgorithm`: the algorithms that sign tokens (RFC 7518 §3.1, RFC 8037 §3.1).

use std::fmt;

use tidegate_document::diagnostic::ValueError;
use tidegate_document::section::choose;

/// How a token is signed. A key has one algorithm, whatever its tokens say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// What an algorithm needs as its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFamily {
    /// A secret that issuer and Tidegate share.
    Secret,
    Rsa,
    /// A key on the curve P-256.
    P256,
    /// A key on the curve P-384.
    P384,
    Ed25519,
}

impl KeyAlgorithm {
    /// All of them, with their names in tokens.
    pub const NAMES: [(&str, Self); 12] = [
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    /// The name in the header `alg` of tokens, case-sensitive.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm with this name; `None` if Tidegate has no such algorithm.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    pub fn family(self) -> KeyFamily {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => KeyFamily::Secret,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => {
                KeyFamily::Rsa
            }
            Self::Es256 => KeyFamily::P256,
            Self::Es384 => KeyFamily::P384,
            Self::EdDsa => KeyFamily::Ed25519,
        }
    }

    /// The shortest secret, in bytes: RFC 7518 §3.2 requires the size of the hash. `None` if the key is a public key.
    pub fn min_secret_bytes(self) -> Option<usize> {
        match self {
            Self::Hs256 => Some(32),
            Self::Hs384 => Some(48),
            Self::Hs512 => Some(64),
            Self::Rs256
            | Self::Rs384
            | Self::Rs512
            | Self::Ps256
            | Self::Ps384
            | Self::Ps512
            | Self::Es256
            | Self::Es384
            | Self::EdDsa => None,
        }
    }

    /// Whether the key is a secret.
    pub fn is_symmetric(self) -> bool {
        self.family() == KeyFamily::Secret
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Reads the name of an algorithm.
pub(super) fn algorithm(text: &str) -> Result<KeyAlgorithm, ValueError> {
    if text == "ES512" {
        return Err(ValueError::new("is not supported", "let the issuer sign with ES256, ES384 or EdDSA"));
    }
    if text.eq_ignore_ascii_case("none") {
        return Err(ValueError::new("would accept every token", "name the algorithm of the key"));
    }
    choose(text, &KeyAlgorithm::NAMES)
}

/// Reads the name of an algorithm with a public key.
pub(super) fn public_algorithm(text: &str) -> Result<KeyAlgorithm, ValueError> {
    let algorithm = algorithm(text)?;
    if algorithm.is_symmetric() {
        let help = "list algorithms with public keys, such as \"RS256\" or \"ES256\"";
        return Err(ValueError::new("needs a secret, which a published key set cannot contain", help));
    }
    Ok(algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_registry_and_exact() {
        for (name, algorithm) in KeyAlgorithm::NAMES {
            assert_eq!((algorithm.name(), KeyAlgorithm::from_name(name)), (name, Some(algorithm)));
            assert_eq!(algorithm.is_symmetric(), name.starts_with("HS"), "{name}");
            assert_eq!(algorithm.min_secret_bytes().is_some(), algorithm.is_symmetric(), "{name}");
        }
        for name in ["none", "hs256", "HS256 ", "ES512", "ES256K", "EDDSA", ""] {
            assert_eq!(KeyAlgorithm::from_name(name), None, "{name}");
        }
    }
}
