//! Access without a token: with an API key, or anonymously at endpoints that permit it. Also the limit for each user.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::auth::api_key::ApiKeyConfig;
use tidegate::config::auth::api_key::KeyDigest;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::endpoint::access::AccessConfig;
use tidegate::config::limits::UserLimitPolicy;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::raw;
use crate::support::raw::Answer;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::secrets;

const KEY: &str = "5f0c-the-key-of-the-reports";

pub(crate) fn api_key(key: &str, user: &str, role: &str) -> ApiKeyConfig {
    secrets::registered(key.to_owned());
    let digest = digest::digest(&digest::SHA256, key.as_bytes());
    let sha256 = KeyDigest(digest.as_ref().try_into().unwrap());
    ApiKeyConfig { name: user.to_owned(), sha256, user: user.to_owned(), role: role.to_owned() }
}

/// `/ws` needs a token, `/keys` a token or an API key, and `/open` no credential.
fn three_endpoints(config: &mut Config) {
    config.roles.push(role("guest", &["prices.*"], &[], &[]));
    config.auth.api_keys = vec![api_key(KEY, "reports", "user")];
    let at =
        |path: &str, access| EndpointConfig { path: path.to_owned(), access, ..EndpointConfig::default() };
    let keys = AccessConfig { api_keys: true, ..AccessConfig::default() };
    let open = AccessConfig { anonymous_role: Some("guest".to_owned()), ..AccessConfig::default() };
    config.endpoints = vec![at("/ws", AccessConfig::default()), at("/keys", keys), at("/open", open)];
}

async fn refused(edge: &TestEdge, path: &str, headers: &str) -> Answer {
    ask(&edge.address(), handshake(path, headers)).await
}

async fn connected(edge: &TestEdge, path: &str, headers: &[(&'static str, &str)]) -> (Client, Value) {
    let mut client = Client::open_with(&edge.address(), path, headers).await;
    let connected = client.expect("connected").await;
    (client, connected)
}

#[tokio::test]
async fn a_key_may_be_wherever_a_token_may() {
    let edge = TestEdge::with(three_endpoints).await;
    let bearer = format!("Bearer {KEY}");
    let item = format!("tidegate.v1.json, base64url.bearer.{}", URL_SAFE_NO_PAD.encode(KEY));
    for header in [("authorization", bearer.as_str()), ("sec-websocket-protocol", item.as_str())] {
        let (mut client, connected) = connected(&edge, "/keys", &[header]).await;
        assert_eq!((&connected["user"], connected.get("expires_in_ms")), (&json!("reports"), None));
        client.subscribe("user.reports.done").await;
        client.send(&json!({ "type": "subscribe", "channel": "user.alice.done" })).await;
        assert_eq!(client.expect("error").await["code"], "forbidden");
    }
    let mut client = Client::open(&edge.address(), "/keys", None).await;
    client.send(&json!({ "type": "auth", "token": KEY })).await;
    assert_eq!(client.expect("connected").await["user"], "reports");
    let (_, connected) =
        connected(&edge, "/keys", &[("authorization", &format!("Bearer {}", token("alice")))]).await;
    assert_eq!(connected["user"], "alice", "a token is taken too");
}

#[tokio::test]
async fn tok_04_a_wrong_key_and_a_key_at_the_wrong_endpoint_are_rejected_like_a_token() {
    let edge = TestEdge::with(three_endpoints).await;
    for (path, credential) in [("/ws", KEY), ("/open", KEY), ("/keys", "wrong"), ("/keys", &KEY[1..])] {
        let answer = refused(&edge, path, &format!("Authorization: Bearer {credential}\r\n")).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("invalid_token")), "{path}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer error=\"invalid_token\""));
        assert!(!format!("{answer:?}").contains(credential), "{answer:?}");
        if path != "/open" {
            let mut client = Client::open(&edge.address(), path, None).await;
            client.send(&json!({ "type": "auth", "token": credential })).await;
            let (messages, code) = client.until_closed().await;
            assert_eq!((&messages[0]["code"], code), (&json!("unauthorized"), Some(4501)), "{path}");
            assert!(!messages[0].to_string().contains(credential), "{}", messages[0]);
        }
    }
}

#[tokio::test]
async fn each_endpoint_has_its_own_anonymous_role() {
    let edge = TestEdge::with(three_endpoints).await;
    let (mut guest, connected) = connected(&edge, "/open", &[]).await;
    assert_eq!(connected["user"], "anonymous");
    guest.subscribe("prices.AAPL").await;
    for path in ["/ws", "/keys"] {
        let mut client = Client::open(&edge.address(), path, None).await;
        assert!(
            client.so_far().await.is_empty(),
            "{path}: no `connected` before the client is authenticated"
        );
    }
    guest.send(&json!({ "type": "auth", "token": KEY })).await;
    assert_eq!(guest.expect("error").await["code"], "unauthorized", "this endpoint accepts no keys");
    guest.send(&json!({ "type": "auth", "token": token("alice") })).await;
    assert_eq!(guest.expect("connected").await["user"], "alice");
}

#[tokio::test]
async fn an_endpoint_may_require_a_credential_where_others_do_not() {
    let edge = TestEdge::with(|config| {
        three_endpoints(config);
        config.auth.anonymous_role = "guest".to_owned();
        config.endpoints[1].access.anonymous_role = Some(String::new());
    })
    .await;
    let (_, connected) = connected(&edge, "/ws", &[]).await;
    assert_eq!(connected["user"], "anonymous");
    let mut client = Client::open(&edge.address(), "/keys", None).await;
    assert!(client.so_far().await.is_empty());
}

