//! A panic while one session is served ends that session and no other.

use serde_json::json;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::ledger::Gap;
use crate::support::ledger::audit;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::producer::Producer;
use crate::support::recorder::Recorder;
use crate::support::within;

/// The client whose session panics, and one other client on each shard. All subscribe to `chat.all` under load; the
/// first one also to `chat.one`.
struct ThreeClients {
    edge: TestEdge,
    producer: Producer,
    victim: Recorder,
    others: [Recorder; 2],
}

impl ThreeClients {
    async fn start() -> Self {
        let edge = TestEdge::start().await;
        let mut victim = Recorder::start(edge.client_on(0).await);
        let mut others = [Recorder::start(edge.client_on(0).await), Recorder::start(edge.client_on(1).await)];
        for recorder in others.iter_mut().chain([&mut victim]) {
            recorder.join("chat.all").await;
        }
        victim.join("chat.one").await;
        let producer = Producer::start(&edge.nats, vec!["chat.all".to_owned()]).await;
        for recorder in others.iter_mut().chain([&mut victim]) {
            recorder.until("messages", |log| log.newest("chat.all", "chat.all") > 0).await;
        }
        Self { edge, producer, victim, others }
    }

    /// Checks that the victim is closed with 1011, that the others lose nothing, and that new clients can connect.
    async fn only_the_victim_ends(self) {
        let Self { edge, producer, victim, mut others } = self;
        let (_, code) = victim.until_closed().await;
        assert_eq!(code, Some(1011));
        let number = producer.number();
        let mut fresh = Recorder::start(edge.client_on(0).await);
        fresh.join("chat.all").await;
        for recorder in others.iter_mut().chain([&mut fresh]) {
            recorder.until("newer messages", |log| log.newest("chat.all", "chat.all") > number).await;
        }
        producer.stop().await;
        for recorder in others.into_iter().chain([fresh]) {
            assert_eq!(audit(&recorder.stop().await, "chat.all"), []);
        }
        edge.readyz(200).await;
    }
}

#[tokio::test]
async fn pan_01_a_panic_while_decoding_ends_only_its_session() {
    let three = ThreeClients::start().await;
    three.victim.send(json!({ "type": "ping", "id": "panic in decode" })).await;
    three.only_the_victim_ends().await;
}

#[tokio::test]
async fn pan_01_a_panic_while_delivering_ends_only_its_session() {
    let three = ThreeClients::start().await;
    three.edge.publish("chat.one", r#"{"n":1,"words":"panic in deliver"}"#).await;
    three.only_the_victim_ends().await;
}

#[tokio::test]
async fn pan_01_a_panic_while_encoding_is_a_gap_for_that_message() {
    let three = ThreeClients::start().await;
    let ThreeClients { edge, producer, victim, mut others } = three;
    producer.stop().await;
    for recorder in &mut others {
        recorder.join("chat.one").await;
    }
    let mut all = Vec::from(others);
    all.push(victim);
    let subject = ["chat.one".to_owned()];
    edge.publish_numbers(&subject, 1..=1).await;
    edge.publish("chat.one", r#"{"n":2,"words":"panic in encode"}"#).await;
    edge.publish_numbers(&subject, 3..=3).await;
    for mut recorder in all {
        recorder.until("the next message", |log| log.newest("chat.one", "chat.one") == 3).await;
        let log = recorder.stop().await;
        let gap = Gap { cause: "internal".to_owned(), dropped: Some(1) };
        assert_eq!(audit(&log, "chat.one"), [gap]);
        assert_eq!(audit(&log, "chat.all"), []);
    }
    edge.readyz(200).await;
}

#[tokio::test]
async fn pan_01_a_panic_outside_a_session_ends_the_node() {
    // From the other thread's lane through the inbox; from its own lane by a plain call; and in the reader of NATS.
    for (lane, words) in [(0, "panic in pump"), (1, "panic in pump"), (1, "panic in read")] {
        let edge = TestEdge::start().await;
        let subject = edge.subjects_of(lane, "chat").next().unwrap();
        let mut client = edge.client_on(1).await;
        client.subscribe(&subject).await;
        client.send(&json!({ "type": "unsubscribe", "channel": subject })).await;
        client.expect("unsubscribed").await;
        eventually("the feed to be closed", || async { edge.nats.subscriptions(&subject).await == 0 }).await;
        client.subscribe(&subject).await;
        edge.publish(&subject, json!(words).to_string()).await;
        within("the node's end", edge.app.failed()).await;
    }
}

#[tokio::test]
async fn a_panic_is_logged_with_its_place_and_a_flood_of_them_is_not() {
    const FAULTS: usize = 50;
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    for _ in 0..FAULTS {
        let mut client = Client::connect(&node.address, &token("alice")).await;
        client.send(&json!({ "type": "ping", "id": "panic in decode" })).await;
        assert_eq!(client.until_closed().await.1, Some(1011));
    }
    let fault = node.logged("internal error: this is a bug in Tidegate, please report it", |_| true).await;
    assert_eq!(fault["level"], "ERROR");
    assert!(fault["place"].as_str().unwrap().contains("hooks.rs:"), "{fault}");
    assert!(fault["thread"].as_str().unwrap().starts_with("shard-"), "{fault}");
    assert!(
        !node.logs().iter().any(|line| line.to_string().contains("panic in decode")),
        "the log contains the client's text"
    );
    let lines = node.lines("internal error: this is a bug in Tidegate, please report it").len();
    assert!(lines < FAULTS / 2, "{lines} lines");
}
