//! The claims of tokens that commands mint: those that a configuration accepts.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use serde_json::Value;
use serde_json::json;

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
            set(&mut claims, claim, value);
        }
    }
    if auth.user_claim.ends_with("email") {
        set(&mut claims, &format!("{}_verified", auth.user_claim), json!(true));
    }
    claims
}

/// The `typ` of the header, if it must be another than `JWT`.
pub(super) fn header_type(issuer: &IssuerConfig) -> Option<&str> {
    issuer.token_types.first().map(String::as_str).filter(|_| issuer.token_type_claim.is_empty())
}

/// Sets a claim, which may be a path with dots.
pub(super) fn set(claims: &mut Value, claim: &str, value: Value) {
    let names: Vec<&str> = if claim.contains("://") { vec![claim] } else { claim.split('.').collect() };
    let place = names.into_iter().fold(claims, |claims, name| {
        if !claims.is_object() {
            *claims = json!({});
        }
        &mut claims[name]
    });
    *place = value;
}

/// A claim as a flag: `NAME=VALUE`, where VALUE is JSON, or else a text.
pub(super) fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) =
        text.split_once('=').ok_or("write it as NAME=VALUE, for example team=blue or 'ids=[1,2]'")?;
    if name.split('.').any(str::is_empty) {
        return Err("the name of the claim is empty".to_owned());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_claims_are_json_or_text() {
        for (text, name, value) in [
            ("team=blue", "team", json!("blue")),
            ("ids=[1,2]", "ids", json!([1, 2])),
            ("n=7", "n", json!(7)),
            ("n=\"7\"", "n", json!("7")),
            ("org.id=a=b", "org.id", json!("a=b")),
            ("empty=", "empty", json!("")),
        ] {
            assert_eq!(claim(text), Ok((name.to_owned(), value)), "{text}");
        }
        assert!(claim("team").is_err() && claim("=x").is_err() && claim("a..b=x").is_err());
    }
}
