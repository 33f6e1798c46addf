//! ex-03: a client that stops reading costs a bounded outbox, and does not affect other clients.

use std::ops::Range;

use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::raw;
use crate::support::raw::RawClient;

/// More than the outbox and the kernel buffers on both ends can hold.
const FLOOD: usize = 600;
const PAYLOAD: usize = 4000;
/// A batch that fits into the outbox.
const TURN: usize = 20;

fn small(config: &mut Config) {
    config.limits.outbox_bytes = 256 * 1024;
    config.limits.send_buffer_bytes = 16 * 1024;
    config.classes.push(Class { kind: Kind::Buffer, ..class("chat.>") });
}

/// A subscribed client that does not read until the test tells it to.
async fn sleeper(edge: &TestEdge, channels: &[&str]) -> RawClient {
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    let mut sleeper =
        RawClient::upgrade(RawClient::connect_small(&edge.address()).await.stream, "/ws", &bearer).await;
    sleeper
        .send(&raw::text(&json!({ "type": "subscribe", "id": 1, "channels": channels }).to_string()))
        .await;
    // `connected`, then one reply for each channel.
    for _ in 0..=channels.len() {
        sleeper.message().await;
    }
    sleeper
}

/// Publishes more than the buffers of a client that does not read can hold. The healthy clients read everything, and set
/// the pace.
async fn flood(edge: &TestEdge, subject: &str, healthy: &mut [&mut Client]) {
    let nats = edge.nats.client().await;
    let filler = "x".repeat(PAYLOAD);
    for turn in 0..FLOOD / TURN {
        let numbers = turn * TURN..(turn + 1) * TURN;
        for number in numbers.clone() {
            let payload = json!({ "n": number, "filler": filler }).to_string();
            nats.publish(subject.to_owned(), payload.into()).await.unwrap();
        }
        nats.flush().await.unwrap();
        for client in &mut *healthy {
            read_all(client, subject, numbers.clone()).await;
        }
    }
}

/// Reads each number in order; of prices, whose class is `latest`, at least the last one.
async fn read_all(client: &mut Client, subject: &str, numbers: Range<usize>) {
    if subject.starts_with("prices.") {
        while client.expect("message").await["data"]["n"] != json!(numbers.end - 1) {}
        return;
    }
    for number in numbers {
        assert_eq!(client.expect("message").await["data"]["n"], json!(number));
    }
}

#[tokio::test]
async fn ex_03_buffer_drops_the_oldest_and_the_gap_has_their_number() {
    let edge = TestEdge::with(small).await;
    let mut sleeper = sleeper(&edge, &["chat.flood"]).await;
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("chat.flood").await;
    other.subscribe("chat.flood").await;
    flood(&edge, "chat.flood", &mut [&mut one, &mut other]).await;
    let (mut expected, mut gaps) = (0, 0);
    while expected < FLOOD as u64 {
        let message = sleeper.message().await;
        match message["type"].as_str() {
            Some("message") => {
                assert_eq!(message["data"]["n"], json!(expected));
                expected += 1;
            }
            Some("gap") => {
                assert_eq!((&message["channel"], &message["cause"]), (&json!("chat.flood"), &json!("slow")));
                expected += message["dropped"].as_u64().unwrap();
                gaps += 1;
            }
            _ => panic!("{message}"),
        }
    }
    assert!(gaps > 0, "the flood was larger than all buffers");
}

#[tokio::test]
async fn ex_03_latest_keeps_the_newest_of_each_subject() {
    let edge = TestEdge::with(small).await;
    let mut sleeper = sleeper(&edge, &["prices.*"]).await;
    let (mut one, _other) = edge.pair().await;
    one.subscribe("prices.A").await;
    flood(&edge, "prices.A", &mut [&mut one]).await;
    edge.publish("prices.B", r#"{"n":"b"}"#).await;
    let (mut last, mut count) = (-1, 0);
    loop {
        let message = sleeper.message().await;
        if message["subject"] == "prices.B" {
            break;
        }
        assert_eq!(message["type"], "message", "no gap: a replaced value is not lost: {message}");
        let number = message["data"]["n"].as_i64().unwrap();
        assert!(number > last, "{number} after {last}");
        last = number;
        count += 1;
    }
    assert_eq!(last, i64::try_from(FLOOD).unwrap() - 1);
    assert!(count < FLOOD / 2, "most were replaced: {count}");
}

#[tokio::test]
async fn ex_03_high_priority_overtakes_queued_messages() {
    let edge = TestEdge::with(|config| {
        small(config);
        config.classes.push(Class { priority: Priority::High, ..class("user.*.alerts") });
    })
    .await;
    let mut sleeper = sleeper(&edge, &["chat.flood", "user.alice.alerts"]).await;
    let mut witness = edge.client("alice").await;
    witness.subscribe("chat.flood").await;
    witness.subscribe("user.alice.alerts").await;
    flood(&edge, "chat.flood", &mut [&mut witness]).await;
    // Once a client on each shard has received the alert, it is in the outbox of the other client too.
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("user.alice.alerts").await;
    other.subscribe("user.alice.alerts").await;
    edge.publish("user.alice.alerts", "1").await;
    one.expect("message").await;
    other.expect("message").await;
    let mut before = 0;
    let mut messages: Vec<Value> = Vec::new();
    loop {
        let message = sleeper.message().await;
        let last = message["data"]["n"] == json!(FLOOD - 1);
        messages.push(message);
        if last {
            break;
        }
    }
    for message in &messages {
        if message["channel"] == "user.alice.alerts" {
            break;
        }
        before += 1;
    }
    assert!(
        before < messages.len() - 1,
        "the alert overtook queued messages: {before} of {} were before it",
        messages.len()
    );
}

/// PROTOCOL.md: "`close` always comes after everything that is queued."
#[tokio::test]
async fn ex_03_a_close_comes_after_everything_that_is_queued() {
    let edge = TestEdge::with(|config| {
        small(config);
        config.classes.push(Class { priority: Priority::Low, ..class("chat.flood") });
    })
    .await;
    let mut sleeper = sleeper(&edge, &["chat.flood"]).await;
    let mut witness = edge.client("alice").await;
    witness.subscribe("chat.flood").await;
    flood(&edge, "chat.flood", &mut [&mut witness]).await;
    let drained = tokio::spawn(edge.app.drain());
    witness.until_closed().await;
    let mut messages = vec![sleeper.message().await];
    while messages.last().is_some_and(|message| message["type"] != "close") {
        messages.push(sleeper.message().await);
    }
    let before = &messages[messages.len() - 2];
    assert_eq!(before["data"]["n"], json!(FLOOD - 1), "{} messages", messages.len());
    drop(sleeper);
    drained.await.unwrap();
}

#[tokio::test]
async fn ex_03_a_client_that_reads_nothing_is_disconnected_after_a_timeout() {
    let edge = TestEdge::with(|config| {
        small(config);
        config.limits.write_timeout = std::time::Duration::from_secs(1);
    })
    .await;
    let sleeper = sleeper(&edge, &["chat.flood"]).await;
    let mut healthy = edge.client("alice").await;
    healthy.subscribe("chat.flood").await;
    assert_eq!(edge.app.shards.sockets(), 2);
    flood(&edge, "chat.flood", &mut [&mut healthy]).await;
    eventually("the sleeper is disconnected", || async { edge.app.shards.sockets() == 1 }).await;
    edge.publish("chat.flood", "1").await;
    healthy.expect("message").await;
    drop(sleeper);
}
