//! `GET /nodes`: all nodes that answer, and those that have stopped to.

use serde_json::Value;
use serde_json::json;
use warp::reply::Reply as _;
use warp::reply::Response;

use crate::http::admin::access::Admin;
use crate::http::problem::Problem;
use crate::shard::cluster::discovery::FoundNodes;
use crate::shard::cluster::discovery::NodeReport;

/// All nodes.
pub(super) async fn answer(admin: &Admin) -> Result<Response, Problem> {
    let found = admin.cluster.nodes().await.ok_or_else(Problem::overloaded)?;
    let FoundNodes { nodes, missing, waited, error } = found;
    let body = json!({
        "node": &*admin.node.name,
        "complete": missing.is_empty() && error.is_none(),
        "waited_ms": u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        "error": error,
        "nodes": nodes.iter().map(object).collect::<Vec<_>>(),
        "missing": missing.iter().map(object).collect::<Vec<_>>(),
    });
    Ok(warp::reply::json(&body).into_response())
}

fn object(report: &NodeReport) -> Value {
    json!({
        "id": &*report.id,
        "node": &*report.node,
        "version": &*report.version,
        "started_at": &*report.started,
        "uptime_s": report.uptime_s,
        "address": &*report.address,
        "connections": report.connections,
        "ready": report.ready,
        "draining": report.draining,
    })
}
