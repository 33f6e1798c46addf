//! Published keys: a node fetches them from its issuers, follows their rotation, and works on while they are away.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use serde_json::json;
use tidegate::auth::Authenticator;
use tidegate::auth::key_source::FetchState;
use tidegate::auth::key_source::KeySource;
use tidegate::config::Config;
use tidegate::config::auth::AuthConfig;
use tidegate::config::auth::issuer::IssuerConfig;

use crate::support::client::Client;
use crate::support::edge::SECRET;
use crate::support::edge::TestEdge;
use crate::support::eventually;
use crate::support::key_server::IssuerKey;
use crate::support::key_server::KeyServer;
use crate::support::raw::Answer;
use crate::support::raw::ask;
use crate::support::raw::handshake;

/// A node with these issuers. Unknown keys cause a fetch at once, and nothing else does.
async fn edge(issuers: Vec<IssuerConfig>) -> TestEdge {
    edge_with(issuers, |_| {}).await
}

async fn edge_with(issuers: Vec<IssuerConfig>, change: impl FnOnce(&mut Config)) -> TestEdge {
    TestEdge::with(|config| {
        config.auth.keys.clear();
        config.auth.issuers = issuers;
        config.auth.jwks_min_refetch = Duration::ZERO;
        config.auth.jwks_refresh = Duration::from_hours(1);
        change(config);
    })
    .await
}

async fn connect(edge: &TestEdge, token: &str) -> Answer {
    ask(&edge.address(), handshake("/ws", &format!("Authorization: Bearer {token}\r\n"))).await
}

async fn status(edge: &TestEdge, token: &str) -> u16 {
    connect(edge, token).await.status
}

/// The state of the keys of the first issuer that publishes them.
fn state(edge: &TestEdge) -> FetchState {
    edge.app.node.authenticator().key_sources().next().unwrap().state()
}

/// Waits until at least `count` fetches have ended.
async fn fetched(edge: &TestEdge, count: u64) {
    eventually("the keys are fetched", || async { state(edge).finished >= count }).await;
}

async fn authenticate(client: &mut Client, token: &str) {
    client.send(&json!({ "type": "auth", "token": token })).await;
}

#[tokio::test]
async fn jwt_10_keys_rotate_without_a_restart_and_a_removed_key_stops_verifying() {
    for is_discovered in [false, true] {
        let server = KeyServer::start().await;
        let (old, new) = (IssuerKey::new("old"), IssuerKey::new("new"));
        server.publish(&[&old]);
        let edge = edge(vec![if is_discovered { server.discovered() } else { server.config() }]).await;
        let issuer = server.issuer();
        let (by_old, by_new) = (old.token(&issuer, "alice"), new.token(&issuer, "alice"));
        let mut alice = Client::connect(&edge.address(), &by_old).await;
        assert_eq!(status(&edge, &by_new).await, 401, "not published yet");
        server.publish(&[&old, &new]);
        assert_eq!(status(&edge, &by_new).await, 101, "fetched because of this token");
        assert_eq!(status(&edge, &by_old).await, 101);
        assert!(edge.app.node.authenticator().cached_tokens() >= 2);
        server.publish(&[&new]);
        let unknown = IssuerKey::new("unknown").token(&issuer, "alice");
        assert_eq!(status(&edge, &unknown).await, 401);
        assert_eq!(status(&edge, &by_old).await, 401, "although it was in the cache");
        assert_eq!(status(&edge, &by_new).await, 101);
        let imposter = IssuerKey::new("new").token(&issuer, "alice");
        assert_eq!(status(&edge, &imposter).await, 401, "a known kid and another key");
        alice.subscribe("chat.general").await;
    }
}

