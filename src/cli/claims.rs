//! The claims of tokens that commands mint: those that a configuration accepts.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use serde_json::Value;
use serde_json::json;

use crate::auth::claim_argument;
use crate::config::auth::AuthConfig;
use crate::config::auth::issuer::IssuerConfig;

/// The claims of a token of this issuer for this user, valid from `now`. The user has no `user_prefix` here. Without roles it has no role claim.
pub(super) fn claims(
    auth: &AuthConfig,
    issuer: &IssuerConfig,
    user: &str,
    roles: &[String],
    lifetime: Duration,
    now: SystemTime,
) -> Value {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires = now.saturating_add(lifetime);
    let mut claims = json!({ "sub": user, "iat": now.as_secs(), "exp": expires.as_secs() });
    let role = match roles {
        [] => json!(""),
        [one] => json!(one),
        [..] => json!(roles),
    };
    for (claim, value) in [
        ("iss", json!(issuer.issuer)),
        ("aud", json!(issuer.audience)),
        (&issuer.token_type_claim, json!(issuer.token_types.first().map_or("", String::as_str))),
        (&issuer.role_claim, role),
        (&auth.user_claim, json!(user)),
    ] {
        if !claim.is_empty() && value != json!("") {
            claim_argument::set(&mut claims, claim, value);
        }
    }
    if auth.user_claim.ends_with("email") {
        claim_argument::set(&mut claims, &format!("{}_verified", auth.user_claim), json!(true));
    }
    claims
}

/// The `typ` of the header, if it must be another than `JWT`.
pub(super) fn header_type(issuer: &IssuerConfig) -> Option<&str> {
    issuer.token_types.first().map(String::as_str).filter(|_| issuer.token_type_claim.is_empty())
}
