//! Upstream: performs the publishes and requests of a session on NATS. Connections and HTTP calls share it.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::session::Input;
use tidegate_protocol::subject::Subject;
use tidegate_protocol::trace_context::TraceContext;

use crate::connection::client_error::client_error;
use crate::connection::context::Context;
use crate::connection::sending::Sending;
use crate::telemetry::spans::SpanKind;

/// Publishes a message with these data and headers. Returns the outcome as an input for the session. `of_call` is the trace
/// of the HTTP call, if it is one.
pub async fn publish(
    context: &Context,
    request: u32,
    subject: &Subject,
    (data, mut headers): (Bytes, Vec<(String, String)>),
    of_call: Option<&TraceContext>,
) -> Input {
    let (began, sending) =
        (Instant::now(), Sending::begin(context, SpanKind::Publish, subject, &mut headers, of_call));
    let result = context.nats.publish(subject, data, &headers).await;
    sending.end(&result);
    if result.is_ok() {
        context.counts.count_publish(began.elapsed());
    }
    Input::Published { request, result: result.map_err(|error| client_error(&error)) }
}

/// Sends a request and waits for the reply. Otherwise like [`publish`].
pub async fn request(
    context: &Context,
    request: u32,
    subject: &Subject,
    (data, mut headers): (Bytes, Vec<(String, String)>),
    timeout: Duration,
    of_call: Option<&TraceContext>,
) -> Input {
    let sending = Sending::begin(context, SpanKind::Request, subject, &mut headers, of_call);
    let reply = context.nats.request(subject, data, &headers, timeout).await;
    sending.end(&reply);
    let result = reply.map_err(|error| client_error(&error)).and_then(|reply| payload(context, reply));
    Input::Replied { request, result }
}

/// Rejects a query. Only HTTP calls can answer one: dialects of sockets have no message for it.
pub fn unsupported(request: u32) -> Input {
    let rejection = ClientError::new(ErrorCode::Unsupported, "only HTTP calls can ask for this");
    Input::Queried { request, result: Err(rejection) }
}

/// The reply of a service, unless it is too large.
fn payload(context: &Context, reply: Bytes) -> Result<Payload, ClientError> {
    let (size, max) = (reply.len(), context.settings().limits.reply_max);
    if size > max {
        let text = format!("the reply has {size} bytes; this node forwards at most {max}");
        return Err(ClientError::new(ErrorCode::Service, text));
    }
    Ok(Payload::classify(reply))
}
