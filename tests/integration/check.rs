//! `tidegate check`, also with `--connect` to a real nats-server, and the warnings of `tidegate serve` at its start.

use std::process::Output;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Command;

use crate::support::decider::Decider;
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

fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asserts that there is a line with this verdict and text, and this help below it.
fn assert_line(printed: &str, verdict: &str, what: &str, help: &str) {
    let lines: Vec<&str> = printed.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(verdict) && line.contains(what));
    let at = at.unwrap_or_else(|| panic!("no line with {verdict} and {what}:\n{printed}"));
    let below = lines.get(at + 1).copied().unwrap_or_default();
    assert!(help.is_empty() || below.contains("help:") && below.contains(help), "{printed}");
}

fn config(nats: &NatsServer, login: &str) -> String {
    format!("[nats]\nurl = \"{}\"\n{login}\n{ROLE}", nats.url())
}

#[tokio::test]
async fn check_tests_each_nats_permission_that_the_node_needs() {
    let nats = NatsServer::open().await;
    let output = check(&nats, &config(&nats, "")).await;
    let printed = text_of(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    for what in [
        "nats-server 2.",
        "login accepted (without a login)",
        "subscribe to _INBOX_tidegate.> (replies)",
        "publish on _INBOX_tidegate.> (nodes answer each other)",
        "subscribe to user.*.> (role \"user\")",
        "publish on chat.* (role \"user\")",
        "publish on quotes.get (role \"user\")",
        "subscribe to tidegate.revoke (revocations)",
        "subscribe to _live.$KV.tidegate_revoked.> (revocations, for nodes that were away)",
        "publish on $KV.tidegate_revoked.> (revocations, for nodes that were away)",
        "publish on $JS.API.STREAM.MSG.GET.KV_tidegate_tickets (tickets, for all nodes)",
        "nodes can be found (`nats micro` and /nodes)",
        "JetStream is enabled for this account (streams: 0)",
    ] {
        assert_line(&printed, "ok", what, "");
    }
    assert_line(&printed, "warning", "there is no bucket tidegate_revoked", "tidegate streams apply");
    assert!(!printed.contains("FAILED") && printed.ends_with('\n'), "{printed}");
}

#[tokio::test]
async fn check_names_the_subject_over_which_nodes_replace_connections() {
    let nats = NatsServer::open().await;
    for (replaces, is_tested) in [(true, true), (false, false)] {
        let endpoint = format!("[[endpoint]]\npath = \"/ws\"\nreplace_connections = {replaces}\n");
        let printed = text_of(&check(&nats, &format!("{}{endpoint}", config(&nats, ""))).await);
        for verb in ["subscribe to", "publish on"] {
            let line = format!("{verb} tidegate.nodes (queries between nodes)");
            assert_eq!(printed.contains(&line), is_tested, "{printed}");
        }
    }
}

#[tokio::test]
async fn check_prints_whether_the_account_has_jetstream() {
    let nats = NatsServer::with("jetstream: disabled").await;
    let output = check(&nats, &config(&nats, "")).await;
    let printed = text_of(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert_line(&printed, "warning", "JetStream is not enabled for this account", "auth.ticket_s to 0");
}

#[tokio::test]
async fn check_names_each_denied_nats_permission_and_the_fix() {
    let nats = NatsServer::with(
        "max_payload: 1000\nauthorization { users: [ { user: ann, password: pw, permissions: { \
         subscribe: { allow: [\"prices.>\", \"news.>\", \"_INBOX_tidegate.>\"], deny: \"news.secret\" }, \
         publish: [\"chat.*\", \"_INBOX_tidegate.>\", \"$SYS.REQ.USER.INFO\"] } } ] }",
    )
    .await;
    let output = check(&nats, &config(&nats, "user = \"ann\"\npassword = \"pw\"")).await;
    let found = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "{found}");
    assert_line(&found, "warning", "messages of at most 1000 bytes", "limits.publish_max_bytes");
    assert_line(&found, "ok", "subscribe to prices.*", "");
    assert_line(
        &found,
        "FAILED",
        "subscribe to user.*.> (role \"user\"): NATS forbids it",
        "subscribe to user.*.>",
    );
    assert_line(&found, "warning", "news.>", "or deny it in the [[role]]");
    assert_line(&found, "ok", "publish on chat.*", "");
    for what in
        ["subscribe to $SRV.PING", "subscribe to $SRV.STATS.tidegate", "publish on $SRV.STATS.tidegate"]
    {
        assert_line(&found, "warning", what, what);
    }
    assert_line(&found, "ok", "it is unknown whether JetStream is enabled", "");
    assert_line(
        &found,
        "FAILED",
        "publish on quotes.get (role \"user\"): NATS forbids it",
        "publish on quotes.get",
    );

    let refused = text_of(&check(&nats, &config(&nats, "user = \"ann\"\npassword = \"wrong\"")).await);
    assert_line(&refused, "FAILED", "login refused: Authorization Violation", "nats.user and nats.password");
    let none = text_of(&check(&nats, &config(&nats, "")).await);
    assert_line(&none, "FAILED", "login refused", "this server requires a login");
}

#[tokio::test]
async fn check_names_an_inbox_that_nats_forbids() {
    let nats = NatsServer::with(
        "authorization { users: [ { user: ann, password: pw, permissions: { \
         subscribe: [\"prices.>\", \"news.>\", \"user.>\"], publish: [\"chat.*\"] } } ] }",
    )
    .await;
    let found = text_of(&check(&nats, &config(&nats, "user = \"ann\"\npassword = \"pw\"")).await);
    assert_line(
        &found,
        "FAILED",
        "subscribe to _INBOX_tidegate.> (replies)",
        "subscribe to _INBOX_tidegate.>",
    );
    assert_line(&found, "warning", "publishing was not tried", "publish on $SYS.REQ.USER.INFO");
}

#[tokio::test]
async fn check_names_a_server_that_is_absent_or_has_no_tls() {
    let nats = NatsServer::open().await;
    let nothing = format!("[nats]\nurl = \"nats://127.0.0.1:{}\"\n{ROLE}", NatsServer::free_port());
    assert_line(&text_of(&check(&nats, &nothing).await), "FAILED", "cannot connect", "nothing listens there");
    let tls = format!("[nats]\nurl = \"{}\"\n{ROLE}", nats.url().replace("nats:", "tls:"));
    assert_line(&text_of(&check(&nats, &tls).await), "FAILED", "does not offer TLS", "write nats://");
}

/// The first line with these words in the log of a node that starts with this configuration.
async fn start_log(nats: &NatsServer, file: &str, words: &str) -> String {
    let path = nats.file("serve.toml", file);
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["serve", "--set", "http.listen=127.0.0.1:0", "--set", "log.format=text", "--config"])
        .arg(path)
        .env_remove("NATS_URL")
        .env_remove("TIDEGATE_AUTH__HMAC_SECRET")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = within("the line in the log", lines.next_line()).await.unwrap().expect("a longer log");
        if line.contains(words) {
            return line;
        }
    }
}

