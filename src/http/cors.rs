//! CORS: tells browsers which pages may read the answers of HTTP calls (Fetch, "CORS protocol"). It follows the decision
//! of `OriginPolicy`, and decides nothing itself.

use warp::http::HeaderMap;
use warp::http::HeaderName;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::http::origin::OriginPolicy;
use crate::http::origin::RequestOrigin;
use crate::http::origin::Sender;
use crate::http::problem::Problem;

/// What pages may send. Tracing libraries send `traceparent` and `tracestate`, and MCP clients the last two.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
const HEADERS: &str = "authorization, content-type, last-event-id, x-request-id, traceparent, tracestate, \
                       mcp-protocol-version, mcp-session-id";
/// What pages may read besides the body, the media type and the length.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, www-authenticate, x-request-id");
/// How long a browser remembers a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The answer to a preflight request, which has no credential. `read` are the headers that a vocabulary reads.
pub fn preflight(policy: &OriginPolicy, headers: &HeaderMap, read: &[Box<str>]) -> Result<Response, Problem> {
    policy.decide(headers)?;
    // A request cannot have a header with another name.
    let read = read.iter().map(|name| &**name).filter(|name| HeaderName::try_from(*name).is_ok());
    let allowed = std::iter::once(HEADERS).chain(read).collect::<Vec<_>>().join(", ");
    let allowed = HeaderValue::from_str(&allowed).unwrap_or(HeaderValue::from_static(HEADERS));
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    Ok(answer)
}

/// Lets the page that has sent a request with these headers read the answer, if it may. All answers depend on the
/// origin, also those that reject it.
pub fn apply(policy: &OriginPolicy, request: &HeaderMap, answer: &mut Response) {
    let headers = answer.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let Ok(Sender { origin: RequestOrigin::Page(origin), .. }) = policy.decide(request) else { return };
    let allowed = if policy.allows_all() { "*" } else { origin.as_str() };
    // An origin is visible ASCII.
    let Ok(allowed) = HeaderValue::from_str(allowed) else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if policy.cookie.is_some() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}
