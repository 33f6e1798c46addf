//! Services on NATS that decide for a node: who a client is, and whether it may subscribe.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::allowed_origins::AllowedOrigins;
use tidegate::config::auth::api_key::ApiKeyConfig;
use tidegate::config::auth::api_key::KeyDigest;
use tidegate::config::auth::service::ServiceConfig;
use tidegate::config::origin::WebOrigin;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::subject::Subject;

use crate::support::client::Client;
use crate::support::decider::Decider;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::raw::Answer;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::within;
use crate::vocabularies::stage::Stage;

fn subject(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

const API_KEY: &str = "key-of-a-backend";
/// Its SHA-256.
const API_KEY_SHA256: [u8; 32] = [
    184, 187, 76, 46, 16, 22, 87, 40, 240, 85, 249, 149, 147, 160, 35, 155, 77, 197, 68, 131, 169, 228, 234,
    211, 164, 87, 5, 156, 202, 171, 174, 37,
];

/// The service at `auth.connect`.
fn service(config: &mut Config) {
    config.auth.service = Some(ServiceConfig {
        subject: subject("auth.connect"),
        headers: vec!["x-device".to_owned()],
        cookies: vec!["sessionid".to_owned()],
        timeout: Duration::from_secs(2),
        in_flight: 16,
    });
}

fn in_an_hour() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 3600
}

/// The identity of a user, who is the credential's text after `opaque-`.
fn by_credential(question: &Value) -> Option<Value> {
    let user = question["credential"].as_str().and_then(|credential| credential.strip_prefix("opaque-"));
    Some(match user {
        Some(user) => json!({ "user": user, "roles": ["user"], "expires": in_an_hour() }),
        None => json!({ "refused": "your trial has ended" }),
    })
}

async fn connect(edge: &TestEdge, headers: &str) -> Answer {
    ask(&edge.address(), handshake("/ws", headers)).await
}

async fn with_credential(edge: &TestEdge, credential: &str) -> Answer {
    connect(edge, &format!("Authorization: Bearer {credential}\r\n")).await
}

#[tokio::test]
async fn a_service_says_who_a_client_is_for_credentials_that_no_key_verifies() {
    let edge = TestEdge::with(|config| {
        service(config);
        config.auth.api_keys = vec![ApiKeyConfig {
            name: "backend".to_owned(),
            sha256: KeyDigest(API_KEY_SHA256),
            user: "backend".to_owned(),
            role: "user".to_owned(),
        }];
    })
    .await;
    let decider = Decider::start(&edge.nats, "auth.connect", by_credential).await;
    let mut alice = Client::connect(&edge.address(), "opaque-alice").await;
    alice.subscribe("user.alice.notifications").await;
    // Sockets of this endpoint accept no API keys, and the service does not learn a key that is known here.
    assert_eq!(with_credential(&edge, API_KEY).await.status, 401);
    let refused = with_credential(&edge, "stolen").await;
    assert_eq!((refused.status, refused.json()["detail"].as_str()), (401, Some("your trial has ended")));
    // Tokens of known keys are verified here, whether they are right or not.
    assert_eq!(with_credential(&edge, &token("bob")).await.status, 101);
    assert_eq!(with_credential(&edge, "e30.e30.AAAA").await.status, 401);
    let asked = decider.questions();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let expected = json!({
        "credential": "opaque-alice", "endpoint": "/ws", "address": "127.0.0.1", "origin": null, "headers": {},
        "cookies": {},
    });
    assert_eq!(asked[0], expected);
}

#[tokio::test]
async fn a_credential_in_a_message_is_judged_too_and_must_be_of_the_same_user() {
    let edge = TestEdge::with(service).await;
    let _decider = Decider::start(&edge.nats, "auth.connect", by_credential).await;
    let mut client = Client::open(&edge.address(), "/ws", None).await;
    client.send(&json!({ "type": "auth", "token": "opaque-alice" })).await;
    assert_eq!(client.expect("connected").await["user"], "alice");
    client.send(&json!({ "type": "auth", "token": "opaque-bob" })).await;
    assert_eq!(client.expect("error").await["code"], "unauthorized");
    assert_eq!(client.until_closed().await.1, Some(4501));
    let mut refused = Client::open(&edge.address(), "/ws", None).await;
    refused.send(&json!({ "type": "auth", "token": "stolen" })).await;
    assert_eq!(refused.expect("error").await["message"], "your trial has ended");
    assert_eq!(refused.until_closed().await.1, Some(4501));
}

