//! NATS outages: every client gets a gap where messages are missing, and no client has to reconnect.

use std::time::Duration;

use serde_json::json;
use tidegate::config::Config;
use tidegate::config::nats::login::NatsLogin;
use tidegate::config::secret::Secret;

use crate::support::edge::TestEdge;
use crate::support::eventually;
use crate::support::ledger::Gap;
use crate::support::ledger::audit;
use crate::support::nats_server::NatsServer;
use crate::support::producer::Producer;
use crate::support::proxy::Fault;
use crate::support::proxy::Proxy;
use crate::support::proxy::Whose;
use crate::support::recorder::Log;
use crate::support::recorder::Received;
use crate::support::recorder::Recorder;

fn subjects(edge: &TestEdge) -> Vec<String> {
    let of = |lane, prefix| edge.subjects_of(lane, prefix).take(2);
    of(0, "prices").chain(of(1, "prices")).chain(of(0, "chat")).chain(of(1, "chat")).collect()
}

/// The channels of a client, each with the subjects that it receives: some by name, all by pattern.
fn interests(subjects: &[String]) -> Vec<(String, String)> {
    let literal = subjects.iter().map(|subject| (subject.clone(), subject.clone()));
    let wild = |subject: &String| (format!("{}.*", subject.split('.').next().unwrap()), subject.clone());
    literal.chain(subjects.iter().map(wild)).collect()
}

/// A client on this shard that subscribes to these channels.
async fn listener(edge: &TestEdge, shard: usize, interests: &[(String, String)]) -> Recorder {
    let mut recorder = Recorder::start(edge.client_on(shard).await);
    for (channel, _) in interests {
        if !recorder.so_far().received.iter().any(|received| is_subscribed(received, channel)) {
            recorder.join(channel).await;
        }
    }
    recorder
}

fn is_subscribed(received: &Received, on: &str) -> bool {
    matches!(received, Received::Subscribed { channel, .. } if channel == on)
}

/// Waits until each channel has a message newer than `number` from each of its subjects.
async fn newer(recorder: &mut Recorder, interests: &[(String, String)], number: u64) {
    let newer = |log: &Log| interests.iter().all(|(channel, subject)| log.newest(channel, subject) > number);
    recorder.until("newer messages on every channel", newer).await;
}

/// There is exactly one gap, its cause is NATS, and it is where messages are missing.
fn one_gap_in_its_place(log: &Log, channel: &str) {
    let gaps = audit(log, channel);
    assert_eq!(gaps, [Gap { cause: "nats".to_owned(), dropped: None }], "{channel}");
}

/// PROTOCOL.md: "A second `gap` never follows when it is back."
#[tokio::test]
async fn nat_03_an_outage_is_one_gap_for_every_client_and_delivery_continues() {
    let mut edge = TestEdge::start().await;
    let subjects = subjects(&edge);
    let interests = interests(&subjects);
    let mut recorders = Vec::new();
    for shard in [0, 1, 0, 1] {
        recorders.push(listener(&edge, shard, &interests).await);
    }
    let producer = Producer::start(&edge.nats, subjects).await;
    for recorder in &mut recorders {
        newer(recorder, &interests, 50).await;
    }
    edge.lose_nats().await;
    edge.nats.restart().await;
    edge.readyz(200).await;
    let number = producer.number();
    for recorder in &mut recorders {
        newer(recorder, &interests, number).await;
    }
    producer.stop().await;
    for recorder in recorders {
        let log = recorder.stop().await;
        for (channel, _) in &interests {
            one_gap_in_its_place(&log, channel);
        }
    }
}

#[tokio::test]
async fn nat_03_messages_before_an_outage_are_delivered_before_its_gap() {
    let mut edge = TestEdge::start().await;
    let subjects: Vec<_> = edge.subjects_of(0, "chat").take(20).collect();
    let mut recorders = Recorder::on_each_shard(&edge, &subjects).await;
    let interests: Vec<_> = subjects.iter().map(|subject| (subject.clone(), subject.clone())).collect();
    let lane = format!("tidegate/{}/0", edge.app.node.name);
    edge.hooks.reader.close(0);
    let before = edge.nats.delivered(&lane).await;
    edge.publish_numbers(&subjects, 1..=100).await;
    eventually("all on their way to the node", || async {
        edge.nats.delivered(&lane).await >= before + 2000
    })
    .await;
    edge.nats.kill();
    edge.readyz(503).await;
    edge.nats.restart().await;
    edge.hooks.reader.open();
    edge.readyz(200).await;
    for recorder in &mut recorders {
        newer(recorder, &interests, 99).await;
    }
    eventually("the new server knows all", || async { edge.nats.subscriptions("chat.").await == 20 }).await;
    edge.publish_numbers(&subjects, 201..=210).await;
    for recorder in &mut recorders {
        newer(recorder, &interests, 209).await;
    }
    for recorder in recorders {
        let log = recorder.stop().await;
        for subject in &subjects {
            one_gap_in_its_place(&log, subject);
        }
    }
}

