//! Whether a JetStream stream stores a subject: asks NATS.

use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::subject::Subject;
use tokio::time::timeout;

use crate::nats::Nats;
use crate::nats::api_error::ApiError;
use crate::nats::error::NatsError;
use crate::nats::outgoing::OutgoingMessage;
use crate::nats::storage_answers::Storage;

/// Where JetStream says which streams store a subject.
const STREAM_NAMES: &str = "$JS.API.STREAM.NAMES";
/// The `err_code`s of the JetStream API that say that there is no JetStream.
const NO_JETSTREAM: [u64; 2] = [10039, 10076];

impl Nats {
    /// Who keeps what is published on this subject. The error is [`NatsError::StorageUnknown`], or says that NATS is
    /// away.
    pub async fn storage_of(&self, subject: &Subject) -> Result<Storage, NatsError> {
        let known = |now| self.storage.answers.borrow().get(subject.as_str(), now);
        if let Some(storage) = known(Instant::now()) {
            return Ok(storage);
        }
        let asked = async {
            // An error is impossible: no one closes the semaphore.
            let _turn = self.storage.turns.acquire().await.ok();
            if let Some(storage) = known(Instant::now()) {
                return Ok(storage);
            }
            let question = json!({ "subject": subject.as_str() }).to_string();
            let question = OutgoingMessage::plain(STREAM_NAMES, question.as_bytes());
            let (_guard, answer) = self.requests.request(&question)?;
            match answer.await.unwrap_or(Err(NatsError::ConnectionLost)) {
                Ok(answer) => storage_in(&answer.payload()),
                // Without JetStream, or without the right to ask, no stream can confirm anything.
                Err(NatsError::NoResponders | NatsError::Denied) => Ok(Storage::None),
                Err(error) => Err(NatsError::StorageUnknown(error.to_string())),
            }
        };
        let late = |_| NatsError::StorageUnknown("JetStream did not answer in time".to_owned());
        let storage = timeout(self.config.request_timeout, asked).await.map_err(late)??;
        self.storage.answers.borrow_mut().put(subject.as_str(), storage, Instant::now());
        Ok(storage)
    }

    /// Forgets who keeps the messages of a subject, so that NATS is asked again.
    pub(super) fn forget_storage_of(&self, subject: &str) {
        self.storage.answers.borrow_mut().remove(subject);
    }
}

/// Reads the answer of JetStream.
fn storage_in(answer: &[u8]) -> Result<Storage, NatsError> {
    let unknown = |reason: String| Err(NatsError::StorageUnknown(reason));
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else {
        return unknown("its answer is not JSON".to_owned());
    };
    match ApiError::of(&answer) {
        Some(ApiError { code: Some(code), .. }) if NO_JETSTREAM.contains(&code) => Ok(Storage::None),
        Some(ApiError { reason, .. }) => unknown(reason),
        // Without a stream, `streams` is null.
        None if answer["streams"].as_array().is_some_and(|streams| !streams.is_empty()) => {
            Ok(Storage::Stream)
        }
        None => Ok(Storage::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_jetstream() {
        let read = |answer: &str| storage_in(answer.as_bytes());
        assert!(matches!(read(r#"{"total":1,"streams":["ORDERS"]}"#), Ok(Storage::Stream)));
        for none in [r#"{"total":0,"streams":null}"#, r#"{"total":0,"streams":[]}"#, "{}"] {
            assert!(matches!(read(none), Ok(Storage::None)), "{none}");
        }
        for code in NO_JETSTREAM {
            let answer = json!({ "error": { "code": 503, "err_code": code, "description": "no" } });
            assert!(matches!(read(&answer.to_string()), Ok(Storage::None)));
        }
        let away = r#"{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}"#;
        for unknown in ["", "{", away] {
            assert!(matches!(read(unknown), Err(NatsError::StorageUnknown(_))), "{unknown}");
        }
    }
}
