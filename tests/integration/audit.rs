//! The audit feed: who connected, subscribed, published, was refused and why, and disconnected.

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::subject::Subject;

use crate::admin::has;
use crate::support::admin::on_loopback;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::within;

use futures_util::StreamExt as _;

const FEED: &str = "tidegate.audit";

/// A node with a feed, and an auditor who reads it.
async fn audited() -> (TestEdge, Feed) {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.audit.subject = Some(Subject::parse(FEED).unwrap());
    })
    .await;
    let operator = edge.nats.operator().await;
    let messages = operator.subscribe(FEED).await.unwrap();
    edge.nats.until_subscribed("operator", FEED).await;
    (edge, Feed { messages, seen: Vec::new() })
}

struct Feed {
    messages: async_nats::Subscriber,
    seen: Vec<Value>,
}

impl Feed {
    /// Reads until an event fits, and returns it.
    async fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = within(what, self.messages.next()).await.unwrap();
            let event: Value = serde_json::from_slice(&message.payload).unwrap();
            self.seen.push(event.clone());
            if fits(&event) {
                return event;
            }
        }
    }

    async fn event(&mut self, kind: &str) -> Value {
        self.until(kind, |event| event["event"] == kind).await
    }
}

#[tokio::test]
async fn the_feed_says_why_this_user_was_refused() {
    let (edge, mut feed) = audited().await;
    let mut alice = edge.client("alice").await;
    let session = feed.event("connected").await["session"].clone();
    alice.send(&json!({ "type": "subscribe", "id": 1, "channel": "admin.users" })).await;
    alice.expect("error").await;
    let refused =
        feed.until("alice is refused", |event| event["event"] == "refused" && event["user"] == "alice").await;
    assert_eq!((&refused["operation"], &refused["channel"]), (&json!("subscribe"), &json!("admin.users")));
    assert_eq!((&refused["code"], &refused["reason"]), (&json!("forbidden"), &json!("not_allowed")));
    assert_eq!((&refused["session"], &refused["roles"]), (&session, &json!(["user"])), "{refused}");
    assert!(refused["detail"].is_string() && refused["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    let time = refused["time"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-11-30T14:03:00.000Z".len(), "{time}");
    let expired = token_with(&json!({ "sub": "bob", "iat": 1, "exp": 2 }));
    let bearer = format!("Authorization: Bearer {expired}\r\nX-Request-Id: mine\r\n");
    assert_eq!(ask(&edge.address(), handshake("/ws", &bearer)).await.status, 401);
    let refused = feed.until("bob is refused", |event| event["claimed_user"] == "bob").await;
    assert_eq!((&refused["operation"], &refused["status"]), (&json!("handshake"), &json!(401)), "{refused}");
    assert_eq!((&refused["reason"], &refused["request"]), (&json!("expired"), &json!("mine")), "{refused}");
    assert!(refused.get("user").is_none(), "nothing is proven: {refused}");
}

#[tokio::test]
async fn the_feed_follows_a_client_from_its_connect_to_its_end() {
    let (edge, mut feed) = audited().await;
    let mut later = Client::open(&edge.address(), "/ws", None).await;
    later.send(&json!({ "type": "auth", "id": 1, "token": "a.b.c" })).await;
    later.expect("error").await;
    let refused = feed.until("the credential", |event| event["operation"] == "credential").await;
    assert_eq!(refused["reason"], "malformed", "{refused}");
    let mut alice = Client::open(&edge.address(), "/ws", None).await;
    alice.send(&json!({ "type": "auth", "id": 1, "token": token("alice") })).await;
    let authenticated = feed.event("authenticated").await;
    assert_eq!(authenticated["user"], "alice", "{authenticated}");
    let session = authenticated["session"].clone();
    let of_alice = |kind: &'static str| {
        let session = session.clone();
        move |event: &Value| event["event"] == kind && event["session"] == session
    };
    alice.expect("connected").await;
    alice.subscribe("chat.room").await;
    let subscribed = feed.until("subscribed", of_alice("subscribed")).await;
    assert_eq!(subscribed["channel"], "chat.room");
    alice.send(&json!({ "type": "publish", "id": 7, "channel": "chat.room", "data": "secret words" })).await;
    let published = feed.until("published", of_alice("published")).await;
    assert_eq!(
        (&published["channel"], &published["bytes"]),
        (&json!("chat.room"), &json!(14)),
        "{published}"
    );
    alice.until("message").await;
    alice.send(&json!({ "type": "nonsense" })).await;
    let refused = feed.until("refused", of_alice("refused")).await;
    assert_eq!((&refused["operation"], &refused["code"]), (&json!("message"), &json!("unknown_type")));
    alice.send(&json!({ "type": "unsubscribe", "id": 9, "channel": "chat.room" })).await;
    feed.until("unsubscribed", of_alice("unsubscribed")).await;
    drop(alice);
    let end = feed.until("disconnected", of_alice("disconnected")).await;
    assert_eq!((&end["user"], &end["close_code"]), (&json!("alice"), &json!(1006)), "{end}");
    assert_eq!((&end["reason"], &end["delivered"]), (&json!("connection_lost"), &json!(1)), "{end}");
    let numbers: Vec<_> = feed.seen.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "in order, and none is missing");
    let all = json!(feed.seen).to_string();
    assert!(!all.contains("secret words") && !all.contains(&token("alice")), "{all}");
}

