//! `tidegate check --connect` against a real nats-server: each line says what works, or what does not and how to mend
//! it.

use std::process::Output;
use std::process::Stdio;

use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Command;

use crate::support::nats_server::NatsServer;
use crate::support::within;

const ROLE: &str = "[[role]]\nname = \"user\"\nsubscribe = { allow = [\"prices.*\", \"user.{sub}.>\", \"news.>\"] }\n\
                    publish = { allow = [\"chat.*\"] }\nrequest = { allow = [\"quotes.get\"] }\n";

async fn check(nats: &NatsServer, file: &str) -> Output {
    let path = nats.file("config.toml", &format!("[auth]\nhmac_secret = \"{}\"\n{file}", "k".repeat(32)));
    let command = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["check", "--connect", "--config"])
        .arg(path)
        .env_remove("NATS_URL")
        .output();
    command.await.unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a failed line says, and the help below it.
fn has(said: &str, verdict: &str, what: &str, help: &str) {
    let lines: Vec<&str> = said.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(verdict) && line.contains(what));
    let at = at.unwrap_or_else(|| panic!("no {verdict} line says {what}:\n{said}"));
    let below = lines.get(at + 1).copied().unwrap_or_default();
    assert!(help.is_empty() || below.contains("help:") && below.contains(help), "{said}");
}

fn config(nats: &NatsServer, login: &str) -> String {
    format!("[nats]\nurl = \"{}\"\n{login}\n{ROLE}", nats.url())
}

#[tokio::test]
async fn what_a_configuration_needs_of_nats_is_tried() {
    let nats = NatsServer::start().await;
    let output = check(&nats, &config(&nats, "")).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for what in [
        "nats-server 2.",
        "login accepted (without a login)",
        "subscribe to _INBOX_tidegate.> (replies)",
        "publish on _INBOX_tidegate.> (nodes answer each other)",
        "subscribe to user.*.> (role \"user\")",
        "publish on chat.* (role \"user\")",
        "publish on quotes.get (role \"user\")",
        "JetStream is enabled for this account (streams: 0)",
    ] {
        has(&said, "ok", what, "");
    }
    assert!(!said.contains("FAILED") && said.ends_with('\n'), "{said}");
}

#[tokio::test]
async fn whether_there_is_jetstream_is_said() {
    let nats = NatsServer::with("jetstream: disabled").await;
    let output = check(&nats, &config(&nats, "")).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    has(&said, "ok", "JetStream is not enabled for this account", "");
}

#[tokio::test]
async fn what_nats_forbids_is_named_with_its_help() {
    let nats = NatsServer::with(
        "max_payload: 1000\nauthorization { users: [ { user: ann, password: pw, permissions: { \
         subscribe: { allow: [\"prices.>\", \"news.>\", \"_INBOX_tidegate.>\"], deny: \"news.secret\" }, \
         publish: [\"chat.*\", \"_INBOX_tidegate.>\", \"$SYS.REQ.USER.INFO\"] } } ] }",
    )
    .await;
    let output = check(&nats, &config(&nats, "user = \"ann\"\npassword = \"pw\"")).await;
    let found = said(&output);
    assert_eq!(output.status.code(), Some(1), "{found}");
    has(&found, "warning", "messages of at most 1000 bytes", "limits.publish_max_bytes");
    has(&found, "ok", "subscribe to prices.*", "");
    has(&found, "FAILED", "subscribe to user.*.> (role \"user\"): NATS forbids it", "subscribe to user.*.>");
    has(&found, "warning", "news.>", "or deny it in the [[role]]");
    has(&found, "ok", "publish on chat.*", "");
    has(&found, "ok", "JetStream was not tried", "");
    has(&found, "FAILED", "publish on quotes.get (role \"user\"): NATS forbids it", "publish on quotes.get");

    let refused = said(&check(&nats, &config(&nats, "user = \"ann\"\npassword = \"wrong\"")).await);
    has(&refused, "FAILED", "login refused: Authorization Violation", "nats.user and nats.password");
    let none = said(&check(&nats, &config(&nats, "")).await);
    has(&none, "FAILED", "login refused", "this server requires a login");
}

#[tokio::test]
async fn an_inbox_that_nats_forbids_is_named() {
    let nats = NatsServer::with(
        "authorization { users: [ { user: ann, password: pw, permissions: { \
         subscribe: [\"prices.>\", \"news.>\", \"user.>\"], publish: [\"chat.*\"] } } ] }",
    )
    .await;
    let found = said(&check(&nats, &config(&nats, "user = \"ann\"\npassword = \"pw\"")).await);
    has(&found, "FAILED", "subscribe to _INBOX_tidegate.> (replies)", "subscribe to _INBOX_tidegate.>");
    has(&found, "warning", "publishing was not tried", "publish on $SYS.REQ.USER.INFO");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_is_none_is_named() {
    let nats = NatsServer::start().await;
    let nothing = format!("[nats]\nurl = \"nats://127.0.0.1:{}\"\n{ROLE}", NatsServer::free_port());
    has(&said(&check(&nats, &nothing).await), "FAILED", "cannot connect", "nothing listens there");
    let tls = format!("[nats]\nurl = \"{}\"\n{ROLE}", nats.url().replace("nats:", "tls:"));
    has(&said(&check(&nats, &tls).await), "FAILED", "does not offer TLS", "write nats://");
}

/// What a node says of NATS when it starts.
async fn first_words_of_nats(nats: &NatsServer, file: &str) -> String {
    let path = nats.file("serve.toml", file);
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["serve", "--set", "http.listen=127.0.0.1:0", "--set", "log.format=text", "--config"])
        .arg(path)
        .env_remove("NATS_URL")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = within("what it says of nats", lines.next_line()).await.unwrap().expect("it goes on");
        if line.contains("nats cannot be used yet") {
            return line;
        }
    }
}

#[tokio::test]
async fn a_node_with_a_wrong_password_does_not_say_that_nats_is_not_there() {
    let nats = NatsServer::with("authorization { user: ann, password: pw }").await;
    let wrong = format!("[nats]\nurl = \"{}\"\nuser = \"ann\"\npassword = \"wrong\"", nats.url());
    let said = first_words_of_nats(&nats, &wrong).await;
    assert!(
        said.contains("login refused: Authorization Violation") && said.contains("nats.password"),
        "{said}"
    );
    let absent = format!("[nats]\nurl = \"nats://127.0.0.1:{}\"", NatsServer::free_port());
    let said = first_words_of_nats(&nats, &absent).await;
    assert!(said.contains("nothing listens there"), "{said}");
}

#[tokio::test]
async fn an_address_that_is_none_or_taken_is_said_before_anything_runs() {
    let tidegate = |arguments: &'static [&'static str], listen: String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).current_dir(std::env::temp_dir()).env("TIDEGATE_HTTP__LISTEN", listen);
        async move { within("the end", command.output()).await.unwrap() }
    };
    let output = tidegate(&["dev", "--nats-url", "http://x"], "127.0.0.1:0".to_owned()).await;
    let found = said(&output);
    assert!(
        found.contains("--set nats.url: nats.url: \"http://x\" has a scheme") && found.contains("help:"),
        "{found}"
    );
    assert_eq!(output.status.code(), Some(64), "{found}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = tidegate(&["serve"], address.clone()).await;
    let found = said(&output);
    assert!(
        found.contains(&format!("cannot listen on {address} (http.listen)"))
            && found.contains("Another program"),
        "{found}"
    );
    assert_eq!(output.status.code(), Some(1), "{found}");
}
