//! Logs for operators: why a client was refused, how a connection ended, and never a secret.

use std::time::SystemTime;

use serde_json::Value;
use serde_json::json;

use crate::support::client::Client;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;

fn expired() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    token_with(&json!({ "exp": now - 60 }))
}

fn is_local(address: &Value) -> bool {
    address.as_str().is_some_and(|address| address.starts_with("127.0.0.1:"))
}

#[tokio::test]
async fn a_rejected_credential_is_logged_with_user_address_and_reason_but_no_token() {
    let nats = NatsServer::start().await;
    let config = "http.trusted_proxies = [\"127.0.0.1\"]\nserver.node = \"edge-1\"\nlog.filter = \"debug\"";
    let node = Process::serve(&nats.node_url(), config).await;
    let expired = expired();
    let headers =
        format!("Authorization: Bearer {expired}\r\nX-Request-Id: r-17\r\nX-Forwarded-For: 203.0.113.7\r\n");
    let answer = ask(&node.address, handshake("/ws", &headers)).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (401, Some("r-17")));
    assert_eq!(answer.json()["request_id"], "r-17");
    let line = node.logged("handshake rejected", |_| true).await;
    for (field, expected) in [
        ("level", json!("INFO")),
        ("status", json!(401)),
        ("code", json!("token_expired")),
        ("reason", json!("expired")),
        ("claimed_user", json!("alice")),
        ("forwarded", json!("203.0.113.7")),
        ("endpoint", json!("/ws")),
        ("node", json!("edge-1")),
        ("request", json!("r-17")),
        ("suppressed", json!(0)),
    ] {
        assert_eq!(line[field], expected, "{line}");
    }
    assert!(is_local(&line["peer"]), "{line}");
    // With the credential in a message; then in a handshake that hyper parses.
    let mut client = Client::open(&node.address, "/ws", None).await;
    client.send(&json!({ "type": "auth", "token": expired })).await;
    assert_eq!(client.until_closed().await.1, Some(4001));
    let line = node.logged("credential rejected", |_| true).await;
    assert_eq!((&line["reason"], &line["claimed_user"]), (&json!("expired"), &json!("alice")));
    assert!(is_local(&line["peer"]) && line["session"].is_string(), "{line}");
    node.logged("connection closed", |line| line["reason"] == "token_expired" && line["code"] == 4001).await;
    let answer =
        ask(&node.address, handshake("/ws", "Content-Length: 0\r\nAuthorization: Bearer a.b.c\r\n")).await;
    let line = node.logged("handshake rejected", |line| line["reason"] == "malformed").await;
    assert_eq!(line["request"].as_str(), answer.header("x-request-id"));
    let signature = expired.rsplit('.').next().unwrap();
    assert!(!node.logs().iter().any(|line| line.to_string().contains(signature)), "no line shows a token");
}

#[tokio::test]
async fn a_token_of_another_user_is_logged_as_rejected_and_changes_no_user() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    let mut client = Client::open(&node.address, "/ws", Some(&token("alice"))).await;
    client.expect("connected").await;
    client.send(&json!({ "type": "auth", "token": token("bob") })).await;
    assert_eq!(client.until_closed().await.1, Some(4501));
    let line = node.logged("credential rejected", |_| true).await;
    assert_eq!((&line["reason"], &line["claimed_user"]), (&json!("other_user"), &json!("bob")));
    let line = node.logged("connection closed", |_| true).await;
    assert_eq!((&line["user"], &line["code"]), (&json!("alice"), &json!(4501)));
}

