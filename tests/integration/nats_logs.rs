//! Log lines about NATS: an operator gets what is needed, and no server can flood the log.

use std::time::Instant;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::support::client::Client;
use crate::support::edge::token;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;

const LOGIN: &str = "nats.user = \"edge\"\nnats.password = \"edge\"";

fn users(permissions: &str) -> String {
    users_with("edge", permissions)
}

fn users_with(password: &str, permissions: &str) -> String {
    format!(
        "authorization {{ users: [ {{ user: edge, password: {password}, permissions: {{ {permissions} }} }}, \
         {{ user: any, password: any }} ] }}\nno_auth_user: any"
    )
}

#[tokio::test]
async fn nats_away_is_one_line_with_its_address() {
    let port = NatsServer::free_port();
    let node = Process::serve(&format!("nats://127.0.0.1:{port}"), "").await;
    // The node opens its port after a first check of NATS. By then, all four links have tried many times.
    let message = "cannot connect to nats: retrying; check nats.url and the server";
    let line = node.logged_once(message, |line| line["message"] == message).await;
    assert_eq!((&line["host"], &line["port"]), (&json!("127.0.0.1"), &json!(port)));
}

/// Other failed attempts are logged again only after 30 seconds.
#[tokio::test]
async fn a_login_that_nats_rejects_after_a_lost_connection_is_logged_at_once() {
    let nats = NatsServer::with(&users("")).await;
    let node = Process::serve(&nats.node_url(), LOGIN).await;
    nats.reload(&users_with("other", ""));
    node.logged("connection to nats lost: reconnecting", |_| true).await;
    let is_login =
        |line: &serde_json::Value| line["reason"].to_string().to_lowercase().contains("authorization");
    node.logged("cannot connect to nats: retrying; check nats.url and the server", is_login).await;
}

/// A server on this port that sends every kind of operation on each connection, and then closes it.
async fn hostile_server(port: u16) -> mpsc::UnboundedReceiver<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (came, greeted) = mpsc::unbounded_channel();
    let long = "x".repeat(60_000);
    let mut noise = String::new();
    for number in 0..300 {
        noise +=
            &format!("-ERR 'Permissions Violation for Subscription to \"_INBOX_tidegate.{number}\"'\r\n");
        noise += "-ERR 'Permissions Violation for Publish to \"a\"'\r\n-ERR 'Invalid Subject'\r\n";
        noise += "INFO {\"version\":\"2.15.1\",\"ldm\":true}\r\nPONG\r\nPING\r\n";
        noise += "MSG a 1 1\r\n1\r\nHMSG b 1 3 4\r\nabc1\r\nMSG \x01 1 0\r\n\r\n";
    }
    noise += &format!("-ERR '{long}'\r\n");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The client may have closed already; accept the next one.
            let _ = stream.write_all(b"INFO {\"version\":\"2.15.1\"}\r\n").await;
            let mut received = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut received).await {
                if received.ends_with(b"PING\r\n") {
                    let _ = stream.write_all(b"PONG\r\n").await;
                    let _ = stream.write_all(noise.as_bytes()).await;
                    break;
                }
            }
            if came.send(()).is_err() {
                return;
            }
        }
    });
    greeted
}

#[tokio::test]
async fn a_hostile_nats_causes_few_log_lines() {
    let port = NatsServer::free_port();
    let mut greeted = hostile_server(port).await;
    let began = Instant::now();
    let node = Process::serve(&format!("nats://127.0.0.1:{port}"), "").await;
    for _ in 0..40 {
        crate::support::within("one more connection", greeted.recv()).await.unwrap();
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    let lines = node.logs();
    let bytes: usize = lines.iter().map(|line| line.to_string().len()).sum();
    assert!(lines.len() < 20 + 8 * (seconds + 1), "{} lines in {seconds} s: {lines:#?}", lines.len());
    assert!(bytes < 400 * lines.len() + 20_000, "{bytes} bytes in {} lines", lines.len());
}

#[tokio::test]
async fn subscriptions_that_nats_revokes_are_one_line_a_second() {
    let nats = NatsServer::with(&users("")).await;
    let node = Process::serve(&nats.node_url(), LOGIN).await;
    let mut client = Client::connect(&node.address, &token("alice")).await;
    let channels: Vec<_> = (0..500).map(|number| format!("chat.{number}")).collect();
    client.send(&json!({ "type": "subscribe", "id": 1, "channels": channels })).await;
    for _ in &channels {
        client.expect("subscribed").await;
    }
    nats.reload(&users("subscribe: { deny: \"chat.>\" }"));
    for _ in &channels {
        client.expect("gap").await;
    }
    let message = "nats revoked a subscription: check the permissions of this node's nats user";
    node.logged(message, |_| true).await;
    let count = node.lines(message).len();
    assert!((1..20).contains(&count), "{count} lines");
}

#[tokio::test]
async fn a_publish_that_nats_forbids_is_logged() {
    let nats = NatsServer::with(&users("publish: { deny: \"chat.no\" }")).await;
    let node = Process::serve(&nats.node_url(), LOGIN).await;
    let mut client = Client::connect(&node.address, &token("alice")).await;
    let headers = json!({ "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00" });
    let publish = json!({ "type": "publish", "id": 1, "channel": "chat.no", "data": 1, "headers": headers });
    client.send(&publish).await;
    assert_eq!(client.expect("error").await["code"], "forbidden");
    let line = node
        .logged("nats denied a publish: allow it for this node's nats user, or forbid it in [[role]]", |_| {
            true
        })
        .await;
    assert_eq!(
        (&line["subject"], &line["trace_id"]),
        (&json!("chat.no"), &json!("4bf92f3577b34da6a3ce929d0e0e4736"))
    );
}

#[tokio::test]
async fn a_node_logs_when_it_becomes_not_ready_and_ready() {
    let mut nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    node.ready().await;
    nats.kill();
    node.disconnected().await;
    nats.restart().await;
    node.logged("ready: connected to nats", |_| true).await;
    let message = "not ready, because a lane is disconnected from nats: check nats-server and nats.url";
    node.logged_once(message, |line| line["message"] == message).await;
}

#[tokio::test]
async fn a_denied_part_of_a_wildcard_is_logged() {
    let nats = NatsServer::with(&users("subscribe: { deny: [\"prices.secret\", \"other\"] }")).await;
    let node = Process::serve(&nats.node_url(), LOGIN).await;
    let mut client = Client::connect(&node.address, &token("alice")).await;
    for channel in ["chat.*", "prices.*", "prices.AAPL"] {
        client.subscribe(channel).await;
    }
    let message = "clients miss a part of this pattern: allow it for this node's nats user";
    let line = node.logged_once(message, |line| line["message"] == message).await;
    assert_eq!((&line["pattern"], &line["denied"]), (&json!("prices.*"), &json!("prices.secret")));
    // The log is right: the message does not arrive.
    let producer = nats.client().await;
    for subject in ["prices.secret", "prices.open"] {
        producer.publish(subject, "1".into()).await.unwrap();
    }
    assert_eq!(client.expect("message").await["subject"], "prices.open");
}
