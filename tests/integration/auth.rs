//! Authentication: where a token may be, which tokens are rejected and how, and what happens when one expires.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use tidegate::auth::Authenticator;
use tidegate::config::Config;
use tidegate::config::auth::AuthConfig;
use tidegate::config::auth::key::KeyConfig;
use tidegate::config::secret::Secret;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::signed;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::nats_server::NatsServer;
use crate::support::raw::Answer;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::table::SYSTEM;

/// The time in `from_now` seconds, in seconds since 1970.
fn at(from_now: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + from_now
}

fn item(token: &str) -> String {
    format!("base64url.bearer.{}", URL_SAFE_NO_PAD.encode(token))
}

async fn ask_with(edge: &TestEdge, headers: &str) -> Answer {
    ask(&edge.address(), handshake("/ws", headers)).await
}

/// A client that is not authenticated yet.
async fn unauthenticated(edge: &TestEdge) -> Client {
    Client::open(&edge.address(), "/ws", None).await
}

async fn authenticate(client: &mut Client, token: &str) {
    client.send(&json!({ "type": "auth", "token": token })).await;
}

async fn subscribe_refused(client: &mut Client, channel: &str) -> Value {
    client.send(&json!({ "type": "subscribe", "id": channel, "channel": channel })).await;
    let error = client.expect("error").await;
    assert_eq!(error["id"], channel);
    error["code"].clone()
}

fn with_guests(config: &mut Config) {
    config.roles.push(role("guest", &["prices.*"], &[], &[]));
    config.auth.anonymous_role = "guest".to_owned();
}

#[tokio::test]
async fn a_new_authenticator_applies_to_new_clients_and_open_sessions_stay() {
    let edge = TestEdge::start().await;
    let mut alice = edge.client("alice").await;
    let secret = "another secret that is only ever used by these tests";
    let key = KeyConfig::hs256("next", Secret::new(secret));
    let auth = AuthConfig { keys: vec![key], ..AuthConfig::default() };
    let roles = vec![role("user", &["prices.*"], &[], &[])];
    edge.app.node.current_authenticator.replace(Authenticator::new(auth, roles).unwrap());
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let before = ask_with(&edge, &bearer(&token("alice"))).await;
    assert_eq!((before.status, before.json()["code"].as_str()), (401, Some("invalid_token")));
    let claims = json!({ "sub": "alice", "role": "user", "iat": at(0), "exp": at(3600) });
    let after = signed(secret, Some("next"), &claims);
    assert_eq!(ask_with(&edge, &bearer(&after)).await.status, 101);
    // The new one permits less, but open sessions keep their permissions.
    alice.subscribe("chat.general").await;
    let mut next = Client::connect(&edge.address(), &after).await;
    assert_eq!(subscribe_refused(&mut next, "chat.general").await, "forbidden");
}

/// RFC 6750 §2: a request has one credential.
#[tokio::test]
async fn two_authorization_headers_are_rejected_whatever_their_values() {
    let edge = TestEdge::start().await;
    let bearer = |user: &str| format!("Authorization: Bearer {}\r\n", token(user));
    for second in [
        bearer("alice"),
        bearer("bob"),
        "authorization: Basic eA==\r\n".to_owned(),
        "Authorization:\r\n".to_owned(),
    ] {
        for headers in [format!("{}{second}", bearer("alice")), format!("{second}{}", bearer("alice"))] {
            let answer = ask_with(&edge, &headers).await;
            assert_eq!(
                (answer.status, answer.json()["code"].as_str()),
                (400, Some("bad_credential")),
                "{second}"
            );
        }
    }
    let stage = Stage::shipped("sentio").await;
    let (alice, target) =
        (json!({ "sub": "alice", "role": "user" }), "/api/v1/dashboard/market-data?symbols=A");
    let answer = stage.call_with(&bearer("alice"), "GET", target, &alice, "").await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("bad_credential")));
}

/// RFC 6750 §2.1: `Authorization: Bearer <token>`. RFC 9110 §11.1: the scheme is case-insensitive.
#[tokio::test]
async fn a_token_may_be_in_the_authorization_header() {
    let edge = TestEdge::start().await;
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let header = format!("{scheme} {}", token("alice"));
        let mut client = Client::open_with(&edge.address(), "/ws", &[("authorization", &header)]).await;
        let connected = client.expect("connected").await;
        assert_eq!(connected["user"], "alice");
        let left = connected["expires_in_ms"].as_u64().unwrap();
        assert!((3_500_000..=3_600_000).contains(&left), "{left}");
        assert!(connected["session"].is_string() && connected["node"].is_string(), "{connected}");
    }
}