#[tokio::test]
async fn a_connection_beyond_a_limit_ends_with_a_line_that_names_the_limit() {
    let nats = NatsServer::start().await;
    let config = "limits.max_message_bytes = 2048\nlimits.max_fragments = 4\nlimits.fragment_timeout_s = 1\n\
                  limits.control_frames_burst = 4";
    let node = Process::serve(&nats.node_url(), config).await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    for (limit, code, bytes) in [
        ("limits.max_message_bytes", 1009, raw::text(&" ".repeat(4096))),
        ("limits.max_fragments", 1008, [raw::frame(0x01, b"{"), raw::frame(0x00, b" ").repeat(8)].concat()),
        ("limits.fragment_timeout_s", 1008, raw::text("{}")[..3].to_vec()),
        ("limits.control_frames_per_s", 1008, raw::frame(0x8a, b"").repeat(40)),
    ] {
        let stream = tokio::net::TcpStream::connect(&node.address).await.unwrap();
        let mut client = RawClient::upgrade(stream, "/ws", &bearer).await;
        client.send(&bytes).await;
        let line = node.logged("connection closed", |line| line["limit"] == limit).await;
        assert_eq!(line["code"], code, "{line}");
    }
}

#[tokio::test]
async fn a_flood_of_rejected_credentials_causes_few_lines_for_each_reason() {
    const REJECTIONS: usize = 300;
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    let headers = format!("Authorization: Bearer {}\r\n", expired());
    let start = std::time::Instant::now();
    for _ in 0..REJECTIONS {
        assert_eq!(ask(&node.address, handshake("/ws", &headers)).await.status, 401);
    }
    let intervals = start.elapsed().as_secs() + 2;
    ask(&node.address, handshake("/ws", "Authorization: Bearer a.b.c\r\n")).await;
    node.logged("handshake rejected", |line| line["reason"] == "malformed").await;
    let lines = node.lines("handshake rejected");
    let of_expired = lines.iter().filter(|line| line["reason"] == "expired").count();
    assert!(of_expired >= 10 && of_expired as u64 <= 10 * intervals, "{of_expired} in {intervals} s");
}

#[tokio::test]
async fn the_end_of_a_connection_is_logged_and_at_debug_its_commands() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "log.filter = \"debug\"\nserver.node = \"edge-1\"").await;
    node.ready().await;
    let mut client = Client::connect(&node.address, &token("alice")).await;
    client.subscribe("chat.general").await;
    let producer = nats.client().await;
    for _ in 0..3 {
        producer.publish("chat.general", "1".into()).await.unwrap();
        client.expect("message").await;
    }
    client.send(&json!({ "type": "unsubscribe", "id": 1, "channel": "chat.general" })).await;
    client.expect("unsubscribed").await;
    let connected = node.logged("connected", |line| line["user"] == "alice").await;
    assert!(is_local(&connected["peer"]) && connected["request"].is_string(), "{connected}");
    let session = &connected["session"];
    for message in ["subscribe", "unsubscribe"] {
        let line = node.logged(message, |line| line["session"] == *session).await;
        assert_eq!((&line["channel"], &line["level"]), (&json!("chat.general"), &json!("DEBUG")));
    }
    drop(client);
    let lost = node.logged("connection closed", |line| line["session"] == *session).await;
    for (field, expected) in [
        ("level", json!("INFO")),
        ("code", json!(1006)),
        ("reason", json!("connection_lost")),
        ("user", json!("alice")),
        ("endpoint", json!("/ws")),
        ("node", json!("edge-1")),
        ("delivered", json!(3)),
        ("dropped", json!(0)),
    ] {
        assert_eq!(lost[field], expected, "{lost}");
    }
    assert!(is_local(&lost["peer"]) && lost["duration_ms"].is_u64(), "{lost}");
    let stream = tokio::net::TcpStream::connect(&node.address).await.unwrap();
    let mut closes =
        RawClient::upgrade(stream, "/ws", &format!("Authorization: Bearer {}\r\n", token("bob"))).await;
    closes.send(&raw::frame(0x88, &1001_u16.to_be_bytes())).await;
    closes.rest().await;
    node.logged("connection closed", |line| {
        line["user"] == "bob" && line["code"] == 1001 && line["reason"] == "by_client"
    })
    .await;
}

/// Waits until the lines about all that this client has received are here.
async fn end_of_logs(node: &Process, client: Client) {
    drop(client);
    node.logged("connection closed", |_| true).await;
}

