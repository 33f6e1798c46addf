//! As whom Tidegate comes to NATS.

use std::path::PathBuf;

use crate::config::secret::Secret;

/// One way to log in.
#[derive(Clone, Debug, PartialEq)]
pub enum NatsLogin {
    /// Without any.
    None,
    /// A file with a JWT and an nkey, as `nsc` makes it.
    CredsFile(PathBuf),
    /// A file with the seed of an nkey.
    NkeyFile(PathBuf),
    /// A user of the server's own file.
    Password { user: String, password: Secret },
    /// A word that the server knows.
    Token(Secret),
}