/// PROTOCOL.md: "The answer never echoes this item."
#[tokio::test]
async fn tok_02_a_token_may_be_among_the_subprotocols_and_is_never_echoed() {
    let edge = TestEdge::start().await;
    let item = item(&token("alice"));
    for offer in [
        format!("tidegate.v1.json, {item}"),
        format!("{item}, tidegate.v1.json"),
        format!("{item},tidegate.v1.json\r\nSec-WebSocket-Protocol: other"),
    ] {
        let mut client = RawClient::connect(&edge.address()).await;
        client.send(&handshake("/ws", &format!("Sec-WebSocket-Protocol: {offer}\r\n"))).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.header("sec-websocket-protocol"), Some("tidegate.v1.json"));
        assert!(!answer.head.contains("bearer"), "{answer:?}");
        let connected = client.message().await;
        assert_eq!((&connected["type"], &connected["user"]), (&json!("connected"), &json!("alice")));
    }
    let other = self::item(&token("bob"));
    for offer in [
        item.clone(),
        format!("{item}, {other}, tidegate.v1.json"),
        format!("{item}, {item}, tidegate.v1.json"),
        "base64url.bearer.***, tidegate.v1.json".to_owned(),
        "base64url.bearer., tidegate.v1.json".to_owned(),
        format!("{item}==, tidegate.v1.json"),
    ] {
        let answer = ask_with(&edge, &format!("Sec-WebSocket-Protocol: {offer}\r\n")).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("bad_credential")), "{offer}");
        assert!(!format!("{answer:?}").contains(&item), "{answer:?}");
    }
}

#[tokio::test]
async fn the_authorization_header_takes_precedence_over_a_subprotocol() {
    let edge = TestEdge::start().await;
    let bearer = format!("Bearer {}", token("alice"));
    let protocols = format!("tidegate.v1.json, {}", item(&token("bob")));
    let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", protocols.as_str())];
    let connected = Client::open_with(&edge.address(), "/ws", &headers).await.expect("connected").await;
    assert_eq!(connected["user"], "alice");
}

#[tokio::test]
async fn a_token_may_be_the_first_message() {
    let edge = TestEdge::start().await;
    let mut client = unauthenticated(&edge).await;
    assert!(client.so_far().await.is_empty(), "no `connected` before the client is authenticated");
    assert_eq!(subscribe_refused(&mut client, "chat.general").await, "unauthorized");
    authenticate(&mut client, &token("alice")).await;
    assert_eq!(client.expect("connected").await["user"], "alice");
    client.subscribe("user.alice.notifications").await;
    edge.publish("user.alice.notifications", "1").await;
    assert_eq!(client.expect("message").await["data"], 1);
}

/// Tokens that are rejected, and why.
fn bad_tokens() -> Vec<(&'static str, String)> {
    let good = token("alice");
    let (signed, _) = good.rsplit_once('.').unwrap();
    let none = [r#"{"alg":"none"}"#, r#"{"sub":"alice","role":"user","exp":99999999999}"#];
    vec![
        ("expired", token_with(&json!({ "exp": at(-60) }))),
        ("not valid yet", token_with(&json!({ "nbf": at(60) }))),
        ("without an end", token_with(&json!({ "exp": null }))),
        ("of no role", token_with(&json!({ "role": "stranger" }))),
        ("of another subject space", token_with(&json!({ "sub": "alice.bob" }))),
        ("of everybody", token_with(&json!({ "sub": "*" }))),
        ("with another signature", format!("{signed}.{}", URL_SAFE_NO_PAD.encode([7; 32]))),
        ("without a signature", format!("{signed}.")),
        ("that is none", "nonsense".to_owned()),
        ("alg none", format!("{}.", none.map(|part| URL_SAFE_NO_PAD.encode(part)).join("."))),
        ("too long", "x".repeat(8193)),
    ]
}

/// RFC 6750 §3 and §3.1: 401 with `WWW-Authenticate: Bearer` and the error `invalid_token`.
#[tokio::test]
async fn an_invalid_token_in_the_handshake_gets_401_with_the_reason_but_not_the_token() {
    let edge = TestEdge::with(with_guests).await;
    for (what, bad) in bad_tokens() {
        for headers in [
            format!("Authorization: Bearer {bad}\r\n"),
            format!("Sec-WebSocket-Protocol: tidegate.v1.json, {}\r\n", item(&bad)),
        ] {
            let answer = ask_with(&edge, &headers).await;
            let code = if what == "expired" { "token_expired" } else { "invalid_token" };
            assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some(code)), "{what}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{what}: {challenge}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert!(!format!("{answer:?}").contains(bad.as_str()), "{what}: {answer:?}");
        }
    }
    for header in ["Basic YWxpY2U6c2VjcmV0", "Bearer", "Bearer a b", "Bearer \u{e9}"] {
        let answer = ask_with(&edge, &format!("Authorization: {header}\r\n")).await;
        assert_eq!(answer.status, 400, "{header}: {answer:?}");
    }
}