fn two_each(config: &mut Config) {
    three_endpoints(config);
    config.limits.connections_per_user = 2;
}

fn bearer(credential: &str) -> String {
    format!("Authorization: Bearer {credential}\r\n")
}

fn assert_full(answer: &Answer) {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (429, Some("limit_exceeded")), "{answer:?}");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0 && answer.json()["detail"].as_str().unwrap().contains("allowed (2)"), "{answer:?}");
}

#[tokio::test]
async fn ex_01_the_sockets_of_a_user_are_limited_and_other_users_are_not_affected() {
    let edge = TestEdge::with(two_each).await;
    let (one, two) = edge.pair().await;
    assert_ne!(one.shard, two.shard, "one count for all shards");
    assert_full(&refused(&edge, "/ws", &bearer(&token("alice"))).await);
    // In two pieces, so that hyper parses it.
    let with_length = format!("Content-Length: 0\r\n{}", bearer(&token("alice")));
    assert_full(&refused(&edge, "/ws", &with_length).await);
    for user in ["bob", "carol"] {
        edge.client(user).await;
    }
    let key = bearer(KEY);
    let (_one, _two) = (
        connected(&edge, "/keys", &[("authorization", &format!("Bearer {KEY}"))]).await,
        connected(&edge, "/keys", &[("authorization", &format!("Bearer {KEY}"))]).await,
    );
    assert_full(&refused(&edge, "/keys", &key).await);
    let mut guests = Vec::new();
    for _ in 0..4 {
        guests.push(connected(&edge, "/open", &[]).await);
    }
    drop(one);
    eventually("alice has a socket less", || async {
        refused(&edge, "/ws", &bearer(&token("alice"))).await.status == 101
    })
    .await;
    drop(two);
}

#[tokio::test]
async fn ex_01_authenticating_above_the_limit_closes_the_socket_and_renewing_a_token_does_not() {
    let edge = TestEdge::with(two_each).await;
    let (mut one, _two) = edge.pair().await;
    for _ in 0..3 {
        one.send(&json!({ "type": "auth", "token": token("alice") })).await;
        assert_eq!(one.expect("connected").await["user"], "alice");
    }
    for path in ["/ws", "/open"] {
        let mut late = Client::open(&edge.address(), path, None).await;
        late.send(&json!({ "type": "auth", "token": token("alice") })).await;
        let (messages, code) = late.until_closed().await;
        let close = messages.last().unwrap();
        assert_eq!(
            (close["type"].as_str(), close["code"].as_u64(), code),
            (Some("close"), Some(4508), Some(4508))
        );
        assert!(messages.iter().all(|message| message["user"] != "alice"), "{messages:?}");
        let mut other = Client::open(&edge.address(), path, None).await;
        other.send(&json!({ "type": "auth", "token": token("bob") })).await;
        let greetings = if path == "/open" { 2 } else { 1 };
        for _ in 0..greetings {
            other.expect("connected").await;
        }
    }
}

#[tokio::test]
async fn a_reloaded_page_gets_the_only_slot_of_its_user() {
    let edge = TestEdge::with(|config| config.limits.connections_per_user = 1).await;
    for user in (0..30).map(|number| format!("user-{number}")) {
        // The browser closes the old socket and opens the next at once, and another thread serves it.
        let mut old = edge.raw(&user).await;
        old.send(&raw::frame(0x88, &1001_u16.to_be_bytes())).await;
        let answer = ask(&edge.address(), handshake("/ws", &bearer(&token(&user)))).await;
        assert_eq!(answer.status, 101, "{answer:?}");
    }
}

#[tokio::test]
async fn with_replace_a_new_socket_ends_the_oldest_one_on_any_thread() {
    let edge = TestEdge::with(|config| {
        config.limits.connections_per_user = 2;
        config.limits.connections_per_user_policy = UserLimitPolicy::Replace;
    })
    .await;
    let mut bob = edge.client("bob").await;
    let (mut one, mut two) = edge.pair().await;
    let mut three = edge.client("alice").await;
    let close = one.expect("close").await;
    assert_eq!((&close["code"], &close["reason"]), (&json!(4508), &json!("too_many_connections")));
    assert_eq!(one.until_closed().await.1, Some(4508));
    // The same with the credential in a message, and on the other thread.
    let mut four = Client::open(&edge.address(), "/ws", None).await;
    four.send(&json!({ "type": "auth", "token": token("alice") })).await;
    four.expect("connected").await;
    assert_eq!(two.until_closed().await.1, Some(4508));
    for client in [&mut three, &mut four, &mut bob] {
        assert!(client.so_far().await.is_empty());
    }
}

#[tokio::test]
async fn authenticating_above_the_limit_closes_with_a_code_that_forbids_a_retry() {
    let edge = TestEdge::with(|config| config.limits.connections_per_user = 1).await;
    let _one = edge.client("alice").await;
    let mut two = Client::open(&edge.address(), "/ws", None).await;
    two.send(&json!({ "type": "auth", "token": token("alice") })).await;
    assert_eq!(two.expect("close").await["code"], 4508);
    assert_eq!(two.until_closed().await.1, Some(4508));
}
