//! NATS: what a lane does there. Its subscriptions come over a connection that we read ourselves; `async_nats`, which only
//! this module knows, has another one for publishing and requests.

mod denials;
mod dial;
pub mod files;
#[cfg(feature = "test-hooks")]
pub mod fuzz;
mod info;
mod link;
mod login;
pub mod message;
pub mod probe;
pub mod publish;
pub mod request;
mod servers;
mod settle;
pub mod subscription;
pub mod survey;
mod wire;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use async_nats::ConnectOptions;
use async_nats::Event;
use async_nats::connection::State;
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::debug;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::config::nats::NatsConfig;
use crate::config::nats::NatsLogin;
use crate::nats::denials::Denials;
use crate::nats::settle::Settler;

/// The oldest nats-server that Tidegate works with.
pub const OLDEST_SERVER: (u64, u64) = (2, 12);
/// Reconnecting waits at most so long, half of it by chance, so that nodes do not return in step.
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// Why something on NATS did not work.
#[derive(Debug, Error)]
pub enum NatsError {
    /// The credentials file cannot be read.
    #[error("cannot read the NATS credentials {file}: {source}")]
    Credentials { file: String, source: std::io::Error },
    /// The address or the options make no sense, so that trying again would not help.
    #[error("cannot connect to NATS: {0}")]
    Connect(#[source] async_nats::ConnectError),
    /// The connection is away; nothing was sent.
    #[error("NATS is away")]
    Away,
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
    #[error("no answer in time")]
    Timeout,
    /// NATS or its client refused.
    #[error("NATS refused: {0}")]
    Refused(String),
}

/// Messages that the client of NATS may keep for a subscription of its own: those that a connection sends to itself,
/// and what other nodes ask and answer. What is more is dropped.
const ECHOES: usize = 8192;

/// What the client of NATS has said of its link beside the point.
#[derive(Debug, Default)]
struct Signals {
    denials: Denials,
    changed: Notify,
}

/// How the link for publishing and requests stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// How often the link was made.
    pub connects: u64,
    /// Whether it stands.
    pub connected: bool,
}

/// The connection for publishing and requests, and what it takes to make the one for subscriptions. Clones share it.
#[derive(Clone, Debug)]
pub struct Nats {
    client: Client,
    signals: Arc<Signals>,
    settler: Settler,
    config: Arc<NatsConfig>,
    name: Arc<str>,
    #[cfg(feature = "test-hooks")]
    lane: usize,
    #[cfg(feature = "test-hooks")]
    hooks: Arc<crate::hooks::Hooks>,
}

