//! `ConnectionInfo`: the socket of an HTTP request, for its handler.

use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::trace_context::TraceContext;
use warp::http::HeaderMap;
use warp::http::HeaderValue;

use crate::http::trace;
use crate::net::peer::Peer;
use crate::node::permit::Permit;
use crate::shard::handle::ShardHandle;

/// The socket of an HTTP request, for its handler.
#[derive(Clone)]
pub struct ConnectionInfo {
    /// The address of the peer: the client, or the proxy in front of it.
    pub peer: Peer,
    /// The shard that serves the socket.
    pub shard: ShardHandle,
    /// The request's `X-Request-Id`.
    pub request_id: HeaderValue,
    /// The request's trace.
    pub trace: Option<TraceContext>,
    /// Whether the request is the first of its socket.
    pub is_first: bool,
    /// When the request began: with its socket, if it is the first.
    pub began: Instant,
    permit: Arc<Permit>,
}

impl ConnectionInfo {
    /// The info of an accepted socket; its request id is set later.
    pub fn new(peer: Peer, shard: ShardHandle, permit: Permit, began: Instant) -> Self {
        let (request_id, permit) = (HeaderValue::from_static("none"), Arc::new(permit));
        Self { peer, shard, request_id, trace: None, is_first: true, began, permit }
    }

    /// The same socket, with the id and the trace of the request that has these headers.
    pub fn of_request(&self, headers: &HeaderMap, request_id: HeaderValue, is_first: bool) -> Self {
        let began = if is_first { self.began } else { Instant::now() };
        Self { request_id, trace: trace::context_of(headers), is_first, began, ..self.clone() }
    }

    /// The id of the request's trace, for logs.
    pub fn trace_id(&self) -> Option<String> {
        self.trace.as_ref().map(|context| context.parent.trace_id_text())
    }

    /// The permit that counts the socket. An upgraded socket must keep it, because hyper's connection drops its own
    /// after the request.
    pub fn permit(&self) -> Arc<Permit> {
        Arc::clone(&self.permit)
    }
}
