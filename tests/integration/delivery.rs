//! Delivery: publications reach every subscribed socket, on all shards and nodes.

use serde_json::json;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::token;

#[tokio::test]
async fn a_publication_reaches_subscribers_on_every_shard() {
    let edge = TestEdge::start().await;
    let (mut one, mut other) = edge.pair().await;
    for client in [&mut one, &mut other] {
        let subscribed = client.subscribe("chat.general").await;
        assert_eq!(subscribed["snapshot"], json!([]));
    }
    edge.publish("chat.general", r#"{"text":"hello"}"#).await;
    for client in [&mut one, &mut other] {
        let message = client.expect("message").await;
        assert_eq!(message["channel"], "chat.general");
        assert_eq!(message["data"], json!({ "text": "hello" }));
        assert_eq!(message.get("subject"), None);
        assert!(message["time"].as_str().unwrap().ends_with('Z'));
    }
}

#[tokio::test]
async fn messages_of_a_wildcard_channel_have_their_subject() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    client.subscribe("prices.*").await;
    edge.publish("prices.AAPL", "190.1").await;
    let message = client.expect("message").await;
    assert_eq!(
        (&message["channel"], &message["subject"], &message["data"]),
        (&json!("prices.*"), &json!("prices.AAPL"), &json!(190.1))
    );
}

#[tokio::test]
async fn payloads_are_delivered_as_json_text_or_base64() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.general").await;
    for payload in [&b"[1, 2]"[..], b"plain \"text\"", b"\xff\x00", b""] {
        edge.publish("chat.general", payload).await;
    }
    assert_eq!(client.expect("message").await["data"], json!([1, 2]));
    assert_eq!(client.expect("message").await["data"], json!("plain \"text\""));
    let binary = client.expect("message").await;
    assert_eq!((binary.get("data"), &binary["data_base64"]), (None, &json!("/wA=")));
    assert_eq!(client.expect("message").await["data"], json!(""));
}

#[tokio::test]
async fn the_reply_to_a_subscribe_has_the_last_value() {
    let edge = TestEdge::start().await;
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("prices.AAPL").await;
    edge.publish("prices.AAPL", "1").await;
    edge.publish("prices.AAPL", "2").await;
    while one.expect("message").await["data"] != json!(2) {}
    let subscribed = other.subscribe("prices.AAPL").await;
    let snapshot = subscribed["snapshot"].as_array().unwrap();
    assert_eq!(snapshot.len(), 1);
    assert_eq!((&snapshot[0]["type"], &snapshot[0]["data"]), (&json!("message"), &json!(2)));
}

#[tokio::test]
async fn two_nodes_on_one_nats_deliver_to_the_clients_of_both() {
    let edge = TestEdge::start().await;
    let second = edge.another_node().await;
    let mut here = edge.client("alice").await;
    let mut there = Client::connect(&second.address.to_string(), &token("alice")).await;
    here.subscribe("chat.general").await;
    there.subscribe("chat.general").await;
    edge.publish("chat.general", "1").await;
    for client in [&mut here, &mut there] {
        assert_eq!(client.expect("message").await["data"], json!(1));
    }
    here.send(&json!({ "type": "publish", "id": 7, "channel": "chat.general", "data": 2 })).await;
    assert_eq!(there.expect("message").await["data"], json!(2));
}

#[tokio::test]
async fn only_headers_that_the_class_lists_reach_clients() {
    let edge = TestEdge::with(|config| {
        config.classes.push(tidegate_protocol::class::Class {
            headers: vec!["traceparent".to_owned()],
            ..class("chat.>")
        });
    })
    .await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.general").await;
    let nats = edge.nats.client().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.append("traceparent", "00-1");
    headers.append("traceparent", "00-2");
    headers.append("Secret", "no");
    nats.publish_with_headers("chat.general", headers, "1".into()).await.unwrap();
    assert_eq!(client.expect("message").await["headers"], json!({ "traceparent": ["00-1", "00-2"] }));
}
