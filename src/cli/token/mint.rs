//! `tidegate token new`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "commands print for people")]

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::SystemTime;

use clap::Args;
use serde_json::Value;

use crate::auth::Authenticator;
use crate::auth::jwt;
use crate::auth::private_key::PRIVATE_KEY_ALGORITHMS;
use crate::auth::private_key::PrivateKey;
use crate::cli::claims;
use crate::cli::common::Common;
use crate::cli::common::USAGE;
use crate::config::Config;
use crate::config::auth::KeyAlgorithm;
use crate::config::secret::Secret;

/// The arguments of `tidegate token new`.
#[derive(Debug, Args)]
pub struct MintArgs {
    #[command(flatten)]
    common: Common,
    /// The user.
    #[arg(long)]
    user: String,
    /// A role. May be repeated. Not needed if the configuration has `auth.default_role`.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// How long the token is valid: 90s, 30m, 12h or 7d.
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: Duration,
    /// A further claim, or another value for one. VALUE is JSON, or else a text. NAME may be a path with dots. May be
    /// repeated.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// The kid of the [[auth.key]] that signs, or the kid in the header if you name a file with a key [default: the
    /// first key of the configuration].
    #[arg(long, value_name = "KID")]
    key: Option<String>,
    /// Sign with the secret in this file (HS256).
    #[arg(long, value_name = "FILE", conflicts_with = "private_key")]
    secret_file: Option<PathBuf>,
    /// Sign with the private key in this file, PEM in the format PKCS#8. Tidegate itself needs only the public key.
    #[arg(long, value_name = "FILE", requires = "algorithm")]
    private_key: Option<PathBuf>,
    /// The algorithm of the private key.
    #[arg(long, value_name = "NAME", requires = "private_key", value_parser = PRIVATE_KEY_ALGORITHMS)]
    algorithm: Option<String>,
}

/// Runs the command.
pub(super) fn run(args: &MintArgs) -> ExitCode {
    let config = match args.common.load() {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    match mint(&config, args, SystemTime::now()) {
        Ok(token) => {
            println!("{token}");
            warn_if_refused(config, &token);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn mint(config: &Config, args: &MintArgs, now: SystemTime) -> Result<String, String> {
    let auth = &config.auth;
    if args.roles.is_empty() && auth.default_role.is_empty() {
        let known: Vec<&str> = config.roles.iter().map(|role| &*role.name).collect();
        return Err(format!("the token needs a role: add --role with one of {}", known.join(", ")));
    }
    let mut all = claims::claims(auth, &args.user, &args.roles, args.ttl, now);
    for (name, value) in &args.claims {
        claims::set(&mut all, name, value.clone());
    }
    let (typ, kid) = (claims::header_type(auth), args.key.as_deref());
    if let (Some(file), Some(algorithm)) = (&args.private_key, &args.algorithm) {
        let wrong = |problem: &dyn std::fmt::Display| format!("{}: {problem}", file.display());
        let pem = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
        let key = PrivateKey::from_pem(algorithm, &pem).map_err(|error| wrong(&error))?;
        return key.mint(typ, kid, &all).map_err(|error| wrong(&error));
    }
    if let Some(file) = &args.secret_file {
        return jwt::mint_hs256_as(typ, &secret(file)?, kid, &all).map_err(|error| error.to_string());
    }
    let (kid, secret) = configured_secret(config, kid)?;
    jwt::mint_hs256_as(typ, secret, Some(kid), &all).map_err(|error| error.to_string())
}

/// The configured key with this kid, or the first one.
fn configured_secret<'c>(config: &'c Config, kid: Option<&str>) -> Result<(&'c str, &'c Secret), String> {
    let keys = &config.auth.keys;
    let found = match kid {
        None => keys.first(),
        Some(kid) => keys.iter().find(|key| key.kid == kid),
    };
    let Some(key) = found else {
        let known: Vec<&str> = keys.iter().map(|key| &*key.kid).collect();
        return Err(match (kid, known.is_empty()) {
            (Some(kid), false) => {
                format!("there is no key \"{kid}\"; the configuration has {}", known.join(", "))
            }
            (_, _) => "the configuration has no key that can sign: add an [[auth.key]], or name a file with \
                       --secret-file, or with --private-key and --algorithm"
                .to_owned(),
        });
    };
    match key.algorithm {
        KeyAlgorithm::Hs256 => Ok((&key.kid, &key.secret)),
    }
}

/// The secret in a file, without the line end.
fn secret(file: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(format!("{}: it is empty", file.display())) } else { Ok(Secret::new(text)) }
}

/// Says on standard error if the loaded configuration refuses the token. It may be meant for another one.
fn warn_if_refused(config: Config, token: &str) {
    let refused = match Authenticator::new(config.auth, config.roles) {
        Ok(authenticator) => {
            authenticator.authenticate(token, SystemTime::now()).err().map(|error| error.to_string())
        }
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = refused {
        eprintln!("warning: this configuration refuses the token: {reason}");
    }
}

/// A time with a unit: `90s`, `30m`, `12h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and a unit, such as 90s, 30m, 12h or 7d".to_owned();
    let (at, unit) = text.char_indices().next_back().ok_or_else(wrong)?;
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    match number.checked_mul(seconds) {
        Some(seconds @ 1..=3_153_600_000) => Ok(Duration::from_secs(seconds)),
        Some(_) | None => Err("the time must be between 1 second and 100 years".to_owned()),
    }
}

fn claim(text: &str) -> Result<(String, Value), String> {
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
    use serde_json::json;

    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("1s", 1)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in
            ["", "h", "60", "0s", "-1h", "1.5h", "1 h", "1w", "1é", "36501d", "99999999999999999999d"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

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
