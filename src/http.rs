//! HTTP: the acceptor, the routes of a listener, and the upgrade to WebSocket.

pub mod accept;
pub mod admin;
pub mod authorization;
pub mod bare_lf_guard;
pub mod busy_reply;
pub mod calls;
pub mod client_facts;
pub mod connection_info;
pub mod console;
pub mod cookie;
pub mod cors;
pub mod endpoint;
pub mod evaluate;
#[cfg(feature = "event-stream")]
pub mod event_stream;
pub mod extensions;
pub mod fast_path;
pub mod filters;
pub mod gate;
pub mod handshake;
pub mod health;
pub mod native_call;
pub mod origin;
pub mod preflight;
pub mod presented;
pub mod problem;
pub mod proxy_protocol;
pub mod publish;
pub mod raw_response;
pub mod redeem;
pub mod redirect;
pub mod rejection_log;
pub mod request_id;
mod route_label;
pub mod serve;
pub mod socket_gate;
pub mod target;
pub mod test_page;
pub mod ticket;
pub mod trace;
pub mod trusted_proxies;
pub mod user_change;
pub mod users;
pub mod websocket;
mod while_connected;

use std::sync::Arc;

use warp::Filter;

use crate::http::filters::Routes;
use crate::http::gate::Gate;

/// The pages for trying things out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// The demo page at `/`, if there is an endpoint with the native vocabulary.
    pub has_demo: bool,
    /// The test page of each vocabulary.
    pub has_tests: bool,
}

/// All routes of one listener, tried in this order.
pub fn routes(gate: &Arc<Gate>, pages: Pages) -> Routes {
    let mut routes = health::routes(Arc::clone(&gate.node));
    routes = routes.or(ticket::route(Arc::clone(gate))).unify().boxed();
    routes = routes.or(preflight::route(Arc::clone(gate))).unify().boxed();
    for endpoint in gate.endpoints().filter(|endpoint| endpoint.has_calls()) {
        let route = calls::route(endpoint.clone(), Arc::clone(gate));
        routes = routes.or(route).unify().boxed();
    }
    // After the calls of vocabularies, which may have the same path.
    if gate.endpoints().any(|endpoint| endpoint.native_path().is_some()) {
        routes = routes.or(publish::route(Arc::clone(gate))).unify().boxed();
        routes = routes.or(users::route(Arc::clone(gate))).unify().boxed();
    }
    if pages.has_tests {
        routes = routes.or(test_page::route(Arc::clone(gate))).unify().boxed();
    }
    routes = routes.or(websocket::route(Arc::clone(gate))).unify().boxed();
    #[cfg(feature = "event-stream")]
    if let Some(endpoint) = gate.endpoints().find(|endpoint| endpoint.file().is_none()) {
        routes = routes.or(event_stream::route(endpoint.clone(), Arc::clone(gate))).unify().boxed();
    }
    let native = gate.endpoints().find_map(|endpoint| endpoint.native_path()).filter(|_| pages.has_demo);
    if let Some(path) = native {
        routes = routes.or(console::routes(path)).unify().boxed();
    }
    routes
}
