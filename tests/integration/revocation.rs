//! Revoked credentials and withdrawn permissions, on several nodes with the real NATS.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use serde_json::json;
use tidegate::app::App;
use tidegate::config::Config;

use crate::support::client::Client;
use crate::support::command::create_buckets;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::eventually;
use crate::support::ledger::audit;
use crate::support::nats_server::NatsServer;
use crate::support::producer::Producer;
use crate::support::proxy::Fault;
use crate::support::proxy::Proxy;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::recorder::Recorder;

/// Publishes a revocation, and returns the answer of the first node.
async fn revoke(edge: &TestEdge, revocation: Value) -> Value {
    let reply = edge.nats.operator().await.request("tidegate.revoke", revocation.to_string().into()).await;
    serde_json::from_slice(&reply.unwrap().payload).unwrap()
}

/// Waits until the bucket has an entry.
async fn is_kept(nats: &NatsServer, key: &str) {
    let client = nats.operator().await;
    let last = json!({ "last_by_subj": format!("$KV.tidegate_revoked.{key}") }).to_string();
    let get = "$JS.API.STREAM.MSG.GET.KV_tidegate_revoked";
    eventually("the bucket to have the revocation", async || {
        let answer = client.request(get, last.clone().into()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        answer.get("message").is_some()
    })
    .await;
}

async fn assert_revoked(client: &mut Client) {
    let close = json!({ "type": "close", "code": 4505, "reason": "revoked" });
    assert_eq!(client.until_closed().await, (vec![close], Some(4505)));
}

async fn assert_open(client: &mut Client) {
    assert_eq!(client.so_far().await, Vec::<Value>::new());
}

/// The status of a handshake with this token.
async fn status(address: &str, token: &str) -> u16 {
    ask(address, handshake("/ws", &format!("Authorization: Bearer {token}\r\n"))).await.status
}

async fn is_refused(address: &str, token: &str) {
    eventually("a revoked token to be refused", async || status(address, token).await == 401).await;
}

#[tokio::test]
async fn rev_01_a_revocation_ends_the_sockets_of_a_user_on_each_node_and_refuses_new_ones() {
    let edge = TestEdge::start().await;
    let second = edge.another_node().await;
    let (one, two) = (edge.address(), second.address.to_string());
    let mut gone = Vec::new();
    for address in [&one, &one, &two, &two] {
        gone.push(Client::connect(address, &token("alice")).await);
    }
    let mut others = [Client::connect(&one, &token("bob")).await, Client::connect(&two, &token("bob")).await];
    let answer = revoke(&edge, json!({ "user": "alice" })).await;
    assert_eq!((&answer["connections"], &answer["kept_in"]), (&json!(2), &json!("memory")), "{answer}");
    for client in &mut gone {
        assert_revoked(client).await;
    }
    for address in [&one, &two] {
        is_refused(address, &token("alice")).await;
        let refused =
            ask(address, handshake("/ws", &format!("Authorization: Bearer {}\r\n", token("alice")))).await;
        assert_eq!((refused.status, &refused.json()["code"]), (401, &json!("invalid_token")));
        assert!(refused.body.contains("was revoked"), "{}", refused.body);
        assert_eq!(status(address, &token("bob")).await, 101);
    }
    for client in &mut others {
        assert_open(client).await;
    }
}

#[tokio::test]
async fn rev_01_one_token_or_all_that_are_older_can_be_revoked() {
    let edge = TestEdge::start().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let named = |id: &str| token_with(&json!({ "sub": "alice", "jti": id }));
    let (stolen, kept) = (named("f00d"), named("beef"));
    let mut gone = Client::connect(&edge.address(), &stolen).await;
    let mut open = Client::connect(&edge.address(), &kept).await;
    revoke(&edge, json!({ "token": "f00d" })).await;
    assert_revoked(&mut gone).await;
    assert_open(&mut open).await;
    assert_eq!([status(&edge.address(), &stolen).await, status(&edge.address(), &kept).await], [401, 101]);
    let older = |ago: u64| token_with(&json!({ "sub": "bob", "iat": now - ago }));
    let mut old = Client::connect(&edge.address(), &older(100)).await;
    let mut new = Client::connect(&edge.address(), &older(10)).await;
    revoke(&edge, json!({ "user": "bob", "issued_before": now - 50 })).await;
    assert_revoked(&mut old).await;
    assert_open(&mut new).await;
    assert_eq!(
        [status(&edge.address(), &older(100)).await, status(&edge.address(), &older(10)).await],
        [401, 101]
    );
    revoke(&edge, json!({ "everyone": true, "issued_before": now - 5 })).await;
    assert_revoked(&mut new).await;
    assert_open(&mut open).await;
}

#[tokio::test]
async fn rev_01_a_revoked_token_in_a_message_ends_the_session() {
    let edge = TestEdge::start().await;
    revoke(&edge, json!({ "user": "alice" })).await;
    let mut client = Client::open(&edge.address(), "/ws", None).await;
    client.send(&json!({ "type": "auth", "token": token("alice") })).await;
    let (messages, code) = client.until_closed().await;
    assert_eq!(code, Some(4501), "{messages:?}");
    assert!(messages.iter().any(|message| message.to_string().contains("was revoked")), "{messages:?}");
}

#[tokio::test]
async fn rev_01_a_wrong_revocation_is_answered_with_the_fix_and_has_no_effect() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    let answer = revoke(&edge, json!({ "usr": "alice" })).await;
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("unknown field `usr`")), "{answer}");
    assert_open(&mut client).await;
}

