//! `Bucket`: a key-value bucket of JetStream, by requests of its API over async-nats. Keys are written once and taken
//! once, which is all that tickets need.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use serde_json::json;
use tokio::time::timeout;

use crate::nats::api_error::ApiError;
use crate::nats::buckets::KvBucket;
use crate::nats::client::Client;

/// How long a node waits until it has created a bucket.
const CREATE_WITHIN: Duration = Duration::from_secs(1);
/// The write is valid only while this is the sequence number of the last message on its subject; 0: there is none.
const EXPECTED_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// What the message does to its key. Without it, the message sets the key.
const OPERATION: &str = "KV-Operation";
const DELETE: &str = "DEL";
/// `err_code` of the JetStream API: there is no message on the subject.
const MESSAGE_NOT_FOUND: u64 = 10037;
/// `err_code` of the JetStream API: [`EXPECTED_SEQUENCE`] is not that of the last message. Two numbers, because a
/// replicated stream has its own.
const WRONG_SEQUENCE: [u64; 2] = [10071, 10164];

/// A bucket. Clones share its connection.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Client,
    definition: KvBucket,
}

/// Why a bucket cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BucketError {
    /// NATS is away, or has not answered in time.
    Away,
    /// This account has no JetStream, or the bucket does not exist and may not be created.
    Absent(String),
}

/// NATS has not done what was asked, or has not confirmed it in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoConfirmation;

/// Why a request has no result.
#[derive(Debug)]
enum RequestFailure {
    /// NATS is away, or has not answered in time: it is not known whether the request has been done.
    NoReply,
    /// No one answers this subject.
    NoResponders,
    Refused(ApiError),
}

/// The last message of a key.
#[derive(PartialEq, Eq, Debug)]
struct Entry {
    sequence: u64,
    /// `None`: the key is deleted.
    value: Option<Bytes>,
}

impl Client {
    /// Opens a bucket, and creates it if it does not exist.
    pub async fn bucket(&self, definition: &KvBucket) -> Result<Bucket, BucketError> {
        if self.client.connection_state() == State::Disconnected
            || !matches!(timeout(self.limit, self.connected()).await, Ok(Ok(())))
        {
            return Err(BucketError::Away);
        }
        let bucket = Bucket { client: self.clone(), definition: *definition };
        if bucket.exists().await? {
            return Ok(bucket);
        }
        // NATS does not answer a request that this node's user may not send, and clients wait for the outcome.
        let config = definition.stream_config(1);
        let created = timeout(CREATE_WITHIN, bucket.api("STREAM.CREATE", &config));
        match created.await.unwrap_or(Err(RequestFailure::NoReply)) {
            Ok(_) => Ok(bucket),
            Err(failure) => {
                let error = bucket.unusable(failure);
                // Another node may have created it meanwhile, from another definition.
                if bucket.exists().await? { Ok(bucket) } else { Err(error) }
            }
        }
    }
}

impl Bucket {
    /// Adds a key that does not exist.
    pub async fn create(&self, key: &str, value: Bytes) -> Result<(), NoConfirmation> {
        self.write(key, 0, None, value).await.map_err(|_| NoConfirmation)
    }

    /// Removes a key and returns its value. Of several callers, on any nodes, exactly one gets it: NATS removes the key
    /// only if it has not changed since it was read. `None` if the key does not exist any more.
    pub async fn take(&self, key: &str) -> Result<Option<Bytes>, NoConfirmation> {
        // Asked of the stream's leader: another replica may not have a new ticket yet.
        let request = json!({ "last_by_subj": self.definition.subject(key) });
        let entry = match self.api("STREAM.MSG.GET", &request).await {
            Ok(response) => entry_of(&response).ok_or(NoConfirmation)?,
            Err(RequestFailure::Refused(ApiError { code: Some(MESSAGE_NOT_FOUND), .. })) => return Ok(None),
            Err(_) => return Err(NoConfirmation),
        };
        let Some(value) = entry.value else { return Ok(None) };
        match self.write(key, entry.sequence, Some(DELETE), Bytes::new()).await {
            Ok(()) => Ok(Some(value)),
            Err(RequestFailure::Refused(ApiError { code: Some(code), .. }))
                if WRONG_SEQUENCE.contains(&code) =>
            {
                Ok(None)
            }
            Err(_) => Err(NoConfirmation),
        }
    }