/// A vocabulary that shows chats about things and the members of trades.
const SOME_SHOWN: &str = r#"
name = "some-shown"
[[path]]
name = "main"
path = "/some"
[[receive]]
do = "subscribe"
channels = ["chat.*", "prices.*"]
confirm = { joined = true }
[[deliver]]
pattern = "chat.*"
when = { data = { kind = "thing" } }
send = { chat = "{data.text}" }
[[deliver]]
pattern = "prices.*"
send = { "..." = "{data}" }
"#;

#[tokio::test]
async fn a_publication_that_no_rule_shows_is_logged_once_with_its_subject_and_vocabulary() {
    let nats = NatsServer::start().await;
    let file = std::env::temp_dir().join(format!("tidegate-some-shown-{}.toml", std::process::id()));
    std::fs::write(&file, SOME_SHOWN).unwrap();
    let config = format!("[[endpoint]]\nvocabulary = {:?}\n", file.to_str().unwrap());
    let node = Process::serve(&nats.node_url(), &config).await;
    node.ready().await;
    let mut client = Client::open(&node.address, "/some", Some(&token("alice"))).await;
    client.send(&json!({})).await;
    assert_eq!(client.next().await.unwrap(), json!({ "joined": true }));
    let producer = nats.client().await;
    for _ in 0..3 {
        producer.publish("chat.general", r#"{"kind":"other"}"#.into()).await.unwrap();
        producer.publish("prices.AAPL", "[1]".into()).await.unwrap();
    }
    producer.publish("prices.AAPL", r#"{"price":1}"#.into()).await.unwrap();
    producer.publish("chat.general", r#"{"kind":"thing","text":"hi"}"#.into()).await.unwrap();
    let mut shown = [client.next().await.unwrap(), client.next().await.unwrap()];
    shown.sort_by_key(ToString::to_string);
    assert_eq!(shown, [json!({ "chat": "hi" }), json!({ "price": 1 })]);
    end_of_logs(&node, client).await;
    for (begin, subject) in
        [("no rule shows a publication", "chat.general"), ("a publication cannot be shown", "prices.AAPL")]
    {
        let begins = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with(begin));
        let line = node.logged_once(begin, begins).await;
        for (field, expected) in [("level", "WARN"), ("subject", subject), ("vocabulary", "some-shown")] {
            assert_eq!(line[field], expected, "{line}");
        }
    }
    std::fs::remove_file(&file).unwrap();
}

/// A vocabulary that takes lists of chats apart.
const TAKES_APART: &str = r#"
name = "takes-apart"
[[path]]
name = "main"
path = "/apart"
[[receive]]
do = "subscribe"
channel = "chat.*"
confirm = { joined = true }
[[deliver]]
pattern = "chat.*"
each = "{data}"
send = { chat = "{data}" }
"#;

#[tokio::test]
async fn a_publication_with_too_many_elements_is_logged_in_one_line_that_says_how_many_are_allowed() {
    let nats = NatsServer::start().await;
    let file = std::env::temp_dir().join(format!("tidegate-takes-apart-{}.toml", std::process::id()));
    std::fs::write(&file, TAKES_APART).unwrap();
    let config = format!("[[endpoint]]\nvocabulary = {:?}\n", file.to_str().unwrap());
    let node = Process::serve(&nats.node_url(), &config).await;
    node.ready().await;
    let mut client = Client::open(&node.address, "/apart", Some(&token("alice"))).await;
    client.send(&json!({})).await;
    assert_eq!(client.next().await.unwrap(), json!({ "joined": true }));
    let producer = nats.client().await;
    let many = json!(vec![1; 10_001]).to_string();
    producer.publish("chat.general", many.into()).await.unwrap();
    producer.publish("chat.general", "[2]".into()).await.unwrap();
    assert_eq!(client.next().await.unwrap(), json!({ "chat": 2 }));
    end_of_logs(&node, client).await;
    let lines = node.logs();
    let warnings: Vec<_> = lines.iter().filter(|line| line["subject"] == "chat.general").collect();
    let [line] = warnings[..] else { panic!("{warnings:?}") };
    assert_eq!((&line["level"], &line["vocabulary"]), (&json!("WARN"), &json!("takes-apart")), "{line}");
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("publish at most 10000 elements of together 4194304 bytes"), "{line}");
    std::fs::remove_file(&file).unwrap();
}
