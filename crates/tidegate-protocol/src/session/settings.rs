//! Settings that all sessions of a node share.

use std::sync::Arc;
use std::time::Duration;

use crate::class::Classes;
use crate::session::limits::Rate;
use crate::subject::SubjectLimits;

/// Settings that all sessions of a node share.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: Arc<str>,
    /// The delivery classes, by channel.
    pub classes: Classes,
    /// The limits on the length of a channel.
    pub subjects: SubjectLimits,
    /// Largest message from a client, in bytes.
    pub max_message: usize,
    /// Channels per session.
    pub max_subscriptions: usize,
    /// Channels with wildcards per session.
    pub max_wildcards: usize,
    /// Channels of a session that may match the same subject.
    pub max_overlapping: usize,
    /// How long a subscription may wait for NATS before the client gets `unavailable` with `pending`.
    pub join_notice_after: Duration,
    /// Errors in a short time that close the session.
    pub max_errors: u32,
    /// The rate of commands per client.
    pub commands: Rate,
    /// Publishes that one session may have in flight to NATS, and the same number of requests; further ones are
    /// queued.
    pub requests_in_flight: usize,
    /// The default timeout of a request.
    pub request_timeout: Duration,
    /// The longest timeout of a request.
    pub request_timeout_max: Duration,
    /// Largest `data` of a publish or request, in bytes.
    pub publish_max: usize,
    /// A session without an identity closes after this time.
    pub auth_timeout: Duration,
    pub ping_interval: Duration,
    /// How long to wait for a sign of life after a ping.
    pub pong_timeout: Duration,
    /// How long before a credential expires the client is warned.
    pub expiring: Duration,
    /// Keep all subscriptions held. Tests use it to prove that clients cannot see the difference.
    pub hold: bool,
}