#[tokio::test]
async fn a_node_logs_whether_nats_rejects_its_password_or_is_absent() {
    let nats = NatsServer::with("authorization { user: ann, password: pw }").await;
    let wrong = format!("[nats]\nurl = \"{}\"\nuser = \"ann\"\npassword = \"wrong\"", nats.url());
    let line = start_log(&nats, &wrong, "nats cannot be used yet").await;
    assert!(
        line.contains("login refused: Authorization Violation") && line.contains("nats.password"),
        "{line}"
    );
    let absent = format!("[nats]\nurl = \"nats://127.0.0.1:{}\"", NatsServer::free_port());
    let line = start_log(&nats, &absent, "nats cannot be used yet").await;
    assert!(line.contains("nothing listens there"), "{line}");
}

#[tokio::test]
async fn invalid_and_used_addresses_are_reported_before_the_node_starts() {
    let tidegate = |arguments: &'static [&'static str], listen: String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).current_dir(std::env::temp_dir()).env("TIDEGATE_HTTP__LISTEN", listen);
        async move { within("the exit", command.output()).await.unwrap() }
    };
    let output = tidegate(&["dev", "--nats-url", "http://x"], "127.0.0.1:0".to_owned()).await;
    let found = text_of(&output);
    assert!(
        found.contains("--set nats.url: nats.url: \"http://x\" has a scheme other than")
            && found.contains("help:"),
        "{found}"
    );
    assert_eq!(output.status.code(), Some(64), "{found}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = tidegate(&["serve"], address.clone()).await;
    let found = text_of(&output);
    assert!(
        found.contains(&format!("cannot listen on {address} (http.listen)"))
            && found.contains("Another program"),
        "{found}"
    );
    assert_eq!(output.status.code(), Some(1), "{found}");
}

