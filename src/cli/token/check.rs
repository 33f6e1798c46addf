//! `tidegate token check`.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use clap::Args;
use serde_json::Map;
use serde_json::Value;
use tidegate_document::quote::plain;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Rules;
use tidegate_protocol::permissions::StatsAccess;
use tidegate_protocol::timestamp::Timestamp;

use crate::auth::AcceptedCredentials;
use crate::auth::Authenticator;
use crate::auth::key_fetcher;
use crate::auth::unverified_token::UnverifiedToken;
use crate::cli::common::Common;
use crate::cli::common::USAGE;
use crate::cli::common::block_on_code;
use crate::cli::output::print_line;
use crate::cli::token_input;
use crate::config::auth::AuthConfig;
use crate::config::auth::issuer::IssuerConfig;

/// The arguments of `tidegate token check`.
#[derive(Debug, Args)]
pub struct TokenCheckArgs {
    #[command(flatten)]
    common: Common,
    /// The token [default: standard input, where no list of processes shows it].
    #[arg(value_name = "TOKEN")]
    token: Option<String>,
}

/// Runs the command.
pub(super) fn run(args: &TokenCheckArgs) -> ExitCode {
    let config = match args.common.load() {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    let token = match token_input::read(args.token.as_deref()) {
        Ok(token) => token,
        Err(error) => return usage(&error),
    };
    let authenticator = match Authenticator::new(config.auth.clone(), config.closed_roles()) {
        Ok(authenticator) => authenticator,
        Err(error) => return usage(&error.to_string()),
    };
    block_on_code(async {
        fetch_keys(&authenticator).await;
        Ok(explain(&authenticator, &config.auth, &token, SystemTime::now()))
    })
}

/// Prints whether a credential is accepted, and what it says.
fn explain(authenticator: &Authenticator, auth: &AuthConfig, token: &str, now: SystemTime) -> ExitCode {
    let (identity, code) = match authenticator.identify(token, AcceptedCredentials::TokensAndApiKeys, now) {
        Ok(identity) => {
            print_line!("accepted");
            (Some(identity), ExitCode::SUCCESS)
        }
        Err(error) => {
            print_line!("refused: {error}");
            print_line!("  reason        {}", error.reason());
            (None, ExitCode::FAILURE)
        }
    };
    match UnverifiedToken::read(token) {
        Some(unverified) => print_token(&unverified, auth, now),
        None if identity.is_some() => print_line!("  kind          API key, which does not expire"),
        None => {}
    }
    if let Some(identity) = identity {
        print_identity(&identity);
    }
    code
}

/// Fetches the keys that issuers publish, once. If one cannot be reached, the error of its tokens says so.
pub(in crate::cli) async fn fetch_keys(authenticator: &Authenticator) {
    for source in authenticator.key_sources() {
        tokio::select! {
            () = key_fetcher::run(Arc::clone(source), |_| ()) => {}
            () = source.wait_for_fetch(Instant::now()) => {}
        }
    }
}

fn usage(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(USAGE)
}

/// Prints what the token says. If it is refused, nothing of this is proven.
fn print_token(token: &UnverifiedToken, auth: &AuthConfig, now: SystemTime) {
    let issuers = auth.all_issuers();
    let claimed = token.claims.get("iss").and_then(Value::as_str);
    let issuer = match &issuers[..] {
        [only] => Some(only),
        several => several.iter().find(|issuer| Some(&*issuer.issuer) == claimed),
    };
    print_line!("  key           {}", key_of(token, issuer, &issuers));
    print_fields(&token.header, &["alg", "typ"]);
    let role_claim = issuer.map_or(&*auth.role_claim, |issuer| &issuer.role_claim);
    let claims = ["iss", "aud", "sub", &auth.user_claim, role_claim, "jti"];
    let mut shown: Vec<&str> = Vec::new();
    for claim in claims.into_iter().filter(|claim| !claim.is_empty()) {
        if !shown.contains(&claim) {
            shown.push(claim);
        }
    }
    print_fields(&token.claims, &shown);
    for (claim, word) in [("iat", "issued"), ("nbf", "valid from"), ("exp", "expires")] {
        if let Some(seconds) = token.claims.get(claim).and_then(Value::as_u64) {
            print_line!("  {word:<13} {}", time(seconds, now));
        }
    }
}

/// Which key of its issuer the token needs, in words.
fn key_of(token: &UnverifiedToken, issuer: Option<&IssuerConfig>, all: &[IssuerConfig]) -> String {
    let Some(IssuerConfig { keys, remote_keys, .. }) = issuer else {
        return "unknown, because the issuer of the token is not configured".to_owned();
    };
    let of_another = |kid: &str| all.iter().find(|issuer| issuer.keys.iter().any(|key| key.kid == kid));
    match (token.header.get("kid").and_then(Value::as_str), &keys[..], remote_keys) {
        (Some(kid), keys, _) if keys.iter().any(|key| key.kid == kid) => plain(kid),
        (Some(kid), _, Some(_)) => format!("{}, which the issuer may publish: a node fetches it", plain(kid)),
        (Some(kid), _, None) => match of_another(kid) {
            Some(other) => {
                format!("{}, which is a key of another issuer: {}", plain(kid), plain(&other.issuer))
            }
            None => format!("{}, which is not configured", plain(kid)),
        },
        (None, _, Some(_)) => "the token names none, and the issuer publishes its keys".to_owned(),
        (None, [only], None) => format!("{}, because the token names none and there is one", only.kid),
        (None, [], None) => "none is configured".to_owned(),
        (None, [_, _, ..], None) => "the token names none, and several are configured".to_owned(),
    }
}

/// Prints the fields that the token has. A name may be a path with dots.
fn print_fields(fields: &Map<String, Value>, names: &[&str]) {
    for name in names {
        let nested = || {
            let mut path = name.split('.');
            let first = fields.get(path.next().unwrap_or_default());
            path.try_fold(first?, |value, name| value.get(name))
        };
        if let Some(value) = fields.get(*name).or_else(nested) {
            print_line!("  {name:<13} {}", shown(value));
        }
    }
}

/// A text without quotation marks, or another value as JSON, on one line.
fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut shown = String::new();
    for letter in text.chars() {
        // Only what is not visible is escaped.
        match letter {
            '"' | '\'' | '\\' => shown.push(letter),
            _ => shown.extend(letter.escape_debug()),
        }
    }
    shown
}

