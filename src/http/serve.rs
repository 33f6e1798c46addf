//! One socket: hyper's HTTP/1.1 over `warp::service`, with a deadline before the first byte and one for each request.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use hyper::Request;
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout_at;
use tracing::debug;
use warp::Filter;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::ConnectionInfo;
use crate::http::Routes;
use crate::http::error::Problem;
use crate::http::health::Readiness;
use crate::http::strict::BareLf;
use crate::http::strict::Strict;
use crate::shard::Serve;
use crate::shard::Socket;
use crate::shard::handle::ShardHandle;

/// How much a request may take before it is one.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// From the accept to the end of the first request's headers, and from each answer to the end of the next.
    pub handshake_timeout: Duration,
    /// Headers of a request.
    pub max_headers: usize,
    /// Bytes of all headers of a request.
    pub max_header_bytes: usize,
}

/// What serves the sockets of one shard.
pub fn serve(routes: Routes, limits: RequestLimits, readiness: Readiness, shard: ShardHandle) -> Serve {
    let service = warp::service(routes.recover(super::not_found));
    Serve(Box::new(move |socket| {
        let service = TowerToHyperService::new(service.clone());
        let (shard, readiness) = (shard.clone(), readiness.clone());
        Box::pin(async move {
            let Socket { stream, peer, permit } = socket;
            let until = Instant::now() + limits.handshake_timeout;
            // hyper's buffers are not made before there is something to read.
            if timeout_at(until, stream.readable()).await.is_err() {
                return;
            }
            let info = ConnectionInfo::new(peer, shard, permit);
            let (bare_lf, begun, had_body) = (BareLf::default(), Cell::new(false), Cell::new(false));
            let stream = Strict::new(stream, bare_lf.clone());
            let with_info = service_fn(|mut request: Request<Incoming>| {
                begun.set(true);
                // Behind a body nobody knows whether it was the body that had it.
                let bare_lf = bare_lf.take() && !had_body.get();
                had_body.set(!request.body().is_end_stream());
                let version = request.version();
                request.extensions_mut().insert(version);
                request.extensions_mut().insert(info.clone());
                let answer = (!bare_lf).then(|| hyper::service::Service::call(&service, request));
                async move {
                    match answer {
                        Some(answer) => answer.await,
                        None => Ok(bare_lf_refused()),
                    }
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.handshake_timeout)
                .max_headers(limits.max_headers)
                .max_header_size(limits.max_header_bytes)
                .serve_connection(TokioIo::new(stream), with_info)
                .with_upgrades();
            let mut connection = pin!(connection);
            let (mut due, mut draining) = (false, false);
            loop {
                tokio::select! {
                    result = connection.as_mut() => return end_quietly(result),
                    // hyper's own deadline begins with the first byte, and there is one for each request.
                    () = sleep_until(until), if !due => {
                        due = true;
                        if !begun.get() {
                            return;
                        }
                    }
                    // A connection that only waits for its next request does not hold up the end of the node.
                    () = readiness.draining(), if !draining => {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        })
    }))
}

/// The answer to a request that this and another reader may understand differently.
fn bare_lf_refused() -> Response {
    let words = "a line of the request ends with LF alone: end every line with CR LF";
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", words)
        .with_header(header::CONNECTION, "close")
        .into_response()
}

fn end_quietly(result: hyper::Result<()>) {
    if let Err(error) = result {
        debug!(%error, "http connection ended");
    }
}
