//! Building blocks of routes, and the response if no route matches.

use std::convert::Infallible;

use warp::Filter;
use warp::Rejection;
use warp::filters::BoxedFilter;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::http::Version;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::problem::Problem;

/// A group of routes, with their types erased.
pub type Routes = BoxedFilter<(Response,)>;

/// Matches GET and HEAD.
pub(crate) fn read_only() -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::get().or(warp::head()).unify()
}

/// The headers of a request without `Upgrade`. A WebSocket endpoint may have the same path, so its handshakes do not match.
pub(crate) fn headers_unless_upgrade() -> impl Filter<Extract = (HeaderMap,), Error = Rejection> + Copy {
    warp::header::headers_cloned().and_then(|headers: HeaderMap| async move {
        if headers.contains_key(header::UPGRADE) { Err(warp::reject::not_found()) } else { Ok(headers) }
    })
}

/// The raw query string, if there is one.
pub fn query() -> impl Filter<Extract = (Option<String>,), Error = Infallible> + Clone {
    let query = warp::query::raw().map(Some);
    query.or_else(|_| async { Ok::<_, Infallible>((None,)) })
}

/// The HTTP version. warp has no filter for it, so `serve` puts it into the request's extensions.
pub(crate) fn request_version() -> impl Filter<Extract = (Version,), Error = Rejection> + Copy {
    warp::ext::get::<Version>()
}

/// The response to a request that no route accepts.
pub(crate) async fn not_found(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = if rejection.is_not_found() {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "this node serves nothing at this path: check the URL",
        )
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not support this method; `Allow` lists those that it supports",
        )
        .with_header(header::ALLOW, "GET, HEAD")
    } else {
        let detail = "the request does not have the form that this path expects: see docs/PROTOCOL.md";
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    };
    Ok(problem.into_response())
}
