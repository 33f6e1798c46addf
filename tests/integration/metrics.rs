//! What the metrics say of a node: outboxes, requests, round trips, runtimes and descriptors. `admin.rs` has the listener.

use std::time::Duration;

use serde_json::json;
use tidegate::config::Config;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;

use crate::admin::has;
use crate::admin::value;
use crate::support::admin::on_loopback;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;

/// More publications than the outbox and the buffers of the kernel hold.
const FLOOD: u32 = 600;

fn small(config: &mut Config) {
    on_loopback(config);
    config.limits.outbox_bytes = 256 * 1024;
    config.limits.send_buffer_bytes = 16 * 1024;
    config.classes.push(Class { kind: Kind::Buffer, ..class("chat.>") });
}

/// A client that has subscribed to a channel, and reads only when the test does.
async fn sleeper(edge: &TestEdge, channel: &str) -> RawClient {
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    let stream = RawClient::connect_small(&edge.address()).await.stream;
    let mut sleeper = RawClient::upgrade(stream, "/ws", &bearer).await;
    let subscribe = json!({ "type": "subscribe", "id": 1, "channel": channel });
    sleeper.send(&raw::text(&subscribe.to_string())).await;
    sleeper.message().await;
    sleeper.message().await;
    sleeper
}

/// Publishes the flood on a subject, and one more on another.
async fn flood(edge: &TestEdge, subject: &str, last: &str) {
    let (nats, payload) = (edge.nats.client().await, format!("\"{}\"", "x".repeat(4000)));
    for _ in 0..FLOOD {
        nats.publish(subject.to_owned(), payload.clone().into()).await.unwrap();
    }
    nats.publish(last.to_owned(), "1".into()).await.unwrap();
    nats.flush().await.unwrap();
}

async fn text(edge: &TestEdge) -> String {
    crate::admin::text(edge).await
}

/// The bytes that wait for the clients of both shards.
fn waiting(text: &str) -> f64 {
    (0..2).map(|shard| value(text, &format!("tidegate_outbox_bytes{{shard=\"{shard}\"}}"))).sum()
}

