//! Client: async-nats, behind its one door. It is the client of NATS for all that is not on the path of clients'
//! messages: what `tidegate dev` publishes, and what `tidegate check` asks JetStream.

use std::future::ready;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;

use async_nats::Auth;
use async_nats::AuthError;
use async_nats::ConnectOptions;
use async_nats::Event;
use async_nats::client::PublishErrorKind;
use async_nats::jetstream;
use async_nats::jetstream::context::AccountErrorKind;
use bytes::Bytes;
use tidegate_protocol::subject::Subject;
use tokio::time::timeout;
use tracing::debug;
use tracing::info;
use tracing::warn;

use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::nats::error::NatsError;
use crate::nats::login;
use crate::nats::servers;
use crate::telemetry::limit::LogLimit;

static CONNECTED: LogLimit = LogLimit::per_second(1);
static LOST: LogLimit = LogLimit::per_second(1);
static SAID: LogLimit = LogLimit::every(30, 1);

/// Whether an account has JetStream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JetStream {
    /// It has, and so many streams.
    Enabled {
        streams: usize,
    },
    Disabled,
    /// NATS does not say so, because of its permissions or in time.
    Unknown,
}

/// A connection that async-nats keeps. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    client: async_nats::Client,
    limit: Duration,
}

impl Client {
    /// Begins to connect under this name, and goes on trying for ever; what it does of itself runs on the caller's
    /// runtime. Credentials that cannot be read are an error at once.
    pub async fn connect(config: &NatsConfig, name: &str) -> Result<Self, NatsError> {
        login::proof(&config.login, b"")?;
        let client = options(config, name).connect(config.urls.as_slice()).await;
        let client = client.map_err(|error| NatsError::Refused(error.to_string()))?;
        Ok(Self { client, limit: config.request_timeout })
    }

    /// Publishes, and waits until that has gone out: while NATS is away, until it is back.
    pub async fn publish(&self, subject: &Subject, data: Bytes) -> Result<(), NatsError> {
        let subject = subject.as_str().to_owned();
        self.client.publish(subject, data).await.map_err(|error| match error.kind() {
            PublishErrorKind::Send => NatsError::Lost,
            PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject => {
                NatsError::Refused(error.to_string())
            }
        })?;
        self.connected().await
    }

    /// Waits for a connection that takes what it is sent.
    async fn connected(&self) -> Result<(), NatsError> {
        self.client.flush().await.map_err(|_| NatsError::Lost)
    }

    /// Whether this account has JetStream.
    pub async fn jetstream(&self) -> JetStream {
        if !matches!(timeout(self.limit, self.connected()).await, Ok(Ok(()))) {
            return JetStream::Unknown;
        }
        match jetstream::new(self.client.clone()).query_account().await {
            Ok(account) => JetStream::Enabled { streams: account.streams },
            Err(error) => match error.kind() {
                AccountErrorKind::JetStream(_) | AccountErrorKind::JetStreamUnavailable => {
                    JetStream::Disabled
                }
                AccountErrorKind::TimedOut | AccountErrorKind::Other => JetStream::Unknown,
            },
        }
    }
}

fn options(config: &NatsConfig, name: &str) -> ConnectOptions {
    let (login, chance) = (config.login.clone(), RandomState::new());
    let options = ConnectOptions::with_auth_callback(move |nonce| ready(shown(&login, &nonce)))
        .name(name)
        .ping_interval(config.ping_interval)
        .request_timeout(Some(config.request_timeout))
        .custom_inbox_prefix(&config.inbox_prefix)
        .max_reconnects(None)
        .retry_on_initial_connect()
        .reconnect_delay_callback(move |attempt| pause(attempt, &chance))
        .event_callback({
            let name = name.to_owned();
            move |event| {
                say(&name, &event);
                ready(())
            }
        });
    match &config.ca_file {
        Some(file) => options.add_root_certificates(file.clone()),
        None => options,
    }
}

/// Asked for each connection, so that new credentials take the place of old ones.
fn shown(login: &NatsLogin, nonce: &[u8]) -> Result<Auth, AuthError> {
    let proof = login::proof(login, nonce).map_err(AuthError::new)?;
    let mut auth = Auth::new();
    auth.username = proof.user;
    auth.password = proof.password;
    auth.token = proof.token;
    auth.jwt = proof.jwt;
    auth.nkey = proof.nkey;
    auth.signature = proof.signature;
    Ok(auth)
}

/// As long as our own links wait; half of it by chance, so that clients do not return in step.
fn pause(attempt: usize, chance: &RandomState) -> Duration {
    let half = servers::longest_pause(attempt.saturating_sub(1)) / 2;
    half + half * u32::try_from(chance.hash_one(attempt) % 1000).unwrap_or_default() / 1000
}

fn say(name: &str, event: &Event) {
    match event {
        Event::Connected => {
            if let Some(suppressed) = CONNECTED.pass() {
                info!(name, suppressed, "connected to nats");
            }
        }
        Event::Disconnected => {
            if let Some(suppressed) = LOST.pass() {
                warn!(name, suppressed, "connection to nats lost: trying again");
            }
        }
        Event::ServerError(_) | Event::ClientError(_) | Event::LameDuckMode => {
            if let Some(suppressed) = SAID.pass() {
                warn!(name, %event, suppressed, "the client of nats has something to say");
            }
        }
        Event::SlowConsumer(_) | Event::Draining | Event::Closed => debug!(name, %event, "nats client"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let longest = Duration::from_secs(2);
        let mut late: Vec<_> = (0..100).map(|_| pause(12, &RandomState::new())).collect();
        assert!(late.iter().all(|pause| (longest / 2..=longest).contains(pause)), "{late:?}");
        late.sort_unstable();
        late.dedup();
        assert!(late.len() > 50, "{} distinct of 100", late.len());
        assert!(pause(1, &RandomState::new()) <= Duration::from_millis(10));
        assert!(pause(usize::MAX, &RandomState::new()) <= longest);
    }
}
