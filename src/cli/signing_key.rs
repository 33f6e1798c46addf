//! The configured keys that commands can sign tokens with: secrets. Public keys only verify.

use crate::config::auth::AuthConfig;
use crate::config::auth::issuer::IssuerConfig;
use crate::config::auth::key::KeyConfig;
use crate::config::auth::key::KeyMaterial;
use crate::config::secret::Secret;

/// A key with its secret, and the issuer whose tokens it signs.
pub(super) struct SigningKey {
    pub(super) issuer: IssuerConfig,
    pub(super) key: KeyConfig,
    pub(super) secret: Secret,
}

/// The first key that can sign.
pub(super) fn signing_key(auth: &AuthConfig) -> Option<SigningKey> {
    signing_keys(auth).next()
}

/// All keys that can sign, in the order of the configuration.
pub(super) fn signing_keys(auth: &AuthConfig) -> impl Iterator<Item = SigningKey> {
    auth.all_issuers().into_iter().flat_map(|issuer| {
        let keys = issuer.keys.clone();
        keys.into_iter().filter_map(move |key| match &key.material {
            KeyMaterial::Secret(secret) => {
                Some(SigningKey { issuer: issuer.clone(), secret: secret.clone(), key })
            }
            KeyMaterial::Public(_) => None,
        })
    })
}
