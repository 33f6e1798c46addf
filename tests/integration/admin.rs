//! The admin listener: who may use it, and whether the metrics are true.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tidegate::config::listen_address::ListenAddress;
use tidegate::config::origin::WebOrigin;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::admin::address;
use crate::support::admin::get;
use crate::support::admin::on_loopback;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::within;

/// Listens on loopback, as an address that is not one: the IPv4 address in IPv6.
const LIKE_PUBLIC: &str = "[::ffff:127.0.0.1]:0";

pub(crate) async fn text(edge: &TestEdge) -> String {
    let answer = get(&address(edge), "/metrics", "Host: localhost\r\n").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// The value of a metric, with its labels if it has some; 0 if it has none yet.
pub(crate) fn value(text: &str, series: &str) -> f64 {
    let of_series = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(of_series).unwrap_or_default()
}

/// Waits until all of these have their values.
pub(crate) async fn has(edge: &TestEdge, expected: &[(&str, f64)]) {
    let until = tokio::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let text = text(edge).await;
        let wrong: Vec<_> = expected
            .iter()
            .map(|(series, expected)| (*series, *expected, value(&text, series)))
            .filter(|(_, expected, found)| expected != found)
            .collect();
        if wrong.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "metric, expected, found: {wrong:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn adm_01_public_listeners_serve_no_metrics() {
    let edge = TestEdge::with(on_loopback).await;
    for path in
        ["/metrics", "/metrics/", "/config", "/connections", "/events", "/nodes", "/explain", "//metrics"]
    {
        let answer = get(&edge.address(), path, "Host: localhost\r\n").await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    // And the admin listener serves no clients.
    let answer =
        ask(&address(&edge), handshake("/ws", &format!("Authorization: Bearer {}\r\n", token("alice"))))
            .await;
    assert_eq!(answer.status, 404, "{answer:?}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(&address(&edge), path, "Host: localhost\r\n").await.status, 200);
    }
    let default = TestEdge::start().await;
    assert_eq!(default.app.admin_address, None, "the default is no admin listener");
}

#[tokio::test]
async fn adm_01_a_page_whose_name_points_to_this_machine_reads_nothing() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config
            .roles
            .push(tidegate_protocol::permissions::Role { admin: true, ..role("operator", &[], &[], &[]) });
    })
    .await;
    for host in ["attacker.example", "attacker.example:9090", "localhost.attacker.example", "192.0.2.1", ""] {
        let answer = get(&address(&edge), "/metrics", &format!("Host: {host}\r\n")).await;
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("forbidden")), "{host}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(!answer.body.contains("tidegate_"), "{answer:?}");
    }
    let operator = token_with(&json!({ "role": "operator" }));
    let headers = format!("Host: metrics.internal\r\nAuthorization: Bearer {operator}\r\n");
    assert_eq!(get(&address(&edge), "/metrics", &headers).await.status, 200, "no page has a token");
    for host in ["localhost", "127.0.0.1:9090", "[::1]"] {
        let answer = get(&address(&edge), "/metrics", &format!("Host: {host}\r\n")).await;
        assert_eq!((answer.status, answer.header("x-content-type-options")), (200, Some("nosniff")));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert!(answer.header("x-request-id").is_some());
        let bearer = format!("Authorization: Bearer {operator}\r\n");
        for headers in ["", bearer.as_str()] {
            for origin in ["https://a.example", "null", "http://localhost:1"] {
                let headers = format!("Host: {host}\r\nOrigin: {origin}\r\n{headers}");
                let answer = get(&address(&edge), "/metrics", &headers).await;
                let code = answer.json()["code"].clone();
                assert_eq!((answer.status, code), (403, json!("origin_not_allowed")), "{headers}");
            }
        }
        let own = format!("Host: {host}\r\nOrigin: http://{host}\r\n");
        assert_eq!(get(&address(&edge), "/metrics", &own).await.status, 200);
    }
}

