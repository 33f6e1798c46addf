//! Stored subjects: last values and positions out of a JetStream stream, and what clients get after outages.

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::fields::PayloadFields;
use tidegate_protocol::class::fields::parse_key;

use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::nats_server::NatsServer;
use crate::support::proxy::Fault;
use crate::support::proxy::Proxy;
use crate::support::proxy::Whose;

/// Creates a stream that republishes its messages.
pub(crate) async fn stream(nats: &NatsServer, name: &str, subjects: &[&str], more: Value) {
    let mut config = json!({
        "name": name, "subjects": subjects, "storage": "memory", "allow_direct": true,
        "republish": { "src": ">", "dest": "_live.>" },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    api(nats, &format!("STREAM.CREATE.{name}"), &config).await;
}

/// A request to JetStream that must succeed.
pub(crate) async fn api(nats: &NatsServer, request: &str, body: &Value) -> Value {
    let answer =
        nats.client().await.request(format!("$JS.API.{request}"), body.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["error"], Value::Null, "{answer}");
    answer
}

/// Publishes messages, and waits until they are stored.
pub(crate) async fn publish(nats: &NatsServer, subject: &str, payloads: impl IntoIterator<Item = u64>) {
    let client = nats.client().await;
    for payload in payloads {
        let answer = client.request(subject.to_owned(), payload.to_string().into()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["seq"].is_u64(), "{answer}");
    }
}

/// Classes of a stream: prices of class `latest`, chats of class `buffer`, both with last values.
pub(crate) fn stored_classes() -> Vec<Class> {
    let stored =
        |pattern: &str, kind| Class { kind, snapshot: true, stream: Some("ALL".into()), ..class(pattern) };
    vec![stored("prices.>", Kind::Latest), stored("chat.>", Kind::Buffer)]
}

pub(crate) async fn edge_with_stream(more: Value) -> TestEdge {
    let edge = TestEdge::with(|config| config.classes = stored_classes()).await;
    stream(&edge.nats, "ALL", &["prices.>", "chat.>"], more).await;
    edge
}

/// What the messages carry: their data and sequences.
pub(crate) fn pairs(messages: &[Value]) -> Vec<(u64, u64)> {
    messages
        .iter()
        .map(|message| (message["data"].as_u64().unwrap(), message["seq"].as_u64().unwrap()))
        .collect()
}

#[tokio::test]
async fn the_last_value_of_a_stream_comes_with_the_subscription_and_then_what_is_stored() {
    let edge = edge_with_stream(json!({})).await;
    publish(&edge.nats, "chat.a", [10, 11]).await;
    publish(&edge.nats, "chat.b", [20]).await;
    let mut client = edge.client("alice").await;
    let reply = client.subscribe("chat.a").await;
    assert_eq!(pairs(reply["snapshot"].as_array().unwrap()), [(11, 2)]);
    assert_eq!(reply["seq"], 2, "{reply}");
    assert!(!reply["epoch"].as_str().unwrap().is_empty());
    let all = client.subscribe("chat.*").await;
    assert_eq!(pairs(all["snapshot"].as_array().unwrap()), [(11, 2), (20, 3)]);
    assert_eq!((&all["seq"], &all["epoch"]), (&json!(3), &reply["epoch"]));
    client.send(&json!({ "type": "unsubscribe", "channel": "chat.*" })).await;
    client.expect("unsubscribed").await;
    publish(&edge.nats, "chat.a", [12]).await;
    let message = client.expect("message").await;
    assert_eq!(pairs(std::slice::from_ref(&message)), [(12, 4)]);
    let empty = client.subscribe("chat.c").await;
    assert_eq!((&empty["snapshot"], &empty["epoch"]), (&json!([]), &reply["epoch"]));
    assert!((3..=4).contains(&empty["seq"].as_u64().unwrap()), "where the stream was: {empty}");
}

#[tokio::test]
async fn a_message_that_is_not_stored_reaches_no_client() {
    let edge = edge_with_stream(json!({ "max_msg_size": 10 })).await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.a").await;
    edge.publish("chat.a", "12345678901").await;
    publish(&edge.nats, "chat.a", [1]).await;
    assert_eq!(pairs(&[client.expect("message").await]), [(1, 1)]);
}

#[tokio::test]
async fn what_a_stream_stored_during_an_outage_is_delivered_in_order_and_without_a_gap() {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(&nats).await;
    let url = proxy.url();
    stream(&nats, "ALL", &["prices.>", "chat.>"], json!({})).await;
    let edge = TestEdge::with_nats(
        nats,
        |config| {
            config.nats.urls = vec![url];
            config.classes = stored_classes();
        },
        false,
    )
    .await;
    let mut client = edge.client("alice").await;
    for channel in ["chat.a", "chat.*", "prices.a"] {
        client.subscribe(channel).await;
    }
    publish(&edge.nats, "chat.a", [1]).await;
    publish(&edge.nats, "prices.a", [1]).await;
    for _ in 0..3 {
        client.expect("message").await;
    }
    proxy.does_to(Whose::Feeds, Fault::Cut);
    edge.disconnected().await;
    publish(&edge.nats, "chat.a", 2..=30).await;
    publish(&edge.nats, "chat.b", [1]).await;
    publish(&edge.nats, "prices.a", 2..=30).await;
    proxy.does_to(Whose::Feeds, Fault::None);
    let mut got: std::collections::BTreeMap<String, Vec<(u64, u64)>> = std::collections::BTreeMap::new();
    for _ in 0..29 + 30 + 1 {
        let message = client.expect("message").await;
        let channel = message["channel"].as_str().unwrap().to_owned();
        got.entry(channel).or_default().extend(pairs(&[message]));
    }
    let chat: Vec<_> = (2..=30).map(|number| (number, number + 1)).collect();
    assert_eq!(got["chat.a"], chat);
    assert_eq!(got["chat.*"], [&chat[..], &[(1, 32)]].concat());
    assert_eq!(got["prices.a"], [(30, 61)]);
    assert_eq!(client.so_far().await, [] as [Value; 0]);
}

#[tokio::test]
async fn with_keys_of_a_field_no_key_of_an_outage_is_lost() {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(&nats).await;
    let url = proxy.url();
    stream(&nats, "ALL", &["prices.>", "chat.>"], json!({})).await;
    let edge = TestEdge::with_nats(
        nats,
        |config| {
            config.nats.urls = vec![url];
            config.classes = stored_classes();
            config.classes[0].fields = PayloadFields::new(parse_key("data.symbol"), None);
        },
        false,
    )
    .await;
    let mut client = edge.client("alice").await;
    client.subscribe("prices.all").await;
    proxy.does_to(Whose::Feeds, Fault::Cut);
    edge.disconnected().await;
    let js = edge.nats.client().await;
    for payload in [r#"{"symbol":"A","n":1}"#, r#"{"symbol":"B","n":2}"#] {
        js.request("prices.all", payload.into()).await.unwrap();
    }
    proxy.does_to(Whose::Feeds, Fault::None);
    for symbol in ["A", "B"] {
        assert_eq!(client.expect("message").await["data"]["symbol"], symbol);
    }
}

#[tokio::test]
async fn copies_of_another_stream_are_not_those_of_this_one() {
    let edge = edge_with_stream(json!({})).await;
    let source = json!({
        "name": "ARCHIVE", "storage": "memory", "sources": [{ "name": "ALL" }],
        "republish": { "src": ">", "dest": "_live.>" },
    });
    publish(&edge.nats, "chat.z", 1..=3).await;
    api(&edge.nats, "STREAM.CREATE.ARCHIVE", &source).await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.a").await;
    publish(&edge.nats, "chat.a", 4..=6).await;
    for number in 4..=6 {
        assert_eq!(pairs(&[client.expect("message").await]), [(number, number)]);
    }
    assert_eq!(client.so_far().await, [] as [Value; 0]);
}

#[tokio::test]
async fn many_subjects_with_large_messages_are_all_in_a_snapshot() {
    let edge = TestEdge::with(|config| {
        config.classes = stored_classes();
        config.limits.feed_value_bytes = 4 * 1024 * 1024;
        config.limits.outbox_bytes = 4 * 1024 * 1024;
    })
    .await;
    stream(&edge.nats, "ALL", &["chat.>"], json!({})).await;
    let js = edge.nats.client().await;
    let text = "x".repeat(100_000);
    for subject in 0..15 {
        js.request(format!("chat.{subject}"), format!("\"{text}\"").into()).await.unwrap();
    }
    let mut client = edge.client("alice").await;
    let reply = client.subscribe("chat.*").await;
    let snapshot = reply["snapshot"].as_array().unwrap();
    let sequences: Vec<_> = snapshot.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=15).collect::<Vec<_>>());
    assert_eq!(reply["seq"], 15);
}

