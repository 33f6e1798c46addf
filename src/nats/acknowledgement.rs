//! `Acknowledgement`: the answer of a JetStream stream to a message for it.

use serde_json::Value;

use crate::nats::api_error::ApiError;
use crate::nats::error::NatsError;

/// A stream has stored a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledgement {
    /// The name of the stream.
    pub stream: Box<str>,
    /// The sequence of the message in the stream; that of the earlier one, if it is a duplicate.
    pub sequence: u64,
    /// Whether the stream had a message with this id already, and did not store this one.
    pub duplicate: bool,
}

impl Acknowledgement {
    /// Reads an answer: an acknowledgement, or the stream's error. `None` if it is neither.
    pub(super) fn parse(answer: &[u8]) -> Option<Result<Self, NatsError>> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        if let Some(ApiError { reason, code: Some(_), is_final }) = ApiError::of(&answer) {
            return Some(Err(if is_final {
                NatsError::NeverStored(reason)
            } else {
                NatsError::NotStored(reason)
            }));
        }
        let stream = answer["stream"].as_str().filter(|stream| !stream.is_empty())?;
        let (sequence, duplicate) = (answer["seq"].as_u64()?, answer["duplicate"].as_bool() == Some(true));
        Some(Ok(Self { stream: stream.into(), sequence, duplicate }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_acknowledges_or_says_why_not() {
        let stored = |answer: &str| Acknowledgement::parse(answer.as_bytes()).unwrap().unwrap();
        let first = Acknowledgement { stream: "ORDERS".into(), sequence: 7, duplicate: false };
        assert_eq!(stored(r#"{"stream":"ORDERS","seq":7,"domain":"hub"}"#), first);
        let again = Acknowledgement { duplicate: true, ..first };
        assert_eq!(stored(r#"{"stream":"ORDERS","seq":7,"duplicate":true}"#), again);
        let full = r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"ORDERS","seq":0}"#;
        let error = Acknowledgement::parse(full.as_bytes()).unwrap().unwrap_err();
        assert!(
            matches!(&error, NatsError::NotStored(reason) if reason == "maximum messages exceeded"),
            "{error:?}"
        );
        for (status, code) in [(400, 10054), (400, 10109), (400, 10071)] {
            let never = format!(
                r#"{{"error":{{"code":{status},"err_code":{code},"description":"no"}},"stream":"A","seq":0}}"#
            );
            let error = Acknowledgement::parse(never.as_bytes()).unwrap().unwrap_err();
            assert!(matches!(&error, NatsError::NeverStored(reason) if reason == "no"), "{error:?}");
        }
        let later = r#"{"error":{"code":429,"err_code":10167,"description":"too many requests"}}"#;
        let error = Acknowledgement::parse(later.as_bytes()).unwrap().unwrap_err();
        assert!(matches!(error, NatsError::NotStored(_)), "{error:?}");
        for other in
            ["", "{}", "[]", "+ACK", r#"{"stream":"","seq":1}"#, r#"{"stream":"A"}"#, r#"{"error":"no"}"#]
        {
            assert!(Acknowledgement::parse(other.as_bytes()).is_none(), "{other}");
        }
    }
}