/// `2026-11-30T10:00:00Z (in 59 min)`
fn time(seconds: u64, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let timestamp = UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds)).map(Timestamp::new);
    let shown = timestamp.map_or_else(|| seconds.to_string(), |time| format!("{}Z", time.seconds()));
    let distance = match seconds.abs_diff(now) {
        near @ 0..120 => format!("{near} s"),
        near @ 120..7200 => format!("{} min", near / 60),
        near @ 7200..172_800 => format!("{} h", near / 3600),
        far => format!("{} days", far / 86_400),
    };
    if seconds > now { format!("{shown} (in {distance})") } else { format!("{shown} ({distance} ago)") }
}

/// Prints who this is, and what the roles allow.
fn print_identity(identity: &Identity) {
    print_line!("  user          {}", plain(&identity.user));
    if let Some(encoded) = &identity.encoded_user {
        print_line!("  in subjects   {encoded}");
    }
    print_line!("  roles         {}", identity.roles.join(", "));
    for (verb, Rules { allow, deny }) in [
        ("subscribe", &identity.permissions.subscribe),
        ("publish", &identity.permissions.publish),
        ("request", &identity.permissions.request),
    ] {
        let list = |patterns: &[_]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match (allow.is_empty(), deny.is_empty()) {
            (true, _) => print_line!("  {verb:<13} nothing"),
            (false, true) => print_line!("  {verb:<13} {}", list(allow)),
            (false, false) => print_line!("  {verb:<13} {}, except {}", list(allow), list(deny)),
        }
    }
    let stats = match identity.permissions.stats {
        StatsAccess::None => "none",
        StatsAccess::Counts => "counts",
        StatsAccess::All => "all",
    };
    print_line!("  statistics    {stats}");
    print_line!("  admin         {}", if identity.permissions.admin { "yes" } else { "no" });
    print_line!("  control       {}", if identity.permissions.control { "yes" } else { "no" });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_shown_with_their_distance() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for (seconds, expected) in [
            (1_800_000_001, "2027-01-15T08:00:01Z (in 1 s)"),
            (1_799_999_881, "2027-01-15T07:58:01Z (119 s ago)"),
            (1_800_003_600, "2027-01-15T09:00:00Z (in 60 min)"),
            (1_800_007_200, "2027-01-15T10:00:00Z (in 2 h)"),
            (1_799_740_800, "2027-01-12T08:00:00Z (3 days ago)"),
        ] {
            assert_eq!(time(seconds, now), expected);
        }
        assert!(time(u64::MAX, now).contains("days"));
    }

    #[test]
    fn values_have_no_invisible_characters() {
        for (value, expected) in [
            (serde_json::json!("alice"), "alice"),
            (serde_json::json!("a\nb\u{1b}[2J\u{202e}"), "a\\nb\\u{1b}[2J\\u{202e}"),
            (serde_json::json!(["a", "b\n"]), "[\"a\",\"b\\n\"]"),
            (serde_json::json!(7), "7"),
        ] {
            assert_eq!(shown(&value), expected);
        }
    }
}