#[tokio::test]
async fn adm_01_other_machines_need_a_token_of_an_administrator() {
    let edge = TestEdge::with(|config| {
        config.admin.listen = Some(LIKE_PUBLIC.parse().unwrap());
        config.roles[1].admin = true;
    })
    .await;
    let bearer = |role: &str| format!("Authorization: Bearer {}\r\n", token_with(&json!({ "role": role })));
    for (headers, status, code) in [
        (String::new(), 401, "unauthorized"),
        ("Authorization: Bearer nonsense\r\n".to_owned(), 401, "invalid_token"),
        ("Authorization: Basic YTpi\r\n".to_owned(), 400, "bad_credential"),
        (bearer("user"), 403, "forbidden"),
    ] {
        let headers = format!("Host: localhost\r\nX-Request-Id: mine\r\n{headers}");
        let answer = get(&address(&edge), "/metrics", &headers).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{headers}");
        assert_eq!(answer.header("x-request-id"), Some("mine"));
        assert_eq!(answer.json()["request_id"], "mine");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let headers = format!("Host: metrics.example\r\n{}", bearer("admin"));
    let answer = get(&address(&edge), "/metrics", &headers).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.body.contains("tidegate_auth_failures_total{reason=\"unauthorized\"} 1\n"),
        "{}",
        answer.body
    );
    for method in ["POST", "DELETE", "OPTIONS"] {
        let request = format!("{method} /metrics HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n");
        let answer = ask(&address(&edge), request).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn a_unix_socket_needs_no_host() {
    let path = std::env::temp_dir().join(format!("tidegate-admin-{}.sock", std::process::id()));
    let edge = TestEdge::with(|config| config.admin.listen = Some(ListenAddress::Unix(path.clone()))).await;
    let mut client = RawClient::over(tokio::net::UnixStream::connect(&path).await.unwrap());
    client.send(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(edge);
}

#[tokio::test]
async fn operators_send_no_proxy_header() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.http.proxy_protocol = true;
        config.http.trusted_proxies = vec![tidegate::config::network::Network::parse("127.0.0.0/8").unwrap()];
    })
    .await;
    assert!(text(&edge).await.contains("tidegate_ready 1\n"));
}

#[tokio::test]
async fn the_reader_chooses_the_format() {
    let edge = TestEdge::with(on_loopback).await;
    for (accept, content_type, end) in [
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# EOF\n",
        ),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", "\n"),
    ] {
        let answer =
            get(&address(&edge), "/metrics", &format!("Host: localhost\r\nAccept: {accept}\r\n")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)));
        assert_eq!(answer.header("vary"), Some("Accept"));
        assert!(answer.body.ends_with(end) && answer.body.contains("tidegate_ready 1\n"), "{answer:?}");
        assert_eq!(answer.body.contains("EOF"), accept != "*/*");
    }
}