#[tokio::test]
async fn listed_headers_and_cookies_identify_a_client_without_a_credential_and_a_foreign_page_has_no_cookies()
{
    let edge = TestEdge::with(service).await;
    let decider = Decider::start(&edge.nats, "auth.connect", |question| {
        let user = question["cookies"]["sessionid"].as_str().or_else(|| question["headers"]["x-device"][0].as_str());
        Some(json!({ "user": user, "roles": ["user"], "expires": in_an_hour(), "channels": ["user.s1.news", "prices.A"] }))
    })
    .await;
    // Without anything that the service knows clients by, it is not asked.
    assert_eq!(connect(&edge, "Cookie: other=1\r\nX-Other: 1\r\n").await.status, 101);
    assert_eq!(decider.questions(), Vec::<Value>::new());
    let cookie = "Cookie: sessionid=s1; other=secret\r\nX-Other: 1\r\n";
    let own = format!("{cookie}Sec-Fetch-Site: same-origin\r\n");
    assert_eq!(connect(&edge, &own).await.status, 101);
    let asked = decider.questions();
    assert_eq!((&asked[0]["cookies"], &asked[0]["headers"]), (&json!({ "sessionid": "s1" }), &json!({})));
    for foreign in [cookie.to_owned(), format!("{cookie}Sec-Fetch-Site: cross-site\r\n")] {
        assert_eq!(connect(&edge, &foreign).await.status, 101);
    }
    assert_eq!(decider.questions().len(), 1, "a cookie of an unknown page does not count");
    let headers = [("cookie", "sessionid=s1"), ("sec-fetch-site", "same-origin")];
    let mut client = Client::open_with(&edge.address(), "/ws", &headers).await;
    assert_eq!(client.expect("connected").await["user"], "s1");
    // Two lanes may confirm them in any order.
    let mut joined = [client.expect("subscribed").await, client.expect("subscribed").await];
    joined.sort_by_key(|message| message["channel"].to_string());
    assert_eq!(joined.map(|message| message["channel"].clone()), [json!("prices.A"), json!("user.s1.news")]);
    let mut device = Client::open_with(&edge.address(), "/ws", &[("x-device", "d7")]).await;
    assert_eq!(device.expect("connected").await["user"], "d7");
    let forbidden = device.expect("error").await;
    assert_eq!((&forbidden["code"], &forbidden["channel"]), (&json!("forbidden"), &json!("user.s1.news")));
    assert_eq!(device.expect("subscribed").await["channel"], "prices.A");
}

#[tokio::test]
async fn a_cookie_for_the_service_counts_only_where_cookies_do() {
    let identity = |_: &Value| Some(json!({ "user": "s1", "roles": ["user"], "expires": in_an_hour() }));
    let headers = "Cookie: sessionid=s1\r\nOrigin: https://any.example\r\n";
    for (cookie, origins, asked) in [
        (true, AllowedOrigins::Listed(vec![WebOrigin::parse("https://any.example").unwrap()]), 1),
        (false, AllowedOrigins::Listed(vec![WebOrigin::parse("https://any.example").unwrap()]), 0),
        (true, AllowedOrigins::Any, 0),
    ] {
        let edge = TestEdge::with(|config| {
            service(config);
            config.endpoints[0].cookie = cookie;
            config.endpoints[0].allowed_origins = Some(origins);
        })
        .await;
        let decider = Decider::start(&edge.nats, "auth.connect", identity).await;
        assert_eq!(connect(&edge, headers).await.status, 101);
        assert_eq!(decider.questions().len(), asked, "{cookie}");
    }
}