#[tokio::test]
async fn nat_03_subscriptions_during_an_outage_open_when_it_ends() {
    let mut edge = TestEdge::start().await;
    let known: Vec<_> = (0..2).map(|lane| edge.subjects_of(lane, "chat").next().unwrap()).collect();
    let fresh: Vec<_> = (0..2).map(|lane| edge.subjects_of(lane, "chat").nth(1).unwrap()).collect();
    let mut early = Recorder::on_each_shard(&edge, &known).await;
    edge.lose_nats().await;
    let mut late = Vec::new();
    for shard in 0..2 {
        let recorder = Recorder::start(edge.client_on(shard).await);
        for recorder in early.iter().chain([&recorder]) {
            for channel in fresh.iter().chain(&known) {
                recorder.subscribe(channel).await;
            }
        }
        late.push(recorder);
    }
    edge.nats.restart().await;
    edge.readyz(200).await;
    for recorder in early.iter_mut().chain(&mut late) {
        for channel in fresh.iter().chain(&known) {
            recorder
                .until("an answer", |log| log.received.iter().any(|received| is_answer(received, channel)))
                .await;
        }
        // A client that was refused by the time limit subscribes again, as every client does.
        let refused: Vec<_> = recorder.so_far().received.into_iter().filter_map(refused).collect();
        for channel in refused {
            recorder.join(&channel).await;
        }
    }
    let client = edge.nats.client().await;
    for channel in fresh.iter().chain(&known) {
        client.publish(channel.clone(), "{\"n\":1}".into()).await.unwrap();
    }
    client.flush().await.unwrap();
    for recorder in early.iter_mut().chain(&mut late) {
        recorder
            .until("a message on each", |log| fresh.iter().chain(&known).all(|c| log.newest(c, c) == 1))
            .await;
    }
}

fn is_answer(received: &Received, on: &str) -> bool {
    is_subscribed(received, on) || matches!(received, Received::Refused { channel, .. } if channel == on)
}

fn refused(received: Received) -> Option<String> {
    match received {
        Received::Refused { channel, code } => (code == "unavailable").then_some(channel),
        Received::Subscribed { .. }
        | Received::Unsubscribed { .. }
        | Received::Message { .. }
        | Received::Gap { .. }
        | Received::Other(_) => None,
    }
}

/// PROTOCOL.md: "A snapshot may be empty, but it is never out of date."
#[tokio::test]
async fn a_snapshot_after_an_outage_has_no_value_from_before_it() {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(&nats).await;
    let linger = Duration::from_mins(1);
    let change =
        |config: &mut Config| (config.nats.urls, config.server.feed_linger) = (vec![proxy.url()], linger);
    let edge = TestEdge::with_nats(nats, change, false).await;
    let channels: Vec<_> = edge.subjects_of(0, "prices").take(2).collect();
    let mut early = edge.client("alice").await;
    for channel in &channels {
        early.subscribe(channel).await;
        edge.publish(channel, "100").await;
        assert_eq!(early.expect("message").await["data"], 100);
    }
    // No client is subscribed to this one during the outage, but the feed lingers.
    early.send(&json!({ "type": "unsubscribe", "id": 1, "channel": channels[1] })).await;
    early.expect("unsubscribed").await;
    proxy.does_to(Whose::Feeds, Fault::ResetAfter(0));
    for channel in &channels {
        edge.publish(channel, "200").await;
    }
    assert_eq!(early.expect("gap").await["cause"], "nats");
    proxy.does(Fault::None);
    edge.readyz(200).await;
    let mut late = edge.client("bob").await;
    for channel in &channels {
        let subscribed = late.subscribe(channel).await;
        assert_eq!(subscribed["snapshot"], json!([]), "200 may be the last value, 100 is not");
    }
    edge.publish(&channels[0], "300").await;
    assert_eq!(early.expect("message").await["data"], 300);
    assert_eq!(late.expect("message").await["data"], 300);
}

