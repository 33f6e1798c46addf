//! Failures of the link between a node and NATS, on the network and at the server.

use std::time::Duration;

use tidegate::config::nats::login::NatsLogin;
use tidegate::config::secret::Secret;

use crate::support::edge::TestEdge;
use crate::support::eventually;
use crate::support::ledger::audit;
use crate::support::nats_server::NatsServer;
use crate::support::producer::Producer;
use crate::support::proxy::Fault;
use crate::support::proxy::Proxy;
use crate::support::proxy::Whose;
use crate::support::recorder::Recorder;

/// A node behind a proxy that can disturb its connections, a client on each shard that subscribes to two subjects of
/// each lane, and a producer that publishes to them all the time.
struct World {
    edge: TestEdge,
    proxy: Proxy,
    recorders: Vec<Recorder>,
    subjects: Vec<String>,
    producer: Producer,
}

impl World {
    async fn start() -> Self {
        let nats = NatsServer::start().await;
        let proxy = Proxy::start(&nats).await;
        let url = proxy.url();
        let change = |config: &mut tidegate::config::Config| {
            config.nats.urls = vec![url];
            config.nats.ping_interval = Duration::from_secs(1);
        };
        let edge = TestEdge::with_nats(nats, change, false).await;
        let subjects: Vec<_> = (0..2).flat_map(|lane| edge.subjects_of(lane, "chat").take(2)).collect();
        let recorders = Recorder::on_each_shard(&edge, &subjects).await;
        let producer = Producer::start(&edge.nats, subjects.clone()).await;
        let mut world = Self { edge, proxy, recorders, subjects, producer };
        world.until_messages_flow().await;
        world
    }

    /// Waits until every client has received messages that were published after this call.
    async fn until_messages_flow(&mut self) {
        let number = self.producer.number();
        for recorder in &mut self.recorders {
            let newer =
                |subject: &String, log: &crate::support::recorder::Log| log.newest(subject, subject) > number;
            recorder.until("newer messages", |log| self.subjects.iter().all(|s| newer(s, log))).await;
        }
    }

    /// The number of gaps that one client has received on each channel.
    fn gaps(&self) -> Vec<u64> {
        let log = self.recorders[0].so_far();
        self.subjects.iter().map(|subject| log.gaps(subject)).collect()
    }

    /// Ends the test. No message is missing without a gap, and each channel has `least` to `most` gaps.
    async fn finish_with_gaps(self, least: usize, most: usize) {
        self.producer.stop().await;
        for recorder in self.recorders {
            let log = recorder.stop().await;
            for subject in &self.subjects {
                let gaps = audit(&log, subject);
                assert!(gaps.iter().all(|gap| gap.cause == "nats"), "{gaps:?}");
                assert!((least..=most).contains(&gaps.len()), "{} gaps", gaps.len());
            }
        }
    }
}

#[tokio::test]
async fn messages_that_arrive_byte_by_byte_are_delivered() {
    let mut world = World::start().await;
    world.proxy.does(Fault::Slice);
    for _ in 0..3 {
        world.until_messages_flow().await;
    }
    world.finish_with_gaps(0, 0).await;
}

#[tokio::test]
async fn nat_03_a_link_that_is_reset_within_a_message_is_a_gap_in_its_place() {
    let mut world = World::start().await;
    for round in 0..20 {
        let before = world.gaps();
        // Somewhere in a message, at a different place each time: each message takes about 40 bytes.
        world.proxy.does(Fault::ResetAfter(1 + round * 37));
        let subjects = world.subjects.clone();
        for recorder in &mut world.recorders {
            recorder.until("a gap", |log| subjects.iter().zip(&before).all(|(s, b)| log.gaps(s) > *b)).await;
        }
        world.proxy.does(Fault::None);
        world.until_messages_flow().await;
    }
    world.finish_with_gaps(20, 200).await;
}

#[tokio::test]
async fn nat_05_a_black_holed_link_is_detected() {
    let mut world = World::start().await;
    world.proxy.does(Fault::Silence);
    world.edge.readyz(503).await;
    let subjects = world.subjects.clone();
    for recorder in &mut world.recorders {
        recorder.until("a gap", |log| subjects.iter().all(|subject| log.gaps(subject) == 1)).await;
    }
    world.proxy.does(Fault::None);
    world.edge.readyz(200).await;
    world.until_messages_flow().await;
    world.finish_with_gaps(1, 1).await;
}

#[tokio::test]
async fn a_node_is_ready_while_both_links_of_every_lane_are_up() {
    let mut world = World::start().await;
    for whose in [Whose::Feeds, Whose::Requests] {
        world.proxy.does_to(whose, Fault::Silence);
        world.edge.readyz(503).await;
        world.proxy.does(Fault::None);
        world.edge.readyz(200).await;
        world.until_messages_flow().await;
    }
    world.finish_with_gaps(1, 1).await;
}

/// A node with two configured servers that do not know each other, and a client that subscribes to a subject of each
/// lane. At least one lane is on `edge.nats`.
async fn on_two_servers(configuration: &str) -> (TestEdge, NatsServer, Recorder, Vec<String>) {
    let (one, mut other) = (NatsServer::with(configuration).await, NatsServer::with(configuration).await);
    let urls = vec![one.url(), other.url()];
    let mut edge = TestEdge::with_nats(one, |config| config.nats.urls = urls, false).await;
    edge.readyz(200).await;
    let subjects: Vec<_> = (0..2).map(|lane| edge.subjects_of(lane, "chat").next().unwrap()).collect();
    let mut recorder = Recorder::start(edge.client_on(0).await);
    for subject in &subjects {
        recorder.join(subject).await;
    }
    if edge.nats.subscriptions("chat.").await == 0 {
        std::mem::swap(&mut edge.nats, &mut other);
    }
    (edge, other, recorder, subjects)
}

