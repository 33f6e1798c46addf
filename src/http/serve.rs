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
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout_at;
use tracing::debug;
use tracing::info;
use warp::Filter;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::bare_lf_guard::BareLfGuard;
use crate::http::bare_lf_guard::RequestFraming;
use crate::http::busy_reply::BusyText;
use crate::http::connection_info::ConnectionInfo;
use crate::http::fast_path::FastPathRequest;
use crate::http::filters::Routes;
use crate::http::filters::not_found;
use crate::http::gate::Gate;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::http::proxy_protocol;
use crate::http::request_id;
use crate::http::route_label;
use crate::http::socket_gate::SocketGate;
use crate::http::target;
use crate::http::websocket;
use crate::http::websocket::FastPathSocket;
use crate::net::peer::Peer;
use crate::net::socket::RegisteredSocket;
use crate::net::stream::Stream;
use crate::net::tls::settings::TlsSettings;
use crate::node::Node;
use crate::shard::AcceptedSocket;
use crate::shard::Serve;
use crate::shard::handle::ListenerId;
use crate::shard::handle::ShardHandle;
use crate::telemetry::limit::LogLimit;

/// The size of the first read, in bytes. A longer handshake takes several reads, and hyper parses it.
const FIRST_READ: usize = 16 * 1024;

static TOO_LONG: LogLimit = LogLimit::per_second(10);

/// The most sockets of a shard that are rejected before their request at a time.
const MAX_REJECTIONS: usize = 64;

/// What serves the sockets of one listener.
#[derive(Clone)]
pub struct ListenerRoutes {
    /// The routes, for requests that do not take the fast path.
    pub routes: Routes,
    /// Decides about handshakes.
    pub gate: Arc<Gate>,
    /// The settings of TLS; `None` for plain TCP.
    pub tls: Option<TlsSettings>,
    pub clients: Clients,
}

/// How clients reach a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clients {
    /// Perhaps through a proxy, which may have to send a PROXY header.
    MayUseProxy,
    /// Directly: those of the admin listener.
    Direct,
}

/// What serves the sockets of one listener on one shard.
struct ListenerService<S> {
    /// The routes, as a service for hyper.
    routes: S,
    gate: Arc<Gate>,
    tls: Option<TlsSettings>,
    clients: Clients,
    node: Arc<Node>,
    shard: ShardHandle,
    socket_gate: SocketGate,
    /// The buffer for first reads, shared by all sockets of the shard.
    scratch: Rc<RefCell<Vec<u8>>>,
    /// The rejected sockets of the shard that still get their answer.
    rejections: Cell<usize>,
}

impl std::fmt::Debug for ListenerRoutes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ListenerRoutes").field("gate", &self.gate).finish_non_exhaustive()
    }
}

/// Receives the routes of all listeners, by `ListenerId`.
type RoutesReceiver = watch::Receiver<Vec<ListenerRoutes>>;

/// What serves the sockets of each listener on one shard, by `ListenerId`.
struct ListenerServices<S> {
    routes: RoutesReceiver,
    services: Vec<Rc<ListenerService<S>>>,
}

impl<S> ListenerServices<S> {
    /// The service of a listener with the routes of the moment, and a receiver that tells when they are replaced.
    fn current(
        &mut self,
        listener: ListenerId,
        service: impl Fn(ListenerRoutes) -> Rc<ListenerService<S>>,
    ) -> Option<(Rc<ListenerService<S>>, RoutesReceiver)> {
        // When the node ends, there are no new ones.
        if self.routes.has_changed().unwrap_or(self.services.is_empty()) {
            self.services = self.routes.borrow_and_update().iter().cloned().map(service).collect();
        }
        Some((Rc::clone(self.services.get(listener.0)?), self.routes.clone()))
    }
}

