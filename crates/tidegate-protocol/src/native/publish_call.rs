//! `POST /v1/publish`: the messages in its body, and the dialect that decodes one of them.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error as _;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::value::RawValue;

use crate::client_message::ClientMessage;
use crate::dialect::DecodeError;
use crate::dialect::Dialect;
use crate::dialect::DialectTraits;
use crate::dialect::SessionScope;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::frame::Format;
use crate::frame::Frame;
use crate::frame::VocabularyId;
use crate::members::Members;
use crate::message::Command;
use crate::message::Push;
use crate::message::Reply;
use crate::native::Native;
use crate::native::decode;
use crate::session::checks::MESSAGE_ID;
use crate::subject::Pattern;
use crate::subscription_context::SubscriptionContext;

/// The most messages in one call.
pub const MAX_MESSAGES: usize = 100;

/// The body of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublishBody {
    /// One message: its text is the whole body.
    One,
    /// The texts of the messages in `messages`, in order: at least one, and at most [`MAX_MESSAGES`].
    Batch(Vec<String>),
}

impl PublishBody {
    /// Reads the body, but not the messages in it. The error says what is wrong with the whole call.
    pub fn parse(body: &str) -> Result<Self, ClientError> {
        let members: Members<'_> = serde_json::from_str(body)
            .map_err(|error| bad(format!("the body is not one JSON object: {error}")))?;
        let Some(messages) = members.get("messages") else { return Ok(Self::One) };
        if members.0.len() > 1 {
            return Err(bad("with `messages`, the body has no other members: move them into the messages"));
        }
        let Messages(messages) = serde_json::from_str(messages.get()).map_err(|_| {
            bad(format!(
                "`messages` must be an array of 1 to {MAX_MESSAGES} messages: send more in further calls"
            ))
        })?;
        Ok(Self::Batch(messages))
    }
}

fn bad(message: impl Into<String>) -> ClientError {
    ClientError::new(ErrorCode::BadRequest, message)
}

/// Texts of JSON values. Reading stops at one too many.
struct Messages(Vec<String>);

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MessagesVisitor;
        impl<'de> Visitor<'de> for MessagesVisitor {
            type Value = Messages;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut messages = Vec::new();
                while let Some(message) = list.next_element::<&'de RawValue>()? {
                    if messages.len() == MAX_MESSAGES {
                        return Err(A::Error::custom("too many messages"));
                    }
                    messages.push(message.get().to_owned());
                }
                if messages.is_empty() { Err(A::Error::custom("no message")) } else { Ok(Messages(messages)) }
            }
        }
        deserializer.deserialize_seq(MessagesVisitor)
    }
}

/// The dialect of one message: a `publish` of the native protocol, with or without its `type`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PublishCall {
    /// The message id of the call, from outside its body.
    pub message_id: Option<Box<str>>,
}

impl PublishCall {
    fn command(&self, text: &str) -> Result<Command, ClientError> {
        let members: Members<'_> = serde_json::from_str(text)
            .map_err(|error| bad(format!("the message is not one JSON object: {error}")))?;
        if members.get("type").is_some_and(|kind| kind.get() != "\"publish\"") {
            return Err(bad("`type` must be \"publish\" here: leave it out"));
        }
        let mut command = decode::publish(&members, None)?;
        if let (Some(id), Command::Publish { headers, .. }) = (&self.message_id, &mut command) {
            let own = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(MESSAGE_ID));
            match own {
                Some((_, own)) if *own != **id => {
                    return Err(bad(
                        "the header `Idempotency-Key` and `Nats-Msg-Id` in `headers` differ: send one of them",
                    ));
                }
                Some(_) => {}
                None => headers.push((MESSAGE_ID.to_owned(), id.as_ref().to_owned())),
            }
        }
        Ok(command)
    }
}

impl Dialect for PublishCall {
    fn name(&self) -> &str {
        "publish call"
    }

    fn number(&self) -> VocabularyId {
        Native::FORMAT.vocabulary
    }

    fn traits(&self) -> DialectTraits {
        Native.traits()
    }

    fn format(&self, _: &Pattern) -> Format {
        Native::FORMAT
    }

    fn decode(&self, _: SessionScope<'_>, message: &ClientMessage) -> Result<Command, DecodeError> {
        let text = if let ClientMessage::Text(text) = message { text.as_str() } else { "" };
        self.command(text).map_err(|error| DecodeError { request_context: None, error })
    }

