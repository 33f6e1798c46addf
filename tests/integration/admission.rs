//! Connection storms: some clients wait, some get `Retry-After`, and open sessions are not disturbed. Also: a handshake
//! has the same result on the fast path and with hyper.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::raw::Answer;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::raw::text;

fn bearer(user: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token(user))
}

fn retry_after(answer: &Answer) -> u64 {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("busy")), "{answer:?}");
    answer.header("retry-after").unwrap().parse().unwrap()
}

/// Retries until it is connected.
async fn retry_until_connected(edge: &TestEdge, user: &str) -> RawClient {
    loop {
        let mut client = RawClient::connect(&edge.address()).await;
        client.send(&handshake("/ws", &bearer(user))).await;
        if client.head().await.starts_with("HTTP/1.1 101") {
            return client;
        }
    }
}

#[tokio::test]
async fn ex_05_a_connection_storm_gets_retry_after_and_does_not_disturb_sessions() {
    let edge = TestEdge::with(|config| {
        config.limits.handshakes_per_s = 2;
        config.limits.handshakes_burst = 2;
        config.limits.handshake_wait = Duration::ZERO;
    })
    .await;
    let (mut one, mut other) = edge.pair().await;
    for client in [&mut one, &mut other] {
        client.subscribe("chat.general").await;
    }
    let storm = (0..40).map(|_| async { ask(&edge.address(), handshake("/ws", &bearer("bob"))).await });
    let answers = join_all(storm).await;
    let waits: Vec<_> = answers.iter().filter(|answer| answer.status == 503).map(retry_after).collect();
    assert!(waits.len() >= 30, "{} of 40", waits.len());
    assert!(waits.iter().all(|wait| (1..=60).contains(wait)), "{waits:?}");
    assert!(*waits.iter().max().unwrap() >= 10, "the retries are spread: {waits:?}");
    // The token is not verified: a rejected handshake is cheap.
    assert_eq!(ask(&edge.address(), handshake("/ws", "Authorization: Bearer x\r\n")).await.status, 503);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(edge.get(path).await.0, 200, "{path}");
    }
    edge.publish("chat.general", "1").await;
    for client in [&mut one, &mut other] {
        assert_eq!(client.expect("message").await["data"], 1);
    }
    let mut late = retry_until_connected(&edge, "carol").await;
    assert_eq!(late.message().await["type"], "connected");
}

#[tokio::test]
async fn ex_05_a_small_connection_storm_is_queued_and_all_connect() {
    let edge = TestEdge::with(|config| {
        config.limits.handshakes_per_s = 100;
        config.limits.handshakes_burst = 1;
        config.limits.handshake_wait = Duration::from_secs(5);
    })
    .await;
    let start = std::time::Instant::now();
    let users: Vec<_> = (0..20).map(|number| format!("user-{number}")).collect();
    let clients = join_all(users.iter().map(|user| edge.raw(user))).await;
    assert!(start.elapsed() >= Duration::from_millis(190), "they waited in a queue: {:?}", start.elapsed());
    assert_eq!(edge.app.shards.sockets(), clients.len());
}

#[tokio::test]
async fn ex_01_a_full_node_still_answers_health_checks() {
    let edge = TestEdge::with(|config| config.limits.connections = 2).await;
    let (one, mut other) = edge.pair().await;
    for _ in 0..3 {
        assert!(retry_after(&ask(&edge.address(), handshake("/ws", &bearer("bob"))).await) >= 1);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(edge.get(path).await.0, 200, "{path}");
        }
    }
    // A socket without a handshake takes no connection slot.
    let _silent = RawClient::connect(&edge.address()).await;
    drop(one);
    let mut third = retry_until_connected(&edge, "carol").await;
    assert_eq!(third.message().await["type"], "connected");
    retry_after(&ask(&edge.address(), handshake("/ws", &bearer("bob"))).await);
    other.subscribe("chat.general").await;
}

#[tokio::test]
async fn a_rejected_client_receives_the_response_whatever_it_sends_after_the_request() {
    let edge = TestEdge::start().await;
    let mut client = RawClient::connect(&edge.address()).await;
    let behind = vec![b'x'; 40_000];
    client.send(&[handshake("/ws", "Authorization: Bearer x\r\n"), behind.clone()].concat()).await;
    client.send(&behind[..1000]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    assert!(answer.header("date").is_some());
    assert_eq!(client.stream.read(&mut [0; 16]).await.unwrap(), 0, "closed, without a reset");
    drop(client);
    eventually("its socket is closed", || async { edge.app.shards.sockets() == 0 }).await;
}

#[tokio::test]
async fn a_handshake_has_the_same_result_whole_in_pieces_and_after_another_request() {
    let edge = TestEdge::start().await;
    let request = handshake(
        "/ws",
        &(bearer("alice") + "X-Request-Id: 7\r\nSec-WebSocket-Protocol: tidegate.v1.json\r\n"),
    );
    let mut heads = Vec::new();
    for way in ["whole", "in pieces", "behind another request", "with a length"] {
        let mut client = RawClient::connect(&edge.address()).await;
        client.stream.set_nodelay(true).unwrap();
        match way {
            "whole" => client.send(&request).await,
            "in pieces" => {
                client.send(&request[..50]).await;
                // Once another connection is answered, the server has read the first piece.
                for _ in 0..3 {
                    assert_eq!(edge.get("/healthz").await.0, 200);
                }
                client.send(&request[50..]).await;
            }
            "behind another request" => {
                client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
                assert_eq!(client.answer().await.status, 200);
                client.send(&request).await;
            }
            _ => client.send(&[b"GET /ws HTTP/1.1\r\nContent-Length: 0\r\n", &request[18..]].concat()).await,
        }
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{way}: {head}");
        let mut lines: Vec<_> = head.lines().skip(1).map(str::to_lowercase).collect();
        lines.retain(|line| !line.is_empty() && !line.starts_with("date: "));
        lines.sort();
        heads.push(lines);
        assert_eq!(client.message().await["user"], "alice", "{way}");
        client.send(&text(&json!({ "type": "subscribe", "channel": "chat.general" }).to_string())).await;
        assert_eq!(client.message().await["type"], "subscribed", "{way}");
    }
    assert!(heads.iter().all(|head| *head == heads[0]), "{heads:#?}");
}
