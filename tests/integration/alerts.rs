//! Each alert rule of `docs/operations/alerts.yml` fires in the real Prometheus when its reason is caused on a real node.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tidegate::config::Config;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::subject::Subject;
use tokio::process::Command;

use crate::admin::has;
use crate::support::admin::address;
use crate::support::admin::on_loopback;
use crate::support::client::Client;
use crate::support::edge::SECRET;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::key_server::IssuerKey;
use crate::support::key_server::KeyServer;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::prometheus::Prometheus;
use crate::support::prometheus::RULES;
use crate::support::proxy::Fault;
use crate::support::proxy::Proxy;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;

/// The alerts whose reason takes minutes. `docs/operations/alerts-test.yml` tests them.
const SLOW: [&str; 1] = ["TidegateThreadBusy"];

/// Returns when Prometheus has the numbers of these nodes. No alert fires for them yet.
async fn observe(targets: &[&str]) -> Prometheus {
    let prometheus =
        Prometheus::start(&targets.iter().map(|target| (*target).to_owned()).collect::<Vec<_>>());
    for target in targets {
        // Two samples, so that what happens from now on is an increase.
        prometheus.until(&format!("count_over_time(tidegate_ready{{instance=\"{target}\"}}[1m]) >= 2")).await;
    }
    assert_eq!(prometheus.firing().await, []);
    prometheus
}

/// Nothing more has to happen: the alert fires when Prometheus looks next.
async fn nothing() {}

/// A subscribed client that reads only when the test does.
async fn sleeper(edge: &TestEdge) -> RawClient {
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    let stream = RawClient::connect_small(&edge.address()).await.stream;
    let mut sleeper = RawClient::upgrade(stream, "/ws", &bearer).await;
    sleeper.send(&raw::text(r#"{"type":"subscribe","id":1,"channel":"chat.flood"}"#)).await;
    sleeper.message().await;
    sleeper.message().await;
    sleeper
}

#[tokio::test]
async fn alerts_fire_for_slow_clients_and_for_lost_publications() {
    let mut edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.outbox_bytes = 512 * 1024;
        config.limits.send_buffer_bytes = 16 * 1024;
        config.classes.push(Class { kind: Kind::Buffer, ..class("chat.>") });
    })
    .await;
    let (instance, mut reader, _sleeper) = (address(&edge), sleeper(&edge).await, sleeper(&edge).await);
    let prometheus = observe(&[&instance]).await;
    let (nats, payload) = (edge.nats.client().await, format!("\"{}\"", "x".repeat(4000)));
    for _ in 0..600 {
        nats.publish("chat.flood", payload.clone().into()).await.unwrap();
    }
    nats.flush().await.unwrap();
    has(&edge, &[("tidegate_publications_total{class=\"chat.>\"}", 600.0)]).await;
    while reader.message().await["type"] != "gap" {}
    prometheus.fires("TidegateSlowClients", &instance, nothing).await;
    prometheus.fires("TidegateOutboxesFull", &instance, nothing).await;
    assert!(!prometheus.firing().await.iter().any(|(alert, _)| alert == "TidegatePublicationsLost"));
    let _client = edge.client("bob").await.subscribe("chat.room").await;
    edge.lose_nats().await;
    prometheus.fires("TidegateNotReady", &instance, nothing).await;
    edge.nats.restart().await;
    prometheus.fires("TidegateNatsReconnects", &instance, nothing).await;
    prometheus.fires("TidegatePublicationsLost", &instance, nothing).await;
}

