//! `[limits]`: limits of one client, one shard and the node. Every queue and every wait has a limit here.

use std::time::Duration;

use crate::config::table::ConfigTable;

/// What happens to a connection above `limits.connections_per_user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserLimitPolicy {
    /// It is rejected.
    Reject,
    /// It is accepted, and the user's oldest connection is closed.
    Replace,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From accepting a socket to the end of the upgrade.
    pub handshake_timeout: Duration,
    /// Of this node, in the long run. 0: no limit.
    pub handshakes_per_s: usize,
    pub handshakes_burst: usize,
    /// How long a handshake may wait when the rate is exceeded.
    pub handshake_wait: Duration,
    /// Of one identity, in the long run. 0: no limit.
    pub calls_per_s: usize,
    pub calls_burst: usize,
    /// From one address, for all identities together. 0: no limit.
    pub address_calls_per_s: usize,
    pub address_calls_burst: usize,
    /// Answers to calls that wait for their callers, of this node.
    pub answer_bytes: usize,
    /// Answers that wait for the callers at one address.
    pub address_answer_bytes: usize,
    /// From the upgrade to an accepted credential.
    pub auth_timeout: Duration,
    pub max_header_bytes: usize,
    pub max_headers: usize,
    /// One message of a client, all fragments together.
    pub max_message_bytes: usize,
    pub max_fragments: usize,
    /// From a message's first fragment to its last.
    pub fragment_timeout: Duration,
    pub inbound_bytes_per_s: usize,
    pub inbound_burst_bytes: usize,
    pub control_frames_per_s: usize,
    pub control_frames_burst: usize,
    pub commands_per_s: usize,
    pub commands_burst: usize,
    /// Rejected messages of a client before its session is closed.
    pub max_errors: usize,
    pub max_subject_bytes: usize,
    pub max_subject_tokens: usize,
    /// Of one connection.
    pub subscriptions: usize,
    /// Of one connection.
    pub wildcard_subscriptions: usize,
    /// Wildcard subscriptions of one connection that match the same subject.
    pub overlapping_subscriptions: usize,
    /// Wildcard patterns of one lane that match the same subject.
    pub overlapping_feeds: usize,
    /// The data of one `publish` or `request`.
    pub publish_max_bytes: usize,
    /// The longest timeout that a client may set for a request.
    pub request_timeout_max: Duration,
    /// Of one connection.
    pub requests_in_flight: usize,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    /// How long before its token expires a session is warned. Zero: no warning.
    pub expiry_warning: Duration,
    /// Of one connection.
    pub outbox_bytes: usize,
    /// Of one connection.
    pub outbox_frames: usize,
    /// How long a socket may accept none of its waiting data.
    pub write_timeout: Duration,
    /// The kernel's send buffer of one socket.
    pub send_buffer_bytes: usize,
    /// Of one shard.
    pub inbox_bytes: usize,
    /// Requests from shards that may wait for one lane.
    pub lane_requests: usize,
    /// The largest message from NATS that is delivered, and the largest reply to a request.
    pub delivery_max_bytes: usize,
    /// The last values that one feed keeps, one per subject or key.
    pub feed_values: usize,
    /// The last values of one feed together.
    pub feed_value_bytes: usize,
    /// Of this node. 0: as many as the limit on open files allows.
    pub connections: usize,
    /// Of one client address on this node. 0: no limit.
    pub connections_per_address: usize,
    /// New connections of one client address, in the long run. 0: no limit.
    pub address_handshakes_per_s: usize,
    pub address_handshakes_burst: usize,
    /// Of the pages of one origin on this node. 0: no limit.
    pub connections_per_origin: usize,
    /// Of one user on this node. Clients without a credential are not counted. 0: no limit.
    pub connections_per_user: usize,
    pub connections_per_user_policy: UserLimitPolicy,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            handshakes_per_s: 5000,
            handshakes_burst: 1000,
            handshake_wait: Duration::from_secs(1),
            calls_per_s: 100,
            calls_burst: 400,
            address_calls_per_s: 500,
            address_calls_burst: 2000,
            answer_bytes: 134_217_728,
            address_answer_bytes: 33_554_432,
            auth_timeout: Duration::from_secs(5),
            max_header_bytes: 16_384,
            max_headers: 64,
            max_message_bytes: 65_536,
            max_fragments: 256,
            fragment_timeout: Duration::from_secs(10),
            inbound_bytes_per_s: 32_768,
            inbound_burst_bytes: 131_072,
            control_frames_per_s: 10,
            control_frames_burst: 50,
            commands_per_s: 50,
            commands_burst: 200,
            max_errors: 20,
            max_subject_bytes: 256,
            max_subject_tokens: 16,
            subscriptions: 1000,
            wildcard_subscriptions: 50,
            overlapping_subscriptions: 8,
            overlapping_feeds: 64,
            publish_max_bytes: 65_536,
            request_timeout_max: Duration::from_secs(30),
            requests_in_flight: 16,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            expiry_warning: Duration::from_secs(30),
            outbox_bytes: 1_048_576,
            outbox_frames: 8192,
            write_timeout: Duration::from_secs(20),
            send_buffer_bytes: 131_072,
            inbox_bytes: 16_777_216,
            lane_requests: 8192,
            delivery_max_bytes: 1_048_576,
            feed_values: 1000,
            feed_value_bytes: 65_536,
            connections: 0,
            connections_per_address: 1000,
            address_handshakes_per_s: 500,
            address_handshakes_burst: 2000,
            connections_per_origin: 0,
            connections_per_user: 0,
            connections_per_user_policy: UserLimitPolicy::Reject,
        }
    }
}

