//! The request target (RFC 9112 §3.2): requests whose target or host no route can handle are rejected first.

use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::Uri;
use warp::http::Version;
use warp::http::header;
use warp::http::uri::Authority;

use crate::http::problem::Problem;

/// Accepts the origin form (`/path`) and the absolute form (`http://host/path`), with a valid `Host` header.
pub fn check(method: &Method, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let is_path = uri.path_and_query().is_some() && uri.path().starts_with('/');
    let scheme_fits = match uri.scheme_str() {
        None => uri.authority().is_none(),
        Some(scheme) => scheme == "http" || scheme == "https",
    };
    if method == Method::CONNECT || !is_path || !scheme_fits {
        return Err(bad("the request target must be a path, as in `GET /path HTTP/1.1`"));
    }
    check_host(version, headers)
}

/// RFC 9112 §3.2: an HTTP/1.1 request without `Host`, or any request with several or an invalid one, gets 400.
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => Ok(()),
        (None, _) => Err(bad("the header `Host` is missing: send it once")),
        (Some(_), Some(_)) => Err(bad("the header `Host` occurs twice: send it once")),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => {
            Err(bad("the header `Host` is not a valid host name or address: send `host` or `host:port`"))
        }
    }
}

/// RFC 9112 §3.2: `Host` may be empty. RFC 9110 §7.2: it has no user information.
fn is_host(host: &[u8]) -> bool {
    host.is_empty() || Authority::try_from(host).is_ok() && !host.contains(&b'@')
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).with_header(header::CONNECTION, "close")
}