#[tokio::test]
async fn jwt_10_the_last_keys_stay_in_use_while_the_issuer_is_away() {
    let server = KeyServer::start().await;
    let key = IssuerKey::new("a");
    server.publish(&[&key]);
    let edge = edge(vec![server.config()]).await;
    let issuer = server.issuer();
    assert_eq!(status(&edge, &key.token(&issuer, "alice")).await, 101);
    let unknown = IssuerKey::new("unknown").token(&issuer, "alice");
    let too_long = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(256 * 1024));
    let answers = [
        (500, ""),
        (302, ""),
        (200, "<html>"),
        (200, "{}"),
        (404, "{\"keys\":[]}"),
        (200, too_long.as_str()),
    ];
    for (number, (code, body)) in answers.into_iter().enumerate() {
        server.answer("/keys", code, body);
        let before = state(&edge).failures;
        eventually("a failed fetch", || async {
            assert_eq!(status(&edge, &unknown).await, 401);
            state(&edge).failures > before
        })
        .await;
        let user = format!("user{number}");
        assert_eq!(status(&edge, &key.token(&issuer, &user)).await, 101, "{code} {body:.10}");
        assert_eq!(edge.get("/readyz").await.0, 200);
    }
    let next = IssuerKey::new("next");
    server.publish(&[&next]);
    eventually("the new key", || async { status(&edge, &next.token(&issuer, "alice")).await == 101 }).await;
    assert_eq!(status(&edge, &key.token(&issuer, "user0")).await, 401);
}

#[tokio::test]
async fn jwt_10_before_the_first_keys_tokens_are_told_to_come_back_and_other_issuers_work() {
    let server = KeyServer::start().await;
    let key = IssuerKey::new("a");
    let with_secret = |config: &mut Config| {
        let other = AuthConfig::default().all_issuers().remove(0);
        let keys = vec![tidegate::config::auth::key::KeyConfig::hs256(
            "test",
            tidegate::config::secret::Secret::new(SECRET),
        )];
        let user_prefix = "own:".to_owned();
        config.auth.issuers.push(IssuerConfig { issuer: "own".to_owned(), user_prefix, keys, ..other });
    };
    let edge = edge_with(vec![server.config()], with_secret).await;
    fetched(&edge, 1).await;
    let token = key.token(&server.issuer(), "alice");
    let refused = connect(&edge, &token).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("unavailable")), "{refused:?}");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{refused:?}");
    assert_eq!(refused.header("www-authenticate"), None, "the token may be good");
    assert_eq!(edge.get("/readyz").await.0, 200);
    let mut client = Client::open(&edge.address(), "/ws", None).await;
    authenticate(&mut client, &token).await;
    assert_eq!(client.expect("error").await["code"], "unavailable");
    let close = client.expect("close").await;
    assert_eq!((&close["code"], &close["retry_after_ms"]), (&json!(4004), &json!(5000)));
    assert_eq!(client.until_closed().await.1, Some(4004));
    let own = crate::support::edge::token_with(&json!({ "iss": "own" }));
    let mut own = Client::connect(&edge.address(), &own).await;
    own.subscribe("user.own:alice.x").await;
    server.publish(&[&key]);
    eventually("the keys", || async { status(&edge, &token).await == 101 }).await;
}

#[tokio::test]
async fn a_first_message_waits_for_the_keys_and_holds_up_no_one_else() {
    let server = KeyServer::start().await;
    let (old, new) = (IssuerKey::new("old"), IssuerKey::new("new"));
    server.publish(&[&old]);
    let edge = edge_with(vec![server.config()], |config| {
        config.server.shards = 1;
        config.limits.auth_timeout = Duration::from_secs(1);
    })
    .await;
    let issuer = server.issuer();
    let mut other = Client::connect(&edge.address(), &old.token(&issuer, "bob")).await;
    server.publish(&[&old, &new]);
    server.hold(true);
    let hits = server.hits();
    let mut client = Client::open(&edge.address(), "/ws", None).await;
    authenticate(&mut client, &new.token(&issuer, "alice")).await;
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": "user.alice.x" })).await;
    server.until_hits(hits + 1).await;
    // On the same shard: one client is served, and one that sends no credential is closed.
    other.subscribe("chat.general").await;
    let mut silent = Client::open(&edge.address(), "/ws", None).await;
    assert_eq!(silent.until_closed().await.1, Some(4504));
    other.subscribe("chat.other").await;
    server.hold(false);
    assert_eq!(client.expect("connected").await["user"], "alice");
    assert_eq!(client.expect("subscribed").await["channel"], "user.alice.x");
}