#[tokio::test]
async fn a_refused_credential_of_an_open_session_is_one_event() {
    let (edge, mut feed) = audited().await;
    let mut alice = edge.client("alice").await;
    alice.send(&json!({ "type": "auth", "id": 1, "token": "a.b.c" })).await;
    alice.expect("error").await;
    // Its token was good, but the session has one that lasts longer: only the session refuses it.
    let short = token_with(&json!({ "sub": "alice", "exp": edge_seconds() + 60 }));
    alice.send(&json!({ "type": "auth", "id": 2, "token": short })).await;
    alice.expect("error").await;
    drop(alice);
    feed.event("disconnected").await;
    let refused = feed.seen.iter().filter(|event| event["event"] == "refused");
    let refused: Vec<_> = refused.map(|event| event["operation"].as_str().unwrap()).collect();
    assert_eq!(refused, ["credential", "message"], "{:?}", feed.seen);
}

fn edge_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn events_of_calls_say_where_they_come_from_and_a_change_of_a_user_names_its_caller() {
    let edge = TestEdge::with(|config| {
        config.audit.subject = Some(Subject::parse(FEED).unwrap());
        let mut backend = role("backend", &[], &["chat.>"], &[]);
        backend.control = true;
        config.roles.push(backend);
    })
    .await;
    let messages = edge.nats.operator().await.subscribe(FEED).await.unwrap();
    edge.nats.until_subscribed("operator", FEED).await;
    let mut feed = Feed { messages, seen: Vec::new() };
    let backend = token_with(&json!({ "sub": "shop", "role": "backend" }));
    let call = async |path: &str, id: &str, body: &Value| {
        let (body, json) = (body.to_string(), "Content-Type: application/json");
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\n{json}\r\n");
        let length = body.len();
        let request =
            format!("{head}Authorization: Bearer {backend}\r\nContent-Length: {length}\r\n\r\n{body}");
        ask(&edge.address(), request).await.status
    };
    assert_eq!(call("/v1/publish", "p-1", &json!({ "channel": "chat.a", "data": 1 })).await, 200);
    let published = feed.event("published").await;
    assert_eq!(call("/v1/publish", "p-2", &json!({ "channel": "other.a", "data": 1 })).await, 403);
    let refused = feed.until("refused", |event| event["operation"] == "publish").await;
    let mut alice = edge.client("alice").await;
    assert_eq!(call("/v1/users/alice/disconnect", "d-1", &json!({})).await, 200);
    alice.until_closed().await;
    let changed = feed.event("changed").await;
    for (event, id) in [(&published, "p-1"), (&refused, "p-2"), (&changed, "d-1")] {
        assert_eq!((&event["user"], &event["request"]), (&json!("shop"), &json!(id)), "{event}");
        assert_eq!((&event["endpoint"], &event["roles"]), (&json!("/ws"), &json!(["backend"])), "{event}");
        assert!(event["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{event}");
    }
    assert_eq!(
        (&changed["operation"], &changed["target"], &changed["sessions"]),
        (&json!("disconnect"), &json!("alice"), &json!(1))
    );
}

#[tokio::test]
async fn a_change_is_recorded_although_its_caller_hangs_up_before_the_answer() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.audit.subject = Some(Subject::parse(FEED).unwrap());
        let mut backend = role("backend", &[], &[], &[]);
        backend.control = true;
        config.roles.push(backend);
    })
    .await;
    let messages = edge.nats.operator().await.subscribe(FEED).await.unwrap();
    edge.nats.until_subscribed("operator", FEED).await;
    let mut feed = Feed { messages, seen: Vec::new() };
    let (public, admin) = (edge.address(), edge.app.admin_address.as_ref().unwrap().to_string());
    let backend = token_with(&json!({ "sub": "shop", "role": "backend" }));
    for (address, path, body, operation, target) in [
        (&public, "/v1/users/alice/disconnect", json!({}), "disconnect", "alice"),
        (&public, "/v1/users/alice/unsubscribe", json!({ "channels": [">"] }), "unsubscribe", "alice"),
        (&admin, "/users/alice/disconnect", json!({}), "disconnect", "alice"),
        (&admin, "/revoke", json!({ "user": "alice" }), "revoke", "user.alice"),
    ] {
        let mut alice = edge.client("alice").await;
        alice.subscribe("chat.a").await;
        let (body, id) = (body.to_string(), path.replace('/', "-"));
        let mut caller = RawClient::connect(address).await;
        caller
            .send(
                format!(
                    "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {backend}\r\nX-Request-Id: {id}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            )
            .await;
        // The change is made at once, and the answer waits for other nodes.
        match operation {
            "unsubscribe" => _ = alice.expect("unsubscribed").await,
            _ => _ = alice.until_closed().await,
        }
        drop(caller);
        let changed = feed.until(path, |event| event["event"] == "changed" && event["request"] == *id).await;
        assert_eq!(
            (&changed["operation"], &changed["target"], &changed["user"], &changed["sessions"]),
            (&json!(operation), &json!(target), &json!("shop"), &json!(1)),
            "{changed}"
        );
    }
}

#[tokio::test]
async fn events_of_an_outage_of_nats_come_after_it() {
    let (mut edge, _feed) = audited().await;
    edge.lose_nats().await;
    let mut alice = edge.client("alice").await;
    alice.send(&json!({ "type": "nonsense" })).await;
    alice.expect("error").await;
    has(&edge, &[("tidegate_audit_events_total", 0.0)]).await;
    edge.nats.restart().await;
    // The auditor may come back later than the node, and NATS keeps nothing for it.
    has(&edge, &[("tidegate_audit_events_total", 2.0), ("tidegate_audit_lost_total", 0.0)]).await;
}

#[tokio::test]
async fn only_what_a_call_sends_to_nats_is_published() {
    let (mut edge, _feed) = audited().await;
    edge.lose_nats().await;
    let backend = token("alice");
    let messages: Vec<_> = (0..3).map(|at| json!({ "channel": format!("chat.{at}"), "data": at })).collect();
    let body = json!({ "messages": messages }).to_string();
    let post = format!(
        "POST /v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {backend}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(ask(&edge.address(), post).await.status, 503);
    edge.nats.restart().await;
    // The refused call.
    has(&edge, &[("tidegate_audit_events_total", 1.0), ("tidegate_audit_lost_total", 0.0)]).await;
}

#[tokio::test]
async fn no_client_reads_or_writes_the_feed() {
    let (edge, _feed) = audited().await;
    let mut client = Client::connect(&edge.address(), &token_with(&json!({ "role": "admin" }))).await;
    for channel in [FEED, "tidegate.>", "tidegate.*", ">"] {
        client.send(&json!({ "type": "subscribe", "id": 1, "channel": channel })).await;
        assert_eq!(client.expect("error").await["code"], "forbidden", "{channel}");
    }
    client.send(&json!({ "type": "publish", "id": 1, "channel": FEED, "data": 1 })).await;
    assert_eq!(client.expect("error").await["code"], "forbidden");
}
