//! /healthz: the process lives. /readyz: it can do its work. Neither tells strangers which version of what runs here.

use std::sync::Arc;

use futures_util::future::select_all;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::http::StatusCode;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::filters::Routes;
use crate::http::filters::read_only;
use crate::lane::LaneStatus;

/// What decides whether the node is ready.
#[derive(Clone, Debug)]
pub struct Readiness {
    lanes: Arc<[watch::Receiver<LaneStatus>]>,
    ending: CancellationToken,
    draining: CancellationToken,
}

impl Readiness {
    /// Ready while all these lanes are connected and the node does not drain.
    pub fn new(lanes: Vec<watch::Receiver<LaneStatus>>) -> Self {
        Self { lanes: lanes.into(), ending: CancellationToken::new(), draining: CancellationToken::new() }
    }

    /// From now on not ready: the node will end, and does its work until then.
    pub fn end(&self) {
        self.ending.cancel();
    }

    /// From now on nobody comes in any more.
    pub fn drain(&self) {
        self.ending.cancel();
        self.draining.cancel();
    }

    /// Whether the node lets nobody in any more.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Waits until the node lets nobody in any more.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Calls `say` whenever the node becomes ready or is not ready any more, until it is about to end.
    pub async fn watch(self, say: impl Fn(bool)) {
        let mut lanes = self.lanes.to_vec();
        let mut was_ready = self.is_ready();
        loop {
            let changed = select_all(lanes.iter_mut().map(|lane| Box::pin(lane.changed())));
            tokio::select! {
                (Ok(()), ..) = changed => {}
                () = self.ending.cancelled() => return,
                else => return,
            }
            let is_ready = self.is_ready();
            if is_ready != std::mem::replace(&mut was_ready, is_ready) {
                say(is_ready);
            }
        }
    }

    /// How each lane stands.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.lanes.iter().map(|lane| lane.borrow().clone()).collect()
    }

    /// Whether the node can do its work.
    pub fn is_ready(&self) -> bool {
        !self.ending.is_cancelled() && self.lanes().iter().all(|lane| lane.connected)
    }
}

/// Both routes.
pub fn routes(readiness: Readiness) -> Routes {
    let healthz =
        warp::path!("healthz").and(read_only()).map(|| answer(StatusCode::OK, &json!({ "status": "ok" })));
    let readyz = warp::path!("readyz").and(read_only()).map(move || ready(&readiness));
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
    checks.push(json!({ "check": "staying", "ok": !readiness.ending.is_cancelled() }));
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, &json!({ "ready": readiness.is_ready(), "checks": checks }))
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    let response = warp::reply::with_status(warp::reply::json(body), status);
    warp::reply::with_header(response, "cache-control", "no-store").into_response()
}
