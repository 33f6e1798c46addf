//! Orders: what a session asks NATS for, done: for the session of a connection, and for that of an HTTP call.

use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::session::Input;
use tidegate_protocol::subject::Subject;

use crate::connection::context::Context;
use crate::nats::error::NatsError;

/// Publishes, and gives what the session is to be told.
pub async fn publish(
    context: &Context,
    request: u32,
    subject: &Subject,
    data: Bytes,
    headers: &[(String, String)],
) -> Input {
    let result = context.nats.publish(subject, data, headers).await;
    Input::Published { request, result: result.map_err(|error| refusal(&error)) }
}

/// Asks whoever serves the subject, and gives what the session is to be told.
pub async fn request(
    context: &Context,
    request: u32,
    subject: &Subject,
    data: Bytes,
    timeout: Duration,
) -> Input {
    Input::Replied { request, result: ask(context, subject, data, timeout).await }
}

/// What the session of a connection is told of a query: no dialect of a socket has words for it.
pub fn unsupported(request: u32) -> Input {
    let refusal = ClientError::new(ErrorCode::Unsupported, "only an HTTP call can ask for it");
    Input::Queried { request, result: Err(refusal) }
}

/// What a service answers, or what a client is told in its place.
async fn ask(
    context: &Context,
    subject: &Subject,
    data: Bytes,
    timeout: Duration,
) -> Result<Payload, ClientError> {
    let reply = context.nats.request(subject, data, timeout).await.map_err(|error| refusal(&error))?;
    let (size, max) = (reply.len(), context.node.limits.connection.reply_max);
    if size > max {
        let words = format!("the reply has {size} bytes, and this node passes on at most {max}");
        return Err(ClientError::new(ErrorCode::Service, words));
    }
    Ok(Payload::classify(reply))
}

/// What a client is told of something that went wrong on the way to NATS.
fn refusal(error: &NatsError) -> ClientError {
    let code = match error {
        NatsError::Disconnected
        | NatsError::Overloaded
        | NatsError::NoInbox
        | NatsError::ConnectionLost
        | NatsError::InvalidInboxPrefix
        | NatsError::Credentials { .. } => ErrorCode::Unavailable,
        NatsError::Denied => ErrorCode::Forbidden,
        NatsError::NoResponders => ErrorCode::NoResponders,
        NatsError::Service(_) => ErrorCode::Service,
        NatsError::Timeout | NatsError::Unconfirmed => ErrorCode::Timeout,
        NatsError::Refused(_) | NatsError::TooLarge { .. } => ErrorCode::BadData,
    };
    ClientError::new(code, error.to_string())
}
