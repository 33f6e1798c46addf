//! `publish` and `request` over a WebSocket, with real services on a real NATS, and without.

use std::time::Duration;

use async_nats::Message;
use async_nats::Subscriber;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token_with;
use crate::support::eventually;
use crate::support::within;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Subscribes on NATS, as a producer or consumer does.
async fn subscribe(edge: &TestEdge, subject: &'static str) -> Subscriber {
    edge.nats.subscribe(subject).await.1
}

async fn next_message(subscriber: &mut Subscriber) -> Message {
    within("a message on NATS", subscriber.next()).await.unwrap()
}

/// A service on NATS that replies with the result of `answer`.
async fn serve(
    edge: &TestEdge,
    subject: &'static str,
    answer: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + 'static,
) {
    let nats = edge.nats.client().await;
    let mut requests = subscribe(edge, subject).await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let (Some(reply), Some(answer)) = (request.reply, answer(request.payload.to_vec())) {
                nats.publish(reply, answer.into()).await.unwrap();
            }
        }
    });
}

async fn answer_to(client: &mut Client, message: Value) -> Value {
    client.send(&message).await;
    client.next().await.expect("an answer")
}

#[tokio::test]
async fn a_confirmed_message_is_on_nats_byte_for_byte() {
    let edge = TestEdge::start().await;
    let mut subscriber = subscribe(&edge, "chat.general").await;
    let mut client = edge.client("alice").await;
    for (number, (fields, bytes)) in [
        (r#""data":{"b": 1,"a":[1.50, "x"]}"#, &br#"{"b": 1,"a":[1.50, "x"]}"#[..]),
        (r#""data":null"#, b"null"),
        (r#""data":"text""#, b"\"text\""),
        (r#""data_base64":"/wA=""#, b"\xff\x00"),
        (r#""data_base64":"""#, b""),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!(r#"{{"type":"publish","id":{number},"channel":"chat.general",{fields}}}"#);
        client.send_text(&text).await;
        assert_eq!(client.next().await.unwrap(), json!({ "type": "published", "id": number }));
        let message = next_message(&mut subscriber).await;
        assert_eq!((&message.payload[..], message.headers, message.reply), (bytes, None, None), "{fields}");
    }
}

#[tokio::test]
async fn messages_of_a_client_keep_their_order() {
    let edge = TestEdge::with(|config| config.limits.requests_in_flight = 100).await;
    let mut subscriber = subscribe(&edge, "chat.general").await;
    let mut client = edge.client("alice").await;
    for number in 0..100 {
        client
            .send(&json!({ "type": "publish", "id": number, "channel": "chat.general", "data": number }))
            .await;
    }
    for number in 0..100 {
        assert_eq!(next_message(&mut subscriber).await.payload, number.to_string());
        assert_eq!(client.expect("published").await["id"], number);
    }
}

#[tokio::test]
async fn sub_07_only_allowed_headers_of_clients_reach_nats() {
    let edge = TestEdge::start().await;
    let mut subscriber = subscribe(&edge, "chat.general").await;
    let mut client = edge.client("alice").await;
    let publish = |headers: Value| json!({ "type": "publish", "channel": "chat.general", "data": 1, "headers": headers });
    for headers in [
        json!({ "Nats-Rollup": "all" }),
        json!({ "nats-rollup": "sub" }),
        json!({ "Nats-Expected-Stream": "S" }),
        json!({ "Nats-Expected-Last-Sequence": "1" }),
        json!({ "Nats-TTL": "1s" }),
        json!({ "Tidegate-Priority": "high" }),
        json!({ "Status": "503" }),
        json!({ "traceparent": "a\r\nNats-Rollup: all" }),
        json!({ "Nats-Msg-Id": "a\nb" }),
        json!({ "Nats-Msg-Id": "a\rb" }),
        json!({ "Nats-Msg-Id": "a\0b" }),
        json!({ "traceparent\r\nNats-Rollup": "all" }),
        json!({ "": "a" }),
        json!({ "Nats-Msg-Id": "a".repeat(1025) }),
    ] {
        let answer = answer_to(&mut client, publish(headers.clone())).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("bad_data")), "{headers}");
    }
    let harmless =
        json!({ "Nats-Msg-Id": "1", "Tidegate-Key": "k", "traceparent": PARENT, "Content-Type": "a b" });
    assert_eq!(answer_to(&mut client, publish(harmless.clone())).await["type"], "published");
    let headers = next_message(&mut subscriber).await.headers.unwrap();
    assert_eq!(headers.len(), 4);
    for (name, value) in harmless.as_object().unwrap() {
        let value = value.as_str().unwrap();
        let value = if name == "Nats-Msg-Id" { format!("alice|{value}") } else { value.to_owned() };
        assert_eq!(headers.get(name.as_str()).unwrap().as_str(), value);
    }
}

/// PROTOCOL.md: "A rejected command never has an effect"
#[tokio::test]
async fn messages_that_a_role_forbids_never_reach_nats() {
    let edge = TestEdge::start().await;
    let mut subscriber = subscribe(&edge, ">").await;
    let mut client = edge.client("alice").await;
    for (kind, channel) in [
        ("publish", "prices.AAPL"),
        ("publish", "user.alice.notifications"),
        ("publish", "svc.echo"),
        ("publish", "chat"),
        ("request", "chat.general"),
        ("request", "svc"),
        ("request", "admin.users"),
    ] {
        let message = json!({ "type": kind, "id": channel, "channel": channel, "data": 1 });
        let answer = answer_to(&mut client, message).await;
        assert_eq!(
            (&answer["code"], &answer["id"]),
            (&json!("forbidden"), &json!(channel)),
            "{kind} {channel}"
        );
    }
    assert_eq!(
        answer_to(&mut client, json!({ "type": "publish", "channel": "chat.end", "data": 1 })).await["type"],
        "published"
    );
    loop {
        let subject = next_message(&mut subscriber).await.subject;
        if subject.as_str() == "chat.end" {
            break;
        }
        assert!(subject.starts_with("_INBOX_tidegate."), "{subject}");
    }
}

#[tokio::test]
async fn data_larger_than_the_limit_is_rejected() {
    let edge = TestEdge::with(|config| config.limits.publish_max_bytes = 1000).await;
    let mut client = edge.client("alice").await;
    for (length, expected) in [(998, "published"), (999, "error")] {
        let message = json!({ "type": "publish", "channel": "chat.general", "data": "x".repeat(length) });
        let answer = answer_to(&mut client, message).await;
        assert_eq!(answer["type"], expected, "{answer}");
        assert!(expected == "published" || answer["code"] == "bad_data", "{answer}");
    }
}

#[tokio::test]
async fn a_reply_reaches_only_the_client_that_asked() {
    let edge = TestEdge::start().await;
    serve(&edge, "svc.echo", |request| Some([&b"{\"you said\":"[..], &request, b"}"].concat())).await;
    let (mut one, mut other) = edge.pair().await;
    for (name, client) in [("one", &mut one), ("other", &mut other)] {
        for number in 0..5 {
            let id = format!("{name}-{number}");
            client.send(&json!({ "type": "request", "id": id, "channel": "svc.echo", "data": id })).await;
        }
    }
    for (name, client) in [("one", &mut one), ("other", &mut other)] {
        let mut answered = Vec::new();
        for _ in 0..5 {
            let reply = client.expect("reply").await;
            assert_eq!(reply["data"], json!({ "you said": reply["id"] }));
            answered.push(reply["id"].as_str().unwrap().to_owned());
        }
        answered.sort();
        assert_eq!(answered, (0..5).map(|number| format!("{name}-{number}")).collect::<Vec<_>>());
        assert!(client.so_far().await.is_empty());
    }
}

#[tokio::test]
async fn replies_are_delivered_as_json_text_or_base64() {
    let edge = TestEdge::start().await;
    for (subject, answer) in [("svc.text", &b"plain"[..]), ("svc.binary", b"\xff\x00"), ("svc.nothing", b"")]
    {
        serve(&edge, subject, move |_| Some(answer.to_vec())).await;
    }
    let mut client = edge.client("alice").await;
    let request = |channel: &str| json!({ "type": "request", "id": 1, "channel": channel, "data": {} });
    assert_eq!(
        answer_to(&mut client, request("svc.text")).await,
        json!({ "type": "reply", "id": 1, "data": "plain" })
    );
    let binary = json!({ "type": "reply", "id": 1, "data_base64": "/wA=" });
    assert_eq!(answer_to(&mut client, request("svc.binary")).await, binary);
    assert_eq!(
        answer_to(&mut client, request("svc.nothing")).await,
        json!({ "type": "reply", "id": 1, "data": "" })
    );
}

#[tokio::test]
async fn sub_08_a_client_cannot_choose_the_reply_subject() {
    let edge = TestEdge::start().await;
    let mut requests = subscribe(&edge, "svc.secret").await;
    let mut subscriber = subscribe(&edge, "chat.general").await;
    let mut client = edge.client("alice").await;
    let reply = "user.bob.notifications";
    client
        .send(&json!({ "type": "request", "id": 1, "channel": "svc.secret", "data": 1, "reply": reply }))
        .await;
    let request = next_message(&mut requests).await;
    assert!(request.reply.unwrap().starts_with("_INBOX_tidegate."));
    client
        .send(&json!({ "type": "publish", "id": 2, "channel": "chat.general", "data": 1, "reply": reply }))
        .await;
    assert_eq!(next_message(&mut subscriber).await.reply, None);
}

#[tokio::test]
async fn a_request_without_a_service_and_one_without_a_reply_have_different_errors() {
    let edge = TestEdge::start().await;
    serve(&edge, "svc.silent", |_| None).await;
    let mut client = edge.client("alice").await;
    let request = |channel: &str, timeout: Value| json!({ "type": "request", "id": 7, "channel": channel, "data": 1, "timeout_ms": timeout });
    let answer = answer_to(&mut client, request("svc.nobody", json!(20_000))).await;
    assert_eq!((&answer["code"], &answer["id"]), (&json!("no_responders"), &json!(7)));
    let answer = answer_to(&mut client, request("svc.silent", json!(50))).await;
    assert_eq!((&answer["code"], &answer["id"]), (&json!("timeout"), &json!(7)));
    for wrong in [json!(-1), json!(1.5), json!("1"), json!(1_u64 << 32)] {
        assert_eq!(answer_to(&mut client, request("svc.silent", wrong)).await["code"], "bad_request");
    }
}

#[tokio::test]
async fn a_client_chooses_its_timeout_up_to_a_limit() {
    let edge = TestEdge::with(|config| config.nats.request_timeout = Duration::from_millis(50)).await;
    let nats = edge.nats.client().await;
    let mut requests = subscribe(&edge, "svc.slow").await;
    let mut client = edge.client("alice").await;
    let request = |id: u32, timeout: Value| json!({ "type": "request", "id": id, "channel": "svc.slow", "data": 1, "timeout_ms": timeout });
    client.send(&request(1, json!(20_000))).await;
    let first = next_message(&mut requests).await;
    // A request without `timeout_ms` has the default limit, which ends before the first one is answered.
    let error = answer_to(&mut client, request(2, Value::Null)).await;
    assert_eq!((&error["id"], &error["code"]), (&json!(2), &json!("timeout")));
    nats.publish(first.reply.unwrap(), "1".into()).await.unwrap();
    assert_eq!(client.expect("reply").await["id"], 1);

    let edge = TestEdge::with(|config| config.limits.request_timeout_max = Duration::from_millis(50)).await;
    let _questions = subscribe(&edge, "svc.slow").await;
    let error = answer_to(&mut edge.client("alice").await, request(3, json!(u32::MAX))).await;
    assert_eq!((&error["id"], &error["code"]), (&json!(3), &json!("timeout")));
}

#[tokio::test]
async fn a_late_reply_is_dropped() {
    let edge = TestEdge::start().await;
    let nats = edge.nats.client().await;
    let mut requests = subscribe(&edge, "svc.slow").await;
    let mut client = edge.client("alice").await;
    let request = json!({ "type": "request", "id": 1, "channel": "svc.slow", "data": 1, "timeout_ms": 50 });
    assert_eq!(answer_to(&mut client, request).await["code"], "timeout");
    let request = next_message(&mut requests).await;
    nats.publish(request.reply.unwrap(), "late".into()).await.unwrap();
    nats.flush().await.unwrap();
    client.send(&json!({ "type": "request", "id": 2, "channel": "svc.slow", "data": 2 })).await;
    let request = next_message(&mut requests).await;
    nats.publish(request.reply.unwrap(), "\"in time\"".into()).await.unwrap();
    let reply = client.next().await.unwrap();
    assert_eq!(reply, json!({ "type": "reply", "id": 2, "data": "in time" }));
}

#[tokio::test]
async fn requests_in_flight_are_limited_and_others_wait() {
    let edge = TestEdge::start().await;
    let nats = edge.nats.client().await;
    let mut requests = subscribe(&edge, "svc.slow").await;
    let mut client = edge.client("alice").await;
    let request = |id: usize| json!({ "type": "request", "id": id, "channel": "svc.slow", "data": id, "timeout_ms": 20_000 });
    for id in 0..20 {
        client.send(&request(id)).await;
    }
    let publish = json!({ "type": "publish", "id": "p", "channel": "chat.general", "data": 1 });
    assert_eq!(
        answer_to(&mut client, publish).await["type"],
        "published",
        "slow services hold up no publish"
    );
    let mut pending = Vec::new();
    for _ in 0..16 {
        pending.push(next_message(&mut requests).await);
    }
    let next = tokio::time::timeout(Duration::from_millis(300), requests.next()).await;
    assert!(next.is_err(), "the seventeenth waits");
    for id in 0..20 {
        let request = pending.remove(0);
        assert_eq!(request.payload, id.to_string());
        nats.publish(request.reply.unwrap(), request.payload).await.unwrap();
        let reply = client.expect("reply").await;
        assert_eq!((&reply["id"], &reply["data"]), (&json!(id), &json!(id)));
        if id < 4 {
            pending.push(next_message(&mut requests).await);
        }
    }
}

#[tokio::test]
async fn a_nats_subscriber_to_all_subjects_disturbs_no_client() {
    let edge = TestEdge::start().await;
    let _everything = subscribe(&edge, ">").await;
    let (mut one, mut other) = edge.pair().await;
    for client in [&mut one, &mut other] {
        client.subscribe("chat.general").await;
        let publish = json!({ "type": "publish", "id": 1, "channel": "chat.general", "data": 1 });
        client.send(&publish).await;
        let messages = client.until("published").await;
        assert!(messages.iter().all(|message| message["type"] != "error"), "{messages:?}");
    }
}

/// PROTOCOL.md: "While NATS is away, a message is never queued"
#[tokio::test]
async fn without_nats_publishes_and_requests_fail_and_are_not_queued() {
    let mut edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    // Until a lane has noticed the outage, messages are not refused: they are lost, and fail later.
    edge.lose_nats().await;
    edge.readyz(503).await;
    for (kind, channel) in [("publish", "chat.general"), ("request", "svc.echo")] {
        let message = json!({ "type": kind, "id": kind, "channel": channel, "data": "away" });
        let answer = answer_to(&mut client, message).await;
        assert_eq!((&answer["code"], &answer["id"]), (&json!("unavailable"), &json!(kind)));
    }
    edge.nats.restart().await;
    let mut subscriber = subscribe(&edge, "chat.general").await;
    edge.readyz(200).await;
    let message = json!({ "type": "publish", "id": 3, "channel": "chat.general", "data": "back" });
    assert_eq!(answer_to(&mut client, message).await["type"], "published");
    assert_eq!(
        next_message(&mut subscriber).await.payload,
        "\"back\"",
        "the failed message was not published"
    );
}

#[tokio::test]
async fn a_publish_to_a_paused_nats_is_never_confirmed() {
    let edge = TestEdge::with(|config| config.nats.request_timeout = Duration::from_millis(300)).await;
    let mut client = edge.client("alice").await;
    edge.nats.pause();
    for (kind, channel) in [("publish", "chat.general"), ("request", "svc.echo")] {
        let message = json!({ "type": kind, "id": kind, "channel": channel, "data": 1 });
        let answer = answer_to(&mut client, message).await;
        assert_eq!((&answer["code"], &answer["id"]), (&json!("timeout"), &json!(kind)));
    }
    edge.nats.resume();
    eventually("it is published again", || {
        let address = edge.address();
        async move {
            let claims = json!({ "sub": "bob" });
            let mut client = Client::connect(&address, &token_with(&claims)).await;
            let message = json!({ "type": "publish", "channel": "chat.general", "data": 1 });
            answer_to(&mut client, message).await["type"] == "published"
        }
    })
    .await;
}

#[tokio::test]
async fn nat_04_a_publish_over_a_lost_link_is_never_confirmed() {
    let mut edge = TestEdge::with(|config| config.nats.request_timeout = Duration::from_secs(3)).await;
    let mut client = edge.client("alice").await;
    edge.nats.pause();
    let publish = |id: &str| json!({ "type": "publish", "id": id, "channel": "chat.general", "data": id });
    // The second one is still pending when the link is back; what is sent then does arrive.
    client.send(&publish("first")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.send(&publish("second")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    edge.nats.kill();
    edge.nats.restart().await;
    edge.readyz(200).await;
    for id in ["first", "second"] {
        let answer = client.expect("error").await;
        assert_eq!(answer["id"], id, "{answer}");
        assert!(answer["code"] == "timeout" || answer["code"] == "unavailable", "{answer}");
    }
}

#[tokio::test]
async fn a_role_may_request_without_publishing() {
    let edge = TestEdge::with(|config| config.roles.push(role("asks", &[], &[], &["svc.>"]))).await;
    serve(&edge, "svc.echo", Some).await;
    let mut client = Client::connect(&edge.address(), &token_with(&json!({ "role": "asks" }))).await;
    let message = |kind: &str| json!({ "type": kind, "channel": "svc.echo", "data": 1 });
    assert_eq!(answer_to(&mut client, message("publish")).await["code"], "forbidden");
    assert_eq!(answer_to(&mut client, message("subscribe")).await["code"], "forbidden");
    assert_eq!(answer_to(&mut client, message("request")).await, json!({ "type": "reply", "data": 1 }));
}
