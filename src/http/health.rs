//! `/healthz`: the process is alive. `/readyz`: the node is ready. Neither tells strangers any version.

use std::sync::Arc;

use serde_json::json;
use warp::Filter;
use warp::http::StatusCode;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::filters::Routes;
use crate::http::filters::read_only;
use crate::lane::LaneStatus;
use crate::node::Node;
use crate::node::readiness::Readiness;

pub fn routes(node: Arc<Node>) -> Routes {
    let healthz =
        warp::path!("healthz").and(read_only()).map(|| answer(StatusCode::OK, &json!({ "status": "ok" })));
    let readyz = warp::path!("readyz").and(read_only()).map(move || ready(&node.readiness));
    healthz.or(readyz).unify().boxed()
}

fn ready(readiness: &Readiness) -> Response {
    let lane = |(number, lane): (usize, LaneStatus)| {
        json!({
            "check": "nats",
            "lane": number,
            "ok": lane.connected,
        })
    };
    let mut checks: Vec<_> = readiness.lanes().into_iter().enumerate().map(lane).collect();
    checks.push(json!({ "check": "staying", "ok": !readiness.is_ending() }));
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, &json!({ "ready": readiness.is_ready(), "checks": checks }))
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    let response = warp::reply::with_status(warp::reply::json(body), status);
    warp::reply::with_header(response, "cache-control", "no-store").into_response()
}