#[tokio::test]
async fn adm_02_a_call_that_the_service_knows_by_a_cookie_is_one_that_no_form_can_send() {
    let stage = Stage::changed("hoardrun", |config| {
        service(config);
        config.endpoints[0].allowed_origins =
            Some(AllowedOrigins::Listed(vec![WebOrigin::parse("https://any.example").unwrap()]));
    })
    .await;
    let path = "/ws/broadcast/notification?user_id=x";
    let call = async |kind: &str| {
        let headers = format!(
            "Host: localhost\r\nCookie: sessionid=s1\r\nOrigin: https://any.example\r\nContent-Type: {kind}\r\n"
        );
        let request = format!("POST {path} HTTP/1.1\r\n{headers}Content-Length: 2\r\n\r\n{{}}");
        ask(&stage.edge.address(), request).await.status
    };
    assert_eq!(call("text/plain").await, 415);
    // The service, which is not there, is asked only now.
    assert_eq!(call("application/json").await, 503);
}

#[tokio::test]
async fn a_service_has_the_time_of_its_own_limit() {
    let nats_limit = Duration::from_millis(50);
    let edge = TestEdge::with(|config| {
        config.nats.request_timeout = nats_limit;
        service(config);
        config.auth.service.as_mut().unwrap().timeout = Duration::from_secs(20);
    })
    .await;
    let service = edge.nats.decider().await;
    let mut questions = service.subscribe("auth.connect").await.unwrap();
    edge.nats.until_subscribed("decider", "auth.connect").await;
    let answer = async {
        let question = questions.next().await.unwrap();
        // Longer than a request of a client may take.
        tokio::time::sleep(4 * nats_limit).await;
        let answer = json!({ "user": "alice", "roles": ["user"], "expires": 4_000_000_000_u64 });
        service.publish(question.reply.unwrap(), answer.to_string().into()).await.unwrap();
    };
    let (connected, ()) = tokio::join!(with_credential(&edge, "opaque-alice"), answer);
    assert_eq!(connected.status, 101, "{connected:?}");
}

#[tokio::test]
async fn equal_credentials_share_one_question_and_a_refusal_is_kept() {
    let edge = TestEdge::with(service).await;
    let decider = Decider::start(&edge.nats, "auth.connect", by_credential).await;
    let edge_ref = &edge;
    let storm = (0..40).map(|at| async move {
        with_credential(edge_ref, if at % 2 == 0 { "opaque-alice" } else { "stolen" }).await.status
    });
    let mut statuses = futures_util::future::join_all(storm).await;
    statuses.sort_unstable();
    assert_eq!((statuses[19], statuses[20]), (101, 401), "{statuses:?}");
    assert_eq!(decider.questions().len(), 2);
}

#[tokio::test]
async fn svc_03_a_service_that_is_dead_slow_or_lying_is_503_or_4004_and_never_401() {
    let edge = TestEdge::with(|config| {
        service(config);
        config.auth.service.as_mut().unwrap().timeout = Duration::from_millis(300);
    })
    .await;
    let unavailable = async |credential: &str, reason: &str| {
        let answer = with_credential(&edge, credential).await;
        let (detail, retry_after) = (answer.json()["detail"].to_string(), answer.header("retry-after"));
        assert_eq!((answer.status, retry_after), (503, Some("5")), "{detail}");
        assert!(detail.contains(reason), "{detail}");
        let mut client = Client::open(&edge.address(), "/ws", None).await;
        client.send(&json!({ "type": "auth", "token": credential })).await;
        let (messages, code) = client.until_closed().await;
        assert_eq!(code, Some(4004), "{messages:?}");
        assert!(messages.last().unwrap()["retry_after_ms"].is_number(), "{messages:?}");
    };
    unavailable("opaque-dead", "no service subscribes").await;
    let answers = |question: &Value| {
        Some(match question["credential"].as_str().unwrap() {
            "opaque-silent" => return None,
            "opaque-text" => Bytes::from_static(b"yes"),
            "opaque-large" => Bytes::from(vec![b' '; 20_000]),
            "opaque-root" => Bytes::from(
                json!({ "user": "alice", "roles": ["root"], "expires": in_an_hour() }).to_string(),
            ),
            _ => Bytes::from(json!({ "user": "alice", "roles": ["user"] }).to_string()),
        })
    };
    let _decider = Decider::start_raw(&edge.nats, "auth.connect", answers).await;
    unavailable("opaque-silent", "not answered in time").await;
    for lie in ["opaque-text", "opaque-large", "opaque-root", "opaque-endless"] {
        unavailable(lie, "cannot be used").await;
    }
}

