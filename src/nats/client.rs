//! A connection of async-nats. It serves what is not on the path of client messages: `tidegate dev` publishes with it,
//! `tidegate check` uses it to ask about JetStream, and nodes share tickets over it (`key_value`).

use std::future::ready;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;

use async_nats::Auth;
use async_nats::AuthError;
use async_nats::ConnectOptions;
use async_nats::Event;
use async_nats::client::PublishErrorKind;
use async_nats::client::RequestErrorKind;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use tidegate_protocol::subject::Subject;
use tokio::time::timeout;
use tracing::debug;
use tracing::info;
use tracing::warn;

use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::nats::error::NatsError;
use crate::nats::login;
use crate::nats::request::SERVICE_ERROR;
use crate::nats::servers;
use crate::telemetry::limit::LogLimit;

static CONNECTED: LogLimit = LogLimit::per_second(1);
static LOST: LogLimit = LogLimit::per_second(1);
static OTHER: LogLimit = LogLimit::every(30, 1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JetStream {
    /// The account has JetStream, with this number of streams.
    Enabled {
        streams: usize,
    },
    Disabled,
    /// NATS did not answer in time, or its permissions forbid the question.
    Unknown,
}

/// Where nats-server answers with the account's use of JetStream.
const JETSTREAM_INFO: &str = "$JS.API.INFO";

/// A connection that async-nats maintains. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) client: async_nats::Client,
    /// How long to wait for an answer.
    pub(super) limit: Duration,
}

impl Client {
    /// Starts to connect, and retries without end. async-nats spawns its tasks on the caller's runtime. Returns an
    /// error at once if the credentials cannot be read.
    pub async fn connect(config: &NatsConfig, name: &str) -> Result<Self, NatsError> {
        login::auth_fields(&config.login, b"")?;
        let client = options(config, name).connect(config.urls.as_slice()).await;
        let client = client.map_err(|error| NatsError::Refused(error.to_string()))?;
        Ok(Self { client, limit: config.request_timeout })
    }

    /// Publishes, and waits until the message has been flushed. Without a connection it waits for the next one.
    pub async fn publish(&self, subject: &Subject, data: Bytes) -> Result<(), NatsError> {
        let subject = subject.as_str().to_owned();
        self.client.publish(subject, data).await.map_err(|error| match error.kind() {
            PublishErrorKind::Send => NatsError::ConnectionLost,
            PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject => {
                NatsError::Refused(error.to_string())
            }
        })?;
        self.connected().await
    }

    /// Sends a request, and returns the answer of one service. It must come within `limit`.
    pub async fn request(&self, subject: &Subject, data: Bytes, limit: Duration) -> Result<Bytes, NatsError> {
        let request = async_nats::Request::new().payload(data).timeout(Some(limit));
        let answer = self.client.send_request(subject.as_str().to_owned(), request).await;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => NatsError::NoResponders,
            RequestErrorKind::TimedOut => NatsError::Timeout,
            RequestErrorKind::InvalidSubject
            | RequestErrorKind::MaxPayloadExceeded
            | RequestErrorKind::Other => NatsError::Refused(error.to_string()),
        })?;
        let error = answer.headers.as_ref().and_then(|headers| headers.get(SERVICE_ERROR));
        error.map_or(Ok(answer.payload), |error| Err(NatsError::Service(error.to_string())))
    }

    /// Sends a request to all subscribers of a subject, and returns their answers: until none has come for this time.
    pub async fn ask_all(&self, subject: &str, data: Bytes, wait: Duration) -> Result<Vec<Bytes>, NatsError> {
        timeout(self.limit, self.connected()).await.map_err(|_| NatsError::Timeout)??;
        let inbox = self.client.new_inbox();
        let mut answers =
            self.client.subscribe(inbox.clone()).await.map_err(|_| NatsError::ConnectionLost)?;
        let published = self.client.publish_with_reply(subject.to_owned(), inbox, data).await;
        published.map_err(|error| NatsError::Refused(error.to_string()))?;
        self.connected().await?;
        let mut found = Vec::new();
        while let Ok(Some(answer)) = timeout(wait, answers.next()).await {
            if answer.status.is_some() {
                break;
            }
            found.push(answer.payload);
        }
        Ok(found)
    }

    /// Waits until there is a connection and everything has been written to it.
    pub(super) async fn connected(&self) -> Result<(), NatsError> {
        self.client.flush().await.map_err(|_| NatsError::ConnectionLost)
    }

    pub async fn jetstream(&self) -> JetStream {
        if !matches!(timeout(self.limit, self.connected()).await, Ok(Ok(()))) {
            return JetStream::Unknown;
        }
        match self.client.request(JETSTREAM_INFO, Bytes::new()).await {
            Ok(answer) => jetstream_of(&answer.payload),
            Err(error) => match error.kind() {
                RequestErrorKind::NoResponders => JetStream::Disabled,
                RequestErrorKind::TimedOut
                | RequestErrorKind::InvalidSubject
                | RequestErrorKind::MaxPayloadExceeded
                | RequestErrorKind::Other => JetStream::Unknown,
            },
        }
    }

    /// Whether a stream exists that allows direct reads; `None` if NATS does not answer, or forbids the question.
    pub async fn has_stream(&self, stream: &str) -> Option<bool> {
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        match self.client.request(subject, Bytes::from_static(b"{\"seq\":1}")).await {
            Ok(_) => Some(true),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Some(false),
            Err(_) => None,
        }
    }
}