    async fn exists(&self) -> Result<bool, BucketError> {
        match self.api("STREAM.INFO", &Value::Null).await {
            Ok(_) => Ok(true),
            Err(RequestFailure::Refused(_)) => Ok(false),
            Err(failure) => Err(self.unusable(failure)),
        }
    }

    async fn write(
        &self,
        key: &str,
        expected: u64,
        operation: Option<&'static str>,
        value: Bytes,
    ) -> Result<(), RequestFailure> {
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED_SEQUENCE, expected.to_string());
        if let Some(operation) = operation {
            headers.insert(OPERATION, operation);
        }
        self.request(self.definition.subject(key), headers, value).await.map(drop)
    }

    /// Sends a request about this bucket's stream to the JetStream API. `Value::Null`: it has no body.
    async fn api(&self, request: &str, body: &Value) -> Result<Value, RequestFailure> {
        let subject = format!("$JS.API.{request}.{}", self.definition.stream());
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        self.request(subject, HeaderMap::new(), body).await
    }

    async fn request(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Value, RequestFailure> {
        // While it is disconnected, async-nats keeps requests for later: the caller could not be told the outcome.
        if self.client.client.connection_state() != State::Connected {
            return Err(RequestFailure::NoReply);
        }
        let reply = self.client.client.request_with_headers(subject, headers, body);
        let Ok(reply) = timeout(self.client.limit, reply).await else { return Err(RequestFailure::NoReply) };
        match reply {
            Ok(reply) => accepted(&reply.payload),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(RequestFailure::NoResponders),
            Err(_) => Err(RequestFailure::NoReply),
        }
    }

    fn unusable(&self, failure: RequestFailure) -> BucketError {
        match failure {
            RequestFailure::Refused(ApiError { reason, .. }) => BucketError::Absent(reason),
            RequestFailure::NoResponders => {
                BucketError::Absent("JetStream is not enabled for this account".to_owned())
            }
            // NATS does not answer requests that this node's user may not send.
            RequestFailure::NoReply if self.client.client.connection_state() == State::Connected => {
                BucketError::Absent("JetStream does not answer: may this node's user ask it?".to_owned())
            }
            RequestFailure::NoReply => BucketError::Away,
        }
    }
}

/// The response of JetStream, unless it is an error.
fn accepted(response: &[u8]) -> Result<Value, RequestFailure> {
    let response: Value = serde_json::from_slice(response).map_err(|_| RequestFailure::NoReply)?;
    ApiError::of(&response).map_or(Ok(response), |error| Err(RequestFailure::Refused(error)))
}

/// Reads the response to `STREAM.MSG.GET`, which has headers and value in Base64. `None` if it is not as it should be.
fn entry_of(response: &Value) -> Option<Entry> {
    let message = &response["message"];
    let decoded = |field: &str| STANDARD.decode(message[field].as_str().unwrap_or_default()).ok();
    let headers = decoded("hdrs")?;
    let is_set = !headers.split(|&byte| byte == b'\n').any(|line| line.starts_with(OPERATION.as_bytes()));
    let value = if is_set { Some(decoded("data")?.into()) } else { None };
    Some(Entry { sequence: message["seq"].as_u64()?, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(headers: &str, data: &str) -> Option<Entry> {
        entry_of(&json!({ "message": { "seq": 7, "hdrs": STANDARD.encode(headers), "data": data } }))
    }

    #[test]
    fn an_entry_has_its_value_unless_the_key_is_deleted() {
        let set = "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n";
        let set = entry(set, "YWI=").unwrap();
        assert_eq!(set, Entry { sequence: 7, value: Some(Bytes::from_static(b"ab")) });
        let deleted = "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 7\r\nKV-Operation: DEL\r\n\r\n";
        assert_eq!(entry(deleted, ""), Some(Entry { sequence: 7, value: None }));
        assert_eq!(entry("", "not Base64"), None);
        assert_eq!(entry_of(&json!({})), None);
    }

    #[test]
    fn an_error_of_jetstream_has_its_code_and_its_reason() {
        assert_eq!(accepted(br#"{"seq":1}"#).unwrap(), json!({ "seq": 1 }));
        let error = br#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
        let Err(RequestFailure::Refused(ApiError { code, reason, .. })) = accepted(error) else {
            panic!("it is an error")
        };
        assert_eq!((code, &*reason), (Some(MESSAGE_NOT_FOUND), "no message found"));
        assert!(matches!(accepted(b"not JSON"), Err(RequestFailure::NoReply)));
    }
}
