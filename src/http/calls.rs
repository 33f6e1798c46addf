//! HTTP calls: the requests that a vocabulary's file describes. A caller has the same permissions as over a WebSocket.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Buf;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::trace_context::TraceContext;
use tidegate_vocabulary::http::AcceptedRequest;
use tidegate_vocabulary::http::Handler;
use tidegate_vocabulary::http::Lookup;
use tidegate_vocabulary::http::MatchedRoute;
use tidegate_vocabulary::http::answer::HttpAnswer;
use tidegate_vocabulary::http::answer::status_of;
use tidegate_vocabulary::model::CompiledVocabulary;
use tokio::time::timeout;
use warp::Filter;
use warp::Rejection;
use warp::filters::path::FullPath;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::auth::policy::Via;
use crate::auth::shares::AskedBy;
use crate::auth::shares::ShareWait;
use crate::connection::auditing::CallRecord;
use crate::http::client_facts::Requester;
use crate::http::connection_info::ConnectionInfo;
use crate::http::cors;
use crate::http::endpoint::Endpoint;
use crate::http::filters::Routes;
use crate::http::filters::query;
use crate::http::gate::Gate;
use crate::http::presented::PresentedCredential;
use crate::http::problem::Problem;
use crate::http::problem::rate_limited;
use crate::http::rejection_log::RejectedRequest;
use crate::http::request_id;
use crate::http::socket_gate::RequestKind;
use crate::http::test_page;
use crate::net::peer::Peer;
use crate::node::Node;
use crate::node::answer_budget::HeldAnswer;
use crate::node::answer_budget::NoRoom;
use crate::node::call_limiter::Caller;
use crate::node::limits::RequestLimits;
use crate::node::services::ChannelReader;
use crate::shard::handle::ShardHandle;
use crate::shard::job::CallAnswer;
use crate::shard::job::OneMessage;
use crate::shard::job::ShardJob;

/// Each further 50 channels of one call count as one more call for the rate limit.
const CHANNELS_PER_CALL: usize = 50;

/// The route for all calls of one endpoint.
pub fn route(endpoint: Endpoint, gate: Arc<Gate>) -> Routes {
    let endpoint = Arc::new(endpoint);
    let route_endpoint = Arc::clone(&endpoint);
    let here = warp::path::full().and(warp::header::headers_cloned()).and_then(
        move |path: FullPath, headers: HeaderMap| {
            let is_call =
                route_endpoint.file().is_some_and(|(_, vocabulary)| vocabulary.has_http_route(path.as_str()));
            let is_upgrade = headers.contains_key(header::UPGRADE);
            async move {
                if is_call && !is_upgrade { Ok((path, headers)) } else { Err(warp::reject::not_found()) }
            }
        },
    );
    here.untuple_one()
        .and(query())
        .and(warp::method())
        .and(warp::body::stream())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(
            move |path: FullPath,
                  headers,
                  query: Option<String>,
                  method,
                  body,
                  connection: ConnectionInfo| {
                let (endpoint, gate) = (Arc::clone(&endpoint), Arc::clone(&gate));
                async move {
                    let ConnectionInfo { peer, shard, request_id: id, trace, .. } = connection;
                    let request = CallRequest { id, path, query, headers, method, peer, shard, trace };
                    let answer = answer(&request, body, &endpoint, &gate).await;
                    if let Err(problem) = &answer
                        && [401, 403, 429, 503].contains(&problem.status.as_u16())
                    {
                        let (what, headers, endpoint) = ("call", &request.headers, &*endpoint);
                        let id = &request.id;
                        RejectedRequest { what, endpoint, peer, headers, handshake: None, id }
                            .log(problem, &gate);
                    }
                    let mut answer = answer.unwrap_or_else(Reply::into_response);
                    cors::apply(&endpoint.origins, &request.headers, &mut answer);
                    Ok::<_, Rejection>(answer)
                }
            },
        )
        .boxed()
}

struct CallRequest {
    id: HeaderValue,
    path: FullPath,
    query: Option<String>,
    headers: HeaderMap,
    method: Method,
    peer: Peer,
    shard: ShardHandle,
    trace: Option<TraceContext>,
}

