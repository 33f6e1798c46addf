//! What the log says about refusals: the limit that a client exceeded, the rule that denies an operation, PROXY headers
//! that no one expects, and revocations.

use serde_json::Value;
use serde_json::json;

use crate::support::certificates::CertificateFolder;
use crate::support::client::Client;
use crate::support::command::create_buckets;
use crate::support::command::tidegate;
use crate::support::edge::token;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;

/// A handshake of a client whose address a proxy names.
async fn shake(node: &Process, user: &str, more: &str) -> (u16, RawClient) {
    let mut client = RawClient::connect(&node.address).await;
    client.send(&handshake("/ws", &format!("Authorization: Bearer {}\r\n{more}", token(user)))).await;
    (client.answer().await.status, client)
}

#[tokio::test]
async fn each_refusal_of_a_handshake_names_the_limit() {
    let nats = NatsServer::start().await;
    let origin = "Origin: https://app.example.com\r\n";
    let address = "X-Forwarded-For: 203.0.113.7\r\n";
    for (config, headers, status, limit, reason) in [
        ("connections_per_user = 1", "", 429, "limits.connections_per_user", "too_many_connections"),
        ("connections_per_origin = 1", origin, 429, "limits.connections_per_origin", "origin_connections"),
        (
            "connections_per_address = 1",
            address,
            429,
            "limits.connections_per_address",
            "address_connections",
        ),
        (
            "address_handshakes_per_s = 1\nlimits.address_handshakes_burst = 1",
            address,
            429,
            "limits.address_handshakes_per_s",
            "address_handshakes",
        ),
        ("connections = 1", "", 503, "limits.connections", "connections"),
        (
            "handshakes_per_s = 1\nlimits.handshakes_burst = 1\nlimits.handshake_wait_ms = 0",
            "",
            503,
            "limits.handshakes_per_s",
            "handshakes",
        ),
    ] {
        let config = format!(
            "http.trusted_proxies = [\"127.0.0.1\"]\nhttp.allowed_origins = [\"https://app.example.com\"]\nlimits.{config}"
        );
        let node = Process::serve(&nats.node_url(), &config).await;
        let (first, _first) = shake(&node, "alice", headers).await;
        let (second, _second) = shake(&node, "alice", headers).await;
        assert_eq!((first, second), (101, status), "{limit}");
        let line = node.logged("handshake rejected", |_| true).await;
        assert_eq!((&line["limit"], &line["reason"]), (&json!(limit), &json!(reason)), "{line}");
    }
}

#[tokio::test]
async fn a_refused_call_and_a_ticket_without_nats_say_why() {
    let mut nats = NatsServer::start().await;
    create_buckets(&nats).await;
    let config = "limits.calls_per_s = 1\nlimits.calls_burst = 1";
    let node = Process::serve(&nats.node_url(), config).await;
    node.ready().await;
    let call = format!(
        "POST /v1/ticket HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAuthorization: Bearer {}\r\n\r\n",
        token("alice")
    );
    while ask(&node.address, &call).await.status != 429 {}
    let line = node.logged("ticket rejected", |line| line["status"] == 429).await;
    assert_eq!(line["limit"], "limits.calls_per_s", "{line}");
    node.logged("tickets are valid on all nodes", |_| true).await;
    nats.kill();
    node.disconnected().await;
    let answer = ask(&node.address, call.replace(&token("alice"), &token("bob"))).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let line = node.logged("ticket rejected", |line| line["status"] == 503).await;
    assert_eq!(
        (&line["code"], &line["reason"]),
        (&json!("unavailable"), &json!("nats_unavailable")),
        "{line}"
    );
}

#[tokio::test]
async fn a_full_channel_is_logged_with_channel_and_user() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "[[class]]\npattern = \"chat.>\"\nmax_listeners = 1").await;
    node.ready().await;
    let mut first = Client::connect(&node.address, &token("alice")).await;
    first.subscribe("chat.a").await;
    let mut second = Client::connect(&node.address, &token("bob")).await;
    second.send(&json!({ "type": "subscribe", "channel": "chat.a" })).await;
    assert_eq!(second.expect("error").await["code"], "limit_exceeded");
    let line = node.logged_once("about the channel", |line| line["reason"] == "listeners").await;
    let expected = [("channel", "chat.a"), ("user", "bob"), ("limit", "class.max_listeners")];
    assert!(expected.iter().all(|(field, value)| line[field] == *value), "{line}");
}

