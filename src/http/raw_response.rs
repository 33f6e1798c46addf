//! HTTP responses as bytes, for requests that hyper does not handle.

use std::time::SystemTime;

use bytes::Bytes;
use headers::ContentLength;
use headers::Date;
use headers::HeaderMapExt as _;
use warp::http::HeaderValue;
use warp::http::header;
use warp::reply::Reply as _;
use warp::reply::Response;

use crate::http::problem;
use crate::http::problem::Problem;
use crate::http::request_id;

/// The response 101.
pub fn switching_protocols(response: &Response) -> Bytes {
    head(response).into()
}

/// An error response after which the connection is closed. `hsts` is the value of `Strict-Transport-Security`.
pub fn error(problem: Problem, id: HeaderValue, hsts: Option<&HeaderValue>) -> Bytes {
    let mut response = problem.into_response();
    let body = problem::add_request_id(&mut response, &id).unwrap_or_default();
    let headers = response.headers_mut();
    headers.typed_insert(ContentLength(u64::try_from(body.len()).unwrap_or(u64::MAX)));
    headers.typed_insert(Date::from(SystemTime::now()));
    headers.insert(request_id::NAME, id);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if let Some(hsts) = hsts {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    let mut out = head(&response);
    out.extend_from_slice(body.as_bytes());
    out.into()
}

fn head(response: &Response) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(response.status().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(response.status().canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in response.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_response_is_complete() {
        let bytes = error(Problem::busy_for("come later", 7), HeaderValue::from_static("r-1"), None);
        let text = std::str::from_utf8(&bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        for line in [
            "retry-after: 7",
            "connection: close",
            "content-type: application/problem+json",
            "x-request-id: r-1",
        ] {
            assert!(head.contains(&format!("\r\n{line}")), "{line} is not in {head}");
        }
        assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{head}");
        assert!(head.contains("\r\ndate: ") && body.contains("\"detail\":\"come later\""), "{text}");
        assert!(body.contains("\"request_id\":\"r-1\""), "{text}");
    }
}