impl Nats {
    /// Starts to connect and goes on trying for ever; the connection may not stand yet when this returns. What it has
    /// to do of itself runs on `tasks`. `name` is what `nats-server` shows for the subscriptions; this one is called
    /// `{name}/requests`.
    pub async fn connect(config: &NatsConfig, name: &str, tasks: &TaskTracker) -> Result<Self, NatsError> {
        let signals = Arc::new(Signals::default());
        let options =
            with_credentials(options(config, &format!("{name}/requests"), &signals), config).await?;
        let client = options.connect(config.urls.as_slice()).await.map_err(NatsError::Connect)?;
        let settler = Settler::start(client.clone(), config.request_timeout, tasks);
        Ok(Self {
            client,
            signals,
            settler,
            config: Arc::new(config.clone()),
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

    /// Whether the link for publishing and requests stands now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// What became of the link.
    pub fn reading(&self) -> Reading {
        Reading {
            connects: self.client.statistics().connects.load(Ordering::Acquire),
            connected: self.is_connected(),
        }
    }

    /// Waits until the reading may have changed.
    pub async fn changed(&self) {
        self.signals.changed.notified().await;
    }

    /// Ends the connection, after what was published has gone out.
    pub async fn close(&self) {
        if self.is_connected() {
            let _ = tokio::time::timeout(Duration::from_secs(1), self.client.flush()).await;
        }
        let _ = self.client.drain().await;
    }

    /// Waits until the server has seen all that was sent before on this connection.
    async fn settle(&self) -> Result<(), NatsError> {
        if !self.is_connected() {
            return Err(NatsError::Away);
        }
        self.settler.settled().await
    }
}

/// What the client of NATS does not do.
fn refused(error: impl std::error::Error) -> NatsError {
    NatsError::Refused(error.to_string())
}

/// Whether a version such as `2.15.1` or `2.12.0-RC.1` is new enough. What cannot be read is taken as new.
pub fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST_SERVER,
        _ => true,
    }
}

fn options(config: &NatsConfig, name: &str, signals: &Arc<Signals>) -> ConnectOptions {
    let signals = Arc::clone(signals);
    let seed = name.bytes().fold(17_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let options = ConnectOptions::new()
        .name(name)
        .ping_interval(config.ping_interval)
        .subscription_capacity(ECHOES)
        .request_timeout(Some(config.request_timeout))
        .custom_inbox_prefix(&config.inbox_prefix)
        .max_reconnects(None)
        .retry_on_initial_connect()
        .reconnect_delay_callback(move |attempt| reconnect_delay(attempt, seed))
        .event_callback(move |event| {
            note(&signals, &event);
            std::future::ready(())
        });
    match &config.ca_file {
        Some(file) => options.add_root_certificates(file.clone()),
        None => options,
    }
}

/// Doubles from 10 ms up to its bound; the upper half is different for every connection and attempt.
fn reconnect_delay(attempt: usize, seed: u64) -> Duration {
    let doubled =
        Duration::from_millis(10) * 2_u32.saturating_pow(u32::try_from(attempt).unwrap_or(u32::MAX).min(10));
    let full = doubled.min(RECONNECT_MAX);
    let chance = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(attempt as u64)
        .wrapping_mul(0xD134_2543_DE82_EF95);
    let chance = u32::try_from(chance >> 44).unwrap_or_default() % 1000;
    full / 2 + full / 2 * chance / 1000
}

fn note(signals: &Signals, event: &Event) {
    match event {
        Event::Connected => info!("connected to nats for requests"),
        Event::Disconnected => warn!("connection to nats for requests lost"),
        Event::SlowConsumer(_) | Event::Draining | Event::Closed => {
            debug!(%event, "nats client");
        }
        Event::LameDuckMode => warn!("nats-server is about to stop: its connections will move"),
        Event::ServerError(error) => {
            error!(%error, "nats-server refused something");
            signals.denials.note(&error.to_string());
        }
        Event::ClientError(error) => warn!(%error, "nats client error"),
    }
    signals.changed.notify_one();
}

async fn with_credentials(options: ConnectOptions, config: &NatsConfig) -> Result<ConnectOptions, NatsError> {
    match &config.login {
        NatsLogin::None => Ok(options),
        NatsLogin::CredsFile(file) => {
            let unreadable = |source| NatsError::Credentials { file: file.display().to_string(), source };
            options.credentials_file(file).await.map_err(unreadable)
        }
        NatsLogin::NkeyFile(file) => {
            let unreadable = |source| NatsError::Credentials { file: file.display().to_string(), source };
            let seed = std::fs::read_to_string(file).map_err(unreadable)?;
            Ok(options.nkey(seed.trim().to_owned()))
        }
        NatsLogin::Password { user, password } => {
            Ok(options.user_and_password(user.clone(), password.expose().to_owned()))
        }
        NatsLogin::Token(token) => Ok(options.token(token.expose().to_owned())),
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

    #[test]
    fn nat_06_reconnect_delays_grow_to_their_bound_and_differ() {
        let delays: Vec<_> = (0..100).map(|seed| reconnect_delay(12, seed)).collect();
        assert!(delays.iter().all(|delay| (RECONNECT_MAX / 2..=RECONNECT_MAX).contains(delay)));
        let mut distinct = delays.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 50, "{} distinct of 100", distinct.len());
        assert!(reconnect_delay(0, 7) <= Duration::from_millis(10));
    }
}