/// The function that serves the sockets of one shard. `routes` are indexed by `ListenerId`. A request is answered by the
/// routes of the moment: when they are replaced, connections that serve further requests end.
pub fn serve(routes: RoutesReceiver, node: &Arc<Node>, shard: &ShardHandle) -> Serve {
    let scratch = Rc::new(RefCell::new(vec![0; FIRST_READ]));
    let (node, shard) = (Arc::clone(node), shard.clone());
    let service = move |ListenerRoutes { routes, gate, tls, clients }: ListenerRoutes| {
        let routes = TowerToHyperService::new(warp::service(routes.recover(not_found)));
        let (node, shard, scratch) = (Arc::clone(&node), shard.clone(), Rc::clone(&scratch));
        let (socket_gate, rejections) = (SocketGate::new(&node), Cell::new(0));
        Rc::new(ListenerService { routes, gate, tls, clients, node, shard, socket_gate, scratch, rejections })
    };
    let mut routes = routes;
    routes.mark_changed();
    let services = RefCell::new(ListenerServices { routes, services: Vec::new() });
    let current = Rc::new(move |listener| services.borrow_mut().current(listener, &service));
    Serve(Box::new(move |socket| {
        let current = Rc::clone(&current);
        Box::pin(async move {
            let AcceptedSocket { listener, socket, peer, mut permit } = socket;
            let (service, _) = current(listener)?;
            let began = Instant::now();
            let deadline = began + service.gate.limits.handshake_timeout;
            // Boxed, like all that few sockets wait for, so that the others do not take its memory.
            let client = if service.expects_proxy_header(peer) {
                let (gate, scratch) = (&service.socket_gate, &service.scratch);
                Box::pin(gate.identify(&socket, peer, &mut permit, scratch, deadline)).await
            } else {
                Ok(peer)
            };
            let peer = match client {
                Ok(client) => client,
                Err(problem) => {
                    let text = if service.tls.is_some() { BusyText::Tls } else { BusyText::Http };
                    Box::pin(reject(socket.into(), text.rejection(problem?), &service.rejections)).await;
                    return None;
                }
            };
            service.warn_before_tls(&socket, peer, deadline).await;
            let stream = match (socket, &service.tls) {
                (RegisteredSocket::Tcp(tcp), Some(tls)) => {
                    let tls = tls.accept(tcp).inspect_err(|error| debug!(%error, "cannot begin TLS"));
                    Stream::Tls(Box::new(tls.ok()?))
                }
                (socket, _) => socket.into(),
            };
            // A socket that sends nothing holds no buffer.
            let read = timeout_at(deadline, first_bytes(&stream, &service.scratch)).await.ok().flatten()?;
            if stream.is_challenge() {
                return None;
            }
            if proxy_protocol::is_header(&read) {
                service.socket_gate.warn_about_header(peer);
            }
            // The socket may be older than a reload.
            let (service, replaced) = current(listener)?;
            if let Some(first) = FastPathRequest::parse(&read, &service.gate.limits)
                && first.is_upgrade()
                && let Some(endpoint) = service.gate.endpoint(first.target.path(), &first.headers)
            {
                let socket = FastPathSocket { stream, peer, permit, began: began.into_std() };
                return websocket::open_fast_path(&service.gate, endpoint, first, read, socket).await;
            }
            let info = ConnectionInfo::new(peer, service.shard.clone(), permit, began.into_std());
            Box::pin(serve_with_hyper(service, replaced, stream, read, info, deadline)).await;
            None
        })
    }))
}

impl<S> ListenerService<S> {
    /// Whether this peer must send a PROXY header before all else.
    fn expects_proxy_header(&self, peer: Peer) -> bool {
        self.clients == Clients::MayUseProxy && self.socket_gate.expects_proxy_header(peer)
    }

    /// Logs a warning if a TLS socket begins with a PROXY header. The TLS error would only say that a message is invalid.
    async fn warn_before_tls(&self, socket: &RegisteredSocket, peer: Peer, deadline: Instant) {
        if self.tls.is_some()
            && let Ok(Ok(true)) = timeout_at(deadline, proxy_protocol::begins_with_header(socket)).await
        {
            self.socket_gate.warn_about_header(peer);
        }
    }
}