#[tokio::test]
async fn a_revocation_covers_identities_of_the_service() {
    let edge = TestEdge::with(service).await;
    let decider = Decider::start(&edge.nats, "auth.connect", |_| {
        Some(json!({ "user": "alice", "roles": ["user"], "expires": in_an_hour(), "cache_s": 1 }))
    })
    .await;
    let mut alice = Client::connect(&edge.address(), "opaque-alice").await;
    // What is issued in this second is covered, and what the service says later is not.
    let revoke = json!({ "user": "alice", "issued_before": in_an_hour() - 3600 + 1 }).to_string();
    edge.nats.operator().await.request("tidegate.revoke", revoke.into()).await.unwrap();
    assert_eq!(alice.until_closed().await.1, Some(4505));
    assert_eq!(decider.questions().len(), 1);
    eventually("a later answer of the service to count", async || {
        with_credential(&edge, "opaque-alice").await.status == 101
    })
    .await;
    assert!(decider.questions().len() > 1);
}

#[tokio::test]
async fn svc_01_the_subjects_of_services_are_closed_to_every_client() {
    let edge = TestEdge::with(|config| {
        service(config);
        config.roles =
            vec![role("user", &["auth.>", "authz.>", "x.>"], &["auth.>", "authz.>"], &["auth.>", "authz.>"])];
        config.classes = vec![Class { authorize: Some(subject("authz.x")), ..class("x.>") }];
    })
    .await;
    let mut client = edge.client("alice").await;
    for channel in ["auth.connect", "auth.*", "auth.>", "authz.x", "authz.>"] {
        client.send(&json!({ "type": "subscribe", "channel": channel })).await;
        assert_eq!(client.expect("error").await["code"], "forbidden", "{channel}");
    }
    for kind in ["publish", "request"] {
        for channel in ["auth.connect", "authz.x"] {
            client.send(&json!({ "type": kind, "id": 1, "channel": channel, "data": {} })).await;
            assert_eq!(client.expect("error").await["code"], "forbidden", "{kind} {channel}");
        }
    }
}

#[tokio::test]
async fn svc_01_the_documented_account_lets_one_service_listen_and_only_nodes_ask() {
    let edge = TestEdge::with(service).await;
    let decider = Decider::start(&edge.nats, "auth.connect", by_credential).await;
    let producer = edge.nats.producer().await;
    let mut overheard = producer.subscribe("auth.connect").await.unwrap();
    producer.publish("auth.connect", "{}".into()).await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(with_credential(&edge, "opaque-alice").await.status, 101);
    producer.flush().await.unwrap();
    assert_eq!(decider.questions().len(), 1, "a producer may not ask");
    assert!(futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(&mut overheard)).is_none());
}

/// A node on which services decide about `rooms.>` and about `*.secret`. A narrower class has none.
async fn rooms(change: impl FnOnce(&mut Config)) -> TestEdge {
    TestEdge::with(|config| {
        config.roles = vec![role("user", &["rooms.>", "things.>"], &[], &[])];
        let authorize = |text: &str| Some(subject(text));
        config.classes = vec![
            Class { authorize: authorize("authz.rooms"), snapshot: true, ..class("rooms.>") },
            Class { feed: FeedBy::Pattern, ..class("rooms.public.>") },
            Class { authorize: authorize("authz.secret"), ..class("*.secret") },
        ];
        change(config);
    })
    .await
}

/// Allows what begins with `rooms.`, except for what names `private`.
fn no_private_rooms(question: &Value) -> Option<Value> {
    let channel = question["channel"].as_str()?;
    let is_private = channel.contains("private") || channel.contains(['*', '>']);
    Some(if is_private {
        json!({ "allow": false, "message": "members only" })
    } else {
        json!({ "allow": true })
    })
}

async fn subscribe(client: &mut Client, channel: &str) -> Value {
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": channel })).await;
    client.next().await.unwrap()
}

async fn assert_refused(client: &mut Client, channel: &str, code: &str) {
    let answer = subscribe(client, channel).await;
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{channel}: {answer}");
    assert_eq!(answer["id"], 1);
}

