//! `POST /v1/publish`: publishes one message or several, as `publish` does on a socket, and says which were stored.

use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use serde_json::Value;
use serde_json::json;
use tidegate_protocol::native::publish_call::PublishBody;
use tidegate_protocol::native::publish_call::PublishCall;
use warp::Filter;
use warp::Rejection;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::http::calls::HeldBody;
use crate::http::calls::json_answer;
use crate::http::calls::no_room;
use crate::http::calls::read_body;
use crate::http::calls::refused;
use crate::http::connection_info::ConnectionInfo;
use crate::http::filters::Routes;
use crate::http::filters::headers_unless_upgrade;
use crate::http::gate::Gate;
use crate::http::native_call::AcceptedCall;
use crate::http::native_call::NativeCall;
use crate::http::problem::Problem;
use crate::nats::acknowledgement::Acknowledgement;
use crate::shard::job::PublishError;
use crate::shard::job::PublishMessages;
use crate::shard::job::PublishResult;
use crate::shard::job::ShardJob;

/// Each further 10 messages of one call count as one more call for the rate limit.
const MESSAGES_PER_CALL: usize = 10;
/// The header with the message id of a call with one message (the IETF's draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The route of one listener.
pub fn route(gate: Arc<Gate>) -> Routes {
    warp::path!("v1" / "publish")
        .and(headers_unless_upgrade())
        .and(warp::method())
        .and(warp::body::stream())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(move |headers: HeaderMap, method: Method, body, connection| {
            let gate = Arc::clone(&gate);
            async move {
                let own_headers = &[IDEMPOTENCY_KEY];
                let call = NativeCall { what: "publish", method, headers, connection, own_headers };
                let answer = call.answer(&gate, answer(&call, body, &gate)).await;
                Ok::<_, Rejection>(answer)
            }
        })
        .boxed()
}

async fn answer<S, B>(call: &NativeCall, body: S, gate: &Gate) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>> + Send,
    B: Buf + Send,
{
    let accepted = call.accept(gate).await?;
    let body = read_body(body, gate.limits.max_body, gate.limits.handshake_timeout).await?;
    let body = body.unwrap_or_default();
    let message_id = idempotency_key(&call.headers)?;
    match PublishBody::parse(&body).map_err(refused)? {
        PublishBody::One => {
            let messages = vec![(PublishCall { message_id }, body)];
            let one = |results: Vec<PublishResult>| match results.into_iter().next() {
                Some(result) => result.map(|stored| object(stored.as_ref())).map_err(problem),
                None => Err(Problem::overloaded()),
            };
            publish(accepted, messages, call, gate, one).await
        }
        PublishBody::Batch(_) if message_id.is_some() => Err(bad_header(
            "`Idempotency-Key` is for one message: with `messages`, give each its own `Nats-Msg-Id` in `headers`",
        )),
        PublishBody::Batch(texts) => {
            let further = u32::try_from((texts.len() - 1) / MESSAGES_PER_CALL).unwrap_or(u32::MAX);
            if further > 0 {
                gate.charge_calls(accepted.counted, further)?;
            }
            let messages = texts.into_iter().map(|text| (PublishCall::default(), text)).collect();
            publish(accepted, messages, call, gate, batch).await
        }
    }
}

/// Publishes on the shard of the socket, and answers with what `body` makes of the results.
async fn publish(
    accepted: AcceptedCall,
    messages: Vec<(PublishCall, String)>,
    call: &NativeCall,
    gate: &Gate,
    body: impl FnOnce(Vec<PublishResult>) -> Result<Value, Problem>,
) -> Result<Response, Problem> {
    let mut held = gate.node.answer_budget.begin(accepted.address).map_err(no_room)?;
    let trace = call.connection.trace.clone();
    let messages = Box::new(PublishMessages { record: accepted.record, messages, trace });
    let results = call.connection.shard.run(|answer| ShardJob::Publish { call: messages, answer }).await;
    let body = body(results.ok_or_else(Problem::overloaded)?)?.to_string();
    held.set(body.len());
    Ok(json_answer(200, Some(bytes::Bytes::from_owner(HeldBody::new(body.into(), held)))))
}

/// The results of several messages. If nothing could be sent because NATS is away, the whole call has failed.
fn batch(results: Vec<PublishResult>) -> Result<Value, Problem> {
    let results: Vec<Result<Value, Problem>> = results
        .into_iter()
        .map(|result| result.map(|stored| object(stored.as_ref())).map_err(problem))
        .collect();
    let is_unavailable = |result: &Result<Value, Problem>| {
        result.as_ref().is_err_and(|problem| problem.code == "unavailable" || problem.code == "busy")
    };
    if results.iter().all(is_unavailable) {
        return results.into_iter().next().unwrap_or_else(|| Err(Problem::overloaded()));
    }
    let results = results.into_iter().map(|result| {
        result
            .unwrap_or_else(|problem| json!({ "error": { "code": problem.code, "message": problem.detail } }))
    });
    Ok(json!({ "results": results.collect::<Vec<_>>() }))
}

/// The result of one published message.
fn object(stored: Option<&Acknowledgement>) -> Value {
    match stored {
        None => json!({ "stored": false }),
        Some(Acknowledgement { stream, sequence, duplicate }) => {
            json!({ "stored": true, "stream": &**stream, "sequence": sequence, "duplicate": duplicate })
        }
    }
}

fn problem(error: PublishError) -> Problem {
    match error {
        PublishError::Refused(error) => refused(error),
        PublishError::Unknown(detail) => Problem::new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", detail),
        PublishError::NotStored(detail) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_stored", detail)
                .with_header(header::RETRY_AFTER, "1")
        }
        PublishError::NeverStored(detail) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not_stored", detail)
        }
    }
}

/// The value of the header, without quotes if it has them.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<Box<str>>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad_header("the header `Idempotency-Key` occurs twice: send it once"));
    }
    let key = value.to_str().unwrap_or_default();
    let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    if key.is_empty() {
        let detail = "the header `Idempotency-Key` is empty or not ASCII: send a unique id, such as a UUID";
        return Err(bad_header(detail));
    }
    Ok(Some(key.into()))
}

fn bad_header(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_header", detail)
}