/// Answers a socket before TLS and before its request is read. Above a number of such sockets, it is closed without
/// waiting for the client, which may then miss the answer: a flood of them must not take the place of others.
async fn reject(stream: Stream, answer: Bytes, rejections: &Cell<usize>) {
    if rejections.get() < MAX_REJECTIONS {
        rejections.update(|count| count + 1);
        websocket::send_rejection(stream, answer).await;
        rejections.update(|count| count - 1);
    } else {
        let _ = stream.try_write(&answer);
    }
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

/// Serves all requests that do not take the fast path, until the routes are `replaced`.
async fn serve_with_hyper<S>(
    service: Rc<ListenerService<S>>,
    mut replaced: RoutesReceiver,
    stream: Stream,
    read: Bytes,
    info: ConnectionInfo,
    deadline: Instant,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    let (framing, has_request) = (RequestFraming::default(), Cell::new(false));
    let stream = BareLfGuard::new(stream, read.into(), framing.clone(), service.gate.limits.write_timeout);
    let with_info = service_fn(|mut request: Request<Incoming>| {
        let is_first = !has_request.replace(true);
        let bare_lf = framing.take_bare_lf();
        let mut is_last = false;
        if !request.body().is_end_stream() {
            let length = request.body().size_hint().exact();
            framing.expect_body(length);
            is_last = length.is_none();
        }
        let version = request.version();
        request.extensions_mut().insert(version);
        let id = request_id::from_headers(request.headers());
        let info = info.of_request(request.headers(), id.clone(), is_first);
        request.extensions_mut().insert(info);
        let route = route_label::of(&service.gate, request.uri().path());
        let method = request.method().clone();
        let checked = if bare_lf { Err(bare_lf_rejected()) } else { check(&request) };
        let answer = checked.map(|()| service.routes.call(request));
        let (hsts, requests) = (service.gate.hsts.clone(), &service.node.counts.requests);
        async move {
            let mut answer = match answer {
                Ok(answer) => answer.await?,
                Err(problem) => problem.into_response(),
            };
            requests.count(route, method.as_str(), answer.status().as_u16());
            problem::add_request_id(&mut answer, &id);
            answer.headers_mut().insert(request_id::NAME, id);
            if let Some(hsts) = hsts {
                answer.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts);
            }
            if is_last {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let limits = &service.gate.limits;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.keep_alive)
        .max_headers(limits.max_headers)
        .max_header_size(limits.max_header_bytes)
        .serve_connection(TokioIo::new(stream), with_info)
        .with_upgrades();
    let mut connection = pin!(connection);
    let (mut is_past_deadline, mut draining, mut is_replaced) = (false, false, false);
    loop {
        tokio::select! {
            biased;
            // Before a request is read, so that one that has arrived meanwhile is not answered by the old routes. An error
            // means that the node ends.
            _ = replaced.changed(), if !is_replaced => {
                is_replaced = true;
                connection.as_mut().graceful_shutdown();
            }
            // Polled before the node's shutdown below: told to shut down before its first read, hyper closes a connection
            // without reading it, but a request that has arrived must be answered.
            result = connection.as_mut() => return log_error(&service, info.peer, result),
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

/// Logs why a connection ended early. hyper has answered a request whose head is too long with 431, or with 414.
fn log_error<S>(service: &ListenerService<S>, peer: Peer, result: hyper::Result<()>) {
    let Err(error) = result else { return };
    if !error.is_parse_too_large() {
        return debug!(%error, "http connection ended");
    }
    if let Some(suppressed) = TOO_LONG.pass() {
        info!(
            reason = "head_too_long",
            limit = "limits.max_header_bytes, limits.max_headers",
            %error,
            %peer,
            node = &*service.node.name,
            suppressed,
            "request rejected: its head is longer, or has more fields, than these limits allow"
        );
    }
}
