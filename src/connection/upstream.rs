//! Upstream: performs the publishes and requests of a session on NATS. Connections and HTTP calls share it.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::session::Input;
use tidegate_protocol::subject::Subject;

use crate::connection::context::Context;
use crate::nats::error::NatsError;

/// Publishes a message. Returns the outcome as an input for the session.
pub async fn publish(
    context: &Context,
    request: u32,
    subject: &Subject,
    data: Bytes,
    headers: &[(String, String)],
) -> Input {
    let began = Instant::now();
    let result = context.nats.publish(subject, data, headers).await;
    if result.is_ok() {
        context.counts.count_publish(began.elapsed());
    }
    Input::Published { request, result: result.map_err(|error| client_error(&error)) }
}

/// Sends a request and waits for the reply. Returns the outcome as an input for the session.
pub async fn request(
    context: &Context,
    request: u32,
    subject: &Subject,
    data: Bytes,
    headers: &[(String, String)],
    timeout: Duration,
) -> Input {
    Input::Replied { request, result: reply(context, subject, data, headers, timeout).await }
}

/// Rejects a query. Only HTTP calls can answer one: dialects of sockets have no message for it.
pub fn unsupported(request: u32) -> Input {
    let rejection = ClientError::new(ErrorCode::Unsupported, "only HTTP calls can ask for this");
    Input::Queried { request, result: Err(rejection) }
}

/// The reply of a service, or the error for the client.
async fn reply(
    context: &Context,
    subject: &Subject,
    data: Bytes,
    headers: &[(String, String)],
    timeout: Duration,
) -> Result<Payload, ClientError> {
    let reply =
        context.nats.request(subject, data, headers, timeout).await.map_err(|error| client_error(&error))?;
    let (size, max) = (reply.len(), context.settings().limits.reply_max);
    if size > max {
        let text = format!("the reply has {size} bytes; this node forwards at most {max}");
        return Err(ClientError::new(ErrorCode::Service, text));
    }
    Ok(Payload::classify(reply))
}

/// Translates an error of the NATS client into an error for the client.
pub fn client_error(error: &NatsError) -> ClientError {
    let code = match error {
        NatsError::Disconnected
        | NatsError::Overloaded
        | NatsError::NoInbox
        | NatsError::ConnectionLost
        | NatsError::InvalidInboxPrefix
        | NatsError::StorageUnknown(_)
        | NatsError::StreamAway
        | NatsError::Credentials { .. } => ErrorCode::Unavailable,
        NatsError::Denied => ErrorCode::Forbidden,
        NatsError::NoResponders => ErrorCode::NoResponders,
        NatsError::Service(_) | NatsError::NotStored(_) => ErrorCode::Service,
        NatsError::Timeout | NatsError::Unconfirmed => ErrorCode::Timeout,
        NatsError::Refused(_) | NatsError::TooLarge { .. } => ErrorCode::BadData,
    };
    ClientError::new(code, error.to_string())
}