#[tokio::test]
async fn an_invalid_token_in_the_first_message_ends_the_session() {
    let edge = TestEdge::start().await;
    for (what, bad) in bad_tokens() {
        let mut client = unauthenticated(&edge).await;
        authenticate(&mut client, &bad).await;
        let error = client.expect("error").await;
        let (code, name) = if what == "expired" { (4001, "token_expired") } else { (4501, "unauthorized") };
        assert_eq!(error["code"], name, "{what}");
        assert!(!error.to_string().contains(bad.as_str()), "{what}: {error}");
        let close = client.expect("close").await;
        assert_eq!((&close["code"], &close["reason"]), (&json!(code), &json!(name)), "{what}");
        assert_eq!(client.until_closed().await.1, Some(code), "{what}");
    }
}

#[tokio::test]
async fn hs_04_a_client_that_never_authenticates_is_closed_and_causes_no_nats_traffic() {
    let edge = TestEdge::with(|config| config.limits.auth_timeout = std::time::Duration::from_secs(1)).await;
    let mut silent = unauthenticated(&edge).await;
    let mut busy = unauthenticated(&edge).await;
    for channel in ["chat.general", "prices.*", "user.alice.x"] {
        assert_eq!(subscribe_refused(&mut busy, channel).await, "unauthorized");
    }
    let talks = async {
        loop {
            busy.send(&json!({ "type": "ping" })).await;
            match busy.next().await {
                Some(message) if message["type"] == "pong" => {}
                Some(message) => break assert_eq!(message["code"], 4504, "{message}"),
                None => break,
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let ((messages, code), ()) = tokio::join!(silent.until_closed(), talks);
    assert_eq!(code, Some(4504));
    assert_eq!(messages, [json!({ "type": "close", "code": 4504, "reason": "auth_timeout" })]);
    assert_eq!(busy.until_closed().await.1, Some(4504));
    for prefix in ["chat.", "prices.", "user."] {
        assert_eq!(edge.nats.subscriptions(prefix).await, 0);
    }
}

#[tokio::test]
async fn without_a_token_a_client_is_anonymous_and_may_authenticate_later() {
    let edge = TestEdge::with(with_guests).await;
    let mut client = unauthenticated(&edge).await;
    let connected = client.expect("connected").await;
    assert_eq!((&connected["user"], connected.get("expires_in_ms")), (&json!("anonymous"), None));
    client.subscribe("prices.AAPL").await;
    assert_eq!(subscribe_refused(&mut client, "chat.general").await, "forbidden");
    authenticate(&mut client, "nonsense").await;
    assert_eq!(client.expect("error").await["code"], "unauthorized");
    assert_eq!(subscribe_refused(&mut client, "chat.general").await, "forbidden");
    authenticate(&mut client, &token("alice")).await;
    assert_eq!(client.expect("connected").await["user"], "alice");
    client.subscribe("chat.general").await;
    edge.publish("prices.AAPL", "1").await;
    assert_eq!(client.expect("message").await["channel"], "prices.AAPL");
}

#[tokio::test]
async fn a_list_claim_permits_each_account_and_a_new_token_revokes_the_missing_ones() {
    let edge =
        TestEdge::with(|config| config.roles.push(role("family", &["account.{accounts}.updates"], &[], &[])))
            .await;
    let member = |accounts: Value| token_with(&json!({ "role": "family", "accounts": accounts }));
    let mut client = Client::connect(&edge.address(), &member(json!(["a1", "a2"]))).await;
    client.subscribe("account.a1.updates").await;
    client.subscribe("account.a2.updates").await;
    for other in ["account.a3.updates", "account.*.updates"] {
        assert_eq!(subscribe_refused(&mut client, other).await, "forbidden", "{other}");
    }
    edge.publish("account.a2.updates", "1").await;
    assert_eq!(client.expect("message").await["channel"], "account.a2.updates");
    authenticate(&mut client, &member(json!(["a1"]))).await;
    client.expect("connected").await;
    assert_eq!(client.expect("unsubscribed").await["channel"], "account.a2.updates");
    authenticate(&mut client, &member(json!(["a1", ">"]))).await;
    assert_eq!(client.expect("error").await["code"], "unauthorized");
}

#[tokio::test]
async fn acl_01_only_the_admin_role_may_subscribe_to_admin_users() {
    let edge = TestEdge::start().await;
    for role in [json!("admin"), json!(["user", "admin"]), json!(["stranger", "admin"])] {
        let admin = token_with(&json!({ "role": role }));
        Client::connect(&edge.address(), &admin).await.subscribe("admin.users").await;
    }
    for role in [json!("user"), json!(["user", "Admin"]), json!(["user", "admin,user"])] {
        let user = token_with(&json!({ "role": role, "admin": true, "roles": ["admin"] }));
        let mut client = Client::connect(&edge.address(), &user).await;
        for channel in ["admin.users", "admin.*", "admin.>", "*.users", "*", ">"] {
            assert_eq!(subscribe_refused(&mut client, channel).await, "forbidden", "{role}: {channel}");
        }
        edge.publish("admin.users", "secret").await;
        assert!(client.so_far().await.is_empty());
    }
    for role in
        [json!("admin,user"), json!(["Admin"]), json!("ADMIN"), json!(" admin"), json!({ "admin": 1 })]
    {
        let bearer = format!("Authorization: Bearer {}\r\n", token_with(&json!({ "role": role })));
        assert_eq!(ask_with(&edge, &bearer).await.status, 401, "{role}");
    }
}

#[tokio::test]
async fn acl_01_the_role_is_in_the_configured_claim_and_nowhere_else() {
    let edge = TestEdge::with(|config| config.auth.role_claim = "realm_access.roles".to_owned()).await;
    let nested = token_with(&json!({ "role": "user", "realm_access": { "roles": ["admin"] } }));
    Client::connect(&edge.address(), &nested).await.subscribe("admin.users").await;
    for claims in [json!({ "role": "admin" }), json!({ "realm_access.roles": ["admin"] })] {
        let bearer = format!("Authorization: Bearer {}\r\n", token_with(&claims));
        assert_eq!(ask_with(&edge, &bearer).await.status, 401, "{claims}");
    }
}

/// A role with all permissions that a role can have.
fn with_root(config: &mut Config) {
    config.roles.push(role("root", &[">"], &[">"], &[">"]));
    config.limits.max_errors = 10_000;
    config.limits.commands_burst = 10_000;
}

async fn root(edge: &TestEdge) -> Client {
    Client::connect(&edge.address(), &token_with(&json!({ "role": "root" }))).await
}

/// PROTOCOL.md: "are always rejected, whatever the roles say, and so is a pattern whose first token is a wildcard"
#[tokio::test]
async fn sub_05_no_role_reaches_system_subjects() {
    let edge = TestEdge::with_nats(NatsServer::open().await, with_root, false).await;
    let (_nats, mut all) = edge.nats.subscribe(">").await;
    let mut client = root(&edge).await;
    let roots = SYSTEM.into_iter().chain(["_INBOX_other", "$anything"]);
    for root in roots {
        for subject in [root.to_owned(), format!("{root}.a"), format!("{root}.a.b")] {
            assert_eq!(subscribe_refused(&mut client, &subject).await, "forbidden", "{subject}");
            for kind in ["publish", "request"] {
                client.send(&json!({ "type": kind, "channel": subject, "data": 1 })).await;
                assert_eq!(client.expect("error").await["code"], "forbidden", "{kind} {subject}");
            }
        }
        for pattern in [format!("{root}.>"), format!("{root}.*")] {
            assert_eq!(subscribe_refused(&mut client, &pattern).await, "forbidden", "{pattern}");
        }
    }
    for pattern in [">", "*", "*.>", "*.API.>", "*.*"] {
        assert_eq!(subscribe_refused(&mut client, pattern).await, "forbidden", "{pattern}");
    }
    // None of these has reached NATS: the first message there is a permitted one.
    client.send(&json!({ "type": "publish", "channel": "allowed", "data": 1 })).await;
    client.expect("published").await;
    let mut subjects = Vec::new();
    while subjects.last().is_none_or(|subject| subject != "allowed") {
        let message = futures_util::StreamExt::next(&mut all).await.unwrap();
        subjects.push(message.subject.to_string());
    }
    // Subjects of the node itself.
    subjects.retain(|subject| !subject.starts_with("_INBOX_tidegate."));
    assert_eq!(subjects, ["allowed"]);
}

#[tokio::test]
async fn sub_06_malformed_subjects_never_reach_nats() {
    let edge = TestEdge::with_nats(NatsServer::open().await, with_root, false).await;
    let (_nats, mut all) = edge.nats.subscribe(">").await;
    let mut client = root(&edge).await;
    let malformed = [
        "",
        ".",
        "a..b",
        ".a",
        "a.",
        "a b",
        "a\tb",
        "a\r\nPUB x 1",
        "a\0",
        "a.>.b",
        "a.\u{2028}b",
        " a",
        "a ",
    ];
    for subject in malformed {
        for kind in ["publish", "request", "subscribe"] {
            client.send(&json!({ "type": kind, "channel": subject, "data": 1 })).await;
            assert_eq!(client.expect("error").await["code"], "bad_channel", "{kind} {subject:?}");
        }
    }
    for subject in ["a.*", "*", ">", "a.>", "a.b*c.d>e"] {
        for kind in ["publish", "request"] {
            client.send(&json!({ "type": kind, "channel": subject, "data": 1 })).await;
            assert_eq!(client.expect("error").await["code"], "bad_channel", "{kind} {subject:?}");
        }
    }
    client.send(&json!({ "type": "publish", "channel": "last", "data": 1 })).await;
    client.expect("published").await;
    loop {
        let message = futures_util::StreamExt::next(&mut all).await.unwrap();
        match message.subject.as_str() {
            "last" => break,
            subject => assert!(subject.starts_with("_INBOX_tidegate."), "{subject}"),
        }
    }
}

#[tokio::test]
async fn id_02_two_sockets_of_a_user_both_receive_each_message_once() {
    let edge = TestEdge::start().await;
    let (mut one, mut other) = edge.pair().await;
    for client in [&mut one, &mut other] {
        client.subscribe("user.alice.notifications").await;
        assert_eq!(subscribe_refused(client, "user.bob.notifications").await, "forbidden");
        assert_eq!(subscribe_refused(client, "user.*.notifications").await, "forbidden");
    }
    edge.publish("user.alice.notifications", "1").await;
    edge.publish("user.bob.notifications", "2").await;
    for client in [&mut one, &mut other] {
        assert_eq!(client.expect("message").await["data"], 1);
        assert!(client.so_far().await.is_empty());
    }
}

#[tokio::test]
async fn exp_01_a_session_is_warned_before_its_token_expires_and_ends_with_it() {
    let edge =
        TestEdge::with(|config| config.limits.expiry_warning = std::time::Duration::from_secs(1)).await;
    let short = token_with(&json!({ "exp": at(5) }));
    let mut client = Client::connect(&edge.address(), &short).await;
    client.subscribe("chat.general").await;
    let expiring = client.expect("expiring").await;
    assert!((1..=1000).contains(&expiring["in_ms"].as_u64().unwrap()), "{expiring}");
    edge.publish("chat.general", "1").await;
    client.expect("message").await;
    let close = client.expect("close").await;
    assert_eq!((&close["code"], &close["reason"]), (&json!(4001), &json!("token_expired")));
    edge.publish("chat.general", "2").await;
    assert_eq!(client.until_closed().await, (Vec::new(), Some(4001)));
}

#[tokio::test]
async fn exp_01_a_token_that_expired_within_the_leeway_is_rejected() {
    let edge = TestEdge::start().await;
    let ended = token_with(&json!({ "exp": at(-2) }));
    for _ in 0..3 {
        let answer = ask_with(&edge, &format!("Authorization: Bearer {ended}\r\n")).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("token_expired")));
        assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""), "{answer:?}");
    }
    let mut client = unauthenticated(&edge).await;
    authenticate(&mut client, &ended).await;
    assert_eq!(client.expect("error").await["code"], "token_expired");
    let close = client.expect("close").await;
    assert_eq!((&close["code"], &close["reason"]), (&json!(4001), &json!("token_expired")));
    assert_eq!(client.until_closed().await.1, Some(4001));
    let mut client = edge.client("alice").await;
    authenticate(&mut client, &ended).await;
    assert_eq!(client.expect("error").await["code"], "token_expired");
    assert!(client.so_far().await.is_empty(), "an open session stays open");
}

