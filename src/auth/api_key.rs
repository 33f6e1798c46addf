//! `ApiKeys`: who comes with which key. Keys are known by their SHA-256, and compared in constant time.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use tidegate_protocol::identity::Identity;
use tracing::debug;

use crate::auth::roles::Roles;
use crate::auth::setup_error::AuthSetupError;
use crate::auth::setup_error::wrong_role;
use crate::config::auth::api_key::ApiKeyConfig;
use crate::config::auth::api_key::KeyDigest;

/// All keys that are configured.
#[derive(Debug)]
pub struct ApiKeys(Vec<ApiKey>);

#[derive(Debug)]
struct ApiKey {
    name: String,
    digest: KeyDigest,
    /// Made once, and shared by all who come with the key.
    identity: Arc<Identity>,
}

impl ApiKeys {
    /// The keys with their users, who are users of this `issuer`.
    pub fn new(
        keys: Vec<ApiKeyConfig>,
        roles: &Roles,
        issuer: Option<&Arc<str>>,
    ) -> Result<Self, AuthSetupError> {
        let known = |(at, key): (usize, ApiKeyConfig)| {
            let identity = roles
                .user(&key.role, &key.user)
                .map_err(|problem| wrong_role(&format!("auth.api_key[{at}].role"), &key.role, problem))?;
            let identity = Arc::new(Identity { issuer: issuer.cloned(), ..identity });
            Ok(ApiKey { name: key.name, digest: key.sha256, identity })
        };
        keys.into_iter().enumerate().map(known).collect::<Result<_, _>>().map(Self)
    }

    /// Who comes with this key. Every key is looked at, so that the time it takes tells nothing.
    pub fn find(&self, key: &str) -> Option<Arc<Identity>> {
        let digest = digest::digest(&digest::SHA256, key.as_bytes());
        let mut found = None;
        for known in &self.0 {
            if verify_slices_are_equal(&known.digest.0, digest.as_ref()).is_ok() {
                found = Some(known);
            }
        }
        let found = found?;
        debug!(api_key = %found.name, "api key accepted");
        Some(Arc::clone(&found.identity))
    }
}

#[cfg(test)]
mod tests;