#[tokio::test]
async fn check_names_every_wrong_key_of_tokens_in_one_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys");
    let file = format!(
        "[[auth.key]]\nkid = \"one\"\nalgorithm = \"RS256\"\npublic_key_file = \"{folder}/p256.pem\"\n\
         [[auth.key]]\nkid = \"two\"\nalgorithm = \"ES256\"\npublic_key_file = \"{folder}/rsa-1024.pem\"\n"
    );
    let path = std::env::temp_dir().join(format!("tidegate-wrong-keys-{}.toml", std::process::id()));
    std::fs::write(&path, file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = within("the exit", command.arg("check").arg("--config").arg(&path).output()).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let found = text_of(&output);
    for (line, words) in [
        (4, "the key \"one\" is a key on the curve P-256"),
        (8, "the key \"two\" is an RSA key of 1024 bits"),
    ] {
        assert!(found.contains(&format!(".toml:{line}:")) && found.contains(words), "{found}");
    }
    assert_eq!(output.status.code(), Some(64), "{found}");
}

#[tokio::test]
async fn the_address_of_a_unix_socket_has_help_of_its_own() {
    let folder = std::env::temp_dir().join(format!("tidegate-absent-{}", std::process::id()));
    let listen = format!("unix:{}/tidegate.sock", folder.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("serve").current_dir(std::env::temp_dir()).env("TIDEGATE_HTTP__LISTEN", listen);
    let output = within("the exit", command.output()).await.unwrap();
    let found = text_of(&output);
    assert!(found.contains("The folder of the socket does not exist: create it"), "{found}");
}

#[tokio::test]
async fn check_and_the_start_log_warn_if_no_client_can_authenticate() {
    let nats = NatsServer::open().await;
    let file = format!("[nats]\nurl = \"{}\"\n{ROLE}", nats.url());
    let check = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["check", "--config"])
        .arg(nats.file("check.toml", &file))
        .env_remove("TIDEGATE_AUTH__HMAC_SECRET")
        .output();
    let output = check.await.unwrap();
    let printed = text_of(&output);
    let warning = "every WebSocket client will be rejected, because none can authenticate";
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert_line(&printed, "warning: auth.key: ", warning, "");
    let line = start_log(&nats, &file, warning).await;
    assert!(line.contains("WARN"), "{line}");
}

#[tokio::test]
async fn check_says_if_no_service_answers_and_if_its_subject_is_among_the_channels() {
    let nats = NatsServer::start().await;
    let file = format!(
        "[nats]\nurl = \"{}\"\n{ROLE}[[class]]\npattern = \"prices.>\"\nauthorize = \"authz.prices\"\n",
        nats.node_url()
    );
    // The table [auth] is the first of the file.
    let connect = format!("service = {{ subject = \"auth.connect\" }}\n{file}");
    let asked = Decider::start(&nats, "authz.prices", |_| Some(json!({ "allow": false }))).await;
    let printed = text_of(&check(&nats, &connect).await);
    assert_line(&printed, "warning", "no service subscribes to auth.connect", "auth.service.subject");
    assert_line(&printed, "ok", "a service answers on authz.prices", "");
    assert!(!printed.contains("among the channels"), "{printed}");
    let question = json!({
        "channel": "prices.>", "user": null, "roles": [], "issuer": null, "claims": null, "endpoint": "check",
        "address": null,
    });
    assert_eq!(asked.questions(), [question]);
    let among = connect.replace("auth.connect", "news.connect") + "[[class]]\npattern = \"news.>\"\n";
    let printed = text_of(&check(&nats, &among).await);
    let warning = "the service at \"news.connect\" (auth.service.subject) is among the channels of the class \"news.>\"";
    assert_line(&printed, "warning", warning, "");
}
