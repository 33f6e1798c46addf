//! `POST /v1/publish`: what is published and stored, what is refused, and what its caller learns when NATS fails.

use futures_util::StreamExt as _;
use serde_json::Value;
use serde_json::json;
use tidegate::config::origin::WebOrigin;

use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::nats_server::NatsServer;
use crate::support::raw::Answer;
use crate::support::raw::ask;

const APP: &str = "https://app.example.com";

/// A call with these headers, besides those of the body.
async fn call(address: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("POST /v1/publish HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n");
    ask(address, format!("{head}{body}")).await
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n")
}

/// A call of alice.
async fn publish(edge: &TestEdge, headers: &str, body: &Value) -> Answer {
    call(&edge.address(), &format!("{}{headers}", bearer(&token("alice"))), &body.to_string()).await
}

fn message(channel: &str, data: impl Into<Value>) -> Value {
    json!({ "channel": channel, "data": data.into() })
}

/// Creates a stream of `subjects`, with more properties.
async fn stream(nats: &NatsServer, name: &str, subjects: &[&str], more: Value) {
    let mut config = json!({ "name": name, "subjects": subjects, "storage": "memory" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let subject = format!("$JS.API.STREAM.CREATE.{name}");
    let answer = nats.client().await.request(subject, config.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["error"], Value::Null, "{answer}");
}

/// The texts of all messages in a stream, in order.
async fn stored(nats: &NatsServer, name: &str) -> Vec<String> {
    let (client, mut texts) = (nats.client().await, Vec::new());
    loop {
        let subject = format!("$JS.API.DIRECT.GET.{name}");
        let question = json!({ "seq": texts.len() + 1 }).to_string();
        let answer = client.request(subject, question.into()).await.unwrap();
        if answer.status.is_some() {
            return texts;
        }
        texts.push(String::from_utf8(answer.payload.to_vec()).unwrap());
    }
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.json()["code"]), (status, &code.into()), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.json()["request_id"].as_str(), answer.header("x-request-id"));
}

#[tokio::test]
async fn a_message_reaches_subscribers_and_the_answer_says_whether_it_is_stored() {
    let edge = TestEdge::start().await;
    let (_client, mut plain) = edge.nats.subscribe("chat.a").await;
    let answer = publish(&edge, "", &message("chat.a", json!({ "n": 1 }))).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "stored": false })), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(plain.next().await.unwrap().payload, "{\"n\":1}");
    stream(&edge.nats, "ORDERS", &["chat.orders"], json!({ "allow_direct": true })).await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.orders").await;
    for (sequence, text) in [(1, "one"), (2, "two")] {
        let answer = publish(&edge, "", &message("chat.orders", text)).await;
        let expected =
            json!({ "stored": true, "stream": "ORDERS", "sequence": sequence, "duplicate": false });
        assert_eq!((answer.status, answer.json()), (200, expected), "{answer:?}");
        assert_eq!(client.expect("message").await["data"], text);
    }
    assert_eq!(stored(&edge.nats, "ORDERS").await, ["\"one\"", "\"two\""]);
}

#[tokio::test]
async fn a_repeated_message_id_is_stored_once_for_each_user() {
    let edge = TestEdge::start().await;
    stream(&edge.nats, "ORDERS", &["chat.>"], json!({ "allow_direct": true })).await;
    let key = |key: &str| format!("Idempotency-Key: {key}\r\n");
    let by_header = json!({ "channel": "chat.a", "data": 2, "headers": { "Nats-Msg-Id": "k-1" } });
    for (headers, body, duplicate) in [
        (key("k-1"), message("chat.a", 1), false),
        (key("k-1"), message("chat.a", 2), true),
        (key("\"k-1\""), message("chat.a", 2), true),
        (String::new(), by_header.clone(), true),
        (key("k-1"), by_header.clone(), true),
    ] {
        let answer = publish(&edge, &headers, &body).await;
        let expected = json!({ "stored": true, "stream": "ORDERS", "sequence": 1, "duplicate": duplicate });
        assert_eq!((answer.status, answer.json()), (200, expected), "{headers}{body}");
    }
    let headers = format!("{}{}", bearer(&token("bob")), key("k-1"));
    let of_bob = call(&edge.address(), &headers, &message("chat.a", 3).to_string()).await;
    assert_eq!(of_bob.json()["duplicate"], false);
    assert_eq!(stored(&edge.nats, "ORDERS").await, ["1", "3"]);
    for (headers, body) in [
        (format!("{}{}", key("a"), key("b")), message("chat.a", 1)),
        (key(""), message("chat.a", 1)),
        (key("k"), json!({ "messages": [message("chat.a", 1)] })),
    ] {
        refused(&publish(&edge, &headers, &body).await, 400, "bad_header");
    }
    refused(&publish(&edge, &key("k-2"), &by_header).await, 400, "bad_request");
    assert_eq!(stored(&edge.nats, "ORDERS").await.len(), 2);
}