#[tokio::test]
async fn an_alert_fires_for_clients_that_are_closed_because_they_read_nothing() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.outbox_bytes = 128 * 1024;
        config.limits.send_buffer_bytes = 16 * 1024;
        config.limits.write_timeout = Duration::from_secs(1);
    })
    .await;
    let mut sleepers = Vec::new();
    for _ in 0..20 {
        sleepers.push(sleeper(&edge).await);
    }
    let instance = address(&edge);
    let prometheus = observe(&[&instance]).await;
    let (nats, payload) = (edge.nats.client().await, format!("\"{}\"", "x".repeat(4000)));
    for _ in 0..600 {
        nats.publish("chat.flood", payload.clone().into()).await.unwrap();
    }
    nats.flush().await.unwrap();
    prometheus.fires("TidegateSlowClientsClosed", &instance, nothing).await;
    drop(sleepers);
}

#[tokio::test]
async fn an_alert_fires_for_late_answers_of_nats() {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(&nats).await;
    let url = proxy.url();
    let change = |config: &mut Config| {
        on_loopback(config);
        config.nats.urls = vec![url];
        config.nats.ping_interval = Duration::from_secs(1);
    };
    let edge = TestEdge::with_nats(nats, change, false).await;
    let instance = address(&edge);
    let prometheus = observe(&[&instance]).await;
    proxy.does(Fault::Delay(Duration::from_millis(700)));
    prometheus.fires("TidegateNatsSlow", &instance, nothing).await;
}

#[tokio::test]
async fn an_alert_fires_for_a_lane_that_nats_ends_as_a_slow_consumer() {
    let nats = NatsServer::with("max_pending: 1MB").await;
    let edge = TestEdge::with_nats(nats, on_loopback, false).await;
    let (instance, subject) = (address(&edge), edge.subjects_of(0, "chat").next().unwrap());
    let mut client = edge.client("alice").await;
    client.subscribe(&subject).await;
    let prometheus = observe(&[&instance]).await;
    let lane = format!("tidegate/{}/0", edge.app.node.name);
    edge.hooks.reader.close(0);
    let (producer, payload) = (edge.nats.client().await, format!("\"{}\"", "x".repeat(4000)));
    while edge.nats.connections(&lane).await == 2 {
        for _ in 0..250 {
            producer.publish(subject.clone(), payload.clone().into()).await.unwrap();
        }
        producer.flush().await.unwrap();
    }
    edge.hooks.reader.open();
    prometheus.fires("TidegateSlowConsumer", &instance, nothing).await;
}

#[tokio::test]
async fn alerts_fire_for_a_thread_that_is_late() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.inbox_bytes = 100_000;
    })
    .await;
    let (instance, subject) = (address(&edge), edge.subjects_of(0, "chat").next().unwrap());
    let mut client = edge.client_on(1).await;
    client.subscribe(&subject).await;
    let prometheus = observe(&[&instance]).await;
    let subjects = [subject];
    prometheus
        .fires("TidegateSlowDelivery", &instance, async || {
            edge.hooks.pump.close(1);
            edge.publish_numbers(&subjects, 1..=1).await;
            tokio::time::sleep(Duration::from_millis(150)).await;
            edge.hooks.pump.open();
            client.expect("message").await;
        })
        .await;
    assert!(!prometheus.firing().await.iter().any(|(alert, _)| alert == "TidegateOverloaded"));
    edge.hooks.pump.close(1);
    edge.publish_numbers(&subjects, 1..=5000).await;
    prometheus.fires("TidegateOverloaded", &instance, nothing).await;
    edge.hooks.pump.open();
}

#[tokio::test]
async fn alerts_fire_for_clients_that_are_refused() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.handshakes_per_s = 50;
        config.limits.handshakes_burst = 50;
        config.limits.handshake_wait = Duration::from_secs(4);
        config.limits.max_errors = 1000;
    })
    .await;
    let (instance, main) = (address(&edge), edge.address());
    let mut alice = edge.client("alice").await;
    let prometheus = observe(&[&instance]).await;
    let forbidden: Vec<_> = (0..50).map(|number| format!("admin.n{number}")).collect();
    let forbidden = json!({ "type": "subscribe", "id": 1, "channels": forbidden });
    prometheus
        .fires("TidegateOperationsDenied", &instance, async || {
            alice.send(&forbidden).await;
            alice.until("error").await;
        })
        .await;
    let refused = handshake("/ws", "Authorization: Bearer a.b.c\r\n");
    prometheus
        .fires("TidegateCredentialsRefused", &instance, async || {
            join_all((0..40).map(|_| ask(&main, &refused))).await;
        })
        .await;
    for alert in ["TidegateLimitsRefuse", "TidegateServerErrors", "TidegateHandshakesWait"] {
        prometheus
            .fires(alert, &instance, async || {
                join_all((0..500).map(|_| ask(&main, &refused))).await;
            })
            .await;
    }
}