/// Reads the answer from [`JETSTREAM_INFO`]: the account's figures, or an error.
fn jetstream_of(answer: &[u8]) -> JetStream {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let streams = answer.get("streams").and_then(Value::as_u64);
    match (answer.get("error"), streams.and_then(|streams| usize::try_from(streams).ok())) {
        (Some(_), _) => JetStream::Disabled,
        (None, Some(streams)) => JetStream::Enabled { streams },
        (None, None) => JetStream::Unknown,
    }
}

fn options(config: &NatsConfig, name: &str) -> ConnectOptions {
    let (login, hasher) = (config.login.clone(), RandomState::new());
    let options = ConnectOptions::with_auth_callback(move |nonce| ready(auth(&login, &nonce)))
        .name(name)
        .ping_interval(config.ping_interval)
        .request_timeout(Some(config.request_timeout))
        .custom_inbox_prefix(&config.inbox_prefix)
        .max_reconnects(None)
        .retry_on_initial_connect()
        .reconnect_delay_callback(move |attempt| reconnect_delay(attempt, &hasher))
        .event_callback({
            let name = name.to_owned();
            move |event| {
                log_event(&name, &event);
                ready(())
            }
        });
    match &config.ca_file {
        Some(file) => options.add_root_certificates(file.clone()),
        None => options,
    }
}

/// Called for each connection attempt, so that changed credentials need no restart.
fn auth(login: &NatsLogin, nonce: &[u8]) -> Result<Auth, AuthError> {
    let fields = login::auth_fields(login, nonce).map_err(AuthError::new)?;
    let mut auth = Auth::new();
    auth.username = fields.user;
    auth.password = fields.password;
    auth.token = fields.token;
    auth.jwt = fields.jwt;
    auth.nkey = fields.nkey;
    auth.signature = fields.signature;
    Ok(auth)
}

/// Grows like the pauses of our own connections. Half of it is random, so that clients do not reconnect in step.
fn reconnect_delay(attempt: usize, hasher: &RandomState) -> Duration {
    let half = servers::max_pause(attempt.saturating_sub(1)) / 2;
    half + half * u32::try_from(hasher.hash_one(attempt) % 1000).unwrap_or_default() / 1000
}

fn log_event(name: &str, event: &Event) {
    match event {
        Event::Connected => {
            if let Some(suppressed) = CONNECTED.pass() {
                info!(name, suppressed, "connected to nats");
            }
        }
        Event::Disconnected => {
            if let Some(suppressed) = LOST.pass() {
                warn!(name, suppressed, "connection to nats lost: reconnecting");
            }
        }
        Event::ServerError(_) | Event::ClientError(_) | Event::LameDuckMode => {
            if let Some(suppressed) = OTHER.pass() {
                warn!(name, %event, suppressed, "async-nats reported a problem: see `event`, and the log of nats-server");
            }
        }
        Event::SlowConsumer(_) | Event::Draining | Event::Closed => debug!(name, %event, "async-nats event"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_about_jetstream() {
        let account = br#"{"type":"io.nats.jetstream.api.v1.account_info_response","memory":0,"streams":3}"#;
        assert_eq!(jetstream_of(account), JetStream::Enabled { streams: 3 });
        let error =
            br#"{"error":{"code":503,"err_code":10039,"description":"JetStream not enabled for account"}}"#;
        assert_eq!(jetstream_of(error), JetStream::Disabled);
        for answer in [&b""[..], b"{}", b"[]", br#"{"streams":-1}"#] {
            assert_eq!(jetstream_of(answer), JetStream::Unknown);
        }
    }

    #[test]
    fn reconnect_delays_grow_to_their_bound_and_differ() {
        let longest = Duration::from_secs(2);
        let mut late: Vec<_> = (0..100).map(|_| reconnect_delay(12, &RandomState::new())).collect();
        assert!(late.iter().all(|pause| (longest / 2..=longest).contains(pause)), "{late:?}");
        late.sort_unstable();
        late.dedup();
        assert!(late.len() > 50, "{} distinct of 100", late.len());
        assert!(reconnect_delay(1, &RandomState::new()) <= Duration::from_millis(10));
        assert!(reconnect_delay(usize::MAX, &RandomState::new()) <= longest);
    }
}
