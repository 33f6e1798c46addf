//! `SubscribeServices`: the services on NATS that decide whether a client may read a channel, and what they have decided.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::Classes;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::session::denied::Denied;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use crate::auth::decisions::Decisions;
use crate::auth::service::subscribe::SubscribeDecision;
use crate::auth::shares::AskedBy;

/// How long a question about a subscription waits for its answer, and how many wait at the services at a time.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(2);
const SUBSCRIBE_IN_FLIGHT: usize = 1024;
/// How many of them are of one user, or of the strangers of one address, at a time. The others wait for their turn.
const SUBSCRIBE_SHARE: usize = 32;

/// What services have decided about subscriptions. Each service has its own turns, so that a slow one delays no other.
#[derive(Debug, Default)]
pub struct SubscribeServices(HashMap<Subject, Arc<Decisions<SubscribeDecision>>>);

impl SubscribeServices {
    /// The services of all classes.
    pub fn new<'c>(classes: impl IntoIterator<Item = &'c Class>) -> Self {
        let subjects = classes.into_iter().filter_map(|class| class.authorize.clone());
        let decisions = || Arc::new(Decisions::new(SUBSCRIBE_LIMIT, SUBSCRIBE_IN_FLIGHT, SUBSCRIBE_SHARE));
        Self(subjects.map(|subject| (subject, decisions())).collect())
    }

    /// What the service at `subject` has decided; `None` if no class has it.
    pub(super) fn at(&self, subject: &Subject) -> Option<&Arc<Decisions<SubscribeDecision>>> {
        self.0.get(subject)
    }

    /// Forgets all answers.
    pub(super) fn forget_all(&self) {
        self.0.values().for_each(|decisions| decisions.forget_all());
    }
}

/// Who wants to read a channel, and from where.
#[derive(Clone, Debug)]
pub struct ChannelReader {
    pub identity: Arc<Identity>,
    /// The endpoint's name in logs.
    pub endpoint: Box<str>,
    pub address: Option<IpAddr>,
    /// Whose questions count together.
    pub asked_by: AskedBy,
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