#[tokio::test]
async fn metrics_count_exactly_what_clients_get() {
    let edge = TestEdge::with(on_loopback).await;
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("chat.room").await;
    other.subscribe("chat.room").await;
    other.subscribe("prices.A").await;
    for number in 0..5 {
        edge.publish("chat.room", number.to_string()).await;
    }
    edge.publish("prices.A", "1").await;
    for client in [&mut one, &mut other] {
        for _ in 0..5 {
            client.expect("message").await;
        }
    }
    other.expect("message").await;
    has(
        &edge,
        &[
            ("tidegate_connections{transport=\"websocket\"}", 2.0),
            ("tidegate_connections_opened_total{transport=\"websocket\"}", 2.0),
            ("tidegate_subscriptions", 3.0),
            ("tidegate_publications_total{class=\">\"}", 5.0),
            ("tidegate_publications_total{class=\"prices.>\"}", 1.0),
            ("tidegate_frames_encoded_total", 6.0),
            ("tidegate_messages_delivered_total{transport=\"websocket\"}", 11.0),
            ("tidegate_messages_dropped_total{class=\">\",reason=\"slow\"}", 0.0),
            ("tidegate_handshake_duration_seconds_count", 2.0),
            ("tidegate_sockets", 2.0),
            ("tidegate_ready", 1.0),
            ("tidegate_draining", 0.0),
            ("tidegate_nats_connected{lane=\"0\"}", 1.0),
            ("tidegate_nats_connected{lane=\"1\"}", 1.0),
            ("tidegate_nats_reconnects_total{lane=\"0\"}", 0.0),
        ],
    )
    .await;
    let text = text(&edge).await;
    let sum = |name: &str| (0..2).map(|n| value(&text, &format!("{name}=\"{n}\"}}"))).sum::<f64>();
    assert_eq!(sum("tidegate_nats_subscriptions{lane"), 2.0);
    assert!(
        value(&text, "tidegate_bytes_sent_total") > 500.0
            && value(&text, "tidegate_delivery_latency_seconds_count") >= 1.0
    );
    other.send(&json!({ "type": "unsubscribe", "id": 9, "channel": "prices.A" })).await;
    other.expect("unsubscribed").await;
    drop(one);
    has(
        &edge,
        &[
            ("tidegate_connections{transport=\"websocket\"}", 1.0),
            ("tidegate_connections_opened_total{transport=\"websocket\"}", 2.0),
            ("tidegate_connections_closed_total{code=\"1006\",reason=\"connection_lost\"}", 1.0),
            ("tidegate_subscriptions", 1.0),
            ("tidegate_sockets", 1.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn metrics_count_what_a_slow_client_does_not_get() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.outbox_bytes = 256 * 1024;
        config.limits.send_buffer_bytes = 16 * 1024;
        config.classes.push(Class { kind: Kind::Buffer, ..class("chat.>") });
    })
    .await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    let stream = RawClient::connect_small(&edge.address()).await.stream;
    let mut sleeper = RawClient::upgrade(stream, "/ws", &bearer).await;
    sleeper.send(&raw::text(r#"{"type":"subscribe","id":1,"channel":"chat.flood"}"#)).await;
    sleeper.message().await;
    sleeper.message().await;
    let (payload, count) = (format!("\"{}\"", "x".repeat(4000)), 600_u64);
    let nats = edge.nats.client().await;
    for _ in 0..count {
        nats.publish("chat.flood", payload.clone().into()).await.unwrap();
    }
    nats.flush().await.unwrap();
    has(&edge, &[("tidegate_publications_total{class=\"chat.>\"}", 600.0)]).await;
    let (mut delivered, mut dropped, mut gaps) = (0, 0, 0);
    while delivered + dropped < count {
        let message = sleeper.message().await;
        match message["type"].as_str() {
            Some("message") => delivered += 1,
            Some("gap") => {
                dropped += message["dropped"].as_u64().unwrap();
                gaps += 1;
            }
            _ => panic!("{message}"),
        }
    }
    assert!(gaps > 0, "the flood was larger than all buffers");
    #[expect(clippy::cast_precision_loss, reason = "these are small")]
    let [delivered, dropped, gaps] = [delivered, dropped, gaps].map(|number: u64| number as f64);
    has(
        &edge,
        &[
            ("tidegate_messages_delivered_total{transport=\"websocket\"}", delivered),
            ("tidegate_messages_dropped_total{class=\"chat.>\",reason=\"slow\"}", dropped),
            ("tidegate_messages_dropped_total{class=\"chat.>\",reason=\"unannounced\"}", 0.0),
            ("tidegate_gaps_total{cause=\"slow\"}", gaps),
        ],
    )
    .await;
}

#[tokio::test]
async fn metrics_count_outages_of_nats_and_their_gaps() {
    let mut edge = TestEdge::with(on_loopback).await;
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("chat.room").await;
    other.subscribe("chat.room").await;
    edge.lose_nats().await;
    has(&edge, &[("tidegate_ready", 0.0), ("tidegate_nats_connected{lane=\"0\"}", 0.0)]).await;
    edge.nats.restart().await;
    for client in [&mut one, &mut other] {
        assert_eq!(client.expect("gap").await["cause"], "nats");
    }
    has(
        &edge,
        &[
            ("tidegate_gaps_total{cause=\"nats\"}", 2.0),
            ("tidegate_nats_reconnects_total{lane=\"0\"}", 1.0),
            ("tidegate_nats_reconnects_total{lane=\"1\"}", 1.0),
            ("tidegate_ready", 1.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn metrics_count_who_was_refused_and_why() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.connections_per_user = 1;
        config.http.allowed_origins = vec![WebOrigin::parse("https://app.example.com").unwrap()];
    })
    .await;
    let (main, alice) = (edge.address(), format!("Authorization: Bearer {}\r\n", token("alice")));
    let expired = token_with(&json!({ "iat": 1, "exp": 2 }));
    let expired = format!("Authorization: Bearer {expired}\r\n");
    for (headers, status) in [
        (expired.as_str(), 401),
        (&expired, 401),
        ("Origin: https://other.example.com\r\n", 403),
        ("Authorization: Bearer a.b.c\r\n", 401),
    ] {
        assert_eq!(ask(&main, handshake("/ws", headers)).await.status, status);
    }
    let _alice = edge.client("alice").await;
    assert_eq!(ask(&main, handshake("/ws", &alice)).await.status, 429);
    let mut later = Client::open(&main, "/ws", None).await;
    later.send(&json!({ "type": "auth", "id": 1, "token": "a.b.c" })).await;
    later.expect("error").await;
    let mut carol = edge.client("carol").await;
    for channel in ["user.bob.notifications", "admin.users"] {
        carol.send(&json!({ "type": "subscribe", "id": 2, "channel": channel })).await;
        assert_eq!(carol.expect("error").await["code"], "forbidden");
    }
    let ticket =
        ask(&main, format!("POST /v1/ticket HTTP/1.1\r\nHost: a\r\n{}Content-Length: 0\r\n\r\n", alice))
            .await;
    let ticket = ticket.json()["ticket"].as_str().unwrap().to_owned();
    assert_eq!(ask(&main, handshake(&format!("/ws?ticket={ticket}"), "")).await.status, 429);
    assert_eq!(ask(&main, handshake(&format!("/ws?ticket={ticket}"), "")).await.status, 401);
    has(
        &edge,
        &[
            ("tidegate_auth_failures_total{reason=\"expired\"}", 2.0),
            ("tidegate_auth_failures_total{reason=\"malformed\"}", 2.0),
            ("tidegate_rejected_requests_total{status=\"401\",reason=\"expired\"}", 2.0),
            ("tidegate_rejected_requests_total{status=\"403\",reason=\"origin_not_allowed\"}", 1.0),
            ("tidegate_origin_rejected_total", 1.0),
            ("tidegate_authz_denied_total{op=\"subscribe\"}", 2.0),
            ("tidegate_rate_limited_total{limit=\"user_connections\"}", 2.0),
            ("tidegate_rate_limited_total{limit=\"sockets\"}", 0.0),
            ("tidegate_tickets_issued_total", 1.0),
            ("tidegate_tickets_redeemed_total", 1.0),
            ("tidegate_tickets_refused_total", 1.0),
        ],
    )
    .await;
    let text = text(&edge).await;
    assert!(
        value(&text, "tidegate_token_cache_hits_total") >= 1.0
            && value(&text, "tidegate_token_cache_entries") >= 1.0
    );
}

#[tokio::test]
async fn adm_01_nothing_that_a_client_sends_is_in_the_metrics() {
    const SENTINEL: &str = "sentinel-5f1d";
    let edge = TestEdge::with(on_loopback).await;
    let mut alice = edge.client(SENTINEL).await;
    alice.subscribe(&format!("chat.{SENTINEL}")).await;
    alice
        .send(&json!({ "type": "publish", "id": 7, "channel": format!("chat.{SENTINEL}"), "data": SENTINEL }))
        .await;
    alice.until("message").await;
    alice.send(&json!({ "type": SENTINEL })).await;
    alice.until("error").await;
    for headers in [
        format!("Authorization: Bearer {SENTINEL}\r\n"),
        format!("Origin: https://{SENTINEL}.example\r\n"),
        format!("X-Request-Id: {SENTINEL}\r\n"),
    ] {
        ask(&edge.address(), handshake(&format!("/ws?ticket={SENTINEL}"), &headers)).await;
    }
    let (token, text) = (token(SENTINEL), text(&edge).await);
    assert!(!text.contains(SENTINEL) && !text.contains("chat."), "{text}");
    assert!(token.split('.').all(|part| !text.contains(part)));
}

#[tokio::test]
async fn a_full_node_and_a_draining_one_can_be_observed() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.connections = 1;
        config.server.drain = Duration::from_secs(2);
    })
    .await;
    let _only = edge.client("alice").await;
    let mut silent = Vec::new();
    eventually("no socket is left", || {
        silent.extend((0..200).map(|_| std::net::TcpStream::connect(edge.address()).unwrap()));
        async { value(&text(&edge).await, "tidegate_rate_limited_total{limit=\"sockets\"}") > 0.0 }
    })
    .await;
    let text = text(&edge).await;
    let (sockets, limit) = (value(&text, "tidegate_sockets"), value(&text, "tidegate_sockets_limit"));
    assert!(sockets <= limit && sockets > limit / 2.0, "{sockets} of {limit}");
    let admin = address(&edge);
    let draining = async {
        eventually("the drain is visible", || async {
            let answer = get(&admin, "/metrics", "Host: localhost\r\n").await;
            value(&answer.body, "tidegate_draining") == 1.0
        })
        .await;
    };
    tokio::join!(edge.app.drain(), draining);
}

#[tokio::test]
async fn a_reload_that_is_refused_is_counted() {
    let nats = NatsServer::start().await;
    let config = "admin.listen = \"127.0.0.1:0\"\n";
    let mut node = Process::serve(&nats.node_url(), config).await;
    let address = node.logged("serving /metrics", |_| true).await["address"].as_str().unwrap().to_owned();
    node.reload(&Process::config(
        &nats.node_url(),
        "server.drain_s = \"x\"\n",
        "a secret that is only used in this test",
        "prices.*",
    ));
    eventually("the refused reload", || async {
        let text = get(&address, "/metrics", "Host: localhost\r\n").await.body;
        value(&text, "tidegate_reload_failures_total") == 1.0
    })
    .await;
    node.signal("TERM");
    within("the end", node.ended()).await;
}

/// The judge of Prometheus itself.
#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let edge = TestEdge::with(on_loopback).await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.room").await;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool =
        promtool.expect("promtool is not installed: run tests/setup.sh, or apt-get install prometheus");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text(&edge).await.as_bytes()).await.unwrap();
    drop(input);
    let output = within("the judgement", promtool.wait_with_output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
