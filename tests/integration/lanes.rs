//! What lanes guarantee: one subscription per node and subject, and everything in order for every steady client.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tidegate::hooks::Faults;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::LaneBy;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::eventually;
use crate::support::ledger::audit;
use crate::support::producer::Pace;
use crate::support::producer::Producer;
use crate::support::recorder::Log;
use crate::support::recorder::Recorder;

const LINGER: Duration = Duration::from_millis(200);
const PACE: Pace = Pace { burst: 1, rest: Duration::from_millis(50) };

async fn subscriptions(edge: &TestEdge, expected: usize) {
    subscriptions_on(edge, "chat.", expected).await;
}

async fn subscriptions_on(edge: &TestEdge, prefix: &str, expected: usize) {
    eventually(&format!("{expected} subscriptions on nats"), || async {
        edge.nats.subscriptions(prefix).await == expected
    })
    .await;
}

/// Feeds linger for a short time.
async fn edge(lane: LaneBy) -> TestEdge {
    TestEdge::with(|config| {
        config.classes.push(Class { lane, ..class("chat.*") });
        config.server.feed_linger = LINGER;
    })
    .await
}

#[tokio::test]
async fn ex_02_a_subject_has_one_subscription_for_any_number_of_clients_and_shards() {
    for lane in [LaneBy::Hash, LaneBy::Own] {
        assert_one_subscription_for_each_subject(lane).await;
    }
}

async fn assert_one_subscription_for_each_subject(lane: LaneBy) {
    let edge = edge(lane).await;
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..20 {
        clients.push(edge.client("alice").await);
    }
    assert!([0, 1].iter().all(|shard| clients.iter().any(|client| client.shard == *shard)));
    for client in &mut clients {
        client.subscribe("chat.a").await;
        client.subscribe("chat.*").await;
    }
    subscriptions(&edge, 2).await;
    edge.publish("chat.a", "1").await;
    for client in &mut clients {
        let channels = [client.expect("message").await, client.expect("message").await];
        assert_ne!(channels[0]["channel"], channels[1]["channel"]);
    }
    let mut last = clients.pop().unwrap();
    drop(clients);
    edge.publish("chat.a", "2").await;
    assert_eq!(last.expect("message").await["data"], 2);
    subscriptions(&edge, 2).await;
    drop(last);
    subscriptions(&edge, 0).await;
}

#[tokio::test]
async fn a_feed_lingers_for_clients_that_reconnect() {
    for (linger, kept) in [(Duration::from_secs(600), 1), (Duration::ZERO, 0)] {
        let edge = TestEdge::with(|config| config.server.feed_linger = linger).await;
        let mut client = edge.client("alice").await;
        client.subscribe("prices.AAPL").await;
        edge.publish("prices.AAPL", "7").await;
        client.expect("message").await;
        drop(client);
        eventually("all sockets closed", || async { edge.app.shards.sockets() == 0 }).await;
        eventually("the feed kept or closed", || async { edge.nats.subscriptions("prices.").await == kept })
            .await;
        let mut client = edge.client("alice").await;
        let subscribed = client.subscribe("prices.AAPL").await;
        assert_eq!(subscribed["snapshot"].as_array().unwrap().len(), kept, "the last value, if it was kept");
        assert_eq!(edge.nats.subscriptions("prices.").await, 1);
    }
}

#[tokio::test]
async fn ex_02_churn_leaves_no_subscription_behind() {
    for lane in [LaneBy::Hash, LaneBy::Own] {
        assert_churn_leaves_no_subscription_behind(lane).await;
    }
}

async fn assert_churn_leaves_no_subscription_behind(lane: LaneBy) {
    let edge = edge(lane).await;
    let mut recorders = Vec::new();
    for shard in [0, 1, 0, 1] {
        recorders.push(Recorder::start(edge.client_on(shard).await));
    }
    for round in 0..20 {
        for recorder in &recorders {
            recorder.subscribe(&format!("chat.c{}", round % 7)).await;
            recorder.subscribe(&format!("chat.d{round}")).await;
            recorder.unsubscribe(&format!("chat.c{}", round % 7)).await;
            recorder.unsubscribe(&format!("chat.d{round}")).await;
        }
    }
    for recorder in recorders {
        recorder.stop().await;
    }
    subscriptions(&edge, 0).await;
}

