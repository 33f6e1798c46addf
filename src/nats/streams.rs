//! `Streams`: compares the buckets of Tidegate with those of the server, and creates or updates them.

use serde_json::Value;
use serde_json::json;
use thiserror::Error;

use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::nats::api_error::ApiError;
use crate::nats::buckets::BUCKETS;
use crate::nats::buckets::KvBucket;
use crate::nats::buckets::comparison::BucketPlan;
use crate::nats::connect;
use crate::nats::login_help::LoginSource;
use crate::nats::login_help::login_help;
use crate::nats::probe_connection::ProbeConnection;
use crate::nats::probe_connection::RequestOutcome;
use crate::nats::servers::Server;

/// What nats-server shows for the connection.
const NAME: &str = "tidegate/streams";
/// `err_code` of the JetStream API: there is no such stream.
const STREAM_NOT_FOUND: u64 = 10059;

/// Why the buckets could not be read or changed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StreamsError {
    /// No server could be used. The reasons of all of them.
    #[error("{0}")]
    Unreachable(String),
    #[error(
        "JetStream is not enabled for this account: add `jetstream {{}}` to the configuration of nats-server"
    )]
    NoJetStream,
    #[error("NATS forbids {request}: use the login of an operator, with --user or --creds ({reason})")]
    Denied { request: String, reason: String },
    #[error(
        "JetStream did not answer {request} in time: is a leader elected? `nats server report jetstream` shows it"
    )]
    NoReply { request: String },
    #[error("JetStream refused {request}: {reason}")]
    Refused { request: String, reason: String },
    #[error("the connection to NATS was lost: {0}")]
    Lost(String),
}

/// A connection for the JetStream API.
#[derive(Debug)]
pub struct Streams {
    connection: ProbeConnection,
    inbox_prefix: String,
}

impl Streams {
    /// Connects to the first server that accepts the login. `inbox_prefix` is where this user may receive replies.
    pub async fn connect(config: &NatsConfig, inbox_prefix: &str) -> Result<Self, StreamsError> {
        let mut reasons = Vec::new();
        for url in &config.urls {
            let Some(server) = Server::parse(url, None) else { continue };
            let opened = connect::connect(server, config.ca_file.clone()).await;
            let opened = match opened {
                Ok(server) => {
                    let logged_in = ProbeConnection::log_in(server, &config.login, NAME).await;
                    logged_in.map_err(|reason| {
                        let help = login_help(&config.login, LoginSource::Flags, &reason);
                        let shown = login_shown(&config.login);
                        format!("NATS refuses {shown}: {reason}; {help}")
                    })
                }
                Err(error) => Err(error.to_string()),
            };
            match opened {
                Ok(connection) => return Ok(Self { connection, inbox_prefix: inbox_prefix.to_owned() }),
                Err(reason) => reasons.push(format!("{url}: {reason}")),
            }
        }
        Err(StreamsError::Unreachable(reasons.join("; ")))
    }

    /// What is to do for each bucket.
    pub async fn plan(&mut self, replicas: Option<u64>) -> Result<Vec<(KvBucket, BucketPlan)>, StreamsError> {
        let mut plans = Vec::new();
        for bucket in BUCKETS {
            let info = self.info(&bucket).await?;
            plans.push((bucket, bucket.plan(info.as_ref(), replicas)));
        }
        Ok(plans)
    }

    /// The streams that would store what JetStream republishes. There should be none.
    pub async fn streams_of_live_messages(&mut self) -> Result<Vec<String>, StreamsError> {
        let names = self.request("STREAM.NAMES", &json!({ "subject": "_live.>" })).await?;
        let names = names["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Does what the plan for a bucket says. Nothing for a bucket that is unchanged or in conflict.
    pub async fn apply(&mut self, bucket: &KvBucket, plan: &BucketPlan) -> Result<(), StreamsError> {
        let (verb, config) = match plan {
            BucketPlan::Create { config } => ("CREATE", config),
            BucketPlan::Update { config, .. } => ("UPDATE", config),
            BucketPlan::Unchanged | BucketPlan::Conflict { .. } => return Ok(()),
        };
        self.request(&format!("STREAM.{verb}.{}", bucket.stream()), config).await.map(drop)
    }

    /// The stream of a bucket; `None` if there is none.
    async fn info(&mut self, bucket: &KvBucket) -> Result<Option<Value>, StreamsError> {
        let response = self.response(&format!("STREAM.INFO.{}", bucket.stream()), &Value::Null).await?;
        match ApiError::of(&response) {
            Some(ApiError { code: Some(STREAM_NOT_FOUND), .. }) => Ok(None),
            _ => accepted("STREAM.INFO", response).map(Some),
        }
    }

    async fn request(&mut self, api: &str, data: &Value) -> Result<Value, StreamsError> {
        let response = self.response(api, data).await?;
        accepted(api, response)
    }

    /// The response of the JetStream API, which may be an error.
    async fn response(&mut self, api: &str, data: &Value) -> Result<Value, StreamsError> {
        let request = format!("$JS.API.{api}");
        let data = if data.is_null() { String::new() } else { data.to_string() };
        let outcome = self.connection.request(&self.inbox_prefix, &request, &data).await;
        match outcome.map_err(StreamsError::Lost)? {
            RequestOutcome::Reply(reply) => serde_json::from_slice(&reply.payload()).map_err(|error| {
                StreamsError::Refused { request, reason: format!("its response is not JSON: {error}") }
            }),
            RequestOutcome::Denied(reason) => Err(StreamsError::Denied { request, reason }),
            RequestOutcome::NoResponders => Err(StreamsError::NoJetStream),
            RequestOutcome::NoReply => Err(StreamsError::NoReply { request }),
        }
    }
}

/// A login in error messages.
fn login_shown(login: &NatsLogin) -> String {
    match login {
        NatsLogin::None => "a connection without a login".to_owned(),
        NatsLogin::Password { user, .. } => format!("the user \"{user}\""),
        NatsLogin::Token(_) => "the token".to_owned(),
        NatsLogin::NkeyFile(file) => format!("the key in {}", file.display()),
        NatsLogin::CredsFile(file) => format!("the credentials in {}", file.display()),
    }
}

/// The response, unless it is an error.
fn accepted(api: &str, response: Value) -> Result<Value, StreamsError> {
    match ApiError::of(&response) {
        None => Ok(response),
        Some(ApiError { reason, .. }) => {
            Err(StreamsError::Refused { request: format!("$JS.API.{api}"), reason })
        }
    }
}
