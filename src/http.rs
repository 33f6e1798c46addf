//! HTTP: every route in one list, the acceptor, and the upgrade to WebSocket.

pub mod accept;
pub mod admission;
pub mod callers;
pub mod calls;
pub mod console;
pub mod door;
pub mod endpoint;
pub mod error;
pub mod extensions;
pub mod farewell;
pub mod first;
pub mod handshake;
pub mod health;
pub mod proxies;
pub mod refusals;
pub mod request_id;
pub mod serve;
pub mod strict;
pub mod target;
pub mod test_page;
pub mod websocket;
pub mod wire;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use warp::Filter;
use warp::Rejection;
use warp::filters::BoxedFilter;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::calls::Node;
use crate::http::door::Door;
use crate::http::error::Problem;
use crate::http::health::Readiness;
use crate::shard::handle::Permit;
use crate::shard::handle::ShardHandle;

/// A group of routes, whatever it is made of.
pub type Routes = BoxedFilter<(Response,)>;

/// What a handler may know of the connection that its request came over.
#[derive(Clone)]
pub struct ConnectionInfo {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The shard whose thread serves it.
    pub shard: ShardHandle,
    /// What the request is called.
    pub request_id: HeaderValue,
    permit: Arc<Permit>,
}

impl ConnectionInfo {
    /// What is known of an accepted socket.
    pub fn new(peer: SocketAddr, shard: ShardHandle, permit: Permit) -> Self {
        Self { peer, shard, request_id: HeaderValue::from_static("none"), permit: Arc::new(permit) }
    }

    /// What an upgraded socket keeps, so that it is counted for as long as it lives: this connection's own count
    /// ends with the request.
    pub fn permit(&self) -> Box<dyn Send> {
        Box::new(Arc::clone(&self.permit))
    }
}

/// An endpoint speaks a language that there is not.
#[derive(Debug, Error)]
#[error("there is no vocabulary `{0}`: this version has `native`")]
pub struct UnknownVocabulary(String);

/// Every route of one listener.
pub fn routes(door: &Arc<Door>, console: bool, readiness: &Readiness, node: &Node) -> Routes {
    let mut routes = health::routes(readiness.clone());
    for endpoint in door.endpoints().filter(|endpoint| endpoint.has_calls()) {
        let route = calls::route(endpoint.clone(), Arc::clone(door), node.clone());
        routes = routes.or(route).unify().boxed();
    }
    for endpoint in door.endpoints() {
        let route = websocket::route(endpoint.clone(), Arc::clone(door));
        routes = routes.or(route).unify().boxed();
    }
    if console {
        routes = routes.or(console::routes()).unify().boxed();
    }
    routes
}

/// What only reads may be asked for with GET or HEAD.
pub(crate) fn read_only() -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::get().or(warp::head()).unify()
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