#[tokio::test]
async fn nat_05_a_silent_link_is_detected() {
    let edge = TestEdge::with(|config| config.nats.ping_interval = Duration::from_secs(1)).await;
    let subjects = subjects(&edge);
    let interests = interests(&subjects);
    let mut recorders = [listener(&edge, 0, &interests).await, listener(&edge, 1, &interests).await];
    edge.nats.pause();
    edge.readyz(503).await;
    for recorder in &mut recorders {
        recorder
            .until("a gap on every channel", |log| {
                interests.iter().all(|(channel, _)| log.gaps(channel) == 1)
            })
            .await;
    }
    edge.nats.resume();
    edge.readyz(200).await;
    let producer = Producer::start(&edge.nats, subjects).await;
    for recorder in &mut recorders {
        newer(recorder, &interests, 0).await;
    }
    producer.stop().await;
    for recorder in recorders {
        let log = recorder.stop().await;
        for (channel, _) in &interests {
            one_gap_in_its_place(&log, channel);
        }
    }
}

#[tokio::test]
async fn nat_05_no_subscription_opens_before_nats_confirms_it() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    edge.nats.pause();
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": "chat.a" })).await;
    assert_eq!(client.expect("error").await["code"], "unavailable");
    edge.nats.resume();
    edge.readyz(200).await;
    client.subscribe("chat.a").await;
}

#[tokio::test]
async fn subscriptions_open_although_nats_denies_publishing_to_the_inbox() {
    let nats = NatsServer::with(
        "authorization { users: [ { user: edge, password: edge, permissions: { publish: { deny: \"_INBOX_tidegate.>\" } } }, { user: any, password: any } ] }\nno_auth_user: any",
    )
    .await;
    let login = NatsLogin::Password { user: "edge".to_owned(), password: Secret::new("edge") };
    let edge = TestEdge::with_nats(nats, |config| config.nats.login = login, false).await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.a").await;
    edge.publish("chat.a", "1").await;
    assert_eq!(client.expect("message").await["data"], 1);
}

#[tokio::test]
async fn permissions_that_nats_denies_the_node_are_reported_to_the_client() {
    let denied =
        "permissions: { publish: { deny: [\"chat.no\", \"svc.no\"] }, subscribe: { deny: \"chat.no\" } }";
    let users = format!("{{ user: edge, password: edge, {denied} }}, {{ user: any, password: any }}");
    let nats = NatsServer::with(&format!("authorization {{ users: [ {users} ] }}\nno_auth_user: any")).await;
    let login = NatsLogin::Password { user: "edge".to_owned(), password: Secret::new("edge") };
    let edge = TestEdge::with_nats(nats, |config| config.nats.login = login, false).await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.yes").await;
    for (id, message) in [
        json!({ "type": "subscribe", "channel": "chat.no" }),
        json!({ "type": "publish", "channel": "chat.no", "data": 1 }),
        json!({ "type": "request", "channel": "svc.no", "data": 1, "timeout_ms": 200 }),
    ]
    .into_iter()
    .enumerate()
    {
        let mut message = message;
        message["id"] = json!(id);
        client.send(&message).await;
        let error = client.expect("error").await;
        assert_eq!((&error["id"], &error["code"]), (&json!(id), &json!("forbidden")), "{message}: {error}");
    }
    client.send(&json!({ "type": "publish", "id": 9, "channel": "chat.yes", "data": 1 })).await;
    let mut received =
        [client.next().await, client.next().await].map(|m| m.unwrap()["type"].as_str().unwrap().to_owned());
    received.sort();
    assert_eq!(received, ["message", "published"]);
}

#[tokio::test]
async fn a_node_started_without_nats_serves_once_nats_is_up() {
    let mut edge = TestEdge::without_nats().await;
    assert_eq!(edge.get("/healthz").await.0, 200);
    assert_eq!(edge.get("/readyz").await.0, 503);
    let mut client = edge.client("alice").await;
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": "chat.a" })).await;
    let error = client.expect("error").await;
    assert_eq!((&error["code"], &error["pending"]), (&json!("unavailable"), &json!(true)));
    edge.nats.restart().await;
    // The client does not subscribe again: its subscription has waited for NATS.
    assert_eq!(client.expect("subscribed").await["id"], 1);
    edge.publish("chat.a", "{\"n\":1}").await;
    assert_eq!(client.expect("message").await["data"]["n"], 1);
}

#[tokio::test]
async fn a_channel_left_during_an_outage_is_not_subscribed_after_it() {
    let mut edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    edge.lose_nats().await;
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": "chat.a" })).await;
    client.send(&json!({ "type": "unsubscribe", "id": 2, "channel": "chat.a" })).await;
    assert_eq!(client.expect("error").await["code"], "not_subscribed");
    client.expect("unsubscribed").await;
    edge.nats.restart().await;
    edge.readyz(200).await;
    eventually("no subscription", || async { edge.nats.subscriptions("chat.").await == 0 }).await;
    client.subscribe("chat.a").await;
}