#[tokio::test]
async fn alerts_fire_for_keys_that_cannot_be_fetched() {
    let server = KeyServer::start().await;
    server.publish(&[&IssuerKey::new("one")]);
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.auth.issuers = vec![server.config()];
        config.auth.jwks_min_refetch = Duration::from_millis(1);
    })
    .await;
    let instance = address(&edge);
    let key_source = edge.app.node.authenticator().key_sources().next().cloned().unwrap();
    eventually("the keys are fetched", async || key_source.state().finished >= 1).await;
    let prometheus = observe(&[&instance]).await;
    server.answer("/keys", 500, "");
    prometheus
        .fires("TidegateKeysUnavailable", &instance, async || {
            let unknown = IssuerKey::new("other").token(&server.issuer(), "alice");
            ask(&edge.address(), handshake("/ws", &format!("Authorization: Bearer {unknown}\r\n"))).await;
        })
        .await;
}

#[tokio::test]
async fn alerts_fire_for_events_that_the_audit_feed_loses() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        // NATS does not let the node publish there.
        config.audit.subject = Some(Subject::parse("closed.feed").unwrap());
    })
    .await;
    let instance = address(&edge);
    let prometheus = observe(&[&instance]).await;
    prometheus
        .fires("TidegateAuditLost", &instance, async || {
            edge.client("alice").await;
        })
        .await;
}

#[tokio::test]
async fn alerts_fire_for_a_node_that_needs_its_operator() {
    let nats = NatsServer::start().await;
    let config = "admin.listen = \"127.0.0.1:0\"\n";
    let node = Process::serve_with_files(256, &nats.node_url(), config).await;
    let instance = node.logged("serving /metrics", |_| true).await["address"].as_str().unwrap().to_owned();
    let prometheus = observe(&[&instance]).await;
    let mistake = Process::config(&nats.node_url(), "server.drain_s = \"x\"\n", SECRET, "chat.>");
    node.reload(&mistake);
    prometheus.fires("TidegateReloadFailed", &instance, nothing).await;
    let mut client = Client::connect(&node.address, &token("alice")).await;
    client.send(&json!({ "type": "ping", "id": "panic in decode" })).await;
    prometheus.fires("TidegatePanic", &instance, nothing).await;
    let mut sockets = Vec::new();
    prometheus
        .fires("TidegateNearlyFull", &instance, async || {
            sockets.extend((0..50).filter_map(|_| TcpStream::connect(&node.address).ok()));
        })
        .await;
    node.signal("KILL");
    prometheus.fires("TidegateDown", &instance, nothing).await;
}

#[tokio::test]
async fn the_rules_are_valid_and_their_times_are_tested() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts-test.yml"]] {
        let promtool = Command::new("promtool").args(arguments).current_dir(folder).output().await;
        let output =
            promtool.expect("promtool is not installed: run tests/setup.sh, or apt-get install prometheus");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

#[test]
fn each_rule_has_a_test() {
    let rules: BTreeSet<_> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let here = include_str!("alerts.rs");
    let timed = include_str!("../../docs/operations/alerts-test.yml");
    for rule in &rules {
        let test = if SLOW.contains(rule) { timed } else { here };
        assert!(
            test.contains(&format!("{rule}\"")) || test.contains(&format!("alertname: {rule}")),
            "{rule}"
        );
    }
    assert!(rules.len() > SLOW.len());
}
