//! `/connections` of the admin listener: who is connected, and whose outbox is the fullest.

use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;

use crate::support::admin::address;
use crate::support::admin::get;
use crate::support::admin::json_of;
use crate::support::admin::on_loopback;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::ask;

#[tokio::test]
async fn connections_are_listed_by_user_channel_and_address() {
    let edge = TestEdge::with(on_loopback).await;
    let mut alice = Client::open(&edge.address(), "/ws", Some(&token("alice"))).await;
    let session = alice.expect("connected").await["session"].as_str().unwrap().to_owned();
    alice.subscribe("chat.a").await;
    alice.subscribe("user.alice.notifications").await;
    alice.subscribe("prices.A").await;
    let mut bob = Client::open(&edge.address(), "/ws", Some(&token("bob"))).await;
    bob.expect("connected").await;
    bob.subscribe("chat.*").await;
    let _silent = RawClient::connect(&edge.address()).await;
    let users = async |query: &str| {
        let body = json_of(&edge, &format!("/connections?{query}")).await;
        let users =
            body["connections"].as_array().unwrap().iter().map(|connection| connection["user"].clone());
        let mut users: Vec<_> = users.map(|user| user.as_str().unwrap().to_owned()).collect();
        users.sort();
        (body["matching"].as_u64().unwrap(), users.join(" "))
    };
    for (query, matching, expected) in [
        ("", 2, "alice bob"),
        ("user=alice", 1, "alice"),
        ("user=Alice", 0, ""),
        ("channel=chat.a", 2, "alice bob"),
        ("channel=chat.b", 1, "bob"),
        ("channel=%3E", 2, "alice bob"),
        ("channel=user.alice.*&user=bob", 0, ""),
        ("address=127.0.0.0/8", 2, "alice bob"),
        ("address=192.0.2.1", 0, ""),
        ("offset=2", 2, ""),
    ] {
        assert_eq!(users(query).await, (matching, expected.to_owned()), "{query}");
    }
    let (matching, one) = users("limit=1").await;
    assert_eq!((matching, one.split(' ').count()), (2, 1), "{one}");
    let body = json_of(&edge, &format!("/connections/{session}")).await;
    assert_eq!((&body["user"], &body["transport"]), (&"alice".into(), &"websocket".into()), "{body}");
    assert_eq!((&body["endpoint"], &body["subscriptions"]), (&"/ws".into(), &3.into()), "{body}");
    assert_eq!((&body["roles"], &body["anonymous"]), (&json!(["user"]), &false.into()), "{body}");
    let channels = json!([
        { "channel": "chat.a", "class": null },
        { "channel": "user.alice.notifications", "class": null },
        { "channel": "prices.A", "class": { "pattern": "prices.>", "kind": "latest", "snapshot": true } },
    ]);
    assert_eq!(body["channels"], channels, "{body}");
    drop(alice);
    eventually("the connection has ended", async || users("").await.1 == "bob").await;
    let body = json_of(&edge, &format!("/connections/{session}")).await;
    assert_eq!((&body["user"], body["ended_at"].is_string()), (&"alice".into(), true), "{body}");
    let wrong = get(&address(&edge), "/connections?usr=alice", "Host: localhost\r\n").await;
    assert_eq!((wrong.status, &wrong.json()["code"]), (400, &"bad_request".into()), "{wrong:?}");
}

