//! Problem: what the caller of an HTTP route sees (RFC 9457).

use std::time::Duration;

use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

/// Where the pages of the codes are.
const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/errors");

/// A refusal over HTTP.
#[derive(Debug)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// A stable word for programs.
    pub code: &'static str,
    /// What is wrong and how to mend it.
    pub detail: String,
    /// The word for logs: the code, or more exactly why.
    pub reason: &'static str,
    /// One more header, where the status asks for it.
    pub header: Option<Box<(header::HeaderName, HeaderValue)>>,
}

impl Problem {
    /// A refusal without a further header.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), reason: code, header: None }
    }

    /// The same with a header.
    pub fn with_header(self, name: header::HeaderName, value: &str) -> Self {
        let header = HeaderValue::from_str(value).ok().map(|value| Box::new((name, value)));
        Self { header, ..self }
    }

    /// The same, and logs say more exactly why.
    pub fn because(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    /// Come back in a second.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::busy_for(detail, 1)
    }

    /// A shard does not take what it would have to do.
    pub fn overloaded() -> Self {
        Self::busy("this node has too much to do: try again")
    }

    /// Come back after so many seconds.
    pub fn busy_for(detail: impl Into<String>, seconds: u64) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
        Self { header: Some(Box::new((header::RETRY_AFTER, seconds.into()))), ..problem }
    }

    /// Come back after this time, in whole seconds.
    pub fn busy_until(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::busy_for(detail, seconds(retry_after))
    }

    /// There is no credential, and the request needs one.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        problem.with_header(header::WWW_AUTHENTICATE, "Bearer")
    }

    /// What the call needs is away: come back in a second.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self { code: "unavailable", ..Self::busy(detail) }
    }

    /// The page that explains the code: the URL of `docs/errors/<code>.md` (RFC 9457 §3.1.1).
    fn page(&self) -> String {
        format!("{PAGES}/{}.md", self.code)
    }

    /// What programs read.
    pub fn body(&self) -> String {
        let body = serde_json::json!({
            "type": self.page(),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        body.to_string()
    }
}

/// The value of `Retry-After`: at least one second, and not too early.
pub fn seconds(retry_after: Duration) -> u64 {
    (retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).max(1)
}

impl warp::Reply for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body().into());
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

    use serde_json::Value;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_type_of_a_problem_is_the_url_of_its_page() {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "token_expired", "the token has expired");
        let body: Value = serde_json::from_str(&problem.body()).unwrap();
        let page = "https://github.com/tidegate/tidegate/blob/main/docs/errors/token_expired.md";
        let expected = json!({
            "type": page,
            "title": "Unauthorized",
            "status": 401,
            "code": "token_expired",
            "detail": "the token has expired",
        });
        assert_eq!(body, expected);
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors/token_expired.md").exists());
    }
}
