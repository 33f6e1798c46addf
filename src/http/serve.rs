//! One socket: hyper's HTTP/1.1 over `warp::service`, with a deadline before the first byte and one for each request.

use std::pin::pin;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use tracing::debug;
use warp::Filter;

use crate::http::ConnectionInfo;
use crate::http::Routes;
use crate::shard::Serve;
use crate::shard::Socket;
use crate::shard::handle::ShardHandle;

/// How much a request may take before it is one.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// From the first byte to the end of the headers, and before the first byte.
    pub handshake_timeout: Duration,
    /// Headers of a request.
    pub max_headers: usize,
    /// Bytes of all headers of a request.
    pub max_header_bytes: usize,
}

/// What serves the sockets of one shard.
pub fn serve(routes: Routes, limits: RequestLimits, shard: ShardHandle) -> Serve {
    let service = warp::service(routes.recover(super::not_found));
    Serve(Box::new(move |socket| {
        let service = TowerToHyperService::new(service.clone());
        let shard = shard.clone();
        Box::pin(async move {
            let Socket { stream, peer, permit } = socket;
            // Bytes before the deadline, or none at all: hyper's own timer begins with the first one.
            if tokio::time::timeout(limits.handshake_timeout, stream.readable()).await.is_err() {
                return;
            }
            let info = ConnectionInfo::new(peer, shard, permit);
            let with_info = service_fn(move |mut request: Request<Incoming>| {
                let version = request.version();
                request.extensions_mut().insert(version);
                request.extensions_mut().insert(info.clone());
                hyper::service::Service::call(&service, request)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.handshake_timeout)
                .max_headers(limits.max_headers)
                .max_header_size(limits.max_header_bytes)
                .serve_connection(TokioIo::new(stream), with_info)
                .with_upgrades();
            end_quietly(pin!(connection).await);
        })
    }))
}

fn end_quietly(result: hyper::Result<()>) {
    if let Err(error) = result {
        debug!(%error, "http connection ended");
    }
}