#[tokio::test]
async fn the_connection_whose_client_reads_least_is_listed_first() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.send_buffer_bytes = 16 * 1024;
    })
    .await;
    let mut reading = Client::open(&edge.address(), "/ws", Some(&token("alice"))).await;
    reading.expect("connected").await;
    reading.subscribe("chat.a").await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("bob"));
    let stream = RawClient::connect_small(&edge.address()).await.stream;
    let mut sleeper = RawClient::upgrade(stream, "/ws", &bearer).await;
    sleeper.send(&raw::text(r#"{"type":"subscribe","id":1,"channel":"chat.a"}"#)).await;
    sleeper.message().await;
    sleeper.message().await;
    let payload = format!("\"{}\"", "x".repeat(20_000));
    let worst = async || json_of(&edge, "/connections?limit=1").await["connections"][0].clone();
    let mut published = 0;
    while worst().await["queued_bytes"].as_u64() <= Some(100_000) {
        edge.publish("chat.a", payload.clone()).await;
        reading.expect("message").await;
        published += 1;
        assert!(published < 1000, "bob has no queue");
    }
    let worst = worst().await;
    assert_eq!(worst["user"], "bob", "{worst}");
    assert!(worst["queued_publications"].as_u64() > Some(0), "{worst}");
}

#[tokio::test]
async fn a_connection_has_what_its_client_says_of_itself() {
    let edge = TestEdge::with(on_loopback).await;
    let bearer = format!("Bearer {}", token("alice"));
    let headers = [("authorization", bearer.as_str()), ("user-agent", "dashboard/7 (wall)")];
    let mut desk = Client::open_with(&edge.address(), "/ws?label=desk%207%0a", &headers).await;
    desk.expect("connected").await;
    let mut silent = edge.client("bob").await;
    let of = async |query: &str| {
        let body = json_of(&edge, &format!("/connections?{query}")).await;
        assert_eq!(body["matching"], 1, "{body}");
        body["connections"][0].clone()
    };
    let found = of("label=desk+7").await;
    let names = ["user", "user_agent", "label", "last_message_at", "stalled_ms"];
    let expected = json!(["alice", "dashboard/7 (wall)", "desk 7", null, null]);
    assert_eq!(json!(names.map(|name| &found[name])), expected, "{found}");
    silent.send(&json!({ "type": "ping", "id": 1 })).await;
    silent.expect("pong").await;
    let found = of("user=bob").await;
    assert_eq!((&found["user_agent"], &found["label"]), (&json!(null), &json!(null)), "{found}");
    let [connected, last] = ["connected_at", "last_message_at"].map(|name| found[name].as_str().unwrap());
    assert!(connected <= last, "{found}");
    assert_eq!(json_of(&edge, "/connections?label=desk").await["matching"], 0, "the whole label");
}

#[tokio::test]
async fn the_report_of_a_client_that_reads_nothing_is_right() {
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
    let nats = edge.nats.client().await;
    let payload = format!("\"{}\"", "x".repeat(4000));
    for _ in 0..600 {
        nats.publish("chat.flood", payload.clone().into()).await.unwrap();
    }
    nats.flush().await.unwrap();
    let counts = async || {
        let found = json_of(&edge, "/connections").await["connections"][0].clone();
        (["delivered", "queued_publications", "dropped"].map(|name| found[name].as_u64().unwrap()), found)
    };
    eventually("all are counted", async || counts().await.0.iter().sum::<u64>() == 600).await;
    let ([_, queued, dropped], found) = counts().await;
    assert!(dropped > 0 && queued > 0 && found["stalled_ms"].is_u64(), "{found}");
    assert!(queued * 4000 <= 256 * 1024, "only what waits: {found}");
}

#[tokio::test]
async fn adm_01_nothing_of_a_credential_is_in_the_connections() {
    let edge = TestEdge::with(on_loopback).await;
    let token = token("sentinel");
    let _client = Client::open(&edge.address(), "/ws?secret=hidden", Some(&token)).await;
    let body = json_of(&edge, "/connections").await.to_string();
    assert!(body.contains("sentinel") && !body.contains(&token) && !body.contains("hidden"), "{body}");
    for path in ["/connections", "/connections/x", "/events", "/explain"] {
        let public = ask(&edge.address(), format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(public.status, 404, "{path}: {public:?}");
        let foreign = get(&address(&edge), path, "Host: attacker.example\r\n").await;
        assert_eq!(foreign.status, 403, "{path}: {foreign:?}");
    }
}
