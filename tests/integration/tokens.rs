//! `tidegate token`: what it mints is accepted, and what it says about a token is true.

use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use serde_json::Value;
use serde_json::json;
use tidegate::auth::unverified_token::UnverifiedToken;

use crate::support::client::Client;
use crate::support::command::Printed;
use crate::support::command::tidegate;
use crate::support::edge::SECRET;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::secrets::registered;

static FILES: AtomicU32 = AtomicU32::new(0);

/// A file that is removed with this value.
struct Text(PathBuf);

impl Text {
    fn new(text: &str) -> Self {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-token-{}-{number}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A configuration with two keys, an issuer, an audience and two roles.
fn config(more: &str) -> Text {
    let (one, two) = ("1".repeat(32), "2".repeat(32));
    Text::new(&format!(
        "[auth]\nissuer = \"https://id.example.com\"\naudience = \"tidegate\"\nrole_claim = \"realm.roles\"\n{more}\n\
         [[auth.key]]\nkid = \"old\"\nsecret = \"{one}\"\n[[auth.key]]\nkid = \"new\"\nsecret = \"{two}\"\n\
         [[role]]\nname = \"user\"\nsubscribe = {{ allow = [\"prices.>\", \"user.{{sub}}.>\"], deny = [\"prices.secret\"] }}\n\
         [[role]]\nname = \"team\"\npublish = {{ allow = [\"team.{{teams}}\"] }}\nstats = \"counts\"\n"
    ))
}

async fn token(config: &Text, arguments: &[&str]) -> Printed {
    let (first, rest) = arguments.split_first().unwrap();
    tidegate(&[&["token", first, "--config", config.path()], rest].concat(), "").await
}

/// The token that `tidegate token new` prints, and nothing else.
async fn new_token(config: &Text, arguments: &[&str]) -> String {
    let printed = token(config, &[&["new"], arguments].concat()).await;
    assert_eq!((printed.code, printed.err.as_str()), (0, ""), "{printed:?}");
    let token = printed.out.strip_suffix('\n').unwrap();
    assert!(!token.contains(char::is_whitespace), "{token}");
    registered(token.to_owned())
}

fn claims(token: &str) -> Value {
    Value::Object(UnverifiedToken::read(token).unwrap().claims)
}

#[tokio::test]
async fn a_minted_token_connects_to_a_node() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    let own = Text::new(&format!(
        "[[auth.key]]\nkid = \"test\"\nsecret = \"{SECRET}\"\n[[role]]\nname = \"user\"\n"
    ));
    let token = new_token(&own, &["--user", "ann", "--role", "user"]).await;
    let mut client = Client::connect(&node.address, &token).await;
    client.subscribe("chat.a").await;
}

#[tokio::test]
async fn a_token_has_the_claims_that_the_configuration_requires() {
    let config = config("");
    let token = new_token(
        &config,
        &[
            "--user",
            "ann",
            "--role",
            "user",
            "--role",
            "team",
            "--ttl",
            "30m",
            "--claim",
            "teams=[\"a\",\"b\"]",
            "--key",
            "new",
        ],
    )
    .await;
    let found = claims(&token);
    let header = UnverifiedToken::read(&token).unwrap().header;
    assert_eq!((&header["kid"], &header["alg"]), (&json!("new"), &json!("HS256")));
    for (name, value) in [
        ("sub", json!("ann")),
        ("iss", json!("https://id.example.com")),
        ("aud", json!("tidegate")),
        ("realm", json!({ "roles": ["user", "team"] })),
        ("teams", json!(["a", "b"])),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
    assert_eq!(found["exp"].as_u64().unwrap() - found["iat"].as_u64().unwrap(), 1800);
}

#[tokio::test]
async fn check_says_what_an_accepted_token_may_do() {
    let config = config("");
    let minted = new_token(
        &config,
        &["--user", "ann", "--role", "user", "--role", "team", "--claim", "teams=[\"a\",\"b\"]"],
    )
    .await;
    let given = token(&config, &["check", &minted]).await;
    let piped = tidegate(&["token", "check", "--config", config.path()], &format!("Bearer {minted}\n")).await;
    // Both say how long ago it was issued, and a second may have passed.
    let without_ages = |printed: &str| -> Vec<String> {
        printed
            .lines()
            .map(|line| line.split_once(" (").map_or(line, |(before, _)| before).to_owned())
            .collect()
    };
    let (one, other) = (without_ages(&given.out), without_ages(&piped.out));
    assert_eq!((given.code, one), (0, other), "{given:?} {piped:?}");
    for line in [
        "accepted",
        "key           old",
        "alg           HS256",
        "iss           https://id.example.com",
        "realm.roles   [\"user\",\"team\"]",
        "user          ann",
        "roles         user, team",
        "subscribe     prices.> user.ann.>, except prices.secret",
        "publish       team.a team.b",
        "request       nothing",
        "statistics    counts",
    ] {
        assert!(given.out.lines().any(|printed| printed.trim() == line), "{line}: {}", given.out);
    }
    let is_near =
        |line: &str| line.contains("expires") && line.contains("(in 5") || line.contains("(in 60 min)");
    assert!(given.out.lines().any(is_near), "{}", given.out);
    let signature = minted.rsplit('.').next().unwrap();
    assert!(!given.out.contains(signature) && !given.err.contains(signature));
}

#[tokio::test]
async fn check_says_why_a_token_is_refused_and_never_shows_its_signature() {
    let config = config("max_token_lifetime_s = 7200\n");
    let secret = Text::new(&format!("{}\n", "3".repeat(32)));
    let user = ["--user", "ann", "--role", "user"];
    let minted = |more: &'static [&'static str]| [&user[..], more].concat();
    let cases = [
        (minted(&["--claim", "exp=1000"]), "the token has expired", "expired", "1970-01-01T00:16:40Z ("),
        (
            minted(&["--claim", "iss=other"]),
            "the token's \"iss\" is not in auth.issuer",
            "wrong_issuer",
            "iss           other",
        ),
        (minted(&["--claim", "aud=other"]), "the token's \"aud\"", "wrong_audience", "aud           other"),
        (minted(&["--ttl", "9000s"]), "auth.max_token_lifetime_s", "lives_too_long", "(in 2 h)"),
        (
            vec!["--user", "ann", "--role", "admin"],
            "names no configured [[role]]",
            "unknown_role",
            "realm.roles   admin",
        ),
        (
            vec!["--user", "a.b", "--role", "user"],
            "cannot be part of a subject",
            "bad_subject_token",
            "sub           a.b",
        ),
        (
            [&user[..], &["--secret-file", secret.path(), "--key", "new"]].concat(),
            "signature does not match",
            "bad_signature",
            "key           new",
        ),
        (
            [&user[..], &["--secret-file", secret.path(), "--key", "x"]].concat(),
            "matches no key of its issuer",
            "unknown_key",
            "key           x, which is not configured",
        ),
        (
            [&user[..], &["--secret-file", secret.path()]].concat(),
            "has no \"kid\", and its issuer has several keys",
            "missing_kid",
            "several are configured",
        ),
    ];
    for (arguments, why, reason, says) in cases {
        let printed = token(&config, &[&["new"], &arguments[..]].concat()).await;
        assert_eq!(printed.code, 0, "{printed:?}");
        assert!(
            printed.err.starts_with("warning: this configuration refuses the token: ")
                && printed.err.contains(why),
            "{printed:?}"
        );
        let minted = printed.out.trim();
        let checked = token(&config, &["check", minted]).await;
        assert_eq!(checked.code, 1, "{checked:?}");
        assert!(checked.out.starts_with("refused: ") && checked.out.contains(why), "{checked:?}");
        assert!(checked.out.contains(&format!("reason        {reason}\n")), "{checked:?}");
        assert!(checked.out.contains(says), "{says}: {checked:?}");
        assert!(!checked.out.contains(minted.rsplit('.').next().unwrap()), "{checked:?}");
    }
}

#[tokio::test]
async fn check_needs_a_token_and_reads_api_keys_too() {
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let keys = format!(
        "[[auth.api_key]]\nname = \"reports\"\nsha256 = \"{sha256}\"\nuser = \"reports\"\nrole = \"user\"\n[auth]\n"
    );
    let config = Text::new(&format!(
        "{keys}[[role]]\nname = \"user\"\nsubscribe = {{ allow = [\"user.{{sub}}.>\"] }}\n"
    ));
    let accepted = token(&config, &["check", "test"]).await;
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert!(
        accepted.out.contains("kind          API key") && accepted.out.contains("user.reports.>"),
        "{accepted:?}"
    );
    for (credential, code, words) in [
        ("other", 1, "neither a token nor a configured API key"),
        ("a.b.c", 1, "malformed"),
        ("  ", 64, "there is no token"),
    ] {
        let printed = token(&config, &["check", credential]).await;
        let all = format!("{}{}", printed.out, printed.err);
        assert!(printed.code == code && all.contains(words), "{credential}: {printed:?}");
    }
    let empty = tidegate(&["token", "check", "--config", config.path()], "").await;
    assert_eq!(empty.code, 64, "{empty:?}");
}

#[tokio::test]
async fn what_new_lacks_is_named() {
    let config = config("");
    let none = Text::new("[[role]]\nname = \"user\"\n");
    let text = Text::new("not a key");
    for (config, arguments, words) in [
        (&config, &["--user", "ann"][..], "add --role with one of user, team"),
        (
            &config,
            &["--user", "ann", "--role", "user", "--key", "x"],
            "there is no key \"x\" that can sign; the configuration has old, new",
        ),
        (&none, &["--user", "ann", "--role", "user"], "no key that can sign"),
        (&none, &["--user", "ann", "--role", "user", "--secret-file", "/no/such/file"], "/no/such/file: "),
        (
            &none,
            &["--user", "ann", "--role", "user", "--private-key", text.path(), "--algorithm", "ES256"],
            "openssl pkcs8 -topk8",
        ),
        (&none, &["--user", "ann", "--role", "user", "--private-key", text.path()], "--algorithm"),
        (&none, &["--user", "ann", "--role", "user", "--ttl", "1w"], "such as 90s, 30m, 12h or 7d"),
        (&none, &["--user", "ann", "--role", "user", "--claim", "x"], "write it as NAME=VALUE"),
        (&none, &["--role", "user"], "--user"),
    ] {
        let printed = token(config, &[&["new"], arguments].concat()).await;
        assert_eq!((printed.code, printed.out.as_str()), (64, ""), "{printed:?}");
        assert!(printed.err.contains(words), "{words}: {printed:?}");
    }
}

#[tokio::test]
async fn check_names_the_issuer_whose_key_a_token_of_another_issuer_names() {
    let (one, two) = ("1".repeat(32), "2".repeat(32));
    let config = Text::new(&format!(
        "[auth]\n[[auth.issuer]]\nissuer = \"https://staff.example\"\nuser_prefix = \"staff:\"\n\
         [[auth.issuer.key]]\nkid = \"staff\"\nsecret = \"{one}\"\n\
         [[auth.issuer]]\nissuer = \"https://jobs.example\"\n[[auth.issuer.key]]\nkid = \"jobs\"\nsecret = \"{two}\"\n"
    ));
    let secret = Text::new(&two);
    let arguments = ["new", "--user", "ann", "--role", "user", "--claim", "iss=https://staff.example"];
    let with_key = ["--secret-file", secret.path(), "--key", "jobs", "--issuer", "https://jobs.example"];
    let minted = token(&config, &[&arguments[..], &with_key].concat()).await;
    let checked = token(&config, &["check", minted.out.trim()]).await;
    let shown = "key           jobs, which is a key of another issuer: https://jobs.example";
    assert!(checked.out.contains(shown), "{minted:?} {checked:?}");
}

#[tokio::test]
async fn commands_end_quietly_when_no_one_reads_their_output() {
    let config = config("");
    let minted = new_token(&config, &["--user", "ann", "--role", "user"]).await;
    let file = ["--config", config.path()];
    for (arguments, code) in [
        (vec!["check"], 0),
        (vec!["token", "check", minted.as_str()], 0),
        (vec!["token", "check", "a.b.c"], 1),
        (vec!["token", "new", "--user", "ann", "--role", "user"], 0),
        (vec!["explain", "subscribe", "prices.AAPL", "--user", "ann", "--role", "user"], 0),
        (vec!["vocabulary", "schema"], 0),
    ] {
        let is_configured = arguments[0] != "vocabulary";
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(&arguments).args(file.iter().filter(|_| is_configured)).stdout(writer);
        let output = command.stderr(std::process::Stdio::piped()).output().await.unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*printed), (Some(code), ""), "{arguments:?}");
    }
}
