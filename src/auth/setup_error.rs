//! `AuthSetupError`: why keys and roles of the configuration cannot be used.

use thiserror::Error;
use tidegate_protocol::template::TemplateError;

/// RFC 7518 §3.2: a key for HS256 is at least as long as its hash.
pub(super) const MIN_SECRET_BYTES: usize = 32;

/// Why `[auth]` and `[[role]]` cannot be used. Each message names the key and the fix.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum AuthSetupError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("a [[role]] has no name; set `name` to what tokens say")]
    UnnamedRole,
    #[error(
        "[[role]] \"{name}\" stands there twice; give each role its own name or put their rules together"
    )]
    DuplicateRole { name: String },
    #[error("{key} is \"{role}\", {problem}")]
    Role { key: String, role: String, problem: RoleError },
}

/// Why an `[[auth.key]]` cannot be used. Secrets are never shown.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum KeyError {
    #[error(
        "[[auth.key]] \"{kid}\" has a secret of {bytes} bytes, and HS256 needs at least {MIN_SECRET_BYTES}; \
         make one with `openssl rand -base64 32`"
    )]
    WeakSecret { kid: String, bytes: usize },
    #[error("[[auth.key]] \"{kid}\" stands there twice; give each key its own kid")]
    Duplicate { kid: String },
    #[error("one of several [[auth.key]] has no kid, so no token could name it; give each key its own kid")]
    Unnamed,
    #[error("[[auth.key]] \"{kid}\" cannot verify what it has signed: {problem}")]
    SelfTest { kid: String, problem: String },
}

/// Why a role cannot be had without a token. The words go on where `… is "name"` has been up.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum RoleError {
    #[error("and there is no such [[role]]; add it, or name another")]
    Unknown,
    #[error(
        "which has the placeholder \"{{{placeholder}}}\", and without a token nothing can fill it; use a role without it"
    )]
    Placeholder { placeholder: String },
    #[error("which cannot be used: {0}")]
    Template(TemplateError),
}

/// A role that cannot be had, at a key of the configuration.
pub(super) fn wrong_role(key: &str, role: &str, problem: RoleError) -> AuthSetupError {
    AuthSetupError::Role { key: key.to_owned(), role: role.to_owned(), problem }
}
