//! The listener without TLS that sends every request to the URL with `https`. It serves nothing else.

use std::sync::Arc;

use warp::Filter;
use warp::Rejection;
use warp::filters::path::FullPath;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::http::uri::Authority;
use warp::reply::Reply as _;
use warp::reply::Response;

use crate::http::filters::Routes;
use crate::http::filters::query;
use crate::http::problem::Problem;

/// The port that URLs with `https` have without saying so.
pub const HTTPS_PORT: u16 = 443;

/// Where requests are sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RedirectTarget {
    /// An origin, such as `https://live.example.com`.
    Origin(String),
    /// The host of the request, at this port.
    RequestedHost { port: u16 },
}

impl RedirectTarget {
    /// The URL for a request, or what is wrong with its host.
    fn url(&self, headers: &HeaderMap, path: &str, query: Option<&str>) -> Result<String, Problem> {
        let origin = match self {
            Self::Origin(origin) => origin.clone(),
            Self::RequestedHost { port } => {
                let host = host(headers).ok_or_else(|| {
                    let detail = "the header `Host` does not name this server: send the host of the URL";
                    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
                })?;
                if *port == HTTPS_PORT { format!("https://{host}") } else { format!("https://{host}:{port}") }
            }
        };
        Ok(match query {
            Some(query) => format!("{origin}{path}?{query}"),
            None => format!("{origin}{path}"),
        })
    }
}

/// The host of a request, without port and user; `None` if it is not a valid one.
fn host(headers: &HeaderMap) -> Option<String> {
    let authority: Authority = headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
    let host = authority.host();
    let is_name =
        |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let is_address = |host: &str| host.starts_with('[') && host.ends_with(']');
    let is_valid =
        !host.is_empty() && !authority.as_str().contains('@') && (is_name(host) || is_address(host));
    is_valid.then(|| host.to_owned())
}

/// The only route of the listener.
pub fn routes(target: RedirectTarget) -> Routes {
    let target = Arc::new(target);
    warp::path::full()
        .and(query())
        .and(warp::header::headers_cloned())
        .and_then(move |path: FullPath, query: Option<String>, headers: HeaderMap| {
            let target = Arc::clone(&target);
            async move {
                let url = target.url(&headers, path.as_str(), query.as_deref());
                Ok::<_, Rejection>(url.and_then(|url| redirect(&url)).unwrap_or_else(Problem::into_response))
            }
        })
        .boxed()
}

/// 308 keeps the method (RFC 9110 §15.4.9). The connection ends, because the client needs another one.
fn redirect(url: &str) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(url).map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "the URL has characters that must be percent-encoded",
        )
    })?;
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(target: &RedirectTarget, host: &str, path: &str, query: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        target.url(&headers, path, query).ok()
    }

    #[test]
    fn the_host_is_that_of_the_request_or_the_configured_one() {
        let standard = RedirectTarget::RequestedHost { port: 443 };
        let other = RedirectTarget::RequestedHost { port: 8443 };
        let fixed = RedirectTarget::Origin("https://live.example.com".to_owned());
        for (target, host, expected) in [
            (&standard, "a.example", Some("https://a.example/ws?x=1")),
            (&standard, "a.example:80", Some("https://a.example/ws?x=1")),
            (&standard, "[::1]:8080", Some("https://[::1]/ws?x=1")),
            (&other, "a.example:8080", Some("https://a.example:8443/ws?x=1")),
            (&fixed, "evil.example", Some("https://live.example.com/ws?x=1")),
            (&standard, "user@a.example", None),
            (&standard, "a.example/evil", None),
            (&standard, "", None),
            (&standard, "a b", None),
            (&standard, "a;b", None),
        ] {
            assert_eq!(url(target, host, "/ws", Some("x=1")).as_deref(), expected, "{host}");
        }
        assert_eq!(url(&standard, "a", "//evil", None).as_deref(), Some("https://a//evil"));
    }
}