#[tokio::test]
async fn an_operation_that_no_role_allows_is_logged_with_the_rule() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "limits.max_errors = 5").await;
    let mut client = Client::connect(&node.address, &token("alice")).await;
    for (message, operation, channel, reason) in [
        (json!({ "type": "subscribe", "channel": "secret.a" }), "subscribe", "secret.a", "not_allowed"),
        (
            json!({ "type": "publish", "channel": "prices.a", "data": 1 }),
            "publish",
            "prices.a",
            "not_allowed",
        ),
        (
            json!({ "type": "request", "id": 1, "channel": "svc.a", "data": 1 }),
            "request",
            "svc.a",
            "not_allowed",
        ),
        (json!({ "type": "subscribe", "channel": "$SYS.a" }), "subscribe", "$SYS.a", "system_subject"),
    ] {
        client.send(&message).await;
        assert_eq!(client.expect("error").await["code"], "forbidden");
        let fits = |line: &Value| line["operation"] == operation && line["channel"] == channel;
        let line = node.logged("operation rejected", fits).await;
        assert_eq!(
            (&line["reason"], &line["user"], &line["code"]),
            (&json!(reason), &json!("alice"), &json!("forbidden"))
        );
        assert!(
            line["detail"].is_string() && line["suppressed"] == 0 && line["session"].is_string(),
            "{line}"
        );
    }
    for _ in 0..3 {
        client.send(&json!({ "type": "subscribe", "channel": "secret.b" })).await;
    }
    client.until_closed().await;
    let line = node.logged("connection closed", |_| true).await;
    assert_eq!(line["limit"], "limits.max_errors", "{line}");
}

#[tokio::test]
async fn a_proxy_header_that_is_not_expected_is_logged_with_the_fix() {
    let nats = NatsServer::start().await;
    let folder = CertificateFolder::new("proxy-header");
    let files = folder.issue("server", &["localhost"]);
    let tls = format!(
        "tls.cert_file = \"{}\"\ntls.key_file = \"{}\"",
        files.cert_file.display(),
        files.key_file.display()
    );
    for (config, is_tls) in [("", false), (tls.as_str(), true)] {
        let node = Process::serve(&nats.node_url(), config).await;
        let listening = node.logged("listening", |_| true).await;
        assert_eq!(listening["tls"], is_tls, "{listening}");
        let mut client = RawClient::connect(&node.address).await;
        client.send(b"PROXY TCP4 203.0.113.1 10.0.0.1 12345 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.rest().await;
        let line =
            node.logged_once("about the header", |line| line.to_string().contains("PROXY header")).await;
        assert!(line["message"].as_str().unwrap().contains("http.proxy_protocol"), "{line}");
        assert_eq!(line["level"], "WARN");
    }
}

#[tokio::test]
async fn a_proxy_that_knows_no_client_and_a_head_that_is_too_long_are_logged() {
    let nats = NatsServer::start().await;
    let config = "http.trusted_proxies = [\"127.0.0.1\"]\nhttp.proxy_protocol = true";
    let node = Process::serve(&nats.node_url(), config).await;
    let mut client = RawClient::connect(&node.address).await;
    let request = handshake("/ws", &format!("Authorization: Bearer {}\r\n", token("alice")));
    client.send(&[b"PROXY UNKNOWN\r\n", &request[..]].concat()).await;
    assert_eq!(client.answer().await.status, 101);
    node.logged_once("about the proxy", |line| {
        line.to_string().contains("names no client in its PROXY header")
    })
    .await;
    let mut client = RawClient::connect(&node.address).await;
    let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(40_000));
    client.send(&[b"PROXY TCP4 203.0.113.1 10.0.0.1 12345 443\r\n", long.as_bytes()].concat()).await;
    assert_eq!(client.answer().await.status, 431);
    let line = node.logged_once("about the head", |line| line["reason"] == "head_too_long").await;
    assert!(line["limit"].as_str().unwrap().contains("limits.max_header_bytes"), "{line}");
    assert!(line["peer"].as_str().unwrap().starts_with("203.0.113.1"), "{line}");
}

#[tokio::test]
async fn rev_01_a_revocation_is_logged_once_by_name_also_if_it_comes_from_the_bucket() {
    let nats = NatsServer::start().await;
    create_buckets(&nats).await;
    let node = Process::serve(&nats.node_url(), "").await;
    node.ready().await;
    let url = format!("nats.url={}", nats.operator_url());
    let printed = tidegate(&["revoke", "--user", "alice", "--set", &url], "").await;
    assert_eq!(printed.code, 0, "{printed:?}");
    let line = node.logged("revoked", |_| true).await;
    assert_eq!(
        (&line["revoked"], &line["learned_from"]),
        (&json!("user.alice"), &json!("message")),
        "{line}"
    );
    let later = Process::serve(&nats.node_url(), "").await;
    let line = later.logged("revoked", |line| line["learned_from"] == "bucket").await;
    assert_eq!(line["revoked"], "user.alice", "{line}");
    let context = async_nats::jetstream::new(nats.operator().await);
    context.get_key_value("tidegate_revoked").await.unwrap().delete("user.alice").await.unwrap();
    for node in [&node, &later] {
        let line = node.logged("a revocation was taken back", |_| true).await;
        assert_eq!(line["revoked"], "user.alice", "{line}");
        assert_eq!(node.lines("revoked").len(), 1);
    }
}

#[tokio::test]
async fn a_revocation_with_a_wrong_login_says_what_to_check() {
    let nats = NatsServer::start().await;
    let url = format!("nats.url=nats://operator:wrong@127.0.0.1:{}", nats.port());
    let printed = tidegate(&["revoke", "--user", "alice", "--set", &url], "").await;
    assert_eq!(printed.code, 1, "{printed:?}");
    let words = ["nothing is revoked", "login refused: Authorization Violation", "nats.password"];
    assert!(words.iter().all(|words| printed.err.contains(words)), "{printed:?}");
}