#[tokio::test]
async fn what_a_stream_has_discarded_is_a_gap_with_its_range() {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(&nats).await;
    let url = proxy.url();
    stream(&nats, "ALL", &["prices.>", "chat.>"], json!({ "max_msgs_per_subject": 5 })).await;
    let edge = TestEdge::with_nats(
        nats,
        |config| {
            config.nats.urls = vec![url];
            config.classes = stored_classes();
        },
        false,
    )
    .await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.a").await;
    publish(&edge.nats, "chat.a", [1]).await;
    client.expect("message").await;
    proxy.does_to(Whose::Feeds, Fault::Cut);
    edge.disconnected().await;
    publish(&edge.nats, "chat.a", 2..=30).await;
    proxy.does_to(Whose::Feeds, Fault::None);
    let gap = client.expect("gap").await;
    let expected = json!({ "type": "gap", "channel": "chat.a", "cause": "discarded", "from": 2, "to": 25 });
    assert_eq!(gap, expected);
    for number in 26..=30 {
        assert_eq!(pairs(&[client.expect("message").await]), [(number, number)]);
    }
}

#[tokio::test]
async fn a_stream_that_was_replaced_is_announced_and_its_messages_follow() {
    let edge = edge_with_stream(json!({})).await;
    publish(&edge.nats, "chat.a", 1..=5).await;
    let mut client = edge.client("alice").await;
    let reply = client.subscribe("chat.a").await;
    api(&edge.nats, "STREAM.DELETE.ALL", &json!({})).await;
    stream(&edge.nats, "ALL", &["prices.>", "chat.>"], json!({})).await;
    publish(&edge.nats, "chat.a", 6..=8).await;
    let gap = client.expect("gap").await;
    assert_eq!(gap, json!({ "type": "gap", "channel": "chat.a", "cause": "epoch" }));
    for number in 6..=8 {
        assert_eq!(pairs(&[client.expect("message").await]), [(number, number - 5)]);
    }
    let mut other = edge.client("bob").await;
    let again = other.subscribe("chat.a").await;
    assert_eq!(again["seq"], 3);
    assert_ne!(again["epoch"], reply["epoch"]);
}

#[tokio::test]
async fn without_its_stream_a_channel_is_live_and_says_what_it_lacks() {
    let edge = TestEdge::with(|config| config.classes = stored_classes()).await;
    let mut client = edge.client("alice").await;
    let reply = client.subscribe("chat.a").await;
    assert_eq!((&reply["snapshot"], reply.get("seq"), reply.get("epoch")), (&json!([]), None, None));
    let gap = json!({ "type": "gap", "channel": "chat.a", "cause": "stream_unavailable" });
    assert_eq!(client.expect("gap").await, gap);
}
