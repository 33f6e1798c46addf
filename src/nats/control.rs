//! `ControlConnection`: the node's own connection with async-nats, for what is not on the path of clients' messages. It
//! is opened when it is first used.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::nats::NatsConfig;
use crate::nats::client::Client;
use crate::telemetry::limit::LogLimit;

static FAILED: LogLimit = LogLimit::per_second(1);

/// The connection of one node, shared by its threads.
#[derive(Debug)]
pub struct ControlConnection {
    config: NatsConfig,
    name: Arc<str>,
    client: watch::Sender<Option<Client>>,
    wanted: Notify,
}

impl ControlConnection {
    /// Does not connect yet. `name` is the name of the connection that `nats-server` shows.
    pub fn new(config: &NatsConfig, name: &str) -> Self {
        Self {
            config: config.clone(),
            name: name.into(),
            client: watch::Sender::new(None),
            wanted: Notify::new(),
        }
    }

    /// Opens the connection when it is wanted, and closes it at the end. Its tasks run on the caller's runtime, so that
    /// they do not end with a shard.
    pub async fn run(&self, stop: &CancellationToken) {
        while self.client.borrow().is_none() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wanted.notified() => {}
            }
            match Client::connect(&self.config, &self.name).await {
                Ok(client) => {
                    self.client.send_replace(Some(client));
                }
                Err(error) => {
                    if let Some(suppressed) = FAILED.pass() {
                        warn!(%error, suppressed, "cannot open the control connection to nats");
                    }
                }
            }
        }
        stop.cancelled().await;
        self.client.send_replace(None);
    }

    /// The connection, which may be disconnected. `None` if it cannot be opened.
    pub async fn client(&self) -> Option<Client> {
        let mut client = self.client.subscribe();
        self.wanted.notify_one();
        let opened = client.wait_for(Option::is_some);
        timeout(self.limit(), opened).await.ok()?.ok()?.clone()
    }

    fn limit(&self) -> Duration {
        self.config.request_timeout
    }
}
