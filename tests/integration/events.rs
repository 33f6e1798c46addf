//! The latest events of clients: an operator asks why a client was refused, also if it has gone.

use serde_json::Value;
use serde_json::json;
use tidegate::config::network::Network;
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
use crate::support::edge::token_with;
use crate::support::eventually;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;

/// The events in an answer, oldest first, without what differs between two runs.
fn lines(events: &Value) -> Vec<String> {
    let words = |event: &Value| {
        let members = ["event", "operation", "channel", "code", "reason", "close_code", "status", "count"];
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let known: Vec<_> = members.iter().filter_map(|name| event.get(*name)).map(text).collect();
        known.join(" ")
    };
    events.as_array().unwrap().iter().map(words).collect()
}

async fn session_of(edge: &TestEdge, session: &str) -> Value {
    json_of(edge, &format!("/connections/{session}")).await
}

/// A client, and the id of its session.
async fn connected(edge: &TestEdge, user: &str) -> (Client, String) {
    let mut client = Client::open(&edge.address(), "/ws", Some(&token(user))).await;
    let session = client.expect("connected").await["session"].as_str().unwrap().to_owned();
    (client, session)
}

#[tokio::test]
async fn the_history_of_a_session_stays_when_the_client_has_gone() {
    let edge = TestEdge::with(on_loopback).await;
    let (mut alice, session) = connected(&edge, "alice").await;
    alice.subscribe("chat.a").await;
    alice.send(&json!({ "type": "subscribe", "id": 7, "channel": "admin.users" })).await;
    alice.expect("error").await;
    for id in 8..10 {
        alice.send(&json!({ "type": "publish", "id": id, "channel": "chat.b", "data": 12 })).await;
        alice.expect("published").await;
    }
    alice.send(&json!({ "type": "unsubscribe", "id": 10, "channel": "chat.a" })).await;
    alice.expect("unsubscribed").await;
    let body = session_of(&edge, &session).await;
    let mut expected = vec![
        "connected",
        "subscribed chat.a",
        "refused subscribe admin.users forbidden not_allowed",
        "published chat.b 2",
        "unsubscribed chat.a",
    ];
    assert_eq!(
        (lines(&body["events"]), &body["complete"]),
        (expected.iter().map(|line| (*line).to_owned()).collect(), &json!(true))
    );
    let first = &body["events"][0];
    assert_eq!(
        (&first["user"], &first["endpoint"], &first["address"]),
        (&json!("alice"), &json!("/ws"), &json!("127.0.0.1"))
    );
    assert_eq!(body["events"][3]["bytes"], 4, "both payloads: {body}");
    alice.send(&json!({ "type": "auth", "id": 11, "token": "a.b.c" })).await;
    alice.expect("error").await;
    drop(alice);
    eventually("the connection has ended", async || {
        session_of(&edge, &session).await["ended_at"].is_string()
    })
    .await;
    let body = session_of(&edge, &session).await;
    expected.push("refused credential malformed");
    let found = lines(&body["events"]);
    assert_eq!(found[..expected.len()], expected, "{body}");
    assert_eq!(found.last().unwrap(), "disconnected connection_lost 1006", "{body}");
    let last = body["events"].as_array().unwrap().last().unwrap();
    let who = ["user", "endpoint", "address"].map(|name| last[name].clone());
    assert_eq!(who, [json!("alice"), json!("/ws"), json!("127.0.0.1")], "older events may be gone: {body}");
    let of_ended = ["user", "endpoint", "address", "complete", "session"].map(|name| body[name].clone());
    assert_eq!(
        of_ended,
        [json!("alice"), json!("/ws"), json!("127.0.0.1"), json!(true), json!(session)],
        "{body}"
    );
    assert_eq!(body["connected_at"], body["events"][0]["time"], "{body}");
    let unknown = get(&address(&edge), "/connections/x-0-0", "Host: localhost\r\n").await;
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("not_found")), "{unknown:?}");
}

