//! The table of all metrics. `docs/METRICS.md` lists the same ones; a test compares both.
//!
//! A label never has a user, a session, a channel or a subject as its value: the number of time series must not depend on
//! what clients do.

/// A metric. It has one value for each combination of its labels' values.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name, with the suffix `_total` if it is a counter.
    pub name: &'static str,
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts: one sentence.
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that only grows, from the start of the node.
    Counter,
    /// A number of this moment.
    Gauge,
    /// How many times were at most so long, in seconds.
    Histogram,
}

impl MetricKind {
    /// The word in the text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Defines each metric, and `ALL` with all of them in this order.
macro_rules! metrics {
    ($($item:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub static $item: Metric = Metric {
            name: $name,
            kind: MetricKind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All metrics, in the order of the text.
        pub static ALL: &[&Metric] = &[$(&$item),*];
    };
}

metrics! {
    BUILD_INFO: Gauge "tidegate_build_info" ["version"] "The version of this node: always 1.";
    READY: Gauge "tidegate_ready" [] "1 if the node is ready: all lanes are connected to NATS, and it does not shut down.";
    DRAINING: Gauge "tidegate_draining" [] "1 while the node closes its connections to shut down.";
    RELOADS: Counter "tidegate_reloads_total" [] "Configurations that were reloaded and are in use.";
    RELOAD_FAILURES: Counter "tidegate_reload_failures_total" [] "Reloads that were refused, because the configuration has mistakes.";
    PANICS: Counter "tidegate_panics_total" [] "Bugs in Tidegate that ended a session, a publication or a thread.";

    CONNECTIONS: Gauge "tidegate_connections" ["transport"] "Connections whose handshake is done.";
    CONNECTIONS_WITH_GAPS: Gauge "tidegate_connections_with_gaps" [] "Connections, among the open ones, that have missed publications.";
    USERS: Gauge "tidegate_users" [] "Users with a connection. Only with limits.connections_per_user: without it, users are not counted.";
    CONNECTIONS_OPENED: Counter "tidegate_connections_opened_total" ["transport"] "Connections that have started.";
    CONNECTIONS_CLOSED: Counter "tidegate_connections_closed_total" ["code", "reason"] "Connections that have ended, by close code and reason.";
    SUBSCRIPTIONS: Gauge "tidegate_subscriptions" [] "Subscriptions of all clients.";
    HANDSHAKE_DURATION: Histogram "tidegate_handshake_duration_seconds" [] "From accepting a socket, or from a later request on it, to the start of its connection.";
    HANDSHAKE_WAITS: Counter "tidegate_handshake_waits_total" [] "Handshakes and calls that waited for their turn, by limits.handshakes_per_s.";
    HANDSHAKE_WAIT: Counter "tidegate_handshake_wait_seconds_total" [] "How long they waited together.";
    CLIENT_RTT: Histogram "tidegate_client_rtt_seconds" [] "From a ping of the node to the pong of the client, with what was queued before the ping: a sample of one in 16.";
    HTTP_REQUESTS: Counter "tidegate_http_requests_total" ["route", "method", "status"] "Requests that were answered, handshakes among them, by the template of their path.";
    SOCKETS: Gauge "tidegate_sockets" [] "Sockets of clients, upgraded or not, on all public listeners.";
    SOCKETS_LIMIT: Gauge "tidegate_sockets_limit" [] "The most sockets of clients, by limits.connections and the limit on open files.";
    REJECTED: Counter "tidegate_rejected_requests_total" ["status", "reason"] "Handshakes, preflights, calls, and requests for tickets and of operators that were refused.";
    AUTH_FAILURES: Counter "tidegate_auth_failures_total" ["reason"] "Credentials that were refused or missing, in requests and in messages.";
    AUTHZ_DENIED: Counter "tidegate_authz_denied_total" ["op"] "What clients tried and their roles do not allow.";
    ORIGIN_REJECTED: Counter "tidegate_origin_rejected_total" [] "Requests of pages whose origin is not allowed.";
    RATE_LIMITED: Counter "tidegate_rate_limited_total" ["limit"] "What limits have refused.";

    PUBLICATIONS: Counter "tidegate_publications_total" ["class"] "Publications that NATS has sent to this node, by their class.";
    FRAMES_ENCODED: Counter "tidegate_frames_encoded_total" [] "Publications as they were encoded: once for each format, however many clients get them.";
    DELIVERED: Counter "tidegate_messages_delivered_total" ["transport"] "Publications that were written to sockets, once for each client.";
    DROPPED: Counter "tidegate_messages_dropped_total" ["class", "reason"] "Publications that a client did not get, once for each client.";
    GAPS: Counter "tidegate_gaps_total" ["cause"] "Gaps: places where publications are missing in a subscription.";
    BYTES_SENT: Counter "tidegate_bytes_sent_total" [] "Bytes that were written to the sockets of connections, without TLS.";
    DELIVERY_LATENCY: Histogram "tidegate_delivery_latency_seconds" [] "From reading publications from NATS to the writes to all clients that have room: a sample of one in 16 batches.";
    OUTBOX_BYTES: Gauge "tidegate_outbox_bytes" ["shard"] "Bytes that wait for clients whose sockets take no more, give or take an eighth.";
    OUTBOX_P99: Gauge "tidegate_outbox_p99_bytes" [] "The size that 99 of 100 outboxes do not exceed, in bytes. It is rounded up to one less than a power of two.";
    PUBLISH_DURATION: Histogram "tidegate_publish_duration_seconds" [] "From sending what a client publishes to the confirmation of NATS.";
    PRODUCER_LATENCY: Histogram "tidegate_producer_latency_seconds" [] "From the time in the header ce-time or Nats-Time-Stamp of a publication to the writes to all clients that have room: a sample of one in 16 publications.";
    INBOX_BYTES: Gauge "tidegate_inbox_bytes" ["shard"] "Bytes that lanes have sent to a shard and that it has not processed.";
    INBOX_LOST: Counter "tidegate_inbox_lost_total" ["shard"] "Publications that did not fit into the inbox of a shard, and became gaps.";

    NATS_CONNECTED: Gauge "tidegate_nats_connected" ["lane"] "1 if both connections of a lane to NATS work.";
    NATS_RECONNECTS: Counter "tidegate_nats_reconnects_total" ["lane"] "How often a lane was connected to NATS again.";
    NATS_SLOW_CONSUMER: Counter "tidegate_nats_slow_consumer_total" ["lane"] "How often NATS ended the connection of a lane that had not read everything: a slow consumer.";
    NATS_RTT: Histogram "tidegate_nats_rtt_seconds" ["lane"] "From a PING of a lane to the PONG of NATS, which comes after all publications that the lane has not read.";
    LANE_REQUESTS: Gauge "tidegate_lane_requests" ["lane"] "Joins and leaves of shards that a lane has not handled.";
    NATS_SUBSCRIPTIONS: Gauge "tidegate_nats_subscriptions" ["lane"] "Subscriptions of a lane on NATS.";

    AUDIT_EVENTS: Counter "tidegate_audit_events_total" [] "Events of the audit feed that NATS has confirmed.";
    AUDIT_LOST: Counter "tidegate_audit_lost_total" [] "Events of the audit feed that were lost: NATS was away for too long, or refused them.";

    SPANS_EXPORTED: Counter "tidegate_spans_exported_total" [] "Spans of traces that the collector has accepted.";
    SPANS_DROPPED: Counter "tidegate_spans_dropped_total" [] "Spans that were lost: too many at once, or the collector was away or refused them.";

    TICKETS_ISSUED: Counter "tidegate_tickets_issued_total" [] "Tickets that this node has issued.";
    TICKETS_REDEEMED: Counter "tidegate_tickets_redeemed_total" [] "Tickets with which clients have connected here.";
    TICKETS_REFUSED: Counter "tidegate_tickets_refused_total" [] "Tickets that were unknown, expired, or used before.";
    TOKEN_CACHE_ENTRIES: Gauge "tidegate_token_cache_entries" [] "Verified tokens in the cache.";
    TOKEN_CACHE_HITS: Counter "tidegate_token_cache_hits_total" [] "Tokens that were found in the cache, since the configuration was loaded.";
    TOKEN_CACHE_MISSES: Counter "tidegate_token_cache_misses_total" [] "Tokens that had to be verified, since the configuration was loaded.";
    JWKS_REFRESH_FAILURES: Counter "tidegate_jwks_refresh_failures_total" [] "Fetches of published keys that have failed, of all issuers.";

    PROCESS_CPU: Counter "process_cpu_seconds_total" [] "The CPU time of the process.";
    PROCESS_MEMORY: Gauge "process_resident_memory_bytes" [] "The memory of the process.";
    PROCESS_OPEN_FDS: Gauge "process_open_fds" [] "Open file descriptors.";
    PROCESS_MAX_FDS: Gauge "process_max_fds" [] "The limit on open file descriptors.";

    TOKIO_TASKS: Gauge "tokio_alive_tasks" ["shard"] "Tasks that run on the thread: one for each connection, call and request, and some of the node itself.";
    TOKIO_BUSY: Counter "tokio_busy_seconds_total" ["shard"] "How long the thread has worked: 1 in each second is a thread without rest.";
    TOKIO_PARKS: Counter "tokio_parks_total" ["shard"] "How often the thread had nothing to do and waited.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_their_kind_and_unit() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Metric { name, kind, help, .. } in ALL {
            assert!(["tidegate_", "process_", "tokio_"].iter().any(|of| name.starts_with(of)), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), *kind == MetricKind::Histogram, "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        }
    }

    #[test]
    fn no_label_is_what_a_client_can_choose() {
        let labels: BTreeSet<_> = ALL.iter().flat_map(|metric| metric.labels).copied().collect();
        let bounded = [
            "cause",
            "class",
            "code",
            "lane",
            "limit",
            "method",
            "op",
            "reason",
            "route",
            "shard",
            "status",
            "transport",
            "version",
        ];
        assert_eq!(labels, bounded.into());
    }
}