#[tokio::test]
async fn a_new_token_on_an_open_socket_waits_for_its_key_too() {
    let server = KeyServer::start().await;
    let (old, new) = (IssuerKey::new("old"), IssuerKey::new("new"));
    server.publish(&[&old]);
    let edge = edge(vec![server.config()]).await;
    let issuer = server.issuer();
    let mut client = Client::connect(&edge.address(), &old.token(&issuer, "alice")).await;
    server.publish(&[&old, &new]);
    authenticate(&mut client, &IssuerKey::new("unknown").token(&issuer, "alice")).await;
    assert_eq!(client.expect("error").await["code"], "unauthorized");
    authenticate(&mut client, &new.token(&issuer, "alice")).await;
    assert_eq!(client.expect("connected").await["user"], "alice");
}

#[tokio::test]
async fn jwt_04_ten_thousand_unknown_keys_cause_no_second_fetch() {
    let server = KeyServer::start().await;
    let key = IssuerKey::new("a");
    server.publish(&[&key]);
    let edge = edge_with(vec![server.config()], |config| {
        config.auth.jwks_min_refetch = Duration::from_hours(1);
        config.limits.handshakes_per_s = 100_000;
        config.limits.handshakes_burst = 100_000;
    })
    .await;
    fetched(&edge, 1).await;
    let issuer = server.issuer();
    let authenticator: Arc<Authenticator> = edge.app.node.authenticator();
    let forged = |number: usize| {
        let header = json!({ "kid": format!("kid{number}") });
        key.token_with(header, &issuer, "alice")
    };
    for number in 0..10_000 {
        let error = authenticator.authenticate(&forged(number), SystemTime::now()).unwrap_err();
        assert_eq!(error.reason(), "unknown_key");
    }
    for number in 0..200 {
        assert_eq!(status(&edge, &forged(number)).await, 401);
    }
    assert_eq!(server.hits(), 1, "the fetch at the start");
    assert_eq!(status(&edge, &key.token(&issuer, "alice")).await, 101);
}

#[tokio::test]
async fn jwt_04_clients_with_unknown_keys_share_one_fetch() {
    let server = KeyServer::start().await;
    let key = IssuerKey::new("a");
    server.publish(&[&key]);
    let edge = edge(vec![server.config()]).await;
    fetched(&edge, 1).await;
    server.hold(true);
    let issuer = server.issuer();
    let waiting = (0..50).map(|number| {
        let token = key.token_with(json!({ "kid": format!("kid{number}") }), &issuer, "alice");
        let address = edge.address();
        tokio::spawn(async move {
            let request = handshake("/ws", &format!("Authorization: Bearer {token}\r\n"));
            ask(&address, request).await.status
        })
    });
    let waiting: Vec<_> = waiting.collect();
    server.until_hits(2).await;
    assert_eq!(status(&edge, &key.token(&issuer, "alice")).await, 101, "a known key needs no fetch");
    assert!(waiting.iter().all(|task| !task.is_finished()));
    let held = server.hits();
    server.hold(false);
    for task in waiting {
        assert_eq!(task.await.unwrap(), 401);
    }
    assert_eq!(held, 2);
}

#[tokio::test]
async fn jwt_03_keys_that_a_token_names_are_never_fetched() {
    let (server, attacker) = (KeyServer::start().await, KeyServer::start().await);
    let (key, foreign) = (IssuerKey::new("a"), IssuerKey::new("a"));
    server.publish(&[&key]);
    attacker.publish(&[&foreign]);
    let edge = edge(vec![server.config()]).await;
    let (issuer, url) = (server.issuer(), format!("{}/keys", attacker.issuer()));
    for header in [
        json!({ "jku": url }),
        json!({ "x5u": url }),
        json!({ "jku": url, "kid": "other" }),
        json!({ "jku": url, "x5u": url, "kid": url }),
    ] {
        assert_eq!(status(&edge, &foreign.token_with(header.clone(), &issuer, "alice")).await, 401);
        let mut client = Client::open(&edge.address(), "/ws", None).await;
        authenticate(&mut client, &foreign.token_with(header, &issuer, "alice")).await;
        assert_eq!(client.expect("error").await["code"], "unauthorized");
        assert_eq!(client.until_closed().await.1, Some(4501));
    }
    // A token of another issuer is not a reason to ask that one either.
    assert_eq!(status(&edge, &foreign.token(&attacker.issuer(), "alice")).await, 401);
    assert_eq!(attacker.hits(), 0);
}