#[tokio::test]
async fn exp_03_a_token_expires_by_the_wall_clock_even_if_the_clock_is_set() {
    let edge = TestEdge::start().await;
    let hour = token_with(&json!({ "exp": at(3600) }));
    let mut ends = Client::connect(&edge.address(), &hour).await;
    let mut goes_on = Client::connect(&edge.address(), &token_with(&json!({ "exp": at(9000) }))).await;
    edge.hooks.ahead_s.store(3605, Ordering::SeqCst);
    assert_eq!(ends.until("close").await.pop().unwrap()["code"], 4001);
    assert_eq!(ends.until_closed().await.1, Some(4001));
    assert!(goes_on.so_far().await.is_empty());
    edge.hooks.ahead_s.store(8990, Ordering::SeqCst);
    assert!(goes_on.expect("expiring").await["in_ms"].as_u64().unwrap() < 20_000);
    assert_eq!(goes_on.until("close").await.pop().unwrap()["code"], 4001);
}

#[tokio::test]
async fn exp_02_a_newer_token_of_the_same_user_extends_the_session() {
    let edge =
        TestEdge::with(|config| config.limits.expiry_warning = std::time::Duration::from_secs(1)).await;
    let short = token_with(&json!({ "exp": at(5) }));
    let mut client = Client::connect(&edge.address(), &short).await;
    client.subscribe("chat.general").await;
    client.expect("expiring").await;
    authenticate(&mut client, &token_with(&json!({ "exp": at(5) }))).await;
    let connected = client.expect("connected").await;
    assert!(connected["expires_in_ms"].as_u64().unwrap() > 1000, "{connected}");
    // The first token expires meanwhile. The session stays open, and warns again before the second token expires.
    client.expect("expiring").await;
    edge.publish("chat.general", "1").await;
    assert_eq!(client.expect("message").await["data"], 1);
    assert_eq!(client.expect("close").await["code"], 4001);
}

