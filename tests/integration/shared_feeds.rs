//! `feed = "pattern"`: the channels of a class share one NATS subscription, and clients see no difference.

use std::time::Duration;

use serde_json::json;
use tidegate::config::Config;
use tidegate::config::nats::login::NatsLogin;
use tidegate::config::secret::Secret;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::Kind;
use tidegate_protocol::subject::Pattern;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::eventually;
use crate::support::ledger::Gap;
use crate::support::ledger::audit;
use crate::support::nats_server::NatsServer;
use crate::support::recorder::Log;
use crate::support::recorder::Received;
use crate::support::recorder::Recorder;

const USERS: usize = 40;

/// The configuration: the notes of each user and the chats are fed by pattern.
fn by_pattern(config: &mut Config) {
    let feed = FeedBy::Pattern;
    let notes = Class { feed, kind: Kind::Latest, snapshot: true, ..class("user.*.notes") };
    config.classes = vec![notes, Class { feed, ..class("chat.*") }];
}

async fn subscriptions(edge: &TestEdge, prefix: &str, expected: usize) {
    eventually(&format!("{expected} subscriptions on {prefix}"), || async {
        edge.nats.subscriptions(prefix).await == expected
    })
    .await;
}

fn notes(user: usize) -> String {
    format!("user.u{user}.notes")
}

/// A client for each user, on both shards, that subscribes to its own notes.
async fn users(edge: &TestEdge) -> Vec<Client> {
    let mut clients = Vec::new();
    for user in 0..USERS {
        let mut client = edge.client(&format!("u{user}")).await;
        assert_eq!(client.subscribe(&notes(user)).await["snapshot"], json!([]));
        clients.push(client);
    }
    assert!([0, 1].iter().all(|shard| clients.iter().any(|client| client.shard == *shard)));
    clients
}

#[tokio::test]
async fn ex_06_private_channels_share_one_subscription_and_each_user_gets_only_its_own() {
    let edge = TestEdge::with(by_pattern).await;
    let mut clients = users(&edge).await;
    subscriptions(&edge, "user.", 1).await;
    let nats = edge.nats.client().await;
    for number in 0..10 {
        for user in 0..USERS {
            nats.publish(notes(user), format!("[{user},{number}]").into()).await.unwrap();
        }
        nats.publish(notes(USERS), "\"unsubscribed\"".into()).await.unwrap();
        nats.publish("user.u0.other", "\"of no class\"".into()).await.unwrap();
    }
    for (user, client) in clients.iter_mut().enumerate() {
        for number in 0..10 {
            let message = client.expect("message").await;
            assert_eq!(
                (&message["channel"], &message["data"]),
                (&json!(notes(user)), &json!([user, number]))
            );
        }
    }
    let mut again = edge.client("u7").await;
    let snapshot = again.subscribe(&notes(7)).await["snapshot"].clone();
    assert_eq!((snapshot.as_array().unwrap().len(), &snapshot[0]["data"]), (1, &json!([7, 9])));
    let last = clients.pop().unwrap();
    drop((clients, again));
    subscriptions(&edge, "user.", 1).await;
    drop(last);
    subscriptions(&edge, "user.", 0).await;
    let mut client = edge.client("u7").await;
    assert_eq!(client.subscribe(&notes(7)).await["snapshot"], json!([]), "the value is not kept");
    subscriptions(&edge, "user.", 1).await;
}

#[tokio::test]
async fn a_pattern_and_the_literals_in_it_get_everything_once() {
    let edge = TestEdge::with(by_pattern).await;
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("chat.a").await;
    for client in [&mut one, &mut other] {
        client.subscribe("chat.*").await;
    }
    one.subscribe("chat.>").await;
    assert_eq!(edge.nats.subscriptions("chat.").await, 2, "`chat.*` for three channels, and `chat.>`");
    for number in 0..20 {
        edge.publish("chat.a", number.to_string()).await;
    }
    edge.publish("chat.b", "20").await;
    let mut received = std::collections::BTreeMap::<String, Vec<u64>>::new();
    for _ in 0..62 {
        let message = one.expect("message").await;
        let channel = message["channel"].as_str().unwrap().to_owned();
        received.entry(channel).or_default().push(message["data"].as_u64().unwrap());
    }
    let upto = |end| (0..end).collect::<Vec<u64>>();
    let expected = [("chat.*", 21), ("chat.>", 21), ("chat.a", 20)];
    assert_eq!(received, expected.map(|(channel, end)| (channel.to_owned(), upto(end))).into());
    for number in 0..21 {
        assert_eq!(other.expect("message").await["data"], number);
    }
}

