//! Decodes the JSON messages of the native protocol into commands.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::class::MAX_RATE_MS;
use crate::client_message::ClientMessage;
use crate::dialect::DecodeError;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::members::Members;
use crate::message::Command;
use crate::message::RequestContext;
use crate::message::SubscribeRequest;
use crate::payload::Payload;
use crate::position::Epoch;
use crate::position::Position;

const MAX_ID_BYTES: usize = 128;
const MAX_HEADERS: usize = 16;
const MAX_EPOCH_BYTES: usize = 64;

/// Decodes one message. It never panics, whatever the bytes.
pub fn command(message: &ClientMessage) -> Result<Command, DecodeError> {
    let text = match message {
        ClientMessage::Text(text) => text,
        ClientMessage::Binary(_) => {
            return Err(bad("binary messages are not part of tidegate.v1.json: send text"));
        }
    };
    let members: Members<'_> = serde_json::from_str(text)
        .map_err(|error| bad(format!("the message is not one JSON object: {error}")))?;
    let request_context = members.id().map_err(|error| DecodeError { request_context: None, error })?;
    read(&members, request_context.clone()).map_err(|error| DecodeError { request_context, error })
}

fn bad(message: impl Into<String>) -> DecodeError {
    DecodeError { request_context: None, error: ClientError::new(ErrorCode::BadRequest, message) }
}

fn read(members: &Members<'_>, request_context: Option<RequestContext>) -> Result<Command, ClientError> {
    let Some(kind) = members.optional::<String>("type", "a string")? else {
        return Err(bad_request(
            "`type` is missing: name the command, as in {\"type\":\"subscribe\",\"channel\":\"prices.AAPL\"}",
        ));
    };
    match kind.as_str() {
        "auth" => Ok(Command::Auth { request_context: None, token: members.required("token", "a string")? }),
        "subscribe" => subscribe(members, request_context),
        "unsubscribe" => Ok(Command::Unsubscribe {
            request_context,
            channels: Some(members.channels()?),
            group: Box::default(),
        }),
        "publish" => publish(members, request_context),
        "request" => Ok(Command::Request {
            request_context,
            channel: members.required("channel", "a string")?,
            data: members.data()?,
            headers: members.headers()?,
            timeout: members.millis("timeout_ms")?,
        }),
        "ping" => Ok(Command::Ping { request_context }),
        "pong" => Ok(Command::Pong),
        "ack" | "presence" | "history" => Err(ClientError::new(
            ErrorCode::Unsupported,
            format!("`{kind}` needs stored subjects or presence, which this node does not have yet"),
        )),
        _ => Err(ClientError::new(
            ErrorCode::UnknownType,
            "unknown `type`: the types are auth, subscribe, unsubscribe, publish, request, ping, pong",
        )),
    }
}

/// A `publish`; what it sends does not depend on its `type`.
pub(super) fn publish(
    members: &Members<'_>,
    request_context: Option<RequestContext>,
) -> Result<Command, ClientError> {
    Ok(Command::Publish {
        request_context,
        channel: members.required("channel", "a string")?,
        data: members.data()?,
        headers: members.headers()?,
    })
}

fn subscribe(members: &Members<'_>, request_context: Option<RequestContext>) -> Result<Command, ClientError> {
    for name in ["filter", "presence"] {
        if members.get(name).is_some() {
            return Err(ClientError::new(
                ErrorCode::Unsupported,
                format!("`{name}` is not supported by this node yet: subscribe without it"),
            ));
        }
    }
    let channels = members.channels()?;
    let (max_rate, since) = (members.max_rate()?, members.since()?);
    if since.is_some() && members.get("channels").is_some() {
        return Err(bad_request(
            "`since` is a position on one `channel`: send one subscribe for each channel",
        ));
    }
    let wanted = SubscribeRequest { channels, max_rate, since, ..SubscribeRequest::default() };
    Ok(Command::Subscribe { request_context, wanted })
}

fn bad_request(message: impl Into<String>) -> ClientError {
    ClientError::new(ErrorCode::BadRequest, message)
}