#[tokio::test]
async fn a_key_of_one_published_set_verifies_no_token_of_another_issuer() {
    let (one, two) = (KeyServer::start().await, KeyServer::start().await);
    let (key_one, key_two) = (IssuerKey::new("same"), IssuerKey::new("same"));
    one.publish(&[&key_one]);
    two.publish(&[&key_two]);
    let second = IssuerConfig { user_prefix: "two:".to_owned(), ..two.discovered() };
    let edge = edge(vec![one.config(), second]).await;
    for (key, server, expected) in
        [(&key_one, &one, 101), (&key_two, &two, 101), (&key_one, &two, 401), (&key_two, &one, 401)]
    {
        assert_eq!(status(&edge, &key.token(&server.issuer(), "alice")).await, expected);
    }
    let mut client = Client::open(&edge.address(), "/ws", Some(&key_two.token(&two.issuer(), "alice"))).await;
    assert_eq!(client.expect("connected").await["user"], "two:alice");
    // The socket belongs to that issuer: the same name of another is another user.
    authenticate(&mut client, &key_one.token(&one.issuer(), "alice")).await;
    assert_eq!(client.expect("error").await["code"], "unauthorized");
    assert_eq!(client.until_closed().await.1, Some(4501));
}

/// The authenticator after a reload with this configuration.
fn reconfigured(auth: AuthConfig, earlier: &[Arc<KeySource>]) -> Authenticator {
    let roles = vec![crate::support::edge::role("user", &["chat.>"], &[], &[])];
    Authenticator::reusing(auth, roles, earlier).unwrap()
}

#[tokio::test]
async fn a_new_authenticator_keeps_the_keys_of_sources_that_have_not_changed() {
    let (kept, added) = (KeyServer::start().await, KeyServer::start().await);
    let (key, other) = (IssuerKey::new("a"), IssuerKey::new("b"));
    kept.publish(&[&key]);
    added.publish(&[&other]);
    let edge = edge(vec![kept.config()]).await;
    fetched(&edge, 1).await;
    let node = &edge.app.node;
    let second = IssuerConfig { user_prefix: "b:".to_owned(), ..added.config() };
    let auth = AuthConfig {
        issuers: vec![kept.config(), second],
        jwks_min_refetch: Duration::ZERO,
        jwks_refresh: Duration::from_hours(1),
        ..AuthConfig::default()
    };
    let earlier: Vec<_> = node.authenticator().key_sources().cloned().collect();
    let next = reconfigured(auth, &earlier);
    assert!(next.key_sources().next().is_some_and(|source| Arc::ptr_eq(source, &earlier[0])));
    node.current_authenticator.replace(next);
    assert_eq!(status(&edge, &key.token(&kept.issuer(), "alice")).await, 101);
    assert_eq!(status(&edge, &other.token(&added.issuer(), "alice")).await, 101);
    assert_eq!((kept.hits(), added.hits()), (1, 1));
    let rotated = IssuerKey::new("c");
    kept.publish(&[&rotated]);
    assert_eq!(status(&edge, &rotated.token(&kept.issuer(), "alice")).await, 101, "its task runs on");
}

#[tokio::test]
async fn jwt_10_other_intervals_keep_the_keys_while_the_issuer_is_away() {
    let server = KeyServer::start().await;
    let key = IssuerKey::new("a");
    server.publish(&[&key]);
    let edge = edge(vec![server.config()]).await;
    fetched(&edge, 1).await;
    server.answer("/keys", 500, "");
    let node = &edge.app.node;
    let auth = AuthConfig {
        issuers: vec![server.config()],
        jwks_min_refetch: Duration::from_mins(1),
        jwks_refresh: Duration::from_mins(2),
        ..AuthConfig::default()
    };
    let earlier: Vec<_> = node.authenticator().key_sources().cloned().collect();
    let next = reconfigured(auth, &earlier);
    assert!(next.key_sources().next().is_some_and(|source| !Arc::ptr_eq(source, &earlier[0])));
    node.current_authenticator.replace(next);
    assert_eq!(status(&edge, &key.token(&server.issuer(), "alice")).await, 101);
}
