//! The properties of classes besides the behaviour of slow clients: rate, priority, age, silence, batching.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;

use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::eventually;

/// PROTOCOL.md: "at most one message per key in this time, always the newest"
#[tokio::test]
async fn max_rate_delivers_the_first_and_the_newest_of_each_key() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": "prices.*", "max_rate_ms": 300 })).await;
    client.expect("subscribed").await;
    let nats = edge.nats.client().await;
    for number in 0..50 {
        nats.publish("prices.A", number.to_string().into()).await.unwrap();
        nats.publish("prices.B", (100 + number).to_string().into()).await.unwrap();
    }
    let mut seen: Vec<(Value, Value)> = Vec::new();
    while !(seen.contains(&(json!("prices.A"), json!(49))) && seen.contains(&(json!("prices.B"), json!(149))))
    {
        let message = client.expect("message").await;
        seen.push((message["subject"].clone(), message["data"].clone()));
    }
    assert!(seen.len() < 20, "far fewer than the 100 that were published: {seen:?}");
    assert_eq!(seen[..2], [(json!("prices.A"), json!(0)), (json!("prices.B"), json!(100))]);
}

/// PROTOCOL.md: "A message from before a gap never arrives after it"
#[tokio::test]
async fn messages_held_back_by_max_rate_do_not_follow_a_gap() {
    let mut edge = TestEdge::start().await;
    let (mut client, mut witness) = (edge.client_on(0).await, edge.client_on(0).await);
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": "prices.*", "max_rate_ms": 1000 })).await;
    client.expect("subscribed").await;
    witness.subscribe("prices.*").await;
    edge.publish("prices.A", "1").await;
    edge.publish("prices.A", "2").await;
    while witness.expect("message").await["data"] != json!(2) {}
    assert_eq!(client.expect("message").await["data"], json!(1));
    edge.nats.kill();
    assert_eq!(client.expect("gap").await["cause"], "nats");
    edge.nats.restart().await;
    edge.readyz(200).await;
    eventually("the new server has the subscription", || async {
        edge.nats.subscriptions("prices.").await == 1
    })
    .await;
    edge.publish("prices.B", "3").await;
    edge.publish("prices.B", "4").await;
    for number in [3, 4] {
        let next = client.expect("message").await;
        assert_eq!(next["data"], json!(number), "2 was held back before the gap, so it is dropped");
    }
}

#[tokio::test]
async fn the_conflation_key_may_come_from_a_header() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    client.subscribe("prices.all").await;
    let nats = edge.nats.client().await;
    for (key, price) in [("AAPL", "1"), ("MSFT", "2"), ("AAPL", "3")] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Tidegate-Key", key);
        nats.publish_with_headers("prices.all", headers, price.into()).await.unwrap();
    }
    while client.expect("message").await["data"] != json!(3) {}
    let mut late = edge.client("alice").await;
    let subscribed = late.subscribe("prices.all").await;
    let snapshot: Vec<_> =
        subscribed["snapshot"].as_array().unwrap().iter().map(|m| m["data"].clone()).collect();
    assert_eq!(snapshot, [json!(2), json!(3)], "the newest of each key");
}

/// PROTOCOL.md: "A key applies within its subject, so a message never replaces one of another subject."
#[tokio::test]
async fn a_conflation_key_of_a_client_replaces_no_value_of_another_subject() {
    let edge = TestEdge::with(|config| {
        config.classes.push(Class { kind: Kind::Latest, snapshot: true, ..class("chat.>") });
    })
    .await;
    let mut client = edge.client("alice").await;
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": "chat.*", "max_rate_ms": 60_000 })).await;
    client.expect("subscribed").await;
    edge.publish("chat.other", "\"theirs\"").await;
    assert_eq!(client.expect("message").await["data"], "theirs");
    let headers = json!({ "tidegate-key": "chat.other" });
    let publish =
        json!({ "type": "publish", "id": 2, "channel": "chat.mine", "data": "mine", "headers": headers });
    client.send(&publish).await;
    let messages = [client.next().await.unwrap(), client.next().await.unwrap()];
    assert!(
        messages.iter().any(|message| message["data"] == "mine"),
        "each subject has its own rate: {messages:?}"
    );
    let subscribed = edge.client("bob").await.subscribe("chat.*").await;
    let snapshot: Vec<_> =
        subscribed["snapshot"].as_array().unwrap().iter().map(|m| m["data"].clone()).collect();
    assert_eq!(snapshot, [json!("theirs"), json!("mine")]);
}

#[tokio::test]
async fn max_rate_is_rejected_if_it_would_lose_messages() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": "chat.a", "max_rate_ms": 100 })).await;
    assert_eq!(client.expect("error").await["code"], "unsupported");
}

/// PROTOCOL.md: "`stale` is never sent twice for one silence."
#[tokio::test]
async fn stale_is_sent_once_and_to_later_subscribers() {
    let edge = TestEdge::with(|config| {
        config.classes.push(Class { stale_after: Some(Duration::from_millis(200)), ..class("chat.quiet") });
    })
    .await;
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("chat.quiet").await;
    let stale = one.expect("stale").await;
    assert_eq!(stale["channel"], "chat.quiet");
    other.subscribe("chat.quiet").await;
    assert_eq!(other.expect("stale").await["since"], stale["since"]);
    edge.publish("chat.quiet", "1").await;
    for client in [&mut one, &mut other] {
        client.expect("message").await;
        client.expect("stale").await;
    }
    assert_eq!(one.so_far().await, Vec::<Value>::new());
}

#[tokio::test]
async fn stale_follows_messages_held_back_by_max_rate() {
    let quiet =
        Class { kind: Kind::Latest, stale_after: Some(Duration::from_millis(300)), ..class("chat.quiet") };
    let edge = TestEdge::with(move |config| config.classes.push(quiet)).await;
    let mut client = edge.client("alice").await;
    client
        .send(&json!({ "type": "subscribe", "id": 1, "channel": "chat.quiet", "max_rate_ms": 60_000 }))
        .await;
    client.expect("subscribed").await;
    edge.publish("chat.quiet", "1").await;
    assert_eq!(client.expect("message").await["data"], 1);
    edge.publish("chat.quiet", "2").await;
    assert_eq!(client.expect("message").await["data"], 2, "it is delivered before `stale`");
    client.expect("stale").await;
}

#[tokio::test]
async fn batching_loses_no_message_and_keeps_the_order() {
    let edge = TestEdge::with(|config| {
        config.classes.push(Class { batch: Duration::from_millis(50), ..class("chat.>") });
    })
    .await;
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("chat.a").await;
    other.subscribe("chat.a").await;
    let nats = edge.nats.client().await;
    for number in 0..20 {
        nats.publish("chat.a", number.to_string().into()).await.unwrap();
    }
    for client in [&mut one, &mut other] {
        for number in 0..20 {
            assert_eq!(client.expect("message").await["data"], json!(number));
        }
    }
}

#[tokio::test]
async fn values_older_than_max_age_are_not_in_a_snapshot() {
    let edge = TestEdge::with(|config| {
        config.classes = vec![Class {
            kind: Kind::Latest,
            snapshot: true,
            max_age: Some(Duration::from_millis(300)),
            ..class("prices.>")
        }];
    })
    .await;
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("prices.A").await;
    edge.publish("prices.A", "1").await;
    one.expect("message").await;
    while other.subscribe("prices.A").await["snapshot"] != json!([]) {
        other.send(&json!({ "type": "unsubscribe", "channel": "prices.A" })).await;
        other.expect("unsubscribed").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
