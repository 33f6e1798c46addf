//! Filters: what routes are made of, and what is answered where none fits.

use std::convert::Infallible;

use warp::Filter;
use warp::Rejection;
use warp::filters::BoxedFilter;
use warp::http::StatusCode;
use warp::http::Version;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::error::Problem;

/// A group of routes, whatever it is made of.
pub type Routes = BoxedFilter<(Response,)>;

/// What only reads may be asked for with GET or HEAD.
pub(crate) fn read_only() -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::get().or(warp::head()).unify()
}

/// What is behind the path, if anything.
pub fn query() -> impl Filter<Extract = (Option<String>,), Error = Infallible> + Clone {
    let query = warp::query::raw().map(Some);
    query.or_else(|_| async { Ok::<_, Infallible>((None,)) })
}

/// warp has no filter for the version, so the service that wraps it leaves it in the request's extensions.
pub(crate) fn request_version() -> impl Filter<Extract = (Version,), Error = Rejection> + Copy {
    warp::ext::get::<Version>()
}

/// What no route took.
pub(crate) async fn not_found(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = if rejection.is_not_found() {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not take this method",
        )
        .with_header(header::ALLOW, "GET, HEAD")
    } else {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", "this request cannot be understood")
    };
    Ok(problem.into_response())
}
