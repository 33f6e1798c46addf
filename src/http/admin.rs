//! The admin listener: metrics and health, for operators.

pub mod access;
mod metrics;

use std::sync::Arc;

use warp::Filter;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::admin::access::Admin;
use crate::http::connection_info::ConnectionInfo;
use crate::http::filters::Routes;
use crate::http::filters::not_found;
use crate::http::filters::read_only;
use crate::http::health;

/// The most sockets of the admin listener. They are counted apart, so that a full node can still be observed. `app::descriptors`
/// reserves descriptors for them.
pub const MAX_SOCKETS: usize = 8;

/// All routes of the admin listener.
pub fn routes(admin: &Arc<Admin>) -> Routes {
    let own = Arc::clone(admin);
    let metrics = warp::path!("metrics")
        .and(read_only())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(move |headers: HeaderMap, connection: ConnectionInfo| {
            let admin = Arc::clone(&own);
            async move {
                let answer = match admin.authorize(&headers).await {
                    Ok(()) => metrics::answer(&admin, &headers).await,
                    Err(problem) => Err(problem),
                };
                let answer = answer.inspect_err(|problem| admin.log(problem, &connection));
                Ok::<_, warp::Rejection>(answer.unwrap_or_else(Reply::into_response))
            }
        });
    let routes = health::routes(Arc::clone(&admin.node)).or(metrics).unify().recover(not_found).unify();
    routes.map(with_safe_headers).boxed()
}

/// No browser guesses the type of an answer, or keeps it.
fn with_safe_headers(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
