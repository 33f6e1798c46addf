//! Target: what a request names (RFC 9112 §3.2). What no route can take is refused before any route sees it.

use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::Uri;
use warp::http::Version;
use warp::http::header;
use warp::http::uri::Authority;

use crate::http::error::Problem;

/// A path, alone or behind `http://` and a host; and the one host that the request is for.
pub fn check(method: &Method, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let is_path = uri.path_and_query().is_some() && uri.path().starts_with('/');
    let scheme_fits = match uri.scheme_str() {
        None => uri.authority().is_none(),
        Some(scheme) => scheme == "http" || scheme == "https",
    };
    if method == Method::CONNECT || !is_path || !scheme_fits {
        return Err(bad("name what you want by its path: GET /path HTTP/1.1"));
    }
    check_host(version, headers)
}

/// RFC 9112 §3.2: a request of HTTP/1.1 has one `Host`, and whoever sends another number may be understood by a proxy in
/// front of us as somebody else.
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => Ok(()),
        (None, _) => Err(bad("the header `Host` is missing")),
        (Some(_), Some(_)) => Err(bad("the header `Host` stands there twice")),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(bad("the header `Host` is no host")),
    }
}

/// It may be empty (RFC 9112 §3.2).
fn is_host(host: &[u8]) -> bool {
    host.is_empty() || Authority::try_from(host).is_ok() && !host.contains(&b'@')
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).with_header(header::CONNECTION, "close")
}
