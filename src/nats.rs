//! The NATS connections of a lane: one for its subscriptions, one for publishing and requests. Both use our own client.
//! Everything else uses async-nats, which only [`client`] and [`key_value`] import.

pub mod acknowledgement;
mod api_error;
pub mod buckets;
pub mod client;
mod connect;
pub mod control;
pub mod direct_get;
pub mod error;
pub mod files;
pub mod finding;
#[cfg(feature = "test-hooks")]
pub mod fuzz;
pub mod incoming;
pub mod info;
pub mod key_value;
pub mod link;
mod link_driver;
mod login;
mod login_help;
pub mod message;
mod message_queue;
pub mod micro;
mod other_users;
mod outgoing;
mod partial_denials;
mod permissions;
pub mod probe;
mod probe_connection;
pub mod publish;
#[cfg(feature = "instructions")]
pub mod read_only;
mod read_pace;
pub mod request;
mod requests;
pub mod scatter_gather;
mod servers;
pub mod storage;
pub mod storage_answers;
pub mod stored_publish;
pub mod streams;
pub mod subscription;
pub mod version;
mod wire;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::subject::Pattern;
use tokio::sync::futures::Notified;
use tokio::time::timeout;

use crate::config::nats::NatsConfig;
use crate::hooks::Hooks;
use crate::nats::error::NatsError;
use crate::nats::requests::Requests;
use crate::nats::storage_answers::StorageQuestions;

/// How long [`Nats::close`] waits for the server to confirm what was published.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The connection for publishing and requests, and the settings for the subscription connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Nats {
    requests: Rc<Requests>,
    storage: Rc<StorageQuestions>,
    config: Arc<NatsConfig>,
    name: Arc<str>,
    lane: usize,
    hooks: Hooks,
}

impl Nats {
    /// Does not connect yet: [`Nats::run`] does. `name` is the name that `nats-server` shows for the subscription
    /// connection; this one is called `{name}/requests`. Returns an error at once if the credentials cannot be read.
    pub fn new(config: &NatsConfig, name: &str) -> Result<Self, NatsError> {
        login::connect_command(&config.login, name, "", false)?;
        let config = Arc::new(config.clone());
        Ok(Self {
            requests: Rc::new(Requests::new(&config, name).ok_or(NatsError::InvalidInboxPrefix)?),
            storage: Rc::default(),
            config,
            name: name.into(),
            lane: 0,
            hooks: Hooks::default(),
        })
    }

    /// Lets a test pause the reader of this lane's subscriptions.
    pub fn with_hooks(self, lane: usize, hooks: Hooks) -> Self {
        Self { lane, hooks, ..self }
    }

    /// Connects, and reconnects without end, until [`Nats::close`].
    pub async fn run(self) {
        self.requests.run().await;
    }

    /// Logs a warning if this node is subscribed to a wildcard and NATS denies a part of it: the server sends no error
    /// for that.
    pub fn warn_if_partly_denied(&self, pattern: &Pattern) {
        if !pattern.is_literal() {
            self.requests.warn_if_partly_denied(pattern);
        }
    }

    /// Whether it can publish and receive replies now.
    pub fn is_ready(&self) -> bool {
        self.requests.is_ready()
    }

    /// How many times it has become ready. If this has grown, messages of others may be missing.
    pub fn times_ready(&self) -> u64 {
        self.requests.times_ready.get()
    }

    /// Waits until [`Nats::is_ready`] may have changed since this call: the future need not be polled for that.
    pub fn changed(&self) -> Notified<'_> {
        self.requests.changed.notified()
    }

    /// Closes the connection after the server has confirmed what was published, or after a second.
    pub async fn close(&self) {
        if let Ok(seen) = self.requests.flush_roundtrip() {
            let _ = timeout(FLUSH_TIMEOUT, seen).await;
        }
        self.requests.close();
    }
}