/// A second node, which reaches the same NATS through a proxy.
async fn node_behind(proxy: &Proxy) -> TestEdge {
    let url = proxy.url();
    let change = |config: &mut Config| {
        config.nats.urls = vec![url];
        config.nats.ping_interval = Duration::from_secs(1);
    };
    TestEdge::with_nats(NatsServer::absent(), change, false).await
}

#[tokio::test]
async fn rev_01_a_node_that_was_away_learns_a_revocation_when_it_returns_and_a_new_node_at_its_start() {
    let edge = TestEdge::start().await;
    create_buckets(&edge.nats).await;
    let proxy = Proxy::start(&edge.nats).await;
    let away = node_behind(&proxy).await;
    away.readyz(200).await;
    let mut here = edge.client("alice").await;
    let mut there = away.client("alice").await;
    proxy.does(Fault::Cut);
    away.readyz(503).await;
    revoke(&edge, json!({ "user": "alice" })).await;
    assert_revoked(&mut here).await;
    is_kept(&edge.nats, "user.alice").await;
    assert_open(&mut there).await;
    proxy.does(Fault::None);
    assert_revoked(&mut there).await;
    is_refused(&away.address(), &token("alice")).await;
    let new: App = edge.another_node().await;
    is_refused(&new.address.to_string(), &token("alice")).await;
    assert_eq!(status(&new.address.to_string(), &token("bob")).await, 101);
}

#[tokio::test]
async fn rev_01_an_entry_of_the_bucket_revokes_as_long_as_it_is_there() {
    let edge = TestEdge::start().await;
    create_buckets(&edge.nats).await;
    let operator = edge.nats.operator().await;
    let mut client = edge.client("alice").await;
    // As `nats kv put tidegate_revoked user.alice '{}'` does.
    eventually("the revocation to take effect", async || {
        operator.publish("$KV.tidegate_revoked.user.alice", "{}".into()).await.unwrap();
        operator.flush().await.unwrap();
        status(&edge.address(), &token("alice")).await == 401
    })
    .await;
    assert_revoked(&mut client).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("KV-Operation", "DEL");
    operator.publish_with_headers("$KV.tidegate_revoked.user.alice", headers, "".into()).await.unwrap();
    eventually("the user to be accepted again", async || {
        status(&edge.address(), &token("alice")).await == 101
    })
    .await;
}

