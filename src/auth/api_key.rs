//! `ApiKeys`: the users of the configured API keys. Keys are stored as SHA-256 digests and compared in constant time.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use tidegate_protocol::identity::Identity;
use tracing::debug;

use crate::auth::issuer::Issuers;
use crate::auth::roles::Roles;
use crate::auth::setup_error::AuthSetupError;
use crate::auth::setup_error::RoleError;
use crate::auth::setup_error::wrong_role;
use crate::auth::user::User;
use crate::config::auth::api_key::ApiKeyConfig;
use crate::config::auth::api_key::KeyDigest;

/// All configured API keys.
#[derive(Debug)]
pub struct ApiKeys(Vec<ApiKey>);

#[derive(Debug)]
struct ApiKey {
    name: String,
    digest: KeyDigest,
    /// Built once, and shared by all clients with this key.
    identity: Arc<Identity>,
}

impl ApiKeys {
    /// Looks up the role of each key, and the issuer of its user.
    pub fn new(keys: Vec<ApiKeyConfig>, roles: &Roles, issuers: &Issuers) -> Result<Self, AuthSetupError> {
        let load = |(at, key): (usize, ApiKeyConfig)| {
            let user = User::new(&key.user, issuers.encoding()).ok_or(RoleError::BadUser);
            let identity = user
                .and_then(|user| roles.user(&key.role, &user))
                .map_err(|problem| wrong_role(&format!("auth.api_key[{at}].role"), &key.role, problem))?;
            let identity =
                Arc::new(Identity { issuer: issuers.name_of_user(&key.user).cloned(), ..identity });
            Ok(ApiKey { name: key.name, digest: key.sha256, identity })
        };
        keys.into_iter().enumerate().map(load).collect::<Result<_, _>>().map(Self)
    }

    /// The identity of this key. It is compared with every configured key, so that the time reveals nothing.
    pub fn find(&self, key: &str) -> Option<Arc<Identity>> {
        let digest = digest::digest(&digest::SHA256, key.as_bytes());
        let mut found = None;
        for candidate in &self.0 {
            if verify_slices_are_equal(&candidate.digest.0, digest.as_ref()).is_ok() {
                found = Some(candidate);
            }
        }
        let found = found?;
        debug!(api_key = %found.name, "api key accepted");
        Some(Arc::clone(&found.identity))
    }
}

#[cfg(test)]
mod tests;