#[tokio::test]
async fn what_newer_publications_replace_is_counted_apart_from_losses() {
    let edge = TestEdge::with(small).await;
    let mut sleeper = sleeper(&edge, "prices.*").await;
    flood(&edge, "prices.A", "prices.B").await;
    has(&edge, &[("tidegate_publications_total{class=\"prices.>\"}", f64::from(FLOOD + 1))]).await;
    let blocked = text(&edge).await;
    let (bytes, p99) = (waiting(&blocked), value(&blocked, "tidegate_outbox_p99_bytes"));
    assert!(bytes > 0.0 && (bytes..2.0 * bytes).contains(&p99), "{bytes} {p99}");
    let mut delivered = 1;
    while sleeper.message().await["subject"] != "prices.B" {
        delivered += 1;
    }
    assert!(delivered < FLOOD / 2, "most were replaced: {delivered}");
    has(
        &edge,
        &[
            ("tidegate_messages_delivered_total{transport=\"websocket\"}", f64::from(delivered)),
            (
                "tidegate_messages_dropped_total{class=\"prices.>\",reason=\"conflated\"}",
                f64::from(FLOOD + 1 - delivered),
            ),
            ("tidegate_messages_dropped_total{class=\"prices.>\",reason=\"slow\"}", 0.0),
            ("tidegate_connections_with_gaps", 0.0),
            ("tidegate_outbox_bytes{shard=\"0\"}", 0.0),
            ("tidegate_outbox_bytes{shard=\"1\"}", 0.0),
            ("tidegate_outbox_p99_bytes", 0.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_client_with_a_gap_is_counted_as_long_as_it_is_connected() {
    let edge = TestEdge::with(small).await;
    let mut sleeper = sleeper(&edge, "chat.*").await;
    flood(&edge, "chat.a", "chat.b").await;
    has(&edge, &[("tidegate_publications_total{class=\"chat.>\"}", f64::from(FLOOD + 1))]).await;
    while sleeper.message().await["type"] != "gap" {}
    has(&edge, &[("tidegate_connections_with_gaps", 1.0)]).await;
    drop(sleeper);
    has(
        &edge,
        &[
            ("tidegate_connections_with_gaps", 0.0),
            ("tidegate_outbox_bytes{shard=\"0\"}", 0.0),
            ("tidegate_outbox_bytes{shard=\"1\"}", 0.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn drops_are_counted_by_class() {
    let edge = TestEdge::with(|config| {
        small(config);
        config.classes.push(Class { kind: Kind::Latest, ..class("chat.calm.*") });
    })
    .await;
    let mut sleepers = [sleeper(&edge, "chat.a").await, sleeper(&edge, "chat.calm.a").await];
    flood(&edge, "chat.a", "chat.calm.a").await;
    let received = |class: &str| format!("tidegate_publications_total{{class=\"{class}\"}}");
    has(&edge, &[(&received("chat.>"), f64::from(FLOOD)), (&received("chat.calm.*"), 1.0)]).await;
    let dropped = |class: &str, reason: &str| {
        format!("tidegate_messages_dropped_total{{class=\"{class}\",reason=\"{reason}\"}}")
    };
    while sleepers[0].message().await["type"] != "gap" {}
    eventually("the gap is counted", async || value(&text(&edge).await, &dropped("chat.>", "slow")) > 0.0)
        .await;
    drop(sleepers);
    has(&edge, &[("tidegate_connections{transport=\"websocket\"}", 0.0)]).await;
    let text = text(&edge).await;
    for (class, reason) in [(">", "slow"), ("prices.>", "slow"), ("chat.calm.*", "slow"), (">", "ended")] {
        assert!(value(&text, &dropped(class, reason)) == 0.0, "{class} {reason}: {text}");
    }
    assert!(value(&text, &dropped("chat.>", "ended")) > 0.0, "{text}");
}

#[tokio::test]
async fn an_outage_is_no_slow_consumer_and_its_gap_counts_too() {
    let mut edge = TestEdge::with(on_loopback).await;
    let mut alice = edge.client("alice").await;
    alice.subscribe("chat.room").await;
    edge.lose_nats().await;
    edge.nats.restart().await;
    alice.expect("gap").await;
    let slow = |lane: u32| format!("tidegate_nats_slow_consumer_total{{lane=\"{lane}\"}}");
    has(&edge, &[("tidegate_connections_with_gaps", 1.0), (&slow(0), 0.0), (&slow(1), 0.0)]).await;
}

#[tokio::test]
async fn requests_are_counted_by_the_template_of_their_path() {
    let edge = TestEdge::with(on_loopback).await;
    let _alice = edge.client("alice").await;
    let refused = "Authorization: Bearer a.b.c\r\n";
    assert_eq!(ask(&edge.address(), handshake("/ws?x=secret", refused)).await.status, 401);
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /nothing/secret HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("BREW /secret HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("POST /v1/ticket HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 401),
    ] {
        assert_eq!(ask(&edge.address(), request).await.status, status, "{request}");
    }
    has(
        &edge,
        &[
            ("tidegate_http_requests_total{route=\"/ws\",method=\"GET\",status=\"101\"}", 1.0),
            ("tidegate_http_requests_total{route=\"/ws\",method=\"GET\",status=\"401\"}", 1.0),
            ("tidegate_http_requests_total{route=\"/healthz\",method=\"GET\",status=\"200\"}", 1.0),
            ("tidegate_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"}", 1.0),
            ("tidegate_http_requests_total{route=\"other\",method=\"other\",status=\"404\"}", 1.0),
            ("tidegate_http_requests_total{route=\"/v1/ticket\",method=\"POST\",status=\"401\"}", 1.0),
        ],
    )
    .await;
    assert!(!text(&edge).await.contains("secret"));
}

#[tokio::test]
async fn round_trips_and_confirmed_publications_are_measured() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.ping_interval = Duration::from_secs(1);
        config.limits.connections_per_user = 5;
    })
    .await;
    let mut alice = edge.client("alice").await;
    alice.send(&json!({ "type": "publish", "id": 7, "channel": "chat.a", "data": 1 })).await;
    alice.expect("published").await;
    let mut bob = edge.raw("bob").await;
    // Of one in 16 pongs, on the shard of bob.
    for _ in 0..2 {
        while let Some(frame) = bob.frame().await
            && frame.opcode != 9
        {}
        bob.send(&raw::frame(0x8a, b"")).await;
    }
    has(&edge, &[("tidegate_client_rtt_seconds_count", 1.0)]).await;
    let text = text(&edge).await;
    assert!(value(&text, "tidegate_publish_duration_seconds_count") == 1.0, "{text}");
    assert!(value(&text, "tidegate_users") == 2.0, "{text}");
}

#[tokio::test]
async fn the_round_trip_to_nats_is_measured_for_each_lane() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.nats.ping_interval = Duration::from_secs(1);
    })
    .await;
    eventually("both lanes were answered", async || {
        let text = text(&edge).await;
        let count = |lane| value(&text, &format!("tidegate_nats_rtt_seconds_count{{lane=\"{lane}\"}}"));
        count(0) >= 1.0 && count(1) >= 1.0
    })
    .await;
}

#[tokio::test]
async fn handshakes_that_wait_are_counted() {
    let edge = TestEdge::with(|config| {
        on_loopback(config);
        config.limits.handshakes_per_s = 20;
        config.limits.handshakes_burst = 1;
        config.limits.handshake_wait = Duration::from_secs(10);
    })
    .await;
    let clients = futures_util::future::join_all((0..5).map(|_| edge.client("alice"))).await;
    let text = text(&edge).await;
    let waits = value(&text, "tidegate_handshake_waits_total");
    assert!((1.0..=4.0).contains(&waits), "{} clients, {waits} waits", clients.len());
    assert!(value(&text, "tidegate_handshake_wait_seconds_total") > 0.0, "{text}");
}

#[tokio::test]
async fn each_thread_and_the_process_can_be_observed() {
    let edge = TestEdge::with(on_loopback).await;
    let _alice = edge.client("alice").await;
    eventually("both threads have worked and rested", async || {
        let text = text(&edge).await;
        let open = value(&text, "process_open_fds");
        assert!(open > 10.0 && open < value(&text, "process_max_fds"), "{open}");
        (0..2).all(|shard| {
            let of_shard = |name: &str| value(&text, &format!("{name}{{shard=\"{shard}\"}}"));
            of_shard("tokio_alive_tasks") >= 7.0
                && of_shard("tokio_busy_seconds_total") > 0.0
                && of_shard("tokio_parks_total") > 0.0
        })
    })
    .await;
    has(&edge, &[("tidegate_lane_requests{lane=\"0\"}", 0.0), ("tidegate_lane_requests{lane=\"1\"}", 0.0)])
        .await;
}

#[tokio::test]
async fn the_time_since_a_producer_has_sent_is_measured_and_names_its_trace() {
    let edge = TestEdge::with(on_loopback).await;
    let mut alice = edge.client("alice").await;
    alice.subscribe("chat.room").await;
    let nats = edge.nats.client().await;
    let mut headers = async_nats::HeaderMap::new();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    headers.insert("ce-time", "2020-01-01T00:00:00Z");
    headers.insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    nats.publish_with_headers("chat.room", headers, "1".into()).await.unwrap();
    nats.flush().await.unwrap();
    alice.expect("message").await;
    has(&edge, &[("tidegate_producer_latency_seconds_bucket{le=\"10.0\"}", 0.0)]).await;
    has(&edge, &[("tidegate_producer_latency_seconds_count", 1.0)]).await;
    let accept = "Host: localhost\r\nAccept: application/openmetrics-text\r\n";
    let open =
        crate::support::admin::get(&crate::support::admin::address(&edge), "/metrics", accept).await.body;
    let example = format!("le=\"+Inf\"}} 1 # {{trace_id=\"{trace}\"}} ");
    assert!(open.contains(&example), "{open}");
}