/// Waits until all lanes are on this server, and what is published there arrives.
async fn all_are_on(server: &NatsServer, recorder: &mut Recorder, subjects: &[String]) {
    eventually("all subscriptions there", || async { server.subscriptions("chat.").await == subjects.len() })
        .await;
    let client = server.client().await;
    for subject in subjects {
        client.publish(subject.clone(), "{\"n\":7}".into()).await.unwrap();
    }
    client.flush().await.unwrap();
    recorder.until("a message on each", |log| subjects.iter().all(|s| log.newest(s, s) == 7)).await;
}

#[tokio::test]
async fn when_a_server_dies_the_other_takes_over() {
    let (mut edge, other, mut recorder, subjects) = on_two_servers("").await;
    edge.nats.kill();
    all_are_on(&other, &mut recorder, &subjects).await;
    edge.readyz(200).await;
}

/// In lame duck mode the server closes its connections only after the test.
const LONG_FAREWELL: &str = "lame_duck_duration: \"60s\", lame_duck_grace_period: \"50s\"";

#[tokio::test]
async fn a_server_that_is_about_to_stop_is_left_before_it_does() {
    let (edge, other, mut recorder, subjects) = on_two_servers(LONG_FAREWELL).await;
    edge.nats.lame_duck();
    all_are_on(&other, &mut recorder, &subjects).await;
}

#[tokio::test]
async fn a_server_that_only_the_cluster_announces_is_found() {
    let [routes, theirs] = [NatsServer::free_port(), NatsServer::free_port()];
    let cluster = |name: &str, port: u16, to: u16| {
        format!(
            "server_name: {name}\njetstream: disabled\n\
             cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [\"nats://127.0.0.1:{to}\"] }}"
        )
    };
    let one = NatsServer::with(&cluster("one", routes, theirs)).await;
    let other = NatsServer::with(&cluster("other", theirs, routes)).await;
    let mut edge = TestEdge::with_nats(one, |_| {}, false).await;
    let subjects: Vec<_> = (0..2).map(|lane| edge.subjects_of(lane, "chat").next().unwrap()).collect();
    let mut recorder = Recorder::start(edge.client_on(0).await);
    for subject in &subjects {
        recorder.join(subject).await;
    }
    // Once the servers have formed a cluster, the node knows both.
    eventually("a cluster", || async {
        edge.nats.has_announced_peers().await && other.has_announced_peers().await
    })
    .await;
    edge.nats.kill();
    all_are_on(&other, &mut recorder, &subjects).await;
}

fn users(password: &str, permissions: &str) -> String {
    format!(
        "authorization {{ users: [ {{ user: edge, password: {password}, permissions: {{ {permissions} }} }}, \
         {{ user: any, password: any }} ] }}\nno_auth_user: any"
    )
}

fn login() -> NatsLogin {
    NatsLogin::Password { user: "edge".to_owned(), password: Secret::new("edge") }
}

#[tokio::test]
async fn a_rejected_login_is_retried_until_nats_accepts_it() {
    let nats = NatsServer::with(&users("other", "")).await;
    let edge = TestEdge::with_nats(nats, |config| config.nats.login = login(), false).await;
    assert_eq!(edge.get("/healthz").await.0, 200);
    edge.readyz(503).await;
    edge.nats.reload(&users("edge", ""));
    edge.readyz(200).await;
}

#[tokio::test]
async fn a_login_that_nats_revokes_is_a_gap_until_it_is_accepted_again() {
    let nats = NatsServer::with(&users("edge", "")).await;
    let edge = TestEdge::with_nats(nats, |config| config.nats.login = login(), false).await;
    let mut recorder = Recorder::start(edge.client_on(0).await);
    recorder.join("chat.a").await;
    edge.nats.reload(&users("other", ""));
    edge.readyz(503).await;
    recorder.until("a gap", |log| log.gaps("chat.a") == 1).await;
    edge.nats.reload(&users("edge", ""));
    edge.readyz(200).await;
    eventually("subscribed", || async { edge.nats.subscriptions("chat.a").await == 1 }).await;
    edge.publish("chat.a", "{\"n\":1}").await;
    recorder.until("a message", |log| log.newest("chat.a", "chat.a") == 1).await;
}

#[tokio::test]
async fn a_subscription_that_nats_revokes_is_a_gap_until_it_is_allowed_again() {
    let nats = NatsServer::with(&users("edge", "")).await;
    let edge = TestEdge::with_nats(nats, |config| config.nats.login = login(), false).await;
    let mut recorder = Recorder::start(edge.client_on(0).await);
    for channel in ["chat.a", "chat.b"] {
        recorder.join(channel).await;
    }
    edge.nats.reload(&users("edge", "subscribe: { deny: \"chat.a\" }"));
    recorder.until("a gap", |log| log.gaps("chat.a") == 1).await;
    edge.nats.reload(&users("edge", ""));
    eventually("subscribed", || async { edge.nats.subscriptions("chat.a").await == 1 }).await;
    for channel in ["chat.a", "chat.b"] {
        edge.publish(channel, "{\"n\":1}").await;
        recorder.until("a message", |log| log.newest(channel, channel) == 1).await;
    }
    let log = recorder.stop().await;
    assert_eq!(audit(&log, "chat.b"), []);
}