impl Members<'_> {
    fn id(&self) -> Result<Option<RequestContext>, ClientError> {
        let Some(id) = self.get("id") else { return Ok(None) };
        let json = id.get();
        // The id is echoed unchanged, so every JSON parser must be able to read it.
        let scalar = |json| match serde_json::from_str(json) {
            Ok(Value::String(_) | Value::Number(_)) => true,
            Ok(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | Err(_) => false,
        };
        if json.len() > MAX_ID_BYTES || !scalar(json) {
            return Err(bad_request(format!(
                "`id` must be a string or a number of at most {MAX_ID_BYTES} bytes"
            )));
        }
        Ok(Some(RequestContext::Id(json.into())))
    }

    fn optional<T: for<'de> Deserialize<'de>>(
        &self,
        name: &str,
        what: &str,
    ) -> Result<Option<T>, ClientError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let parsed = serde_json::from_str(value.get());
        parsed.map(Some).map_err(|_| bad_request(format!("`{name}` must be {what}")))
    }

    fn required<T: for<'de> Deserialize<'de>>(&self, name: &str, what: &str) -> Result<T, ClientError> {
        let value = self.optional(name, what)?;
        value.ok_or_else(|| bad_request(format!("`{name}` is missing: it must be {what}")))
    }

    fn channels(&self) -> Result<Vec<Result<String, ClientError>>, ClientError> {
        let one = self.optional::<String>("channel", "a string")?;
        let many = self.optional::<Vec<String>>("channels", "an array of strings")?;
        match (one, many) {
            (Some(channel), None) => Ok(vec![Ok(channel)]),
            (None, Some(channels)) if !channels.is_empty() => Ok(channels.into_iter().map(Ok).collect()),
            (None, Some(_)) => Err(bad_request("`channels` is empty: name at least one channel")),
            (Some(_), Some(_)) => Err(bad_request("send either `channel` or `channels`, not both")),
            (None, None) => Err(bad_request("`channel` or `channels` is missing: name at least one channel")),
        }
    }

    fn millis(&self, name: &str) -> Result<Option<Duration>, ClientError> {
        let millis = self.optional::<u32>(name, "a whole number of milliseconds below 4294967296")?;
        Ok(millis.map(|millis| Duration::from_millis(u64::from(millis))))
    }

    fn max_rate(&self) -> Result<Option<Duration>, ClientError> {
        let rate = self.millis("max_rate_ms")?;
        if rate.is_some_and(|rate| rate.as_millis() > u128::from(MAX_RATE_MS)) {
            return Err(bad_request(format!("`max_rate_ms` must be at most {MAX_RATE_MS}")));
        }
        Ok(rate)
    }

    fn since(&self) -> Result<Option<Position>, ClientError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Since {
            epoch: String,
            seq: u64,
        }
        let what = r#"an object with the `epoch` and `seq` of the channel, as in {"epoch":"20261120093011812","seq":41}"#;
        let since = self.optional::<Since>("since", what)?;
        let position = |Since { epoch, seq }| {
            let is_known = !epoch.is_empty() && epoch.len() <= MAX_EPOCH_BYTES;
            is_known
                .then(|| Position { epoch: Epoch(epoch.into()), seq })
                .ok_or_else(|| bad_request(format!("`epoch` must have 1 to {MAX_EPOCH_BYTES} bytes")))
        };
        since.map(position).transpose()
    }

    fn data(&self) -> Result<Bytes, ClientError> {
        let text = self.optional::<String>("data_base64", "a string")?;
        // `null` is a value here, so do not use `get`.
        let data = self.0.iter().find(|(key, _)| key == "data").map(|(_, value)| value.get());
        match (data, text) {
            (Some(json), None) => Ok(Bytes::copy_from_slice(json.as_bytes())),
            (None, Some(text)) => Payload::from_base64(&text)
                .ok_or_else(|| bad_request("`data_base64` is not base64 with padding")),
            (Some(_), Some(_)) => Err(bad_request("send either `data` or `data_base64`, not both")),
            (None, None) => Err(bad_request("`data` is missing: send any JSON value")),
        }
    }

    fn headers(&self) -> Result<Vec<(String, String)>, ClientError> {
        let what = "an object of at most 16 members with string values";
        let Some(value) = self.get("headers") else {
            return Ok(Vec::new());
        };
        let members: Members<'_> = serde_json::from_str(value.get())
            .map_err(|_| bad_request(format!("`headers` must be {what}")))?;
        if members.0.len() > MAX_HEADERS {
            return Err(bad_request(format!("`headers` must be {what}")));
        }
        let pairs = members.0.iter().map(|(name, value)| {
            let value = serde_json::from_str(value.get());
            value.map(|value| (name.as_ref().to_owned(), value))
        });
        pairs.collect::<Result<_, _>>().map_err(|_| bad_request(format!("`headers` must be {what}")))
    }
}

#[cfg(test)]
mod tests;
