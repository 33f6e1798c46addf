//! HTTP: every route in one list, the acceptor, and the upgrade to WebSocket.

pub mod accept;
pub mod calls;
pub mod connection_info;
pub mod console;
pub mod door;
pub mod endpoint;
pub mod error;
pub mod evaluate;
#[cfg(feature = "event-stream")]
pub mod event_stream;
pub mod extensions;
pub mod farewell;
pub mod filters;
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

use std::sync::Arc;

use warp::Filter;

use crate::http::door::Door;
use crate::http::filters::Routes;

/// Every route of one listener.
pub fn routes(door: &Arc<Door>, console: bool) -> Routes {
    let mut routes = health::routes(Arc::clone(&door.node));
    for endpoint in door.endpoints().filter(|endpoint| endpoint.has_calls()) {
        let route = calls::route(endpoint.clone(), Arc::clone(door));
        routes = routes.or(route).unify().boxed();
    }
    for endpoint in door.endpoints() {
        let route = websocket::route(endpoint.clone(), Arc::clone(door));
        routes = routes.or(route).unify().boxed();
    }
    #[cfg(feature = "event-stream")]
    if let Some(endpoint) = door.endpoints().find(|endpoint| endpoint.file().is_none()) {
        routes = routes.or(event_stream::route(endpoint.clone(), Arc::clone(door))).unify().boxed();
    }
    if console {
        routes = routes.or(console::routes()).unify().boxed();
    }
    routes
}