#[tokio::test]
async fn svc_02_no_wildcard_and_no_narrower_class_is_a_way_around_a_service() {
    let edge = rooms(|_| {}).await;
    let decider = Decider::start(&edge.nats, "authz.rooms", no_private_rooms).await;
    let mut alice = edge.client("alice").await;
    assert_eq!(subscribe(&mut alice, "rooms.lobby").await["type"], "subscribed");
    // The class of these has no `authorize`, but they are below one that has.
    assert_eq!(subscribe(&mut alice, "rooms.public.1").await["type"], "subscribed");
    for around in
        ["rooms.private.1", "rooms.public.private", "rooms.*", "rooms.>", "rooms.*.1", "rooms.public.>"]
    {
        assert_refused(&mut alice, around, "forbidden").await;
    }
    // Roles decide first, so the service is not asked about what they refuse.
    let asked = decider.questions().len();
    assert_refused(&mut alice, "user.bob.x", "forbidden").await;
    assert_eq!(decider.questions().len(), asked);
    assert_eq!(subscribe(&mut alice, "things.1").await["type"], "subscribed");
    assert_eq!(decider.questions().len(), asked, "no service decides about it");
    let question = &decider.questions()[0];
    let expected = json!({
        "channel": "rooms.lobby", "user": "alice", "roles": ["user"], "issuer": null, "claims": null,
        "endpoint": "/ws", "address": "127.0.0.1",
    });
    assert_eq!(*question, expected);
}

#[tokio::test]
async fn svc_02_where_two_services_decide_both_must_allow_and_a_dead_one_refuses() {
    let edge = rooms(|_| {}).await;
    let rooms = Decider::start(&edge.nats, "authz.rooms", no_private_rooms).await;
    let mut alice = edge.client("alice").await;
    assert_refused(&mut alice, "rooms.secret", "unavailable").await;
    assert_refused(&mut alice, "things.secret", "unavailable").await;
    let allows = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&allows);
    let secret = Decider::start(&edge.nats, "authz.secret", move |_| {
        Some(json!({ "allow": answers.load(Ordering::Relaxed), "cache_s": 0 }))
    })
    .await;
    assert_refused(&mut alice, "rooms.secret", "forbidden").await;
    allows.store(true, Ordering::Relaxed);
    assert_eq!(subscribe(&mut alice, "rooms.secret").await["type"], "subscribed");
    assert_eq!((rooms.questions().len(), secret.questions().len()), (1, 2), "one answer is kept");
}

#[tokio::test]
async fn svc_02_a_call_that_reads_last_values_needs_the_answer_too() {
    let stage = Stage::changed("sentio", |config| {
        for class in config.classes.iter_mut().filter(|class| class.pattern.as_str().starts_with("prices.")) {
            class.authorize = Some(subject("authz.prices"));
        }
    })
    .await;
    let call =
        async |path: &str| stage.call("GET", path, &json!({ "sub": "alice", "role": "user" }), "").await;
    let (one, all) = ("/api/v1/dashboard/market-data?symbols=AAPL", "/api/v1/dashboard/market-data");
    assert_eq!(call(one).await.status, 503);
    let decider = Decider::start(&stage.edge.nats, "authz.prices", |question| {
        Some(json!({ "allow": question["channel"] == "prices.AAPL" }))
    })
    .await;
    assert!([200, 404].contains(&call(one).await.status));
    for refused in [all, "/api/v1/dashboard/market-data?symbols=AAPL,MSFT"] {
        assert_eq!(call(refused).await.status, 403, "{refused}");
    }
    assert!(decider.questions().iter().all(|question| question["user"] == "alice"));
}

#[tokio::test]
async fn svc_03_a_lying_service_allows_nothing() {
    let edge = rooms(|_| {}).await;
    let lies = [
        "true",
        "{}",
        "{\"allow\":\"yes\"}",
        "{\"allow\":true,\"allow\":true}",
        "{\"allow\":true,\"cache_s\":99}",
        "",
    ];
    let at = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let answers = move |_: &Value| {
        Some(Bytes::from_static(lies[at.fetch_add(1, Ordering::Relaxed) % lies.len()].as_bytes()))
    };
    let _decider = Decider::start_raw(&edge.nats, "authz.rooms", answers).await;
    let mut alice = edge.client("alice").await;
    for _ in lies {
        assert_refused(&mut alice, "rooms.lobby", "unavailable").await;
    }
}

