//! What one client may ask of the services that decide: a part of their turns, and nothing that it needs no more.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use serde_json::json;
use tidegate::config::auth::service::ServiceConfig;
use tidegate_protocol::class::Class;
use tidegate_protocol::subject::Subject;

use crate::support::client::Client;
use crate::support::decider::Decider;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::role;
use crate::support::eventually;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::raw::text;
use crate::support::within;
use crate::vocabularies::stage::Stage;

fn subject(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

#[tokio::test]
async fn svc_03_a_client_with_many_slow_questions_delays_no_other() {
    let edge = TestEdge::with(|config| {
        config.roles = vec![role("user", &["rooms.>"], &[], &[])];
        config.classes = vec![Class { authorize: Some(subject("authz.rooms")), ..class("rooms.>") }];
    })
    .await;
    let is_slow = |question: &Value| question["channel"].as_str().unwrap().contains("slow");
    let answer = move |question: &Value| (!is_slow(question)).then(|| json!({ "allow": true }));
    let decider = Decider::start(&edge.nats, "authz.rooms", answer).await;
    let mut mallory = edge.client("mallory").await;
    let channels: Vec<_> = (0..256).map(|number| format!("rooms.slow.{number}")).collect();
    mallory.send(&json!({ "type": "subscribe", "id": 1, "channels": channels })).await;
    eventually("the client to have its share", async || decider.questions().len() >= 32).await;
    let mut alice = edge.client("alice").await;
    alice.subscribe("rooms.lobby").await;
    let slow = decider.questions().iter().filter(|question| is_slow(question)).count();
    // Each question without an answer in time has been an error, and has made room for the next one.
    let errors = mallory.so_far().await.len();
    assert!(
        slow <= 32 + errors,
        "{slow} questions of one client, {errors} of them without an answer in time"
    );
}

#[tokio::test]
async fn svc_03_all_sockets_of_a_user_have_one_share_and_so_have_all_strangers_of_an_address() {
    let edge = TestEdge::with(|config| {
        config.roles = vec![role("user", &["rooms.>"], &[], &[])];
        config.classes = vec![Class { authorize: Some(subject("authz.rooms")), ..class("rooms.>") }];
        config.auth.anonymous_role = "user".to_owned();
    })
    .await;
    let is_slow = |question: &Value| question["channel"].as_str().unwrap().contains("slow");
    let answer = move |question: &Value| (!is_slow(question)).then(|| json!({ "allow": true }));
    let decider = Decider::start(&edge.nats, "authz.rooms", answer).await;
    for user in [Some("mallory"), None] {
        let mut sockets = Vec::new();
        for socket in 0..4 {
            let mut client = match user {
                Some(user) => edge.client(user).await,
                None => Client::open(&edge.address(), "/ws", None).await,
            };
            let channels: Vec<_> = (0..32).map(|at| format!("rooms.slow.{socket}.{at}")).collect();
            client.send(&json!({ "type": "subscribe", "id": 1, "channels": channels })).await;
            sockets.push(client);
        }
        let asked = || decider.questions().iter().filter(|question| question["user"] == json!(user)).count();
        eventually("the client to have its share", async || asked() >= 32).await;
        let mut alice = edge.client("alice").await;
        alice.subscribe("rooms.lobby").await;
        let asked = asked();
        let mut errors = 0;
        for socket in &mut sockets {
            errors += socket.so_far().await.iter().filter(|message| message["type"] == "error").count();
        }
        assert!(asked <= 32 + errors, "{asked} questions of {user:?}, {errors} without an answer in time");
    }
}

#[tokio::test]
async fn svc_03_a_question_of_a_client_that_has_gone_takes_no_turn() {
    let edge = TestEdge::with(|config| {
        config.auth.service = Some(ServiceConfig {
            subject: subject("auth.connect"),
            headers: Vec::new(),
            cookies: Vec::new(),
            timeout: Duration::from_secs(30),
            in_flight: 1,
        });
    })
    .await;
    let answer = |question: &Value| {
        let user = question["credential"].as_str()?.strip_prefix("opaque-")?;
        let answer = json!({ "user": user, "roles": ["user"], "expires": 4_000_000_000_u64 });
        (!user.starts_with("slow")).then_some(answer)
    };
    let decider = Decider::start(&edge.nats, "auth.connect", answer).await;
    // The service has one turn, which the question has that no one needs.
    let connects = async |user: &str| {
        let headers = format!("Authorization: Bearer opaque-{user}\r\n");
        let answer = within("a turn", ask(&edge.address(), handshake("/ws", &headers))).await;
        assert_eq!(answer.status, 101, "{user}");
    };
    let mut gone = Client::open(&edge.address(), "/ws", None).await;
    gone.send(&json!({ "type": "auth", "token": "opaque-slow" })).await;
    eventually("the question", async || decider.questions().len() == 1).await;
    drop(gone);
    connects("alice").await;
    // A handshake takes the fast path, or goes through hyper.
    for (at, more) in [(1, ""), (2, "Content-Length: 0\r\n")] {
        let mut gone = RawClient::connect(&edge.address()).await;
        let headers = format!("Authorization: Bearer opaque-slow-{at}\r\n{more}");
        gone.send(&handshake("/ws", &headers)).await;
        eventually("the question", async || decider.questions().len() == 2 * at + 1).await;
        drop(gone);
        connects(&format!("bob-{at}")).await;
    }
}

#[tokio::test]
async fn what_a_client_sends_while_a_service_judges_its_handshake_is_read_afterwards() {
    let edge = TestEdge::with(|config| {
        config.auth.service = Some(ServiceConfig {
            subject: subject("auth.connect"),
            headers: Vec::new(),
            cookies: Vec::new(),
            timeout: Duration::from_secs(30),
            in_flight: 1,
        });
    })
    .await;
    let service = edge.nats.decider().await;
    let mut questions = service.subscribe("auth.connect").await.unwrap();
    edge.nats.until_subscribed("decider", "auth.connect").await;
    for pings in [1, 2000] {
        let mut client = RawClient::connect(&edge.address()).await;
        client.send(&handshake("/ws", "Authorization: Bearer opaque-alice\r\n")).await;
        let question = questions.next().await.unwrap();
        for id in 0..pings {
            client.send(&text(&json!({ "type": "ping", "id": id }).to_string())).await;
        }
        let answer =
            json!({ "user": "alice", "roles": ["user"], "expires": 4_000_000_000_u64, "cache_s": 0 });
        service.publish(question.reply.unwrap(), answer.to_string().into()).await.unwrap();
        assert!(client.head().await.starts_with("HTTP/1.1 101"));
        assert_eq!(client.message().await["type"], "connected");
        for id in 0..pings {
            assert_eq!(client.message().await["id"], id);
        }
    }
}

#[tokio::test]
async fn svc_03_a_call_is_charged_for_its_questions_before_they_are_asked() {
    let stage = Stage::changed("sentio", |config| {
        config.classes = vec![Class { authorize: Some(subject("authz.prices")), ..class("prices.>") }];
        (config.limits.calls_per_s, config.limits.calls_burst) = (1, 5);
    })
    .await;
    let decider =
        Decider::start(&stage.edge.nats, "authz.prices", |_| Some(json!({ "allow": true, "cache_s": 0 })))
            .await;
    let symbols: Vec<_> = (0..48).map(|number| format!("S{number}")).collect();
    let path = format!("/api/v1/dashboard/market-data?symbols={}", symbols.join(","));
    let call = async || stage.call("GET", &path, &json!({ "sub": "alice", "role": "user" }), "").await.status;
    // One for the call, one for its 96 channels, three for its 48 questions.
    assert!([200, 404].contains(&call().await));
    let asked = decider.questions().len();
    assert_eq!(call().await, 429);
    assert_eq!(decider.questions().len(), asked, "a call beyond the rate asks nothing");
}
