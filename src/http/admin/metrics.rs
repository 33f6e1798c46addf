//! `GET /metrics`: asks each shard what it and its lane have counted, and adds the numbers of the node.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::subject::Pattern;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::header;
use warp::reply::Reply as _;
use warp::reply::Response;

use crate::connection::counts::DropReason;
use crate::connection::counts::DroppedCounts;
use crate::connection::counts::ShardCountsReport;
use crate::connection::counts::TransportKind;
use crate::connection::outbox_levels::OutboxLevels;
use crate::http::admin::access::Admin;
use crate::http::admin::process;
use crate::http::problem::Problem;
use crate::lane::counts::LaneReport;
use crate::metrics::histogram::Histogram;
use crate::metrics::samples::Samples;
use crate::metrics::samples::Value;
use crate::metrics::table;
use crate::metrics::text::TextFormat;
use crate::metrics::traced_histogram::TracedHistogram;
use crate::node::refusals::Refused;
use crate::node::request_counts::RequestKey;
use crate::shard::job::RuntimeReport;
use crate::shard::job::ShardJob;
use crate::shard::job::ShardReport;
use crate::telemetry::panics;

/// The metrics, in the format that the reader prefers.
pub(super) async fn answer(admin: &Admin, headers: &HeaderMap) -> Result<Response, Problem> {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let format = TextFormat::preferred(&accept.collect::<Vec<_>>().join(","));
    let count = |answer| ShardJob::Count { answer };
    let reports = join_all(admin.shards.iter().map(|shard| shard.run(count))).await;
    // Without one of them, counters would seem to fall.
    let reports = reports.into_iter().collect::<Option<Vec<_>>>().ok_or_else(Problem::overloaded)?;
    let mut samples = Samples::default();
    add_node(admin, &mut samples);
    add_credentials(admin, &mut samples);
    add_shards(&reports, &mut samples);
    add_classes(&reports, &admin.view.get().class_patterns, &mut samples);
    process::add(&mut samples).await;
    let text = format.encode(samples).map_err(|_| Problem::overloaded())?;
    let mut answer = text.into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(answer)
}

