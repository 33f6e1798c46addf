//! Serves one accepted socket: a WebSocket handshake on the fast path, or HTTP/1.1 with hyper and warp. The first
//! request has a deadline from the accept on, and each further request its own.

use std::cell::Cell;
use std::cell::RefCell;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
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

use crate::http::bare_lf_guard::BareLf;
use crate::http::bare_lf_guard::BareLfGuard;
use crate::http::connection_info::ConnectionInfo;
use crate::http::fast_path::FastPathRequest;
use crate::http::filters::Routes;
use crate::http::filters::not_found;
use crate::http::gate::Gate;
use crate::http::problem::Problem;
use crate::http::request_id;
use crate::http::target;
use crate::http::websocket;
use crate::net::socket::RegisteredSocket;
use crate::net::stream::Stream;
use crate::net::tls::settings::TlsSettings;
use crate::node::Node;
use crate::shard::AcceptedSocket;
use crate::shard::Serve;
use crate::shard::handle::ShardHandle;

/// The size of the first read, in bytes. A longer handshake takes several reads, and hyper parses it.
const FIRST_READ: usize = 16 * 1024;

/// What serves the sockets of one listener.
#[derive(Clone)]
pub struct ListenerRoutes {
    /// The routes, for requests that do not take the fast path.
    pub routes: Routes,
    /// Decides about handshakes.
    pub gate: Arc<Gate>,
    /// The settings of TLS; `None` for plain TCP.
    pub tls: Option<TlsSettings>,
}

/// What serves the sockets of one listener on one shard.
struct ListenerService<S> {
    /// The routes, as a service for hyper.
    routes: S,
    gate: Arc<Gate>,
    tls: Option<TlsSettings>,
    node: Arc<Node>,
    shard: ShardHandle,
    /// The buffer for first reads, shared by all sockets of the shard.
    scratch: Rc<RefCell<Vec<u8>>>,
}

/// The function that serves the sockets of one shard. `listeners` are indexed by `ListenerId`.
pub fn serve(listeners: Vec<ListenerRoutes>, node: &Arc<Node>, shard: &ShardHandle) -> Serve {
    let scratch = Rc::new(RefCell::new(vec![0; FIRST_READ]));
    let service = |ListenerRoutes { routes, gate, tls }| {
        let routes = TowerToHyperService::new(warp::service(routes.recover(not_found)));
        let (node, shard, scratch) = (Arc::clone(node), shard.clone(), Rc::clone(&scratch));
        Rc::new(ListenerService { routes, gate, tls, node, shard, scratch })
    };
    let services: Vec<_> = listeners.into_iter().map(service).collect();
    Serve(Box::new(move |socket| {
        let service = services.get(socket.listener.0).map(Rc::clone);
        Box::pin(async move {
            let service = service?;
            let AcceptedSocket { listener: _, socket, peer, permit } = socket;
            let stream = match (socket, &service.tls) {
                (RegisteredSocket::Tcp(tcp), None) => Stream::Plain(tcp),
                (RegisteredSocket::Tcp(tcp), Some(tls)) => {
                    let tls = tls.accept(tcp).inspect_err(|error| debug!(%error, "cannot begin TLS"));
                    Stream::Tls(Box::new(tls.ok()?))
                }
                (RegisteredSocket::Unix(unix), _) => Stream::Unix(unix),
            };
            let deadline = Instant::now() + service.node.limits.request.handshake_timeout;
            // A socket that sends nothing holds no buffer.
            let read = timeout_at(deadline, first_bytes(&stream, &service.scratch)).await.ok().flatten()?;
            if stream.is_challenge() {
                return None;
            }
            if let Some(first) = FastPathRequest::parse(&read, &service.node.limits.request)
                && first.is_upgrade()
                && let Some(endpoint) = service.gate.endpoint(first.target.path(), &first.headers)
            {
                return websocket::open_fast_path(
                    &service.gate,
                    endpoint,
                    first,
                    read,
                    (stream, peer),
                    permit,
                )
                .await;
            }
            let info = ConnectionInfo::new(peer, service.shard.clone(), permit);
            // Boxed because the future is large, and few sockets need it.
            Box::pin(serve_with_hyper(service, stream, read, info, deadline)).await;
            None
        })
    }))
}

/// The result of the first read; `None` if the client closes or the socket fails.
async fn first_bytes(stream: &Stream, scratch: &RefCell<Vec<u8>>) -> Option<Bytes> {
    loop {
        stream.readable().await;
        let mut scratch = scratch.borrow_mut();
        match stream.try_read(&mut scratch) {
            Ok(0) => return None,
            Ok(count) => return Some(Bytes::copy_from_slice(&scratch[..count])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                debug!(%error, "socket failed before the first byte");
                return None;
            }
        }
    }
}

/// Serves all requests that do not take the fast path.
async fn serve_with_hyper<S>(
    service: Rc<ListenerService<S>>,
    stream: Stream,
    read: Bytes,
    info: ConnectionInfo,
    deadline: Instant,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    let (bare_lf, has_request, had_body) = (BareLf::default(), Cell::new(false), Cell::new(false));
    let stream =
        BareLfGuard::new(stream, read.into(), bare_lf.clone(), service.node.limits.request.write_timeout);
    let with_info = service_fn(|mut request: Request<Incoming>| {
        has_request.set(true);
        // After a body it is unknown whether the bare LF was in the body or in this head.
        let bare_lf = bare_lf.take() && !had_body.get();
        had_body.set(!request.body().is_end_stream());
        let version = request.version();
        request.extensions_mut().insert(version);
        let id = request_id::from_headers(request.headers());
        request.extensions_mut().insert(info.of_request(id.clone()));
        let checked = if bare_lf { Err(bare_lf_rejected()) } else { check(&request) };
        let answer = checked.map(|()| service.routes.call(request));
        let hsts = service.gate.hsts.clone();
        async move {
            let mut answer = match answer {
                Ok(answer) => answer.await?,
                Err(problem) => problem.into_response(),
            };
            answer.headers_mut().insert(request_id::NAME, id);
            if let Some(hsts) = hsts {
                answer.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let limits = &service.node.limits.request;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.keep_alive)
        .max_headers(limits.max_headers)
        .max_header_size(limits.max_header_bytes)
        .serve_connection(TokioIo::new(stream), with_info)
        .with_upgrades();
    let mut connection = pin!(connection);
    let (mut is_past_deadline, mut draining) = (false, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => return log_error(result),
            // This deadline is for the first request; hyper's `header_read_timeout` is for the others.
            () = sleep_until(deadline), if !is_past_deadline => {
                is_past_deadline = true;
                if !has_request.get() {
                    return;
                }
            }
            // An idle connection must not delay the shutdown of the node.
            () = service.node.readiness.draining(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn check(request: &Request<Incoming>) -> Result<(), Problem> {
    target::check(request.method(), request.version(), request.uri(), request.headers())
}

/// The response to a request that a proxy may have parsed differently. The rest of the stream cannot be trusted, so it
/// has `Connection: close` (RFC 9112 §9.6).
fn bare_lf_rejected() -> Problem {
    let words = "a line of the request head ends with LF alone: end every line with CR LF";
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", words).with_header(header::CONNECTION, "close")
}

fn log_error(result: hyper::Result<()>) {
    if let Err(error) = result {
        debug!(%error, "http connection ended");
    }
}
