//! One socket: a handshake, or else hyper's HTTP/1.1 over `warp::service`, with a deadline before the first byte and
//! one for each request.

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
use crate::http::error::Problem;
use crate::http::fast_path::FastPathRequest;
use crate::http::filters::Routes;
use crate::http::filters::not_found;
use crate::http::gate::Gate;
use crate::http::request_id;
use crate::http::target;
use crate::http::websocket;
use crate::net::stream::Stream;
use crate::net::tls::TlsSettings;
use crate::node::Node;
use crate::shard::AcceptedSocket;
use crate::shard::Serve;
use crate::shard::handle::ShardHandle;

/// What the first read takes at most. A handshake that is longer comes in several, and goes to hyper.
const FIRST_READ: usize = 16 * 1024;

/// What the sockets of one listener are answered with.
#[derive(Clone)]
pub struct ListenerRoutes {
    /// What is no handshake.
    pub routes: Routes,
    /// Who comes in.
    pub gate: Arc<Gate>,
    /// Whose certificate is shown, where the listener speaks TLS.
    pub tls: Option<TlsSettings>,
}

/// What one shard serves the sockets of one listener with.
struct Served<S> {
    /// The routes, as hyper calls them.
    routes: S,
    gate: Arc<Gate>,
    tls: Option<TlsSettings>,
    node: Arc<Node>,
    shard: ShardHandle,
    /// What is read from a socket first.
    scratch: Rc<RefCell<Vec<u8>>>,
}

/// What serves the sockets of one shard; `answers` by listener.
pub fn serve(answers: Vec<ListenerRoutes>, node: &Arc<Node>, shard: &ShardHandle) -> Serve {
    let scratch = Rc::new(RefCell::new(vec![0; FIRST_READ]));
    let service = |ListenerRoutes { routes, gate, tls }| {
        let routes = TowerToHyperService::new(warp::service(routes.recover(not_found)));
        let (node, shard, scratch) = (Arc::clone(node), shard.clone(), Rc::clone(&scratch));
        Rc::new(Served { routes, gate, tls, node, shard, scratch })
    };
    let services: Vec<_> = answers.into_iter().map(service).collect();
    Serve(Box::new(move |socket| {
        let service = services.get(socket.listener.0).map(Rc::clone);
        Box::pin(async move {
            let service = service?;
            let AcceptedSocket { listener: _, stream, peer, permit } = socket;
            let stream = match &service.tls {
                None => Stream::Plain(stream),
                Some(tls) => {
                    let tls = tls.accept(stream).inspect_err(|error| debug!(%error, "cannot begin TLS"));
                    Stream::Tls(Box::new(tls.ok()?))
                }
            };
            let until = Instant::now() + service.node.limits.request.handshake_timeout;
            // Nothing is kept for a socket that says nothing.
            let read = timeout_at(until, first_bytes(&stream, &service.scratch)).await.ok().flatten()?;
            if let Some(first) = FastPathRequest::parse(&read, &service.node.limits.request)
                && first.is_upgrade()
                && let Some(endpoint) = service.gate.endpoint(first.target.path())
            {
                return websocket::open_first(&service.gate, endpoint, first, read, (stream, peer), permit)
                    .await;
            }
            let info = ConnectionInfo::new(peer, service.shard.clone(), permit);
            // Boxed on its own: few sockets come this way, and it is large.
            Box::pin(by_hyper(service, stream, read, info, until)).await;
            None
        })
    }))
}

/// What comes first; `None` if nothing will.
async fn first_bytes(stream: &Stream, scratch: &RefCell<Vec<u8>>) -> Option<Bytes> {
    loop {
        stream.readable().await;
        let mut scratch = scratch.borrow_mut();
        match stream.try_read(&mut scratch) {
            Ok(0) => return None,
            Ok(count) => return Some(Bytes::copy_from_slice(&scratch[..count])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                debug!(%error, "socket broken before it said anything");
                return None;
            }
        }
    }
}

/// Everything that is no handshake, and the handshakes that are not plain.
async fn by_hyper<S>(
    service: Rc<Served<S>>,
    stream: Stream,
    read: Bytes,
    info: ConnectionInfo,
    until: Instant,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    let (bare_lf, begun, had_body) = (BareLf::default(), Cell::new(false), Cell::new(false));
    let stream =
        BareLfGuard::new(stream, read.into(), bare_lf.clone(), service.node.limits.request.write_timeout);
    let with_info = service_fn(|mut request: Request<Incoming>| {
        begun.set(true);
        // Behind a body no one knows whether it was the body that had it.
        let bare_lf = bare_lf.take() && !had_body.get();
        had_body.set(!request.body().is_end_stream());
        let version = request.version();
        request.extensions_mut().insert(version);
        let id = request_id::of(request.headers());
        request.extensions_mut().insert(info.of_request(id.clone()));
        let checked = if bare_lf { Err(bare_lf_refused()) } else { check(&request) };
        let answer = checked.map(|()| service.routes.call(request));
        async move {
            let mut answer = match answer {
                Ok(answer) => answer.await?,
                Err(problem) => problem.into_response(),
            };
            answer.headers_mut().insert(request_id::NAME, id);
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
    let (mut due, mut draining) = (false, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => return end_quietly(result),
            // hyper's own deadline is that of the requests behind the first one.
            () = sleep_until(until), if !due => {
                due = true;
                if !begun.get() {
                    return;
                }
            }
            // A connection that only waits for its next request does not hold up the end of the node.
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

/// The answer to a request that this and another reader may understand differently.
fn bare_lf_refused() -> Problem {
    let words = "a line of the request ends with LF alone: end every line with CR LF";
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", words).with_header(header::CONNECTION, "close")
}

fn end_quietly(result: hyper::Result<()>) {
    if let Err(error) = result {
        debug!(%error, "http connection ended");
    }
}
