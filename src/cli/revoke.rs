//! `tidegate revoke`: revokes credentials, or withdraws permissions, on every node.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::process::ExitCode;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::bail;
use anyhow::ensure;
use clap::Args;

use crate::auth::revocation::message::RevocationMessage;
use crate::auth::revocation::message::SUBJECT;
use crate::auth::revocation::rule::DeniedPattern;
use crate::auth::revocation::rule::RevocationRule;
use crate::auth::revocation::target::RevocationTarget;
use crate::auth::revocation::target::TargetKind;
use crate::cli::common::Common;
use crate::cli::common::USAGE;
use crate::cli::common::block_on;
use crate::cli::login;
use crate::cli::output::print_line;
use crate::config::Config;
use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::nats::client::Client;
use crate::nats::probe;

/// How long to wait for the answers of nodes after the last one.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// The arguments of `tidegate revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    common: Common,
    /// All credentials of this user that exist now: the user has to sign in again. With --for-good, also later ones, and API
    /// keys. Names are as in the claim that `auth.user_claim` names, with the `user_prefix` of their issuer in front.
    #[arg(long, value_name = "USER")]
    user: Option<Box<str>>,
    /// The token with this id (`jti`).
    #[arg(long, value_name = "JTI", conflicts_with = "user")]
    token: Option<Box<str>>,
    /// The tokens of all users that exist now.
    #[arg(long, conflicts_with_all = ["user", "token"])]
    everyone: bool,
    /// Only credentials of this issuer (`iss`). Without it: of any issuer. With an issuer that has a `user_prefix`, the user
    /// may be written without it.
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<Box<str>>,
    /// Revoke what the user gets later, too.
    #[arg(long, requires = "user")]
    for_good: bool,
    /// The revocation ends after this many seconds: at least the lifetime of your tokens. Without it, it never ends.
    #[arg(long, value_name = "SECONDS")]
    keep_s: Option<u64>,
    /// Log in to NATS as this user, who may publish on tidegate.revoke; @FILE names a file that contains USER:PASSWORD
    /// [default: the login in the configuration].
    #[arg(long, value_name = "USER:PASSWORD", value_parser = login::password)]
    nats_user: Option<NatsLogin>,
    /// Log in to NATS with this credentials file.
    #[arg(long, value_name = "FILE", value_parser = login::creds, conflicts_with = "nats_user")]
    nats_creds: Option<NatsLogin>,
    /// Withdraw the permission to subscribe to this pattern, and keep the credentials valid. May be repeated.
    #[arg(long, value_name = "PATTERN", requires = "user")]
    deny_subscribe: Vec<String>,
    /// The same for publishing.
    #[arg(long, value_name = "PATTERN", requires = "user")]
    deny_publish: Vec<String>,
    /// The same for requests.
    #[arg(long, value_name = "PATTERN", requires = "user")]
    deny_request: Vec<String>,
}

