//! NATS: what a lane does there, over connections that we read ourselves: one for its subscriptions, another one for
//! publishing and requests. All else there goes over async-nats, which only [`client`] knows.

pub mod client;
mod dial;
mod driver;
pub mod files;
#[cfg(feature = "test-hooks")]
pub mod fuzz;
mod info;
mod link;
mod login;
mod mailbox;
pub mod message;
mod permissions;
pub mod probe;
pub mod publish;
pub mod request;
mod requests;
mod servers;
pub mod subscription;
pub mod survey;
mod wire;
mod withheld;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;

use crate::config::nats::NatsConfig;
use crate::nats::requests::Requests;
use crate::protocol::subject::Pattern;

/// The oldest nats-server that Tidegate works with.
pub const OLDEST_SERVER: (u64, u64) = (2, 12);
/// How long the end waits until the server has seen what was published.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why something on NATS did not work.
#[derive(Debug, Error)]
pub enum NatsError {
    /// The credentials file cannot be read.
    #[error("cannot read the NATS credentials {file}: {source}")]
    Credentials { file: String, source: std::io::Error },
    /// The prefix for inboxes is none.
    #[error("nats.inbox_prefix is not the beginning of a subject")]
    Prefix,
    /// The connection is away; nothing was sent.
    #[error("NATS is away: nothing was sent")]
    Away,
    /// The server takes nothing, and much waits already; nothing was sent.
    #[error("NATS does not take what it is sent: nothing was sent")]
    Full,
    /// Answers cannot be heard; nothing was sent.
    #[error("this node cannot hear answers over NATS now: nothing was sent")]
    Deaf,
    /// The connection was lost after something was sent.
    #[error("the link to NATS was lost: the outcome is unknown")]
    Lost,
    /// The server has not confirmed in time what was sent.
    #[error("NATS did not confirm it in time: the outcome is unknown")]
    Unconfirmed,
    /// Nobody serves the subject.
    #[error("nobody answers on this subject")]
    NoResponders,
    /// Whoever serves the subject says that it has failed, in these words.
    #[error("{0}")]
    Service(String),
    /// NATS does not let this node's user do it.
    #[error("NATS does not let this node do that on this subject")]
    Denied,
    /// No answer in time.
    #[error("no answer in time: the outcome is unknown")]
    Timeout,
    /// The server takes only smaller ones.
    #[error("the message has {size} bytes with its headers, and NATS takes at most {max}")]
    TooLarge { size: usize, max: usize },
    /// NATS refused, or we in its place.
    #[error("NATS refused: {0}")]
    Refused(String),
}

/// The connection for publishing and requests, and what it takes to make the one for subscriptions. Clones share it.
#[derive(Clone, Debug)]
pub struct Nats {
    requests: Rc<Requests>,
    config: Arc<NatsConfig>,
    name: Arc<str>,
    #[cfg(feature = "test-hooks")]
    lane: usize,
    #[cfg(feature = "test-hooks")]
    hooks: Arc<crate::hooks::Hooks>,
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
            #[cfg(feature = "test-hooks")]
            lane: 0,
            #[cfg(feature = "test-hooks")]
            hooks: Arc::default(),
        })
    }

    /// Lets a test hold up the reader of this connection's subscriptions.
    #[cfg(feature = "test-hooks")]
    pub fn with_hooks(self, lane: usize, hooks: Arc<crate::hooks::Hooks>) -> Self {
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

/// Whether a version such as `2.15.1` or `2.12.0-RC.1` is new enough. What cannot be read is taken as new.
pub fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST_SERVER,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, new_enough) in [
            ("2.15.1", true),
            ("2.12.0", true),
            ("2.12.0-RC.1", true),
            ("2.9.10", false),
            ("1.99", false),
            ("3.0", true),
        ] {
            assert_eq!(is_new_enough(version), new_enough, "{version}");
        }
    }
}
