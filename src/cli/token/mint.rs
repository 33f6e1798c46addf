//! `tidegate token new`.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::SystemTime;

use clap::Args;
use serde_json::Value;

use crate::auth::Authenticator;
use crate::auth::claim_argument;
use crate::auth::jwt;
use crate::auth::private_key::PRIVATE_KEY_ALGORITHMS;
use crate::auth::private_key::PrivateKey;
use crate::cli::claims;
use crate::cli::common::Common;
use crate::cli::common::USAGE;
use crate::cli::output::print_line;
use crate::cli::signing_key::SigningKey;
use crate::cli::signing_key::signing_keys;
use crate::config::Config;
use crate::config::auth::AuthConfig;
use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::issuer::IssuerConfig;
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
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim_argument::parse)]
    claims: Vec<(String, Value)>,
    /// The kid of the [[auth.key]] that signs, or the kid in the header if you name a file with a key [default: the
    /// first key of the configuration].
    #[arg(long, value_name = "KID")]
    key: Option<String>,
    /// The issuer of the token, if the configuration has several [default: the issuer of the key].
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
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
            print_line!("{token}");
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
    let (issuer, signer) = signer(&config.auth, args)?;
    if args.roles.is_empty() && issuer.default_role.is_empty() {
        let known: Vec<&str> = config.roles.iter().map(|role| &*role.name).collect();
        return Err(format!("the token needs a role: add --role with one of {}", known.join(", ")));
    }
    let mut all = claims::claims(&config.auth, &issuer, &args.user, &args.roles, args.ttl, now);
    for (name, value) in &args.claims {
        claim_argument::set(&mut all, name, value.clone());
    }
    signer.mint(claims::header_type(&issuer), &all)
}

/// What signs a token.
enum Signer {
    Secret { algorithm: KeyAlgorithm, kid: Option<String>, secret: Secret },
    PrivateKey { file: PathBuf, kid: Option<String>, key: PrivateKey },
}

impl Signer {
    fn mint(&self, typ: Option<&str>, claims: &Value) -> Result<String, String> {
        match self {
            Self::Secret { algorithm, kid, secret } => {
                let token = jwt::mint_as(*algorithm, typ, secret, kid.as_deref(), claims);
                token.map_err(|error| error.to_string())
            }
            Self::PrivateKey { file, kid, key } => {
                let token = key.mint(typ, kid.as_deref(), claims);
                token.map_err(|error| format!("{}: {error}", file.display()))
            }
        }
    }
}

/// What signs the token: a file, or a key of the configuration. With the issuer whose token it is.
fn signer(auth: &AuthConfig, args: &MintArgs) -> Result<(IssuerConfig, Signer), String> {
    let kid = args.key.clone();
    if let (Some(file), Some(algorithm)) = (&args.private_key, &args.algorithm) {
        let wrong = |problem: &dyn std::fmt::Display| format!("{}: {problem}", file.display());
        let pem = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
        let key = PrivateKey::from_pem(algorithm, &pem).map_err(|error| wrong(&error))?;
        return Ok((issuer(auth, args)?, Signer::PrivateKey { file: file.clone(), kid, key }));
    }
    if let Some(file) = &args.secret_file {
        let (algorithm, secret) = (KeyAlgorithm::Hs256, secret(file)?);
        return Ok((issuer(auth, args)?, Signer::Secret { algorithm, kid, secret }));
    }
    let SigningKey { issuer, key, secret } = configured_key(auth, args)?;
    Ok((issuer, Signer::Secret { algorithm: key.algorithm, kid: Some(key.kid), secret }))
}

/// The issuer with the name in `--issuer`, or the only one, or the one that has the key.
fn issuer(auth: &AuthConfig, args: &MintArgs) -> Result<IssuerConfig, String> {
    let mut issuers = auth.all_issuers();
    if args.issuer.is_none() && issuers.len() == 1 {
        return Ok(issuers.remove(0));
    }
    let has_key = |issuer: &&IssuerConfig| issuer.keys.iter().any(|key| Some(&key.kid) == args.key.as_ref());
    let mut of_key = issuers.iter().filter(has_key);
    if args.issuer.is_none()
        && let (Some(issuer), None) = (of_key.next(), of_key.next())
    {
        return Ok(issuer.clone());
    }
    let names: Vec<String> = issuers.iter().map(|issuer| issuer.issuer.clone()).collect();
    let found = issuers.into_iter().find(|issuer| Some(&issuer.issuer) == args.issuer.as_ref());
    found.ok_or_else(|| format!("choose an issuer with --issuer; the configuration has {}", names.join(", ")))
}

/// The configured key with the kid in `--key`, of the issuer in `--issuer`, or the first one.
fn configured_key(auth: &AuthConfig, args: &MintArgs) -> Result<SigningKey, String> {
    if args.issuer.is_some() {
        issuer(auth, args)?;
    }
    let of_issuer = |key: &SigningKey| args.issuer.as_ref().is_none_or(|name| *name == key.issuer.issuer);
    let mut keys: Vec<SigningKey> = signing_keys(auth).filter(of_issuer).collect();
    let at = keys.iter().position(|key| args.key.as_ref().is_none_or(|kid| *kid == key.key.kid));
    match (at, &args.key, keys.is_empty()) {
        (Some(at), _, _) => Ok(keys.swap_remove(at)),
        (None, Some(kid), false) => {
            let known: Vec<&str> = keys.iter().map(|key| &*key.key.kid).collect();
            Err(format!(
                "there is no key \"{kid}\" that can sign; the configuration has {}",
                known.join(", ")
            ))
        }
        (None, _, _) => {
            Err("the configuration has no key that can sign: add an [[auth.key]] with a secret, or name a \
                             file with --secret-file, or with --private-key and --algorithm"
                .to_owned())
        }
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
    let refused = match Authenticator::new(config.auth.clone(), config.closed_roles()) {
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

#[cfg(test)]
mod tests {
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
}