/// Runs the command.
pub fn run(args: &RevokeArgs) -> ExitCode {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let refuse = |error: String| {
        eprintln!("error: {error}");
        ExitCode::from(USAGE)
    };
    let mut message = match message(args, now) {
        Ok(message) => message,
        Err(error) => return refuse(error),
    };
    let Config { nats, auth, .. } = match args.common.load() {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    if let Err(error) = message.target.complete(auth.all_issuers().iter()) {
        return refuse(error);
    }
    let login = args.nats_user.as_ref().or(args.nats_creds.as_ref()).cloned();
    let nats = NatsConfig { login: login.unwrap_or(nats.login), ..nats };
    block_on(async {
        let client = Client::connect(&nats, "tidegate/revoke").await?;
        let answers = match client.ask_all(SUBJECT, message.to_json().into(), ANSWER_WAIT).await {
            Ok(answers) => answers,
            Err(error) => {
                let failures = probe::connection_failures(&nats).await;
                ensure!(failures.is_empty(), "nothing is revoked: {}", failures.join("; "));
                return Err(error.into());
            }
        };
        if answers.is_empty() {
            bail!(
                "nothing is revoked, because no node has answered: is one running on this NATS, and may this login publish \
                 on {SUBJECT}?"
            );
        }
        let mut refused = 0;
        for answer in &answers {
            match line(answer) {
                Ok(line) => print_line!("{line}"),
                Err(error) => {
                    eprintln!("error: {error}");
                    refused += 1;
                }
            }
        }
        ensure!(refused == 0, "{refused} of {} nodes have refused it", answers.len());
        if answers.iter().any(|answer| is_in_bucket(answer)) {
            print_line!("to undo it: nats kv del -f tidegate_revoked {}", message.target.key());
        }
        Ok(())
    })
}

/// What to publish at the time `now`, in seconds since 1970.
fn message(args: &RevokeArgs, now: u64) -> Result<RevocationMessage, String> {
    let denied = |patterns: &[String]| {
        let parse = |text: &String| DeniedPattern::try_from(text.clone());
        patterns.iter().map(parse).collect::<Result<Vec<_>, _>>()
    };
    let until = args.keep_s.map(|keep| now.saturating_add(keep));
    let rule = RevocationRule {
        issued_before: None,
        until,
        all_until: None,
        subscribe: denied(&args.deny_subscribe)?,
        publish: denied(&args.deny_publish)?,
        request: denied(&args.deny_request)?,
    };
    rule.check_times().map_err(|error| format!("--keep-s is too long: {error}"))?;
    if args.user.is_none() && (args.for_good || rule.denies()) {
        return Err(
            "only the permissions of one user can be withdrawn, or revoked for good: add --user".to_owned()
        );
    }
    // Tokens that were issued in this second are revoked too.
    let until_now = Some(now + 1);
    let (kind, issued_before) = match (&args.user, &args.token, args.everyone) {
        (Some(user), _, _) if rule.denies() => (TargetKind::Permissions(user.clone()), None),
        (Some(user), _, _) => (TargetKind::User(user.clone()), until_now.filter(|_| !args.for_good)),
        (None, Some(id), _) => (TargetKind::Token(id.clone()), None),
        (None, None, true) => (TargetKind::Everyone, until_now),
        (None, None, false) => return Err("say what to revoke: --user, --token or --everyone".to_owned()),
    };
    let target = RevocationTarget { kind, issuer: args.issuer.clone() };
    Ok(RevocationMessage { target, rule: RevocationRule { issued_before, ..rule } })
}

fn is_in_bucket(answer: &[u8]) -> bool {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    answer["kept_in"] == "bucket"
}

/// The answer of a node, for people.
fn line(answer: &[u8]) -> Result<String, String> {
    let answer: serde_json::Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let node = answer["node"].as_str().unwrap_or_default();
    match answer["error"].as_str() {
        Some(error) => Err(format!("{node}: {error}")),
        None => {
            let kept = match answer["kept_in"].as_str() {
                Some("bucket") => "kept for nodes that are away",
                _ => "kept in memory only, until the node ends",
            };
            Ok(format!("{node}: {} connections ended or narrowed, {kept}", answer["connections"]))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: RevokeArgs,
    }

    #[test]
    fn rev_01_the_flags_become_a_message() {
        for (flags, expected) in [
            ("--user alice", r#"{"user":"alice","issued_before":1001}"#),
            ("--user alice --for-good --keep-s 60", r#"{"user":"alice","until":1060}"#),
            ("--token f00d --issuer id", r#"{"token":"f00d","issuer":"id"}"#),
            ("--everyone", r#"{"everyone":true,"issued_before":1001}"#),
            (
                "--user alice --deny-subscribe prices.gold.> --deny-request orders",
                r#"{"user":"alice","deny":{"subscribe":["prices.gold.>"],"request":["orders"]}}"#,
            ),
        ] {
            let line = Line::try_parse_from(std::iter::once("revoke").chain(flags.split(' '))).unwrap();
            let json = message(&line.args, 1000).unwrap().to_json();
            assert_eq!(json, expected, "{flags}");
            assert_eq!(RevocationMessage::parse(json.as_bytes()).unwrap().to_json(), json);
        }
    }

    #[test]
    fn rev_01_wrong_flags_are_refused() {
        for flags in [
            "--user a --token b",
            "--everyone --user a",
            "--for-good --token b",
            "--deny-subscribe a",
            "--token b --deny-publish a",
        ] {
            let parsed = Line::try_parse_from(std::iter::once("revoke").chain(flags.split(' ')));
            let refused = parsed.map_err(|_| ()).and_then(|line| message(&line.args, 0).map_err(|_| ()));
            assert!(refused.is_err(), "{flags}");
        }
        let line = Line::try_parse_from(["revoke"]).unwrap();
        assert!(message(&line.args, 0).unwrap_err().contains("say what to revoke"));
        let line = Line::try_parse_from(["revoke", "--user", "a", "--deny-subscribe", "a..b"]).unwrap();
        assert!(message(&line.args, 0).unwrap_err().contains("no subject or pattern"));
    }

    #[test]
    fn an_answer_is_one_line() {
        let said = line(br#"{"node":"n1","connections":2,"kept_in":"bucket"}"#).unwrap();
        assert_eq!(said, "n1: 2 connections ended or narrowed, kept for nodes that are away");
        assert_eq!(line(br#"{"node":"n1","error":"no"}"#).unwrap_err(), "n1: no");
    }
}