/// What is true of the node, and what its limits have refused.
fn add_node(admin: &Admin, samples: &mut Samples) {
    let node = &admin.node;
    samples.add(&table::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
    samples.add(&table::READY, &[], node.readiness.is_ready().into());
    samples.add(&table::DRAINING, &[], node.readiness.is_draining().into());
    samples.add(&table::RELOADS, &[], node.counts.reloads.get());
    samples.add(&table::RELOAD_FAILURES, &[], node.counts.reload_failures.get());
    samples.add(&table::PANICS, &[], panics::count());
    samples.add(&table::SOCKETS, &[], admin.sockets.open() as u64);
    samples.add(&table::SOCKETS_LIMIT, &[], admin.sockets.max() as u64);
    samples.add(&table::ORIGIN_REJECTED, &[], node.counts.origin_rejected.get());
    for ((status, reason), count) in node.counts.rejected.all() {
        samples.add(&table::REJECTED, &[&status.to_string(), reason], count);
    }
    for (RequestKey { route, method, status }, count) in node.counts.requests.all() {
        samples.add(&table::HTTP_REQUESTS, &[&route, method, &status.to_string()], count);
    }
    samples.add(&table::HANDSHAKE_WAITS, &[], node.counts.handshake_waits.get());
    let waited = Duration::from_nanos(node.counts.handshake_wait_ns.get());
    samples.set(&table::HANDSHAKE_WAIT, Value::Time(waited.as_secs_f64()));
    if let Some(audit) = &node.audit {
        samples.add(&table::AUDIT_EVENTS, &[], audit.published.get());
        samples.add(&table::AUDIT_LOST, &[], audit.lost.get());
    }
    if let Some(spans) = &node.spans {
        samples.add(&table::SPANS_EXPORTED, &[], spans.exported.load(Ordering::Relaxed));
        samples.add(&table::SPANS_DROPPED, &[], spans.dropped.load(Ordering::Relaxed));
    }
    if let Some(users) = node.user_slots.users() {
        samples.add(&table::USERS, &[], users as u64);
    }
    for (lane, waiting) in node.lanes.waiting().enumerate() {
        samples.add(&table::LANE_REQUESTS, &[&lane.to_string()], waiting as u64);
    }
    for refused in Refused::ALL.into_iter().filter(|refused| refused.is_counted()) {
        samples.add(&table::RATE_LIMITED, &[refused.name()], node.refusals.of(refused));
    }
    for (shard, inbox) in admin.inboxes.iter().enumerate() {
        samples.add(&table::INBOX_BYTES, &[&shard.to_string()], inbox.bytes() as u64);
    }
    for (lane, status) in node.readiness.lanes().into_iter().enumerate() {
        samples.add(&table::NATS_CONNECTED, &[&lane.to_string()], status.connected.into());
    }
}

/// Tokens, tickets and published keys.
fn add_credentials(admin: &Admin, samples: &mut Samples) {
    let (node, authenticator) = (&admin.node, admin.node.authenticator());
    for (reason, count) in node.counts.auth_failures.all() {
        samples.add(&table::AUTH_FAILURES, &[reason], count);
    }
    for (operation, count) in node.counts.denied.all() {
        samples.add(&table::AUTHZ_DENIED, &[operation], count);
    }
    samples.add(&table::TICKETS_ISSUED, &[], node.tickets.issued.get());
    samples.add(&table::TICKETS_REDEEMED, &[], node.tickets.redeemed.get());
    samples.add(&table::TICKETS_REFUSED, &[], node.tickets.refused.get());
    let cache = authenticator.cache_counts();
    samples.add(&table::TOKEN_CACHE_ENTRIES, &[], authenticator.cached_tokens() as u64);
    samples.add(&table::TOKEN_CACHE_HITS, &[], cache.hits);
    samples.add(&table::TOKEN_CACHE_MISSES, &[], cache.misses);
    let failures = authenticator.key_sources().map(|source| source.state().failures).sum();
    samples.add(&table::JWKS_REFRESH_FAILURES, &[], failures);
}

/// The sums of all shards and lanes, and the numbers of each where it matters which one it is.
fn add_shards(reports: &[ShardReport], samples: &mut Samples) {
    let (mut handshakes, mut latencies) = (Histogram::default(), Histogram::default());
    let (mut publishes, mut round_trips) = (Histogram::default(), Histogram::default());
    let (mut outboxes, mut open) = (OutboxLevels::default(), 0);
    let mut producer_latencies = TracedHistogram::default();
    for (number, ShardReport { counts, subscriptions, lane, runtime }) in reports.iter().enumerate() {
        handshakes += counts.handshakes;
        latencies += counts.latencies;
        publishes += counts.publishes;
        producer_latencies.merge(counts.producer_latencies);
        round_trips += counts.round_trips;
        outboxes += counts.outboxes;
        open += counts.open.iter().sum::<u64>();
        samples.add(&table::OUTBOX_BYTES, &[&number.to_string()], counts.outboxes.bytes());
        add_runtime(&number.to_string(), runtime, samples);
        samples.add(&table::SUBSCRIPTIONS, &[], *subscriptions);
        add_connections(counts, samples);
        add_lane(&number.to_string(), lane, samples);
    }
    for shard in 0..reports.len() {
        let lost = reports.iter().filter_map(|report| report.lane.inbox_lost.get(shard)).sum();
        samples.add(&table::INBOX_LOST, &[&shard.to_string()], lost);
    }
    samples.set(&table::HANDSHAKE_DURATION, Value::Durations(handshakes));
    samples.set(&table::DELIVERY_LATENCY, Value::Durations(latencies));
    samples.set_traced(&table::PRODUCER_LATENCY, producer_latencies);
    samples.set(&table::PUBLISH_DURATION, Value::Durations(publishes));
    samples.set(&table::CLIENT_RTT, Value::Durations(round_trips));
    samples.add(&table::OUTBOX_P99, &[], outboxes.p99(open));
}

fn add_connections(counts: &ShardCountsReport, samples: &mut Samples) {
    for (at, transport) in TransportKind::ALL.iter().enumerate() {
        let labels = [transport.name()];
        samples.add(&table::CONNECTIONS, &labels, counts.open[at]);
        samples.add(&table::CONNECTIONS_OPENED, &labels, counts.opened[at]);
        samples.add(&table::DELIVERED, &labels, counts.delivered[at]);
    }
    // A rate needs a 0 before the first one.
    for disconnect in Disconnect::ALL {
        samples.add(&table::CONNECTIONS_CLOSED, &[&disconnect.code().to_string(), disconnect.name()], 0);
    }
    for ((code, reason), count) in &counts.closed {
        samples.add(&table::CONNECTIONS_CLOSED, &[&code.to_string(), reason], *count);
    }
    for (cause, count) in GapCause::ALL.into_iter().zip(counts.gaps) {
        samples.add(&table::GAPS, &[cause.name()], count);
    }
    samples.add(&table::BYTES_SENT, &[], counts.bytes_sent);
    samples.add(&table::CONNECTIONS_WITH_GAPS, &[], counts.with_gaps);
}

/// What is counted for each class. Classes have the numbers of their patterns.
fn add_classes(reports: &[ShardReport], patterns: &[Pattern], samples: &mut Samples) {
    for (number, pattern) in patterns.iter().enumerate() {
        let class = pattern.as_str();
        let received = |report: &ShardReport| report.lane.publications.get(number).copied();
        samples.add(&table::PUBLICATIONS, &[class], reports.iter().filter_map(received).sum());
        let mut dropped = DroppedCounts::default();
        for of_shard in reports.iter().filter_map(|report| report.counts.dropped.get(number)) {
            dropped.iter_mut().zip(of_shard).for_each(|(sum, count)| *sum += count);
        }
        for (reason, count) in DropReason::all().zip(dropped) {
            samples.add(&table::DROPPED, &[class, reason.name()], count);
        }
    }
}

fn add_runtime(number: &str, runtime: &RuntimeReport, samples: &mut Samples) {
    samples.add(&table::TOKIO_TASKS, &[number], runtime.tasks);
    samples.set_labelled(&table::TOKIO_BUSY, &[number], Value::Time(runtime.busy.as_secs_f64()));
    samples.add(&table::TOKIO_PARKS, &[number], runtime.parks);
}

fn add_lane(number: &str, lane: &LaneReport, samples: &mut Samples) {
    samples.add(&table::FRAMES_ENCODED, &[], lane.frames);
    samples.add(&table::NATS_RECONNECTS, &[number], lane.connects.saturating_sub(1));
    samples.add(&table::NATS_SLOW_CONSUMER, &[number], lane.slow_ends);
    samples.set_labelled(&table::NATS_RTT, &[number], Value::Durations(lane.round_trips));
    samples.add(&table::NATS_SUBSCRIPTIONS, &[number], lane.subscriptions);
}
