//! `AuthSetupError`: why the configured keys and roles cannot be used.

use thiserror::Error;
use tidegate_protocol::template::TemplateError;

use crate::auth::keys::public_key::PublicKeyError;
use crate::config::auth::algorithm::KeyAlgorithm;

/// Why the sections `[auth]` and `[[role]]` cannot be used. Each message names the key and the fix.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum AuthSetupError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("in the [[auth.issuer]] \"{issuer}\": {problem}")]
    OfIssuer { issuer: String, problem: Box<Self> },
    #[error("a [[role]] has no name; set `name` to the name in tokens")]
    UnnamedRole,
    #[error("[[role]] \"{name}\" is defined twice; give each role its own name, or merge the two")]
    DuplicateRole { name: String },
    #[error("{key} is \"{role}\", {problem}")]
    Role { key: String, role: String, problem: RoleError },
}

/// Why an `[[auth.key]]` cannot be used. Secrets are never shown.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum KeyError {
    #[error(
        "[[auth.key]] \"{kid}\" has a secret of {bytes} bytes, and {algorithm} needs at least {min}; generate one with \
         `openssl rand -base64 {min}`",
        min = algorithm.min_secret_bytes().unwrap_or_default()
    )]
    WeakSecret { kid: String, algorithm: KeyAlgorithm, bytes: usize },
    #[error("[[auth.key]] \"{kid}\": the key {problem}")]
    Unusable { kid: String, problem: PublicKeyError },
    #[error(
        "[[auth.key]] \"{kid}\" is {found}, which is no key for {algorithm}; write its own algorithm, or its own key"
    )]
    WrongFamily { kid: String, algorithm: KeyAlgorithm, found: &'static str },
    #[error("[[auth.key]] \"{kid}\" is defined twice; give each key its own kid")]
    Duplicate { kid: String },
    #[error("one of several [[auth.key]] has no kid, so no token can refer to it; give each key its own kid")]
    Unnamed,
    #[error("[[auth.key]] \"{kid}\" cannot verify a token that it has signed: {problem}")]
    SelfTest { kid: String, problem: String },
}

/// Why a role cannot be used without a token. Each message continues the sentence `… is "name"`.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum RoleError {
    #[error("and there is no such [[role]]; add it, or use another")]
    Unknown,
    #[error(
        "which has the placeholder \"{{{placeholder}}}\", and without a token nothing can fill it; use a role without it, or \
         give it a default: {{{placeholder}|default:[]}}"
    )]
    Placeholder { placeholder: String },
    #[error("and its user cannot be part of a subject; give the user another name")]
    BadUser,
    #[error("which cannot be used: {0}")]
    Template(TemplateError),
}

/// The error for a role at this key of the configuration.
pub(super) fn wrong_role(key: &str, role: &str, problem: RoleError) -> AuthSetupError {
    AuthSetupError::Role { key: key.to_owned(), role: role.to_owned(), problem }
}