    /// An error: its message, with its code as the note. The caller of the session answers all else.
    fn reply(&self, _: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
        match reply {
            Reply::Error { error, .. } => {
                let write = |out: &mut Vec<u8>| out.extend_from_slice(error.message.as_bytes());
                Some(Frame::with_note(error.message.len(), write, error.code.name().as_bytes()))
            }
            Reply::Connected(_)
            | Reply::Subscribed { .. }
            | Reply::Unsubscribed { .. }
            | Reply::Published { .. }
            | Reply::Replied { .. }
            | Reply::Delayed { .. }
            | Reply::Pong { .. }
            | Reply::Acknowledged { .. }
            | Reply::LastValues { .. }
            | Reply::Statistics { .. } => None,
        }
    }

    fn push(&self, _: SessionScope<'_>, _: &Push) -> Option<Frame> {
        None
    }

    fn channel_push(&self, _: &Push, _: Option<&SubscriptionContext>) -> Option<Frame> {
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn decoded(id: Option<&str>, text: &str) -> Result<Command, ClientError> {
        let call = PublishCall { message_id: id.map(Box::from) };
        let message = ClientMessage::Text(text.into());
        call.decode(SessionScope::default(), &message).map_err(|error| error.error)
    }

    #[test]
    fn a_body_has_one_message_or_a_list() {
        assert_eq!(PublishBody::parse(r#"{"channel":"a","data":1}"#), Ok(PublishBody::One));
        assert_eq!(PublishBody::parse("{}"), Ok(PublishBody::One), "its message says what is missing");
        let batch = PublishBody::parse(r#" {"messages":[ {"channel":"a"} ,1,"x",{"a":[1]}]}"#);
        let texts = [r#"{"channel":"a"}"#, "1", "\"x\"", r#"{"a":[1]}"#].map(str::to_owned);
        assert_eq!(batch, Ok(PublishBody::Batch(texts.to_vec())));
        let all = |count: usize| format!("{{\"messages\":[{}]}}", vec!["1"; count].join(","));
        let most = PublishBody::parse(&all(MAX_MESSAGES));
        assert_eq!(most, Ok(PublishBody::Batch(vec!["1".to_owned(); MAX_MESSAGES])));
        for (body, words) in [
            (all(MAX_MESSAGES + 1).as_str(), "array of 1 to 100"),
            (r#"{"messages":[]}"#, "array of 1 to 100"),
            (r#"{"messages":{}}"#, "array of 1 to 100"),
            (r#"{"messages":[1],"channel":"a"}"#, "no other members"),
            (r#"{"messages":[1],"messages":[1]}"#, "duplicate member"),
            ("[]", "not one JSON object"),
            ("", "not one JSON object"),
            ("{} {}", "not one JSON object"),
        ] {
            let error = PublishBody::parse(body).unwrap_err();
            assert!(
                error.code == ErrorCode::BadRequest && error.message.contains(words),
                "{body}: {error:?}"
            );
        }
    }

    #[test]
    fn a_message_is_a_publish_of_the_native_protocol() {
        let expected = |headers: &[(&str, &str)]| Command::Publish {
            request_context: None,
            channel: "a".to_owned(),
            data: Bytes::from_static(b"{\"n\": 1}"),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        assert_eq!(decoded(None, r#"{"channel":"a","data":{"n": 1}}"#), Ok(expected(&[])));
        assert_eq!(decoded(None, r#"{"type":"publish","channel":"a","data":{"n": 1}}"#), Ok(expected(&[])));
        let id = |given: Option<&str>, headers: &str| {
            decoded(given, &format!(r#"{{"channel":"a","data":{{"n": 1}},"headers":{headers}}}"#))
        };
        assert_eq!(id(Some("7"), "{}"), Ok(expected(&[("Nats-Msg-Id", "7")])));
        assert_eq!(id(None, r#"{"nats-msg-id":"7"}"#), Ok(expected(&[("nats-msg-id", "7")])));
        assert_eq!(id(Some("7"), r#"{"nats-msg-id":"7"}"#), Ok(expected(&[("nats-msg-id", "7")])));
        let differs = id(Some("8"), r#"{"nats-msg-id":"7"}"#).unwrap_err();
        assert!(differs.message.contains("differ"), "{differs:?}");
        for (text, words) in [
            (r#"{"type":"subscribe","channel":"a"}"#, "`type` must be"),
            (r#"{"data":1}"#, "`channel` is missing"),
            (r#"{"channel":"a"}"#, "`data` is missing"),
            ("1", "not one JSON object"),
        ] {
            let error = decoded(None, text).unwrap_err();
            assert!(error.message.contains(words), "{text}: {error:?}");
        }
    }
}
