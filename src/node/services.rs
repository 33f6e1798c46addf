//! `SubscribeServices`: the services on NATS that decide whether a client may read a channel, and what they have decided.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::class::Classes;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::session::denied::Denied;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use crate::auth::decisions::Decisions;
use crate::auth::service::subscribe::SubscribeDecision;

/// How long a question about a subscription waits for its answer, and how many wait at the services at a time.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(2);
const SUBSCRIBE_IN_FLIGHT: usize = 1024;

/// What services have decided about subscriptions.
#[derive(Debug)]
pub struct SubscribeServices(pub(super) Arc<Decisions<SubscribeDecision>>);

impl Default for SubscribeServices {
    fn default() -> Self {
        Self(Arc::new(Decisions::new(SUBSCRIBE_LIMIT, SUBSCRIBE_IN_FLIGHT)))
    }
}

/// Who wants to read a channel, and from where.
#[derive(Clone, Debug)]
pub struct ChannelReader {
    pub identity: Arc<Identity>,
    /// The endpoint's name in logs.
    pub endpoint: Box<str>,
    pub address: Option<IpAddr>,
}

/// Why a client may not read a channel: the error for the client, and what the operator should know.
#[derive(Debug)]
pub struct ServiceRefusal {
    pub error: ClientError,
    pub denied: Box<Denied>,
}

impl ServiceRefusal {
    pub(super) fn new(message: impl Into<String>, denied: Denied) -> Box<Self> {
        Box::new(Self { error: ClientError::new(denied.code(), message), denied: Box::new(denied) })
    }
}

/// The services that decide about a subscription to a channel. Empty: roles decide alone.
pub fn of_channel(classes: &Classes, channel: &Pattern) -> Vec<Subject> {
    classes.authorizers(channel).into_iter().cloned().collect()
}