/// Publishes on a subject as fast as lanes take the messages, so that some always wait. With no limit, the server's
/// confirmations would wait behind all of them.
async fn flood(client: async_nats::Client, subject: String, hooks: Arc<Faults>) {
    const WAITING: u64 = 5000;
    for number in hooks.taken.load(Ordering::SeqCst).. {
        client.publish(subject.clone(), "1".into()).await.unwrap();
        while number > hooks.taken.load(Ordering::SeqCst) + WAITING {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_lane_that_is_flooded_with_messages_serves_requests_sweeps_and_stops() {
    let edge = TestEdge::with(|config| config.server.feed_linger = Duration::ZERO).await;
    let flooded = edge.subjects_of(0, "chat.flood").next().unwrap();
    // It does not read: only the lane matters here.
    let mut listener = edge.client_on(0).await;
    listener.subscribe(&flooded).await;
    let flood = tokio::spawn(flood(edge.nats.client().await, flooded, Arc::clone(&edge.hooks)));
    let mut client = edge.client_on(1).await;
    for round in 0..20 {
        let prefix = format!("chat.round{round}");
        let subject = edge.subjects_of(0, &prefix).next().unwrap();
        let taken = || edge.hooks.taken.load(Ordering::SeqCst);
        let before = taken();
        client.subscribe(&subject).await;
        client.send(&json!({ "type": "unsubscribe", "channel": subject })).await;
        client.expect("unsubscribed").await;
        // A tick of the lane ends the feed.
        subscriptions_on(&edge, &subject, 0).await;
        eventually("the lane is still flooded", || async { taken() > before }).await;
    }
    let TestEdge { nats, app, .. } = edge;
    app.drain().await;
    eventually("the lane has stopped", || async { nats.connections("tidegate/").await == 0 }).await;
    flood.abort();
}

/// PROTOCOL.md: "of one channel always arrive in order"
#[tokio::test]
async fn steady_clients_get_everything_in_order_while_others_come_and_go() {
    assert_everything_arrives_in_order(FeedBy::Subject, LaneBy::Hash).await;
}

#[tokio::test]
async fn by_pattern_steady_clients_get_everything_in_order_while_others_come_and_go() {
    assert_everything_arrives_in_order(FeedBy::Pattern, LaneBy::Hash).await;
}

#[tokio::test]
async fn in_the_lane_of_the_first_client_steady_clients_get_everything_in_order_while_others_come_and_go() {
    assert_everything_arrives_in_order(FeedBy::Subject, LaneBy::Own).await;
}

async fn assert_everything_arrives_in_order(feed: FeedBy, lane: LaneBy) {
    let edge = TestEdge::with(|config| {
        config.classes.push(Class { feed, lane, ..class("chat.*") });
        config.server.feed_linger = Duration::ZERO;
        config.limits.commands_burst = 100_000;
        config.limits.inbound_burst_bytes = 100_000_000;
    })
    .await;
    let channels: Vec<String> = (0..200).map(|number| format!("chat.s{number}")).collect();
    let mut steady = Vec::new();
    for (client, shard) in [0, 1, 0, 1].into_iter().enumerate() {
        let mut recorder = Recorder::start(edge.client_on(shard).await);
        let mine: Vec<String> = channels.iter().skip(client / 2).step_by(2).cloned().collect();
        for channel in &mine {
            recorder.subscribe(channel).await;
        }
        recorder.until("all subscribed", |log| log.subscribed() == mine.len()).await;
        steady.push((recorder, mine));
    }
    let mut producers = Vec::new();
    for subjects in channels.chunks(50) {
        producers.push(Producer::at(PACE, &edge.nats, subjects.to_vec()).await);
    }
    let mut restless = Vec::new();
    for shard in [0, 1, 0, 1] {
        restless.push(Recorder::start(edge.client_on(shard).await));
    }
    for round in 0..60 {
        for (number, recorder) in restless.iter().enumerate() {
            for channel in channels.iter().skip((round + number) % 5).step_by(5) {
                recorder.subscribe(channel).await;
            }
            for channel in channels.iter().skip((round + number + 3) % 5).step_by(5).filter(|_| round > 1) {
                recorder.unsubscribe(channel).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut last = Vec::new();
    for producer in producers {
        last.push(producer.stop().await);
    }
    for (mut recorder, mine) in steady {
        let at = |channel: &String| channels.iter().position(|other| other == channel).unwrap() / 50;
        let all = |log: &Log| mine.iter().all(|c| log.newest(c, c) == last[at(c)]);
        recorder.until("the last of each channel", all).await;
        let log = recorder.stop().await;
        for channel in &mine {
            assert_eq!(audit(&log, channel), []);
        }
    }
    for recorder in restless {
        let log = recorder.stop().await;
        for channel in &channels {
            assert_eq!(audit(&log, channel), []);
        }
    }
}

#[tokio::test]
async fn a_lane_that_waits_for_one_subject_delivers_the_others_and_forgets_nothing() {
    let mut edge = TestEdge::start().await;
    let mut subjects = edge.subjects_of(0, "prices");
    let (open, awaited) = (subjects.next().unwrap(), subjects.next().unwrap());
    drop(subjects);
    let mut early = edge.client("alice").await;
    early.subscribe(&open).await;
    edge.hooks.opening.close(0);
    let mut late = edge.client("bob").await;
    late.send(&json!({ "type": "subscribe", "id": 1, "channel": awaited })).await;
    eventually("nats has the subscription", || async { edge.nats.subscriptions("prices.").await == 2 }).await;
    edge.publish(&awaited, "1").await;
    edge.publish(&open, "1").await;
    assert_eq!(early.expect("message").await["data"], 1);
    assert_eq!(late.so_far().await, Vec::<serde_json::Value>::new(), "its subject is still waited for");
    // A read that began on a lost link must not open the feed: the subscription does not exist yet.
    edge.nats.kill();
    early.expect("gap").await;
    edge.hooks.opening.open();
    assert_eq!(late.so_far().await, Vec::<serde_json::Value>::new());
    edge.hooks.opening.close(0);
    edge.nats.restart().await;
    eventually("nats has both subscriptions again", || async {
        edge.nats.subscriptions("prices.").await == 2
    })
    .await;
    let before = edge.hooks.taken.load(Ordering::SeqCst);
    edge.publish(&awaited, "2").await;
    edge.publish(&awaited, "3").await;
    eventually("the lane has both", || async { edge.hooks.taken.load(Ordering::SeqCst) == before + 2 }).await;
    assert_eq!(late.so_far().await, Vec::<serde_json::Value>::new());
    edge.hooks.opening.open();
    let subscribed = late.expect("subscribed").await;
    assert_eq!(subscribed["snapshot"][0]["data"], 3, "the last value of the time before: {subscribed}");
    edge.publish(&awaited, "4").await;
    assert_eq!(late.expect("message").await["data"], 4);
}
