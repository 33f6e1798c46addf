//! `ShardHandle`: sends requests to a shard, over a bounded channel. Lanes use inboxes instead.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::connection::ConnectionSetup;
use crate::connection::settings::ConnectionSettings;
use crate::connection::transport::Transport;
use crate::net::peer::Peer;
use crate::net::socket::Socket;
use crate::node::permit::Permit;
use crate::shard::job::ShardJob;

/// A transport that a shard waits for. It resolves to `None` if the client has gone in the meantime.
pub struct PendingTransport(pub BoxFuture<'static, Option<Transport>>);

/// The number of a listener of the node. `http.listen` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerId(pub usize);

/// A request to a shard.
pub enum ShardRequest {
    /// Serve an accepted socket.
    Accept { listener: ListenerId, socket: Socket, peer: Peer, permit: Permit },
    /// Start a connection whose handshake is done.
    Connect { transport: PendingTransport, setup: Box<ConnectionSetup> },
    /// Run a job that does not belong to a connection of the shard, and answer it.
    Run(ShardJob),
    /// Start new connections with these settings.
    ChangeSettings(Box<ConnectionSettings>),
    /// Close all sessions, spread over this time.
    Drain { window: Duration },
}

/// Sends requests to one shard.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    requests: mpsc::Sender<ShardRequest>,
    load: Arc<AtomicUsize>,
}

impl ShardHandle {
    /// Creates a channel for at most `capacity` waiting requests.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<ShardRequest>) {
        let (requests, receiver) = mpsc::channel(capacity);
        (Self { requests, load: Arc::default() }, receiver)
    }

    /// Sends a request. Returns it if the channel is full or the shard has ended.
    pub fn try_send(&self, request: ShardRequest) -> Result<(), ShardRequest> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request) => request,
        })
    }

    /// Runs a job on the shard and waits for its result. `None` if the channel is full or the shard has ended.
    pub async fn run<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> ShardJob) -> Option<T> {
        let (answer, result) = oneshot::channel();
        self.try_send(ShardRequest::Run(job(answer))).ok()?;
        result.await.ok()
    }

    /// Sends a request as soon as there is room. Returns false if the shard has ended.
    pub async fn send(&self, request: ShardRequest) -> bool {
        self.requests.send(request).await.is_ok()
    }

    /// The counter of its sockets.
    pub fn load(&self) -> &Arc<AtomicUsize> {
        &self.load
    }

    pub fn sockets(&self) -> usize {
        self.load.load(Ordering::Acquire)
    }
}

/// All shards of the node.
#[derive(Clone, Debug)]
pub struct Shards(Arc<[ShardHandle]>);

impl Shards {
    pub fn new(handles: Vec<ShardHandle>) -> Self {
        Self(handles.into())
    }

    /// The shard with the fewest sockets. `None` only if there are no shards.
    pub fn least_loaded(&self) -> Option<&ShardHandle> {
        self.0.iter().min_by_key(|handle| handle.sockets())
    }

    pub fn iter(&self) -> impl Iterator<Item = &ShardHandle> {
        self.0.iter()
    }

    /// The number of sockets on all shards.
    pub fn sockets(&self) -> usize {
        self.iter().map(ShardHandle::sockets).sum()
    }
}