#[tokio::test]
async fn why_a_user_was_refused_is_found_by_the_name_of_the_user() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.connections_per_user = 1;
    })
    .await;
    let expired = token_with(&json!({ "sub": "bob", "iat": 1, "exp": 2 }));
    let main = edge.address();
    for (token, status) in [(&expired, 401), (&expired, 401)] {
        let bearer = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(ask(&main, handshake("/ws", &bearer)).await.status, status);
    }
    let (mut bob, session) = connected(&edge, "bob").await;
    let (_alice, _) = connected(&edge, "alice").await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("bob"));
    assert_eq!(ask(&main, handshake("/ws", &bearer)).await.status, 429);
    bob.send(&json!({ "type": "subscribe", "id": 1, "channel": "admin.users" })).await;
    bob.expect("error").await;
    drop(bob);
    let page = async |query: &str| json_of(&edge, &format!("/events?{query}")).await;
    eventually("the events are there", async || page("user=bob").await["matching"] == 5).await;
    let body = page("user=bob").await;
    let mut found = lines(&body["events"]);
    found.sort();
    let expected = [
        "connected",
        "disconnected connection_lost 1006",
        "refused handshake limit_exceeded too_many_connections 429",
        "refused handshake token_expired expired 401 2",
        "refused subscribe admin.users forbidden not_allowed",
    ];
    assert_eq!(found, expected, "{body}");
    let events = body["events"].as_array().unwrap();
    let times: Vec<_> = events.iter().map(|event| event["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "the newest first: {body}");
    for event in events {
        let is_request = event["operation"] == "handshake";
        assert_eq!(event.get("session").is_none(), is_request, "{event}");
        assert!(is_request || event["session"] == *session, "{event}");
        assert_eq!(event["claimed_user"] == "bob", is_request, "who is refused proves nothing: {event}");
    }
    let limit = events.iter().find(|event| event["status"] == 429).unwrap();
    assert_eq!(limit["limit"], "limits.connections_per_user", "{limit}");
    assert_eq!((&body["since"], &body["lost"]), (&Value::Null, &json!(0)), "{body}");
    let refused = page("user=bob&event=refused").await;
    assert_eq!(refused["matching"], 3, "{refused}");
    let one = page("user=bob&event=refused&limit=1&offset=2").await;
    assert_eq!((&one["matching"], one["events"].as_array().unwrap().len()), (&json!(3), 1), "{one}");
    assert_eq!(page("address=127.0.0.0/8").await["matching"], 6, "with alice");
    assert_eq!(page("address=192.0.2.0/24").await["matching"], 0);
    assert_eq!(page("user=carol").await["matching"], 0);
    let text = page("").await.to_string();
    assert!(!text.contains(&expired), "{text}");
}

#[tokio::test]
async fn the_history_says_who_has_ended_a_session_and_what_was_missed() {
    let mut edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.outbox_bytes = 256 * 1024;
        config.limits.send_buffer_bytes = 16 * 1024;
        config.classes.push(Class { kind: Kind::Buffer, ..class("chat.>") });
        config.roles[1].control = true;
    })
    .await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    let stream = RawClient::connect_small(&edge.address()).await.stream;
    let mut sleeper = RawClient::upgrade(stream, "/ws", &bearer).await;
    let session = sleeper.message().await["session"].as_str().unwrap().to_owned();
    sleeper.send(&raw::text(r#"{"type":"subscribe","id":1,"channel":"chat.flood"}"#)).await;
    sleeper.message().await;
    let (mut reader, _) = connected(&edge, "bob").await;
    reader.subscribe("chat.flood").await;
    let payload = format!("\"{}\"", "x".repeat(4000));
    for _ in 0..30 {
        let nats = edge.nats.client().await;
        for _ in 0..20 {
            nats.publish("chat.flood", payload.clone().into()).await.unwrap();
        }
        nats.flush().await.unwrap();
        for _ in 0..20 {
            reader.expect("message").await;
        }
    }
    let (mut delivered, mut dropped) = (0, 0);
    while delivered + dropped < 600 {
        let message = sleeper.message().await;
        match message["type"].as_str() {
            Some("message") => delivered += 1,
            Some("gap") => dropped += message["dropped"].as_u64().unwrap(),
            _ => panic!("{message}"),
        }
    }
    assert!(dropped > 0, "the flood was larger than all buffers");
    let gaps = |body: &Value, cause: &str| {
        let events = body["events"].as_array().unwrap();
        let gaps = events.iter().filter(|event| event["event"] == "gap" && event["reason"] == cause);
        gaps.map(|event| event["missing"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let body = session_of(&edge, &session).await;
    assert_eq!(gaps(&body, "slow").iter().sum::<u64>(), dropped, "{body}");
    edge.lose_nats().await;
    edge.nats.restart().await;
    assert_eq!(sleeper.message().await["cause"], "nats");
    let body = session_of(&edge, &session).await;
    assert_eq!(gaps(&body, "nats"), [0], "how many is not known: {body}");
    let operator = token_with(&json!({ "sub": "ops", "role": "admin" }));
    let admin = address(&edge);
    let post = format!(
        "POST /users/alice/disconnect HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {operator}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    edge.readyz(200).await;
    assert_eq!(ask(&admin, post).await.status, 200);
    while sleeper.frame().await.is_some() {}
    drop(sleeper);
    eventually("the connection has ended", async || {
        session_of(&edge, &session).await["ended_at"].is_string()
    })
    .await;
    let body = session_of(&edge, &session).await;
    let found = lines(&body["events"]);
    let end = ["changed disconnect", "closing disconnected 4511", "disconnected disconnected 4511"];
    assert_eq!(found[found.len() - 3..], end, "{body}");
}

#[tokio::test]
async fn the_history_says_what_others_have_done_to_a_session() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.roles[1].control = true;
    })
    .await;
    let (mut alice, session) = connected(&edge, "alice").await;
    alice.subscribe("chat.a").await;
    let operator = token_with(&json!({ "sub": "ops", "role": "admin" }));
    let (admin, body) = (address(&edge), r#"{"channels":["chat.>"]}"#);
    let post = format!(
        "POST /users/alice/unsubscribe HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {operator}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(ask(&admin, post).await.status, 200);
    alice.expect("unsubscribed").await;
    let narrowed = json!({ "user": "alice", "deny": { "publish": ["chat.b"] } }).to_string();
    let operator = edge.nats.operator().await;
    operator.request("tidegate.revoke", narrowed.into()).await.unwrap();
    // Publishing follows the revocation at the node, which answers once all shards have applied it.
    alice.send(&json!({ "type": "publish", "id": 1, "channel": "chat.b", "data": 1 })).await;
    alice.expect("error").await;
    let body = session_of(&edge, &session).await;
    let expected = [
        "connected",
        "subscribed chat.a",
        "changed unsubscribe",
        "unsubscribed chat.a",
        "changed permissions_withdrawn",
        "refused publish chat.b forbidden denied",
    ];
    assert_eq!(lines(&body["events"]), expected, "{body}");
}

#[tokio::test]
async fn a_call_that_is_denied_is_found_by_its_user() {
    let edge = TestEdge::with(on_loopback).await;
    let body = r#"{"channel":"prices.A","data":1}"#;
    let post = format!(
        "POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token("alice"),
        body.len()
    );
    assert_eq!(ask(&edge.address(), post).await.status, 403);
    let page = async || json_of(&edge, "/events?user=alice&event=refused").await;
    eventually("the events are there", async || page().await["matching"] == 2).await;
    let body = page().await;
    let mut found = lines(&body["events"]);
    found.sort();
    assert_eq!(
        found,
        ["refused publish forbidden forbidden 403", "refused publish prices.A forbidden not_allowed"]
    );
    let events = body["events"].as_array().unwrap();
    assert!(events.iter().all(|event| event.get("session").is_none()), "{body}");
}

#[tokio::test]
async fn log_02_denied_calls_have_an_address_and_a_limit() {
    let edge = TestEdge::with(on_loopback).await;
    for call in 0..4 {
        let messages: Vec<_> =
            (0..100).map(|at| json!({ "channel": format!("prices.{call}.{at}"), "data": 1 })).collect();
        let body = json!({ "messages": messages }).to_string();
        let post = format!(
            "POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            token("alice"),
            body.len()
        );
        assert_eq!(ask(&edge.address(), post).await.status, 200);
    }
    let page = async |query: &str| json_of(&edge, &format!("/events?{query}")).await;
    let denied = "user=alice&event=refused&limit=1000";
    eventually("the events are there", async || page(denied).await["matching"].as_u64() >= Some(256)).await;
    let body = page(denied).await;
    let events = body["events"].as_array().unwrap();
    assert!((256..300).contains(&events.len()), "{}", events.len());
    assert!(events.iter().all(|event| event["address"] == "127.0.0.1"), "{}", events[0]);
    assert_eq!(page("address=127.0.0.1&event=refused").await["matching"], body["matching"]);
    let omitted = 400 - events.len() as u64;
    assert_eq!(body["omitted"], omitted);
    eventually("what is left out is an event", async || {
        page("event=omitted&address=127.0.0.1").await["events"][0]["count"] == omitted
    })
    .await;
}

#[tokio::test]
async fn log_02_one_address_does_not_overwrite_the_refused_requests_of_others() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.http.trusted_proxies = vec![Network::parse("127.0.0.0/8").unwrap()];
    })
    .await;
    let refuse = async |user: &str, address: &str| {
        let token = token_with(&json!({ "sub": user, "iat": 1, "exp": 2 }));
        let headers = format!("Authorization: Bearer {token}\r\nX-Forwarded-For: {address}\r\n");
        assert_eq!(ask(&edge.address(), handshake("/ws", &headers)).await.status, 401);
    };
    for number in 0..400 {
        refuse(&format!("mallory-{number}"), "192.0.2.1").await;
    }
    refuse("bob", "192.0.2.2").await;
    let page = async |query: &str| json_of(&edge, &format!("/events?{query}")).await;
    eventually("the event of bob", async || page("user=bob").await["matching"] == 1).await;
    let kept = page("address=192.0.2.1&event=refused").await["matching"].as_u64().unwrap();
    assert!((256..350).contains(&kept), "{kept}");
    assert_eq!(page("").await["omitted"], 400 - kept);
    eventually("what is left out is an event", async || {
        page("event=omitted&address=192.0.2.1").await["events"][0]["count"] == 400 - kept
    })
    .await;
}

#[tokio::test]
async fn the_history_says_that_a_client_was_too_fast_or_did_not_read() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.outbox_bytes = 256 * 1024;
        config.limits.send_buffer_bytes = 16 * 1024;
        (config.limits.commands_per_s, config.limits.commands_burst) = (1, 2);
        config.classes.push(Class { kind: Kind::Buffer, ..class("chat.>") });
    })
    .await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    let stream = RawClient::connect_small(&edge.address()).await.stream;
    let mut client = RawClient::upgrade(stream, "/ws", &bearer).await;
    let session = client.message().await["session"].as_str().unwrap().to_owned();
    let subscribe = raw::text(r#"{"type":"subscribe","id":1,"channel":"chat.flood"}"#);
    let ping = raw::text(r#"{"type":"ping","id":2}"#);
    client.send(&[subscribe, ping.clone(), ping.clone(), ping].concat()).await;
    for _ in 0..4 {
        client.message().await;
    }
    let payload = format!("\"{}\"", "x".repeat(4000));
    let nats = edge.nats.client().await;
    for _ in 0..200 {
        nats.publish("chat.flood", payload.clone().into()).await.unwrap();
    }
    nats.flush().await.unwrap();
    eventually("the client has read nothing for a second", async || {
        session_of(&edge, &session).await["stalled_ms"].as_u64() >= Some(1000)
    })
    .await;
    let mut counted = 0;
    while counted < 200 {
        let message = client.message().await;
        counted += message["dropped"].as_u64().unwrap_or(1);
    }
    let body = session_of(&edge, &session).await;
    let events = body["events"].as_array().unwrap();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    assert_eq!(of("rate_limited").len(), 1, "{body}");
    assert!(of("resumed")[0]["duration_ms"].as_u64() >= Some(1000), "{body}");
    assert!(body["stalled_ms"].is_null() && body["last_message_at"].is_string(), "{body}");
}
