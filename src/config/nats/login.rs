//! How Tidegate logs in to NATS.

use std::path::PathBuf;

use crate::config::secret::Secret;

#[derive(Clone, Debug, PartialEq)]
pub enum NatsLogin {
    /// Without a login.
    None,
    /// A file with a JWT and an nkey, as `nsc` generates it.
    CredsFile(PathBuf),
    /// A file with the seed of an nkey.
    NkeyFile(PathBuf),
    /// A user that the server's configuration lists.
    Password { user: String, password: Secret },
    /// A token that the server's configuration lists.
    Token(Secret),
}
