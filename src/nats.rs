//! NATS: what a lane does there, over connections that we read ourselves: one for its subscriptions, another one for
//! publishing and requests. All else there goes over async-nats, which only [`client`] knows.

pub mod client;
mod dial;
mod driver;
pub mod error;
pub mod files;
#[cfg(feature = "test-hooks")]
pub mod fuzz;
pub mod incoming;
mod info;
mod link;
mod login;
mod mailbox;
pub mod message;
mod outgoing;
mod permissions;
pub mod probe;
pub mod publish;
pub mod request;
mod requests;
mod servers;
pub mod subscription;
pub mod survey;
pub mod version;
mod wire;
mod withheld;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::subject::Pattern;
use tokio::time::timeout;

use crate::config::nats::NatsConfig;
use crate::hooks::Hooks;
use crate::nats::error::NatsError;
use crate::nats::requests::Requests;

/// How long the end waits until the server has seen what was published.
const FAREWELL: Duration = Duration::from_secs(1);

/// The connection for publishing and requests, and what it takes to make the one for subscriptions. Clones share it.
#[derive(Clone, Debug)]
pub struct Nats {
    requests: Rc<Requests>,
    config: Arc<NatsConfig>,
    name: Arc<str>,
    lane: usize,
    hooks: Hooks,
}

impl Nats {
    /// No connection yet: [`Nats::run`] makes it. `name` is what `nats-server` shows for the subscriptions; this one is
    /// called `{name}/requests`. Credentials that cannot be read are an error at once.
    pub fn new(config: &NatsConfig, name: &str) -> Result<Self, NatsError> {
        login::connect(&config.login, name, "", false)?;
        let config = Arc::new(config.clone());
        Ok(Self {
            requests: Rc::new(Requests::new(&config, name).ok_or(NatsError::Prefix)?),
            config,
            name: name.into(),
            lane: 0,
            hooks: Hooks::default(),
        })
    }

    /// Lets a test hold up the reader of this connection's subscriptions.
    pub fn with_hooks(self, lane: usize, hooks: Hooks) -> Self {
        Self { lane, hooks, ..self }
    }

    /// Keeps the connection for publishing and requests, and goes on trying for ever, until it is closed.
    pub async fn run(self) {
        self.requests.run().await;
    }

    /// Says in the log which part of a wildcard that the node is subscribed to NATS keeps from it, if it does.
    pub fn look_for_withheld(&self, pattern: &Pattern) {
        if !pattern.is_literal() {
            self.requests.look_for_withheld(pattern);
        }
    }

    /// Whether it can publish and hear answers now.
    pub fn is_ready(&self) -> bool {
        self.requests.is_ready()
    }

    /// Waits until that may have changed.
    pub async fn changed(&self) {
        self.requests.changed.notified().await;
    }

    /// Ends the connection, after what was published has gone out.
    pub async fn close(&self) {
        if let Ok(seen) = self.requests.settle() {
            let _ = timeout(FAREWELL, seen).await;
        }
        self.requests.close();
    }
}