#[tokio::test]
async fn each_message_of_a_batch_has_its_own_result_in_order() {
    let edge = TestEdge::start().await;
    stream(&edge.nats, "ORDERS", &["chat.>"], json!({ "allow_direct": true })).await;
    let (_client, mut plain) = edge.nats.subscribe("chat.>").await;
    let messages = json!([
        message("chat.a", 1),
        message("prices.AAPL", 2),
        message("chat.*", 3),
        { "channel": "chat.b" },
        4,
        { "channel": "chat.b", "data_base64": "NQ==", "headers": { "Nats-Msg-Id": "5" } },
        { "channel": "chat.b", "data": 6, "headers": { "Nats-Msg-Id": "5" } },
        message("tidegate.revoke", 7),
        message("chat.a", 8),
    ]);
    let answer = publish(&edge, "", &json!({ "messages": messages })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    let short = body["results"].as_array().unwrap().iter().map(|result| {
        let stored = || format!("{} {} {}", result["stream"], result["sequence"], result["duplicate"]);
        result["error"]["code"].as_str().map_or_else(stored, str::to_owned).replace('"', "")
    });
    let expected = [
        "ORDERS 1 false",
        "forbidden",
        "bad_channel",
        "bad_request",
        "bad_request",
        "ORDERS 2 false",
        "ORDERS 2 true",
        "forbidden",
        "ORDERS 3 false",
    ];
    assert_eq!(short.collect::<Vec<_>>(), expected, "{body}");
    assert_eq!(stored(&edge.nats, "ORDERS").await, ["1", "5", "8"]);
    for data in ["1", "5", "6", "8"] {
        assert_eq!(plain.next().await.unwrap().payload, data);
    }
    let hundred: Vec<Value> = (0..100).map(|number| message("chat.many", number)).collect();
    let answer = publish(&edge, "", &json!({ "messages": hundred })).await;
    let results = answer.json()["results"].clone();
    let sequences: Vec<u64> =
        results.as_array().unwrap().iter().map(|result| result["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (4..104).collect::<Vec<_>>(), "{answer:?}");
}

#[tokio::test]
async fn adm_02_a_call_that_is_not_allowed_publishes_nothing() {
    let edge = TestEdge::with(|config| {
        config.http.allowed_origins = vec![WebOrigin::parse(APP).unwrap()];
        config.auth.cookie = "session".to_owned();
        config.endpoints[0].cookie = true;
    })
    .await;
    let (client, mut plain) = edge.nats.subscribe("chat.>").await;
    let (address, alice) = (edge.address(), token("alice"));
    let body = message("chat.a", 1).to_string();
    let authorization = format!("Authorization: Bearer {alice}\r\n");
    let (json, cookie) = ("Content-Type: application/json\r\n", format!("Cookie: session={alice}\r\n"));
    let expired = bearer(&token_with(&json!({ "exp": 1 })));
    for (headers, body, status, code) in [
        (json.to_owned(), &*body, 401, "unauthorized"),
        (expired, &*body, 401, "token_expired"),
        (bearer("a.b.c"), &*body, 401, "invalid_token"),
        (authorization.clone(), &*body, 415, "bad_content_type"),
        (format!("{authorization}Content-Type: text/plain\r\n"), &*body, 415, "bad_content_type"),
        (format!("{cookie}Content-Type: text/plain\r\nOrigin: {APP}\r\n"), &*body, 415, "bad_content_type"),
        (format!("{cookie}{json}"), &*body, 403, "origin_not_allowed"),
        (format!("{cookie}{json}Origin: https://evil.example\r\n"), &*body, 403, "origin_not_allowed"),
        (format!("{}Origin: https://evil.example\r\n", bearer(&alice)), &*body, 403, "origin_not_allowed"),
        (bearer(&alice), "", 400, "bad_request"),
        (bearer(&alice), "[]", 400, "bad_request"),
        (bearer(&alice), "{\"messages\":[]}", 400, "bad_request"),
        (bearer(&alice), "{\"channel\":\"prices.AAPL\",\"data\":1}", 403, "forbidden"),
        (bearer(&alice), "{\"channel\":\"$JS.API.STREAM.DELETE.A\",\"data\":1}", 403, "forbidden"),
        (bearer(&alice), "{\"channel\":\"chat.>\",\"data\":1}", 400, "bad_channel"),
        (bearer(&alice), "{\"channel\":\"chat..a\",\"data\":1}", 400, "bad_channel"),
        (bearer(&alice), &*message("chat.a", "x".repeat(70_000)).to_string(), 413, "too_large"),
    ] {
        refused(&call(&address, &headers, body).await, status, code);
    }
    let get = ask(&address, format!("GET /v1/publish HTTP/1.1\r\nHost: x\r\n{authorization}\r\n")).await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST, OPTIONS")));
    // The only message that arrives is that of the page with the cookie.
    let page = format!("{cookie}{json}Origin: {APP}\r\n");
    let answer = call(&address, &page, &message("chat.a", "allowed").to_string()).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(APP)));
    client.flush().await.unwrap();
    assert_eq!(plain.next().await.unwrap().payload, "\"allowed\"");
    let preflight = format!("OPTIONS /v1/publish HTTP/1.1\r\nHost: x\r\nOrigin: {APP}\r\n\r\n");
    let answer = ask(&address, preflight).await;
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(answer.status == 204 && allowed.contains("idempotency-key"), "{answer:?}");
}

#[tokio::test]
async fn a_batch_counts_as_one_call_for_each_ten_messages() {
    let edge = TestEdge::with(|config| {
        (config.limits.calls_per_s, config.limits.calls_burst) = (1, 5);
    })
    .await;
    let batch = |count: usize| json!({ "messages": vec![message("chat.a", 1); count] });
    // Of the burst, 4 are left after this call, and then fewer than 10.
    assert_eq!(publish(&edge, "", &batch(10)).await.status, 200);
    let answer = publish(&edge, "", &batch(100)).await;
    refused(&answer, 429, "rate_limited");
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn without_nats_or_jetstream_no_call_says_more_than_is_true() {
    let mut edge = TestEdge::start().await;
    edge.lose_nats().await;
    for body in [message("chat.a", 1), json!({ "messages": [message("chat.a", 1), message("chat.b", 1)] })] {
        let answer = publish(&edge, "", &body).await;
        refused(&answer, 503, "unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    let nats = NatsServer::with("jetstream: disabled").await;
    let edge = TestEdge::with_nats(nats, |_| {}, false).await;
    assert_eq!(publish(&edge, "", &message("chat.a", 1)).await.json(), json!({ "stored": false }));
}

#[tokio::test]
async fn a_stream_that_does_not_answer_leaves_the_outcome_unknown() {
    let edge = TestEdge::start().await;
    stream(&edge.nats, "SILENT", &["chat.silent"], json!({ "no_ack": true, "allow_direct": true })).await;
    let answer = publish(&edge, "", &message("chat.silent", 1)).await;
    refused(&answer, 504, "outcome_unknown");
    assert_eq!(stored(&edge.nats, "SILENT").await, ["1"], "it is published once");
    // In a batch, the others are not concerned.
    let messages = [message("chat.silent", 2), message("chat.a", 3)];
    let answer = publish(&edge, "", &json!({ "messages": messages })).await;
    let results = answer.json()["results"].clone();
    assert_eq!(
        (&results[0]["error"]["code"], &results[1]),
        (&"outcome_unknown".into(), &json!({ "stored": false }))
    );
}

#[tokio::test]
async fn a_stream_that_refuses_a_message_is_an_error() {
    let edge = TestEdge::start().await;
    let more = json!({ "max_msgs": 1, "discard": "new", "allow_direct": true });
    stream(&edge.nats, "FULL", &["chat.full"], more).await;
    assert_eq!(publish(&edge, "", &message("chat.full", 1)).await.json()["sequence"], 1);
    let answer = publish(&edge, "", &message("chat.full", 2)).await;
    refused(&answer, 503, "not_stored");
    assert!(answer.json()["detail"].as_str().unwrap().contains("maximum messages exceeded"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(stored(&edge.nats, "FULL").await, ["1"]);
}

#[tokio::test]
async fn a_message_that_a_stream_never_stores_is_not_to_be_sent_again() {
    let edge = TestEdge::start().await;
    stream(&edge.nats, "SMALL", &["chat.small"], json!({ "max_msg_size": 8 })).await;
    let answer = publish(&edge, "", &message("chat.small", "longer than the stream allows")).await;
    refused(&answer, 422, "not_stored");
    assert_eq!(answer.header("retry-after"), None);
    assert!(answer.json()["detail"].as_str().unwrap().contains("message size exceeds maximum"), "{answer:?}");
}

#[tokio::test]
async fn only_a_stream_acknowledges() {
    let edge = TestEdge::start().await;
    stream(&edge.nats, "ORDERS", &["chat.orders"], json!({})).await;
    // A service that takes every message for a request.
    let (client, mut received) = edge.nats.subscribe("chat.orders").await;
    let service = tokio::spawn(async move {
        let message = received.next().await.unwrap();
        for text in ["thanks", "{}", "{\"stream\":7}"] {
            client.publish(message.reply.clone().unwrap(), text.into()).await.unwrap();
        }
        client.flush().await.unwrap();
    });
    let answer = publish(&edge, "", &message("chat.orders", 1)).await;
    assert_eq!(answer.json()["stream"], "ORDERS", "{answer:?}");
    service.await.unwrap();
}

#[tokio::test]
async fn what_the_nodes_nats_user_may_not_publish_is_forbidden() {
    let edge = TestEdge::with(|config| config.roles.push(role("wide", &[], &["unlisted.>"], &[]))).await;
    let headers = bearer(&token_with(&json!({ "role": "wide" })));
    let answer = call(&edge.address(), &headers, &message("unlisted.a", 1).to_string()).await;
    refused(&answer, 403, "forbidden");
}