#[tokio::test]
async fn rev_02_a_withdrawn_permission_ends_its_channel_and_leaves_no_hole_in_the_others() {
    let edge = TestEdge::start().await;
    let channels = ["chat.lost".to_owned(), "chat.kept".to_owned()];
    let producer = Producer::start(&edge.nats, channels.to_vec()).await;
    let mut recorder = Recorder::start(edge.client("alice").await);
    let mut other = Recorder::start(edge.client("bob").await);
    for recorder in [&mut recorder, &mut other] {
        for channel in &channels {
            recorder.join(channel).await;
        }
        recorder.until("both channels", |log| channels.iter().all(|it| log.newest(it, it) > 10)).await;
    }
    let answer = revoke(&edge, json!({ "user": "alice", "deny": { "subscribe": ["chat.lost"] } })).await;
    assert_eq!(answer["connections"], 1);
    let before = recorder.so_far().newest("chat.kept", "chat.kept");
    recorder.until("more of the other", |log| log.newest("chat.kept", "chat.kept") > before + 50).await;
    let unsubscribed = recorder.so_far().newest("chat.lost", "chat.lost");
    other.until("more", |log| log.newest("chat.lost", "chat.lost") > unsubscribed + 50).await;
    producer.stop().await;
    let log = recorder.stop().await;
    assert_eq!(log.newest("chat.lost", "chat.lost"), unsubscribed, "nothing after its end");
    assert!(audit(&log, "chat.kept").is_empty(), "no gap");
    let mut again = edge.client("alice").await;
    again.send(&json!({ "type": "subscribe", "channel": "chat.lost" })).await;
    assert_eq!(again.expect("error").await["code"], "forbidden");
    again.subscribe("chat.kept").await;
}

#[tokio::test]
async fn rev_01_the_command_revokes_on_every_node_and_says_what_it_did() {
    let edge = TestEdge::start().await;
    let second = edge.another_node().await;
    let mut clients =
        [edge.client("alice").await, Client::connect(&second.address.to_string(), &token("alice")).await];
    let url = format!("nats.url={}", edge.nats.url_of("operator"));
    let run = async |flags: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let output = command.arg("revoke").args(flags).args(["--set", &url]).output().await.unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said, errors) = run(&["--user", "alice"]).await;
    assert_eq!((code, said.lines().count()), (Some(0), 2), "{said}{errors}");
    assert!(
        said.lines().all(|line| line.contains("1 connections ended or narrowed, kept in memory only")),
        "{said}"
    );
    for client in &mut clients {
        assert_revoked(client).await;
    }
    let (code, _, errors) = run(&[]).await;
    assert_eq!(code, Some(64), "{errors}");
    assert!(errors.contains("say what to revoke"), "{errors}");
}

#[tokio::test]
async fn rev_01_what_jetstream_has_lost_is_stored_again() {
    let edge = TestEdge::start().await;
    create_buckets(&edge.nats).await;
    revoke(&edge, json!({ "user": "alice" })).await;
    is_kept(&edge.nats, "user.alice").await;
    // NATS takes the next one, and no stream keeps it.
    let operator = edge.nats.operator().await;
    operator.request("$JS.API.STREAM.DELETE.KV_tidegate_revoked", "".into()).await.unwrap();
    revoke(&edge, json!({ "user": "bob" })).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    create_buckets(&edge.nats).await;
    is_kept(&edge.nats, "user.bob").await;
}

#[tokio::test]
async fn rev_02_revocations_that_follow_each_other_are_all_kept() {
    let edge = TestEdge::start().await;
    create_buckets(&edge.nats).await;
    revoke(&edge, json!({ "user": "alice" })).await;
    is_kept(&edge.nats, "user.alice").await;
    let operator = edge.nats.operator().await;
    let users: Vec<_> = (0..20).map(|number| format!("user{number}")).collect();
    for channel in ["a", "b", "c"] {
        for user in &users {
            let message = json!({ "user": user, "deny": { "subscribe": [channel] } }).to_string();
            operator.publish("tidegate.revoke", message.into()).await.unwrap();
        }
        // Some arrive while the node stores the earlier ones.
        operator.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    for user in &users {
        let get = "$JS.API.STREAM.MSG.GET.KV_tidegate_revoked";
        let last = json!({ "last_by_subj": format!("$KV.tidegate_revoked.permissions.{user}") }).to_string();
        eventually("all patterns to be kept", async || {
            let answer = operator.request(get, last.clone().into()).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
            let data = answer["message"]["data"].as_str().unwrap_or_default();
            let rule = BASE64_STANDARD.decode(data).unwrap_or_default();
            let rule: Value = serde_json::from_slice(&rule).unwrap_or_default();
            rule["subscribe"].as_array().is_some_and(|patterns| patterns.len() == 3)
        })
        .await;
    }
}