/// A client on each shard that subscribes to all of these channels.
async fn listeners(edge: &TestEdge, channels: &[String]) -> Vec<Recorder> {
    let mut recorders = Vec::new();
    for shard in 0..2 {
        let mut recorder = Recorder::start(edge.client_on(shard).await);
        for channel in channels {
            recorder.join(channel).await;
        }
        recorders.push(recorder);
    }
    recorders
}

async fn until_all_have(recorders: &mut [Recorder], channels: &[String], number: u64) {
    for recorder in recorders {
        let all = |log: &Log| channels.iter().all(|channel| log.newest(channel, channel) == number);
        recorder.until("the newest message of each", all).await;
    }
}

#[tokio::test]
async fn nat_03_an_outage_is_one_gap_on_each_channel_of_a_shared_subscription() {
    let mut edge = TestEdge::with(by_pattern).await;
    let channels: Vec<_> = (0..20).map(|number| format!("chat.s{number}")).collect();
    let mut recorders = listeners(&edge, &channels).await;
    edge.publish_numbers(&channels, 1..=5).await;
    until_all_have(&mut recorders, &channels, 5).await;
    edge.lose_nats().await;
    for recorder in &mut recorders {
        let all = |log: &Log| channels.iter().all(|channel| log.gaps(channel) == 1);
        recorder.until("a gap on each", all).await;
        // It waits until the server confirms the shared subscription again.
        recorder.subscribe("chat.late").await;
    }
    edge.nats.restart().await;
    edge.readyz(200).await;
    subscriptions(&edge, "chat.", 1).await;
    edge.publish_numbers(&channels, 7..=9).await;
    until_all_have(&mut recorders, &channels, 9).await;
    for mut recorder in recorders {
        recorder.until("the answer to a late one", |log| log.subscribed() == 21 || refused(log)).await;
        let log = recorder.stop().await;
        for channel in &channels {
            assert_eq!(audit(&log, channel), [Gap { cause: "nats".to_owned(), dropped: None }], "{channel}");
        }
    }
}

fn refused(log: &Log) -> bool {
    log.received
        .iter()
        .any(|received| matches!(received, Received::Refused { code, .. } if code == "unavailable"))
}

#[tokio::test]
async fn nat_02_a_flood_on_one_channel_of_a_shared_subscription_loses_no_message() {
    let edge = TestEdge::with(by_pattern).await;
    let lane = edge.app.node.lanes.by_hash(&Pattern::parse("chat.*").unwrap()).0;
    let channels: Vec<_> = (0..3).map(|number| format!("chat.s{number}")).collect();
    let mut recorders = listeners(&edge, &channels).await;
    edge.hooks.reader.close(lane);
    edge.publish_numbers(&channels[..1], 1..=4999).await;
    edge.publish_numbers(&channels, 5000..=5000).await;
    edge.hooks.reader.open();
    until_all_have(&mut recorders, &channels, 5000).await;
    for recorder in recorders {
        let log = recorder.stop().await;
        for channel in &channels {
            assert_eq!(audit(&log, channel), [], "{channel}");
        }
    }
}

#[tokio::test]
async fn a_pattern_that_nats_denies_rejects_only_its_channels() {
    let denied = "permissions: { subscribe: { deny: \"user.*.notes\" } }";
    let users = format!("{{ user: edge, password: edge, {denied} }}, {{ user: any, password: any }}");
    let nats = NatsServer::with(&format!("authorization {{ users: [ {users} ] }}\nno_auth_user: any")).await;
    let login = NatsLogin::Password { user: "edge".to_owned(), password: Secret::new("edge") };
    let change = |config: &mut Config| {
        by_pattern(config);
        config.nats.login = login;
        config.server.feed_linger = Duration::ZERO;
    };
    let edge = TestEdge::with_nats(nats, change, false).await;
    let mut client = edge.client("alice").await;
    for id in 0..2 {
        client.send(&json!({ "type": "subscribe", "id": id, "channel": "user.alice.notes" })).await;
        let error = client.expect("error").await;
        assert_eq!((&error["id"], &error["code"]), (&json!(id), &json!("forbidden")), "{error}");
        assert!(
            error["message"].as_str().unwrap().contains("permissions of this node's NATS user"),
            "{error}"
        );
    }
    client.subscribe("chat.a").await;
    edge.publish("chat.a", "1").await;
    assert_eq!(client.expect("message").await["data"], 1);
}