impl Limits {
    #[expect(clippy::too_many_lines, reason = "an entry for each key, and nothing else")]
    pub(super) fn read(table: &ConfigTable<'_>) -> Self {
        let default = Self::default();
        let limits = Self {
            handshake_timeout: table.duration("handshake_timeout_s", default.handshake_timeout, 1..=300),
            handshakes_per_s: table.count("handshakes_per_s", default.handshakes_per_s, 0..=1_000_000),
            handshakes_burst: table.count("handshakes_burst", default.handshakes_burst, 1..=1_000_000),
            handshake_wait: table.duration("handshake_wait_ms", default.handshake_wait, 0..=60_000),
            calls_per_s: table.count("calls_per_s", default.calls_per_s, 0..=1_000_000),
            calls_burst: table.count("calls_burst", default.calls_burst, 1..=1_000_000),
            address_calls_per_s: table.count(
                "address_calls_per_s",
                default.address_calls_per_s,
                0..=1_000_000,
            ),
            address_calls_burst: table.count(
                "address_calls_burst",
                default.address_calls_burst,
                1..=1_000_000,
            ),
            answer_bytes: table.count("answer_bytes", default.answer_bytes, 65_536..=68_719_476_736),
            address_answer_bytes: table.count(
                "address_answer_bytes",
                default.address_answer_bytes,
                65_536..=68_719_476_736,
            ),
            auth_timeout: table.duration("auth_timeout_s", default.auth_timeout, 1..=300),
            max_header_bytes: table.count("max_header_bytes", default.max_header_bytes, 8192..=1_048_576),
            max_headers: table.count("max_headers", default.max_headers, 16..=1024),
            max_message_bytes: table.count("max_message_bytes", default.max_message_bytes, 1024..=16_777_216),
            max_fragments: table.count("max_fragments", default.max_fragments, 1..=65_536),
            fragment_timeout: table.duration("fragment_timeout_s", default.fragment_timeout, 1..=300),
            inbound_bytes_per_s: table.count(
                "inbound_bytes_per_s",
                default.inbound_bytes_per_s,
                1024..=1_073_741_824,
            ),
            inbound_burst_bytes: table.count(
                "inbound_burst_bytes",
                default.inbound_burst_bytes,
                1024..=1_073_741_824,
            ),
            control_frames_per_s: table.count(
                "control_frames_per_s",
                default.control_frames_per_s,
                1..=10_000,
            ),
            control_frames_burst: table.count(
                "control_frames_burst",
                default.control_frames_burst,
                1..=100_000,
            ),
            commands_per_s: table.count("commands_per_s", default.commands_per_s, 1..=100_000),
            commands_burst: table.count("commands_burst", default.commands_burst, 1..=1_000_000),
            max_errors: table.count("max_errors", default.max_errors, 1..=10_000),
            max_subject_bytes: table.count("max_subject_bytes", default.max_subject_bytes, 16..=1024),
            max_subject_tokens: table.count("max_subject_tokens", default.max_subject_tokens, 2..=128),
            subscriptions: table.count("subscriptions", default.subscriptions, 1..=1_000_000),
            wildcard_subscriptions: table.count(
                "wildcard_subscriptions",
                default.wildcard_subscriptions,
                1..=1_000_000,
            ),
            overlapping_subscriptions: table.count(
                "overlapping_subscriptions",
                default.overlapping_subscriptions,
                1..=1_000_000,
            ),
            overlapping_feeds: table.count("overlapping_feeds", default.overlapping_feeds, 1..=1_000_000),
            publish_max_bytes: table.count("publish_max_bytes", default.publish_max_bytes, 1..=8_388_608),
            request_timeout_max: table.duration(
                "request_timeout_max_ms",
                default.request_timeout_max,
                10..=300_000,
            ),
            requests_in_flight: table.count("requests_in_flight", default.requests_in_flight, 1..=10_000),
            ping_interval: table.duration("ping_interval_s", default.ping_interval, 1..=300),
            pong_timeout: table.duration("pong_timeout_s", default.pong_timeout, 1..=300),
            expiry_warning: table.duration("expiry_warning_s", default.expiry_warning, 0..=3600),
            outbox_bytes: table.count("outbox_bytes", default.outbox_bytes, 65_536..=1_073_741_824),
            outbox_frames: table.count("outbox_frames", default.outbox_frames, 16..=1_048_576),
            write_timeout: table.duration("write_timeout_s", default.write_timeout, 1..=60),
            send_buffer_bytes: table.count("send_buffer_bytes", default.send_buffer_bytes, 4096..=16_777_216),
            inbox_bytes: table.count("inbox_bytes", default.inbox_bytes, 1_048_576..=4_294_967_296),
            lane_requests: table.count("lane_requests", default.lane_requests, 64..=1_048_576),
            delivery_max_bytes: table.count(
                "delivery_max_bytes",
                default.delivery_max_bytes,
                1024..=67_108_864,
            ),
            feed_values: table.count("feed_values", default.feed_values, 1..=1_000_000),
            feed_value_bytes: table.count("feed_value_bytes", default.feed_value_bytes, 1024..=1_073_741_824),
            connections: table.count("connections", default.connections, 0..=10_000_000),
            connections_per_address: table.count(
                "connections_per_address",
                default.connections_per_address,
                0..=1_000_000,
            ),
            address_handshakes_per_s: table.count(
                "address_handshakes_per_s",
                default.address_handshakes_per_s,
                0..=1_000_000,
            ),
            address_handshakes_burst: table.count(
                "address_handshakes_burst",
                default.address_handshakes_burst,
                1..=1_000_000,
            ),
            connections_per_origin: table.count(
                "connections_per_origin",
                default.connections_per_origin,
                0..=1_000_000,
            ),
            connections_per_user: table.count(
                "connections_per_user",
                default.connections_per_user,
                0..=1_000_000,
            ),
            connections_per_user_policy: table.choice(
                "connections_per_user_policy",
                default.connections_per_user_policy,
                &[("reject", UserLimitPolicy::Reject), ("replace", UserLimitPolicy::Replace)],
            ),
        };
        limits.check_pairs(table);
        limits
    }

    fn check_pairs(&self, table: &ConfigTable<'_>) {
        if self.inbound_burst_bytes < self.max_message_bytes {
            let key = table.conflict_key("inbound_burst_bytes", "max_message_bytes");
            let message = format!(
                "limits.inbound_burst_bytes ({}) is less than limits.max_message_bytes ({}), so a message of the \
                 maximum size would close its connection",
                self.inbound_burst_bytes, self.max_message_bytes
            );
            table.error(key, message, "raise the first, or lower the second");
        }
        if self.handshake_wait >= self.handshake_timeout {
            let key = table.conflict_key("handshake_wait_ms", "handshake_timeout_s");
            let message = format!(
                "limits.handshake_wait_ms ({}) is not less than limits.handshake_timeout_s ({}), so a waiting \
                 handshake would time out",
                self.handshake_wait.as_millis(),
                self.handshake_timeout.as_secs()
            );
            table.error(key, message, "lower the first, or raise the second");
        }
    }
}
