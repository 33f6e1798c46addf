//! Who is let in when too many come at once: some wait, some are told when to come back, and those who are in notice
//! nothing. And that a handshake is the same whichever way it takes through the node.

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

/// Comes until it is let in.
async fn returning(edge: &TestEdge, user: &str) -> RawClient {
    loop {
        let mut client = RawClient::connect(&edge.address()).await;
        client.send(&handshake("/ws", &bearer(user))).await;
        if client.head().await.starts_with("HTTP/1.1 101") {
            return client;
        }
    }
}

#[tokio::test]
async fn ex_05_a_storm_is_told_when_to_come_back_and_those_who_are_there_notice_nothing() {
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
    assert!(*waits.iter().max().unwrap() >= 10, "they come back one after the other: {waits:?}");
    // A bad token costs nothing: no one looks at it.
    assert_eq!(ask(&edge.address(), handshake("/ws", "Authorization: Bearer x\r\n")).await.status, 503);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(edge.get(path).await.0, 200, "{path}");
    }
    edge.publish("chat.general", "1").await;
    for client in [&mut one, &mut other] {
        assert_eq!(client.expect("message").await["data"], 1);
    }
    let mut late = returning(&edge, "carol").await;
    assert_eq!(late.message().await["type"], "connected");
}

#[tokio::test]
async fn ex_05_a_small_storm_waits_for_its_turn_and_all_come_in() {
    let edge = TestEdge::with(|config| {
        config.limits.handshakes_per_s = 100;
        config.limits.handshakes_burst = 1;
        config.limits.handshake_wait = Duration::from_secs(5);
    })
    .await;
    let start = std::time::Instant::now();
    let users: Vec<_> = (0..20).map(|number| format!("user-{number}")).collect();
    let clients = join_all(users.iter().map(|user| edge.raw(user))).await;
    assert!(start.elapsed() >= Duration::from_millis(190), "one after the other: {:?}", start.elapsed());
    assert_eq!(edge.app.shards.sockets(), clients.len());
}

#[tokio::test]
async fn ex_01_a_full_node_answers_whoever_asks_how_it_is() {
    let edge = TestEdge::with(|config| config.limits.connections = 2).await;
    let (one, mut other) = edge.pair().await;
    for _ in 0..3 {
        assert!(retry_after(&ask(&edge.address(), handshake("/ws", &bearer("bob"))).await) >= 1);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(edge.get(path).await.0, 200, "{path}");
        }
    }
    // Somebody who only knocks takes no one's place.
    let _knocking = RawClient::connect(&edge.address()).await;
    drop(one);
    let mut third = returning(&edge, "carol").await;
    assert_eq!(third.message().await["type"], "connected");
    retry_after(&ask(&edge.address(), handshake("/ws", &bearer("bob"))).await);
    other.subscribe("chat.general").await;
}

#[tokio::test]
async fn a_refusal_can_be_read_whatever_was_sent_behind_the_request() {
    let edge = TestEdge::start().await;
    let mut client = RawClient::connect(&edge.address()).await;
    let behind = vec![b'x'; 40_000];
    client.send(&[handshake("/ws", "Authorization: Bearer x\r\n"), behind.clone()].concat()).await;
    client.send(&behind[..1000]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    assert!(answer.header("date").is_some());
    assert_eq!(client.stream.read(&mut [0; 16]).await.unwrap(), 0, "an end, and no reset");
    drop(client);
    eventually("it is gone", || async { edge.app.shards.sockets() == 0 }).await;
}

#[tokio::test]
async fn a_handshake_is_the_same_in_pieces_behind_another_request_and_whole() {
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
                // The first piece has been read when another connection has been answered.
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