async fn answer<S, B>(
    request: &CallRequest,
    body: S,
    endpoint: &Endpoint,
    gate: &Gate,
) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>> + Send,
    B: Buf + Send,
{
    let (number, vocabulary) = endpoint.file().ok_or_else(nothing)?;
    if request.method == Method::OPTIONS {
        return cors::preflight(&endpoint.origins, &request.headers, &vocabulary.headers);
    }
    let route = route_of(request, number, vocabulary)?;
    let query = request.query.as_deref();
    let address = gate.charge_address(request.peer, &request.headers)?;
    let _connection = gate.admit(request.peer, &request.headers, RequestKind::Call).await?;
    let sender = endpoint.origins.decide(&request.headers)?;
    let now = SystemTime::now();
    let credential = PresentedCredential::in_request(&endpoint.origins, &sender, &request.headers)?;
    let (policy, headers) = (&*endpoint.origins, &request.headers);
    let requester = Requester { policy, sender: &sender, headers, peer: request.peer };
    match &credential {
        Some(credential) => credential.check_content_type(&request.method, headers)?,
        None => {
            let authenticator = gate.node.authenticator();
            let service = authenticator.service().map(|service| &service.config);
            requester.check_content_type(service, &request.method)?;
        }
    }
    let (via, binding) = (Via::Http, Some(route.binding()));
    let identity = gate.identify(endpoint, via, binding, credential.as_ref(), &requester, now).await?;
    if identity.is_none() && route.needs_identity() {
        let detail =
            "this call needs a credential: send the header `Authorization: Bearer <token or API key>`";
        return Err(Problem::unauthorized(detail));
    }
    // A user that the client only claims is not counted as an identity: anyone can claim it.
    let counted = identity.as_deref().filter(|_| credential.is_some());
    let counted = counted.map_or(address, |identity| gate.node.call_limiter.by_identity(identity));
    if counted != address {
        gate.charge_calls(counted, 1)?;
    }
    let RequestLimits { max_body, handshake_timeout, .. } = gate.limits;
    let body = read_body(body, max_body, handshake_timeout).await?;
    let identity = identity.unwrap_or_default();
    let scope = SessionScope { identity: Some(&identity), now, ..SessionScope::default() };
    let accepted = route.accept(scope, body).map_err(refused)?;
    let more = u32::try_from(accepted.channels() / CHANNELS_PER_CALL).unwrap_or(u32::MAX);
    if more > 0 {
        gate.charge_calls(counted, more)?;
    }
    match accepted.handler() {
        Handler::Session => {
            let held = gate.node.answer_budget.begin(address).map_err(no_room)?;
            let client_address = gate.trusted_proxies.client_address(request.peer, &request.headers);
            let endpoint = endpoint.policy.endpoint.clone();
            let asked_by = AskedBy { asker: counted.asker(), wait: ShareWait::Limited };
            let record = CallRecord {
                identity: Arc::clone(&identity),
                endpoint: endpoint.clone(),
                client_address,
                request: request_id::as_str(&request.id).into(),
            };
            let reader = ChannelReader { identity, endpoint, address: client_address.ip(), asked_by };
            run_session(accepted, (reader, record), counted, held, request).await
        }
        Handler::Health => health(&accepted, scope, &gate.node),
        Handler::Console if gate.node.http.console => Ok(test_page::answer(vocabulary, query)),
        Handler::Console => {
            let detail = "the page at this path is disabled: set http.console to true";
            Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail))
        }
    }
}

/// The route of a request.
fn route_of(
    request: &CallRequest,
    number: VocabularyId,
    vocabulary: &Arc<CompiledVocabulary>,
) -> Result<MatchedRoute, Problem> {
    let header = |name: &str| Some(request.headers.get(name)?.as_bytes());
    let (path, query) = (request.path.as_str(), request.query.as_deref());
    match vocabulary.lookup(number, request.method.as_str(), path, query, header) {
        Lookup::Found(route) => Ok(route),
        Lookup::BadValue => {
            let detail = "a parameter in the path has a value that is not allowed there";
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad_path", detail))
        }
        Lookup::BadParameter(wrong) => Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", wrong)),
        Lookup::Unmatched => {
            let detail =
                "this path has no call for such a query or such headers: check their names and values";
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail))
        }
        Lookup::Nothing => Err(nothing()),
        Lookup::OtherMethod(methods) => {
            let detail = "this path does not support this method; `Allow` lists those that it supports";
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
            Err(problem.with_header(header::ALLOW, &methods.join(", ")))
        }
    }
}

