//! The answer of the service that says who a client is, and all checks of it.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Permissions;

use crate::auth::Authenticator;
use crate::auth::claims::Claims;
use crate::auth::decisions::Answer;
use crate::auth::service::ConnectDecision;
use crate::auth::service::check_size;
use crate::auth::service::keep;
use crate::auth::service::refusal;
use crate::auth::service::unreadable;
use crate::auth::user::User;

/// How long a refusal is kept.
const KEEP_REFUSAL: Duration = Duration::from_secs(5);
/// The most channels that an identity brings.
const MAX_CHANNELS: usize = 64;
/// What a pattern takes besides its text.
const PATTERN_BYTES: usize = 32;
/// The most roles of an identity.
const MAX_ROLES: usize = 32;
/// Seconds since 1970 are fewer until the year 5138, and milliseconds are more since 1973.
const MAX_SECONDS: u64 = 100_000_000_000;

/// The answer as it comes. A name that is not here is a mistake of the service.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectAnswer {
    user: Option<String>,
    roles: Option<Vec<String>>,
    expires: Option<u64>,
    claims: Option<Claims>,
    channels: Option<Vec<String>>,
    id: Option<String>,
    cache_s: Option<u64>,
    refused: Option<String>,
}

impl Authenticator {
    /// What an answer of the service says; an error says what is wrong with it. `asked` is when it was asked: then the
    /// identity counts as issued, so that a later revocation covers it.
    pub fn read_connect_answer(
        &self,
        answer: &[u8],
        asked: SystemTime,
    ) -> Result<Answer<ConnectDecision>, String> {
        check_size(answer)?;
        let bytes = answer.len();
        let answer: ConnectAnswer = serde_json::from_slice(answer).map_err(|error| unreadable(&error))?;
        if let Some(message) = &answer.refused {
            if answer.user.is_some() {
                return Err("it has both `user` and `refused`".to_owned());
            }
            let keep = keep(answer.cache_s)?.min(KEEP_REFUSAL);
            let value = ConnectDecision::Refused(refusal(message, "the credential was refused"));
            return Ok(Answer { value, keep, bytes });
        }
        let name = answer.user.ok_or("it has neither `user` nor `refused`")?;
        let user = User::new(&name, self.issuers.encoding())
            .ok_or("its `user` cannot be part of a subject; see auth.user_claim in the configuration")?;
        let roles = answer.roles.filter(|roles| !roles.is_empty()).ok_or("it has no `roles`")?;
        if roles.len() > MAX_ROLES {
            return Err(format!("it has {} roles; at most {MAX_ROLES} are allowed", roles.len()));
        }
        let expires = expiry(answer.expires, asked, self.config.max_token_lifetime)?;
        let claims = answer.claims.unwrap_or_default();
        let (roles, permissions) = self.roles.of_names(&roles, &claims, &user)?;
        let channels = answer.channels.unwrap_or_default();
        if channels.len() > MAX_CHANNELS {
            return Err(format!("it has {} channels; at most {MAX_CHANNELS} are allowed", channels.len()));
        }
        let keep = keep(answer.cache_s)?;
        let issuer = self.issuers.name_of_user(&user.name).cloned();
        let identity = Identity {
            user: user.name,
            encoded_user: user.encoded,
            roles,
            permissions,
            issuer,
            claims: claims.select(&self.exposed_claims).map(Arc::new),
            channels: (!channels.is_empty())
                .then(|| Arc::new(channels.into_iter().map(Into::into).collect())),
            expires: Some(expires),
            token_id: answer.id.map(Arc::from),
            issued: Some(asked),
            anonymous: false,
        };
        let keep = keep.min(expires.duration_since(asked).unwrap_or_default());
        let bytes = bytes + own_bytes(&identity.permissions);
        Ok(Answer { value: ConnectDecision::Identity(Arc::new(identity)), keep, bytes })
    }
}

/// The bytes of permissions that no other identity shares, about.
fn own_bytes(permissions: &Arc<Permissions>) -> usize {
    if Arc::strong_count(permissions) > 1 {
        return 0;
    }
    let rules = [&permissions.subscribe, &permissions.publish, &permissions.request];
    let patterns = rules.into_iter().flat_map(|rules| rules.allow.iter().chain(&rules.deny));
    patterns.map(|pattern| pattern.as_str().len() + PATTERN_BYTES).sum()
}

/// When the identity ends. Each has an end, as tokens have.
fn expiry(expires: Option<u64>, now: SystemTime, max_lifetime: Duration) -> Result<SystemTime, String> {
    let expires = expires.ok_or("it has no `expires`, in seconds since 1970")?;
    if expires > MAX_SECONDS {
        return Err("its `expires` is in milliseconds; it must be in seconds since 1970".to_owned());
    }
    let expires = UNIX_EPOCH + Duration::from_secs(expires);
    let left = expires.duration_since(now).unwrap_or_default();
    if left.is_zero() {
        return Err("its `expires` is in the past".to_owned());
    }
    if !max_lifetime.is_zero() && left > max_lifetime {
        return Err("its `expires` is further away than auth.max_token_lifetime_s".to_owned());
    }
    Ok(expires)
}

#[cfg(test)]
mod tests;