#[tokio::test]
async fn svc_02_an_answer_is_kept_until_a_revocation() {
    let edge = rooms(|_| {}).await;
    let decider =
        Decider::start(&edge.nats, "authz.rooms", |_| Some(json!({ "allow": true, "cache_s": 60 }))).await;
    for _ in 0..3 {
        let mut alice = edge.client("alice").await;
        assert_eq!(subscribe(&mut alice, "rooms.lobby").await["type"], "subscribed");
    }
    assert_eq!(decider.questions().len(), 1);
    let revoke = json!({ "user": "bob" }).to_string();
    edge.nats.operator().await.request("tidegate.revoke", revoke.into()).await.unwrap();
    let mut alice = edge.client("alice").await;
    assert_eq!(subscribe(&mut alice, "rooms.lobby").await["type"], "subscribed");
    assert_eq!(decider.questions().len(), 2);
}

#[tokio::test]
async fn what_a_service_refuses_is_one_event_of_the_audit_feed() {
    let edge = rooms(|config| config.audit.subject = Some(subject("tidegate.audit"))).await;
    let mut feed = edge.nats.operator().await.subscribe("tidegate.audit").await.unwrap();
    edge.nats.until_subscribed("operator", "tidegate.audit").await;
    let _decider = Decider::start(&edge.nats, "authz.rooms", no_private_rooms).await;
    let mut alice = edge.client("alice").await;
    assert_refused(&mut alice, "rooms.private.1", "forbidden").await;
    assert_refused(&mut alice, "things.secret", "unavailable").await;
    assert_eq!(subscribe(&mut alice, "rooms.lobby").await["type"], "subscribed");
    let mut refused = Vec::new();
    loop {
        let event = within("an event", futures_util::StreamExt::next(&mut feed)).await.unwrap();
        let event: Value = serde_json::from_slice(&event.payload).unwrap();
        if event["event"] == "subscribed" {
            break;
        }
        if event["event"] == "refused" {
            let of = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            refused.push([of("user"), of("channel"), of("code"), of("reason"), of("detail")]);
        }
    }
    let expected = [
        ["alice", "rooms.private.1", "forbidden", "refused_by_service", "members only"],
        [
            "alice",
            "things.secret",
            "unavailable",
            "service_absent",
            "authz.secret: no service subscribes to its subject",
        ],
    ];
    assert_eq!(refused, expected.map(|event| event.map(str::to_owned)));
}

#[tokio::test]
async fn a_client_that_leaves_while_a_service_thinks_gets_nothing_afterwards() {
    let edge = rooms(|_| {}).await;
    let (asked, mut questions) = tokio::sync::mpsc::channel(1);
    let (answer, mut answers) = tokio::sync::mpsc::channel::<()>(1);
    let client = edge.nats.decider().await;
    let mut requests = client.subscribe("authz.rooms").await.unwrap();
    edge.nats.until_subscribed("decider", "authz.rooms").await;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let request = futures_util::StreamExt::next(&mut requests).await.unwrap();
        asked.send(()).await.unwrap();
        answers.recv().await.unwrap();
        client.publish(request.reply.unwrap(), "{\"allow\":true}".into()).await.unwrap();
        client.flush().await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut alice = edge.client("alice").await;
    alice.send(&json!({ "type": "subscribe", "id": 1, "channel": "rooms.lobby" })).await;
    questions.recv().await.unwrap();
    alice.send(&json!({ "type": "unsubscribe", "id": 2, "channel": "rooms.lobby" })).await;
    let left = alice.until("unsubscribed").await;
    assert!(left.iter().all(|message| message["type"] != "subscribed"), "{left:?}");
    answer.send(()).await.unwrap();
    let producer = edge.nats.client().await;
    producer.publish("rooms.lobby", "1".into()).await.unwrap();
    producer.flush().await.unwrap();
    // A second subscription of the same session goes through, so the first has had its turn.
    alice.subscribe("things.1").await;
    assert_eq!(alice.so_far().await, Vec::<Value>::new());
}