fn nothing() -> Problem {
    let detail = "this node serves nothing at this path: check the URL";
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// The body as text; `None` if it is empty. It must arrive within `deadline`.
pub(super) async fn read_body<B: Buf>(
    body: impl Stream<Item = Result<B, warp::Error>>,
    max: usize,
    deadline: Duration,
) -> Result<Option<String>, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_body", detail);
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    let whole = async {
        while let Some(piece) = body.next().await {
            let mut piece = piece.map_err(|_| bad("the body is incomplete or malformed: send all of it"))?;
            if bytes.len() + piece.remaining() > max {
                let detail = format!(
                    "the body is larger than {max} bytes: send less, or raise limits.max_message_bytes"
                );
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail));
            }
            while piece.has_remaining() {
                let chunk = piece.chunk();
                bytes.extend_from_slice(chunk);
                let taken = chunk.len();
                piece.advance(taken);
            }
        }
        Ok(())
    };
    let late = |_| {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time: send it again")
    };
    timeout(deadline, whole).await.map_err(late)??;
    let text = String::from_utf8(bytes).map_err(|_| bad("the body is not valid UTF-8"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Runs a session for this one message, and returns its reply.
async fn run_session(
    accepted: AcceptedRequest,
    (reader, record): (ChannelReader, CallRecord),
    caller: Caller,
    held: HeldAnswer,
    request: &CallRequest,
) -> Result<Response, Problem> {
    let (dialect, text) = accepted.into_message();
    let trace = request.trace.clone();
    let message = Box::new(OneMessage { reader, record, caller, held, dialect, text, trace });
    let answer = request.shard.run(|answer| ShardJob::Message { message, answer }).await;
    let CallAnswer { frames, held, limited } = answer.ok_or_else(Problem::overloaded)?;
    let answer = HttpAnswer::of(&frames);
    drop(frames);
    match (answer, limited) {
        (HttpAnswer::Json(status, body), _) => {
            Ok(json_answer(status, Some(Bytes::from_owner(HeldBody::new(body, held)))))
        }
        (HttpAnswer::Refused(ClientError { code: ErrorCode::RateLimited, message }), Some(limited)) => {
            Err(rate_limited(message, limited.retry_after).with_limit(limited.by))
        }
        (answer, Some(limited)) => response(answer).map_err(|problem| problem.with_limit(limited.by)),
        (answer, None) => response(answer),
    }
}

/// The body of a response. Its bytes count until it is sent, or its caller has gone.
pub(super) struct HeldBody {
    body: Bytes,
    _held: HeldAnswer,
}

impl HeldBody {
    pub(super) fn new(body: Bytes, held: HeldAnswer) -> Self {
        Self { body, _held: held }
    }
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

pub(super) fn no_room(no_room: NoRoom) -> Problem {
    let problem = match no_room {
        NoRoom::Address => rate_limited(no_room.to_string(), Duration::from_secs(1)),
        NoRoom::Node => Problem::busy(no_room.to_string()),
    };
    problem.refused_by(no_room.refused())
}

fn health(accepted: &AcceptedRequest, scope: SessionScope<'_>, node: &Node) -> Result<Response, Problem> {
    let is_ready = node.readiness.is_ready();
    let status = if is_ready { "ok" } else { "unavailable" };
    let mut answer = response(accepted.health(scope, status))?;
    if !is_ready {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(answer)
}

fn response(answer: HttpAnswer) -> Result<Response, Problem> {
    match answer {
        HttpAnswer::Status(status) => Ok(json_answer(status, None)),
        HttpAnswer::Json(status, body) => Ok(json_answer(status, Some(body))),
        HttpAnswer::NoValue => {
            let detail = "there is no value yet, or the last one is too old: try again later";
            Err(Problem::new(StatusCode::NOT_FOUND, "no_value", detail))
        }
        HttpAnswer::Refused(error) => Err(refused(error)),
    }
}

pub(super) fn json_answer(status: u16, body: Option<Bytes>) -> Response {
    let has_body = body.is_some();
    let mut answer = Response::new(body.unwrap_or_default().into());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if has_body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    answer
}

/// A session's error as an HTTP response.
pub(super) fn refused(error: ClientError) -> Problem {
    let ClientError { code, message } = error;
    if code == ErrorCode::Unavailable {
        Problem::unavailable(message, 1)
    } else if code == ErrorCode::TryAgain {
        Problem::busy(message)
    } else {
        Problem::new(StatusCode::from_u16(status_of(code)).unwrap_or_default(), code.name(), message)
    }
}