/// PROTOCOL.md: "A token of another user always ends the session with 4501: a session never changes its user."
#[tokio::test]
async fn exp_02_another_users_token_ends_the_session() {
    let edge = TestEdge::start().await;
    for other in [json!({ "sub": "bob" }), json!({ "iss": "somebody else" })] {
        let mut client = edge.client("alice").await;
        client.subscribe("user.alice.notifications").await;
        authenticate(&mut client, &token_with(&other)).await;
        assert_eq!(client.expect("error").await["code"], "unauthorized");
        assert_eq!(client.expect("close").await["code"], 4501);
        assert_eq!(client.until_closed().await.1, Some(4501));
    }
}

#[tokio::test]
async fn exp_02_a_token_with_fewer_permissions_ends_only_the_subscriptions_it_lacks() {
    let edge = TestEdge::start().await;
    let mut client = Client::connect(&edge.address(), &token_with(&json!({ "role": "admin" }))).await;
    for channel in ["chat.general", "admin.users", "admin.*"] {
        client.subscribe(channel).await;
    }
    authenticate(&mut client, &token_with(&json!({ "role": "user", "exp": at(3700) }))).await;
    client.expect("connected").await;
    for channel in ["admin.users", "admin.*"] {
        let ended = client.expect("unsubscribed").await;
        assert_eq!((&ended["channel"], &ended["code"]), (&json!(channel), &json!("forbidden")));
    }
    edge.publish("admin.users", "secret").await;
    edge.publish("chat.general", "1").await;
    let message = client.expect("message").await;
    assert_eq!((&message["channel"], &message["data"]), (&json!("chat.general"), &json!(1)));
    assert!(client.so_far().await.is_empty());
    crate::support::eventually("NATS has no subscription to admin.>", || async {
        edge.nats.subscriptions("admin.").await == 0
    })
    .await;
    assert_eq!(subscribe_refused(&mut client, "admin.users").await, "forbidden");
}

#[tokio::test]
async fn exp_02_a_token_that_expires_earlier_or_is_invalid_changes_nothing() {
    let edge = TestEdge::start().await;
    let mut client = Client::connect(&edge.address(), &token_with(&json!({ "role": "admin" }))).await;
    client.subscribe("admin.users").await;
    let (expired, older) = (json!({ "exp": at(-60) }), json!({ "role": "user", "exp": at(1800) }));
    for (token, code) in [
        (token_with(&expired), "token_expired"),
        (token_with(&older), "unauthorized"),
        ("nonsense".to_owned(), "unauthorized"),
    ] {
        authenticate(&mut client, &token).await;
        assert_eq!(client.expect("error").await["code"], code);
    }
    edge.publish("admin.users", "1").await;
    assert_eq!(client.expect("message").await["data"], 1);
}
