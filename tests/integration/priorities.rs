//! Publications that say how urgent they are: in a field that the class names, or in the header `Tidegate-Priority`.

use async_nats::HeaderMap;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::fields::PayloadFields;
use tidegate_protocol::class::fields::parse_key;
use tidegate_protocol::class::fields::parse_path;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::raw;
use crate::support::raw::RawClient;

/// More than the buffers on both ends can hold.
const FLOOD: u64 = 1000;
/// A batch that fits into the outbox.
const TURN: u64 = 20;

fn small(config: &mut Config) {
    config.server.shards = 1;
    config.limits.outbox_bytes = 8 * 1024 * 1024;
    config.limits.send_buffer_bytes = 16 * 1024;
}

/// A subscriber that does not read until the test tells it to, and one that reads.
async fn clients(edge: &TestEdge, channel: &str) -> (RawClient, Client) {
    let mut sleeper = edge.raw_on(RawClient::connect_small(&edge.address()).await.stream, "alice").await;
    sleeper.send(&raw::text(&json!({ "type": "subscribe", "id": 1, "channel": channel }).to_string())).await;
    assert_eq!(sleeper.message().await["type"], "subscribed");
    let mut reader = edge.client("bob").await;
    reader.subscribe(channel).await;
    (sleeper, reader)
}

async fn publish(nats: &async_nats::Client, subject: &str, priority: Option<&str>, data: &Value) {
    let mut headers = HeaderMap::new();
    if let Some(priority) = priority {
        headers.insert("tidegate-priority", priority);
    }
    nats.publish_with_headers(subject.to_owned(), headers, data.to_string().into()).await.unwrap();
}

/// Floods the channel, and then publishes this. Returns the messages as the sleeper gets them.
async fn past_a_sleeper(edge: &TestEdge, subject: &str, priority: Option<&str>, then: &Value) -> Vec<Value> {
    let (mut sleeper, mut reader) = clients(edge, subject).await;
    let nats = edge.nats.client().await;
    let filler = "x".repeat(4000);
    for number in 0..FLOOD {
        publish(&nats, subject, None, &json!({ "n": number, "key": number, "filler": filler })).await;
        if number % TURN == TURN - 1 {
            while reader.expect("message").await["data"]["n"] != json!(number) {}
        }
    }
    publish(&nats, subject, priority, then).await;
    while reader.expect("message").await["data"] != *then {}
    let mut messages = vec![];
    while messages.len() <= usize::try_from(FLOOD).unwrap() {
        let message = sleeper.message().await;
        assert_eq!(message["type"], "message", "{message}");
        messages.push(message["data"].clone());
    }
    messages
}

/// Where the message is among the others, which are in order.
fn place(messages: &[Value], of: &Value) -> usize {
    let others =
        messages.iter().filter(|message| *message != of).map(|message| message["n"].as_u64().unwrap());
    assert!(others.eq(0..FLOOD), "the others are all there, and in order");
    messages.iter().position(|message| message == of).unwrap()
}

fn by_field(kind: Kind) -> Class {
    let fields = PayloadFields::new(parse_key("data.key"), parse_path("data.priority"));
    Class { kind, fields, ..class("chat.>") }
}

#[tokio::test]
async fn a_field_makes_a_publication_overtake_others_of_its_channel() {
    for (priority, overtakes) in [("urgent", true), ("medium", false), ("low", false)] {
        let edge = TestEdge::with(|config| {
            small(config);
            config.classes = vec![by_field(Kind::Buffer)];
        })
        .await;
        let then = json!({ "priority": priority });
        let messages = past_a_sleeper(&edge, "chat.a", None, &then).await;
        let last = messages.len() - 1;
        assert_eq!(place(&messages, &then) < last, overtakes, "{priority}");
    }
}

#[tokio::test]
async fn the_header_of_a_producer_wins_in_every_class() {
    for (class, payload) in [(by_field(Kind::Buffer), "low"), (class("chat.>"), "normal")] {
        let edge = TestEdge::with(|config| {
            small(config);
            config.classes = vec![class];
        })
        .await;
        let then = json!({ "priority": payload });
        let messages = past_a_sleeper(&edge, "chat.a", Some("high"), &then).await;
        assert!(place(&messages, &then) < messages.len() - 1, "with {then}");
    }
}

/// A newer value of another priority replaces the waiting one: no older value follows it.
#[tokio::test]
async fn an_urgent_value_of_a_key_replaces_the_one_that_waits() {
    let edge = TestEdge::with(|config| {
        small(config);
        config.classes = vec![by_field(Kind::Latest)];
    })
    .await;
    let (mut sleeper, mut reader) = clients(&edge, "chat.a").await;
    let (nats, filler) = (edge.nats.client().await, "x".repeat(4000));
    for number in 0..FLOOD {
        publish(&nats, "chat.a", None, &json!({ "n": number, "key": number, "filler": filler })).await;
        if number % TURN == TURN - 1 {
            while reader.expect("message").await["data"]["n"] != json!(number) {}
        }
    }
    let key = FLOOD - 1;
    let newer = json!({ "n": FLOOD, "key": key, "priority": "critical" });
    publish(&nats, "chat.a", None, &newer).await;
    while reader.expect("message").await["data"] != newer {}
    publish(&nats, "chat.a", Some("low"), &json!({ "n": FLOOD + 1, "key": "end" })).await;
    let mut of_key = vec![];
    loop {
        let message = sleeper.message().await;
        if message["data"]["key"] == json!(key) {
            of_key.push(message["data"]["n"].clone());
        }
        if message["data"]["key"] == "end" {
            break;
        }
    }
    assert_eq!(of_key, [json!(FLOOD)], "only the newest");
}
