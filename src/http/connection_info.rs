//! `ConnectionInfo`: what a handler may know of the connection that its request came over.

use std::net::SocketAddr;
use std::sync::Arc;

use warp::http::HeaderValue;

use crate::node::permit::Permit;
use crate::shard::handle::ShardHandle;

/// What a handler may know of the connection that its request came over.
#[derive(Clone)]
pub struct ConnectionInfo {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The shard whose thread serves it.
    pub shard: ShardHandle,
    /// What the request is called.
    pub request_id: HeaderValue,
    permit: Arc<Permit>,
}

impl ConnectionInfo {
    /// What is known of an accepted socket.
    pub fn new(peer: SocketAddr, shard: ShardHandle, permit: Permit) -> Self {
        Self { peer, shard, request_id: HeaderValue::from_static("none"), permit: Arc::new(permit) }
    }

    /// The same for a request that is called so.
    pub fn of_request(&self, request_id: HeaderValue) -> Self {
        Self { request_id, ..self.clone() }
    }

    /// What an upgraded socket keeps, so that it is counted for as long as it lives: this connection's own count
    /// ends with the request.
    pub fn permit(&self) -> Arc<Permit> {
        Arc::clone(&self.permit)
    }
}
