//! `Bucket`: a key-value bucket of JetStream, over async-nats.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::jetstream::kv::Config;
use async_nats::jetstream::kv::Operation;
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::kv::UpdateErrorKind;
use async_nats::jetstream::stream::StorageType;
use bytes::Bytes;
use tokio::time::timeout;

use crate::nats::buckets::KvBucket;
use crate::nats::client::Client;

/// A bucket. Clones share its connection.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: async_nats::Client,
    store: Store,
    limit: Duration,
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

impl Client {
    /// Opens a bucket, and creates it if it does not exist.
    pub async fn bucket(&self, definition: &KvBucket) -> Result<Bucket, BucketError> {
        if self.client.connection_state() == State::Disconnected
            || !matches!(timeout(self.limit, self.connected()).await, Ok(Ok(())))
        {
            return Err(BucketError::Away);
        }
        let context = jetstream::new(self.client.clone());
        let bucket = |store| Bucket { client: self.client.clone(), store, limit: self.limit };
        let found = timeout(self.limit, context.get_key_value(definition.name)).await;
        match found {
            Ok(Ok(store)) => return Ok(bucket(store)),
            Ok(Err(_)) => {}
            Err(_) => return Err(self.no_answer()),
        }
        let created = timeout(self.limit, context.create_key_value(config(definition))).await;
        let error = match created {
            Ok(Ok(store)) => return Ok(bucket(store)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => return Err(self.no_answer()),
        };
        // Another node may have created it at the same time.
        match timeout(self.limit, context.get_key_value(definition.name)).await {
            Ok(Ok(store)) => Ok(bucket(store)),
            Ok(Err(_)) if self.client.connection_state() == State::Connected => {
                Err(BucketError::Absent(error))
            }
            Ok(Err(_)) | Err(_) => Err(self.no_answer()),
        }
    }

    /// NATS does not answer requests that this node's user may not send.
    fn no_answer(&self) -> BucketError {
        if self.client.connection_state() == State::Connected {
            BucketError::Absent("JetStream does not answer: may this node's user ask it?".to_owned())
        } else {
            BucketError::Away
        }
    }
}

impl Bucket {
    /// Adds a key that does not exist.
    pub async fn create(&self, key: &str, value: Bytes) -> Result<(), NoConfirmation> {
        self.reject_if_away()?;
        match timeout(self.limit, self.store.create(key, value)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NoConfirmation),
        }
    }

    /// Removes a key and returns its value. Of several callers, on any nodes, exactly one gets it: NATS removes the key
    /// only if it has not changed since it was read. `None` if the key does not exist any more.
    pub async fn take(&self, key: &str) -> Result<Option<Bytes>, NoConfirmation> {
        self.reject_if_away()?;
        timeout(self.limit, self.take_when_connected(key)).await.unwrap_or(Err(NoConfirmation))
    }

    async fn take_when_connected(&self, key: &str) -> Result<Option<Bytes>, NoConfirmation> {
        let entry = self.store.entry(key).await.map_err(|_| NoConfirmation)?;
        let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else { return Ok(None) };
        match self.store.delete_expect_revision(key, Some(entry.revision)).await {
            Ok(()) => Ok(Some(entry.value)),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(None),
            Err(_) => Err(NoConfirmation),
        }
    }

    /// While it is disconnected, async-nats keeps requests for later: the caller could not be told the outcome.
    fn reject_if_away(&self) -> Result<(), NoConfirmation> {
        if self.client.connection_state() == State::Connected { Ok(()) } else { Err(NoConfirmation) }
    }
}

fn config(definition: &KvBucket) -> Config {
    Config {
        bucket: definition.name.to_owned(),
        description: definition.description.to_owned(),
        max_value_size: definition.max_value_bytes,
        history: 1,
        max_age: definition.max_age,
        max_bytes: definition.max_bytes,
        storage: StorageType::Memory,
        num_replicas: 1,
        ..Config::default()
    }
}
