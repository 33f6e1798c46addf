//! `Problem`: an HTTP error response, as a problem document (RFC 9457).

use std::time::Duration;

use serde_json::Value;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::auth::error::KEYS_UNAVAILABLE;
use crate::http::request_id;
use crate::node::call_limiter::Caller;
use crate::node::counts::NodeCounts;
use crate::node::refusals::Refused;

/// The URL of the folder with the pages of all error codes.
const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/errors");

/// An HTTP error response.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    /// The error code: a stable word for programs, the member `code`.
    pub code: &'static str,
    /// What is wrong and how to fix it, for people.
    pub detail: String,
    /// The word for logs: the code, or a more exact reason.
    pub reason: &'static str,
    /// The configuration key of the limit that the client exceeded, for logs.
    pub limit: Option<&'static str>,
    /// One more header, if the status requires one.
    pub header: Option<Box<(header::HeaderName, HeaderValue)>>,
}

impl Problem {
    /// A problem without a further header.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), reason: code, limit: None, header: None }
    }

    /// Sets the header.
    pub fn with_header(self, name: header::HeaderName, value: &str) -> Self {
        let header = HeaderValue::from_str(value).ok().map(|value| Box::new((name, value)));
        Self { header, ..self }
    }

    /// Sets a more exact reason for logs.
    pub fn with_reason(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    /// Sets the limit that the client exceeded, for logs.
    pub fn with_limit(self, refused: Refused) -> Self {
        Self { limit: refused.limit(), ..self }
    }

    /// The same, with the limit's name as the reason.
    pub fn refused_by(self, refused: Refused) -> Self {
        self.with_reason(refused.name()).with_limit(refused)
    }

    /// 503 with `Retry-After: 1`.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::busy_for(detail, 1)
    }

    /// 503: the queue of a shard is full.
    pub fn overloaded() -> Self {
        Self::busy("this node is overloaded: try again later").with_reason("overloaded")
    }

    /// 503 with this `Retry-After` in seconds.
    pub fn busy_for(detail: impl Into<String>, seconds: u64) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
        Self { header: Some(Box::new((header::RETRY_AFTER, seconds.into()))), ..problem }
    }

    /// 503 with this `Retry-After`, rounded up to whole seconds.
    pub fn busy_retry_after(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::busy_for(detail, retry_after_seconds(retry_after))
    }

    /// 401: the request needs a credential and has none. RFC 6750 §3.1: the challenge then has no error.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        problem.with_header(header::WWW_AUTHENTICATE, "Bearer")
    }

    /// 503 with this `Retry-After` in seconds: what the request needs is unavailable, such as NATS.
    pub fn unavailable(detail: impl Into<String>, seconds: u64) -> Self {
        Self { code: "unavailable", reason: "unavailable", ..Self::busy_for(detail, seconds) }
    }

    /// The answer to a page that may not use this node, or this endpoint.
    pub fn origin_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail)
    }

    /// Whether it is one of [`Problem::origin_not_allowed`].
    pub fn refuses_origin(&self) -> bool {
        self.code == "origin_not_allowed"
    }

    /// Counts a request that was rejected with this problem.
    pub fn count_rejection(&self, counts: &NodeCounts) {
        counts.rejected.count(self.status.as_u16(), self.reason);
        // A key that cannot be fetched is 503.
        if self.status == StatusCode::UNAUTHORIZED || self.reason == KEYS_UNAVAILABLE {
            counts.auth_failures.count(self.reason);
        }
        if self.refuses_origin() {
            counts.origin_rejected.count();
        }
    }

    /// RFC 9457 §3.1.1: `type` is a URI that identifies the kind of problem, and leads to documentation for people. It
    /// is the URL of `docs/errors/<code>.md`.
    fn type_url(&self) -> String {
        format!("{PAGES}/{}.md", self.code)
    }

    /// The problem document (RFC 9457 §3.1), with the extension member `code` (§3.2). The transport adds `request_id`.
    fn document(&self) -> ProblemDocument {
        ProblemDocument(serde_json::json!({
            "type": self.type_url(),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        }))
    }
}

/// The body of a response that is a problem, until its request id is known.
#[derive(Clone, Debug)]
struct ProblemDocument(Value);

/// Puts the request id into the body of a response, if that is a problem document: its extension member `request_id`
/// (RFC 9457 §3.2). Returns that body.
pub fn add_request_id(response: &mut Response, id: &HeaderValue) -> Option<String> {
    let ProblemDocument(mut document) = response.extensions_mut().remove()?;
    document["request_id"] = request_id::as_str(id).into();
    let body = document.to_string();
    *response.body_mut() = body.clone().into();
    Some(body)
}

/// The value of `Retry-After` (RFC 9110 §10.2.3): whole seconds, rounded up, at least 1.
pub fn retry_after_seconds(retry_after: Duration) -> u64 {
    (retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).max(1)
}

/// 429: the caller has exceeded its rate of calls.
pub fn too_many_calls(caller: Caller, retry_after: Duration) -> Problem {
    let detail = "too many calls: slow down, and try again after the time in `Retry-After`";
    rate_limited(detail, retry_after).with_limit(caller.limit_of_calls())
}

/// 429 with this `Retry-After`.
pub fn rate_limited(detail: impl Into<String>, retry_after: Duration) -> Problem {
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
    problem.with_header(header::RETRY_AFTER, &retry_after_seconds(retry_after).to_string())
}

/// RFC 9457 §3: a problem document has the media type `application/problem+json`.
impl warp::Reply for Problem {
    fn into_response(self) -> Response {
        let document = self.document();
        let mut response = Response::new(document.0.to_string().into());
        response.extensions_mut().insert(document);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some((name, value)) = self.header.map(|header| *header) {
            headers.insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    /// RFC 9457 §3.1: the members of a problem document. §3.1.1: `type` leads to documentation. §3.2: `code` is an
    /// extension member, and so is `request_id`.
    #[test]
    fn the_type_of_a_problem_is_the_url_of_its_page() {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "token_expired", "the token has expired");
        let mut response = warp::Reply::into_response(problem);
        let body = add_request_id(&mut response, &HeaderValue::from_static("r-1")).unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        let page = "https://github.com/tidegate/tidegate/blob/main/docs/errors/token_expired.md";
        let expected = json!({
            "type": page,
            "title": "Unauthorized",
            "status": 401,
            "code": "token_expired",
            "detail": "the token has expired",
            "request_id": "r-1",
        });
        assert_eq!(body, expected);
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors/token_expired.md").exists());
    }
}
