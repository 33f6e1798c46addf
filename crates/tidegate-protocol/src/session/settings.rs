//! Settings: what holds for every session of a node.

use std::sync::Arc;
use std::time::Duration;

use crate::class::Classes;
use crate::session::limits::Rate;
use crate::subject::SubjectLimits;

/// What holds for every session of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub node: Arc<str>,
    /// How publications are delivered, by channel.
    pub classes: Classes,
    /// How long a channel may be.
    pub subjects: SubjectLimits,
    /// Largest message that a client may send, in bytes.
    pub max_message: usize,
    /// Channels a session may have.
    pub max_subscriptions: usize,
    /// How many of them may have wildcards.
    pub max_wildcards: usize,
    /// How many of those may match one subject.
    pub max_overlapping: usize,
    /// How long a client waits for a channel before it is told that its answer is still to come.
    pub join_patience: Duration,
    /// Refused commands, in a short time, before the session ends.
    pub max_errors: u32,
    /// Commands a client may send.
    pub commands: Rate,
    /// Publishes and requests of one session that NATS is asked for at a time; others wait for these.
    pub requests_in_flight: usize,
    /// How long a request waits when the client does not say.
    pub request_timeout: Duration,
    /// How long a request may wait at most.
    pub request_timeout_max: Duration,
    /// Largest `data` of a publish or request, in bytes.
    pub publish_max: usize,
    /// How long a session may be without an identity.
    pub auth_timeout: Duration,
    /// How often to ping.
    pub ping_interval: Duration,
    /// How long to wait for a sign of life after a ping.
    pub pong_timeout: Duration,
    /// How long before its end a credential is said to expire.
    pub expiring: Duration,
    /// Keep every subscription held, to prove that no one can tell.
    pub hold: bool,
}
