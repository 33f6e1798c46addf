//! The way into a shard for everyone but lanes: calls, bounded, with owned data.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::connection::Opening;
use crate::connection::transport::Transport;
use crate::node::permit::Permit;
use crate::shard::job::ShardJob;

/// A transport on its way to its shard. It may never come: the client has gone meanwhile.
pub struct Handover(pub BoxFuture<'static, Option<Transport>>);

/// Which of the node's listeners; the first is `http.listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerId(pub usize);

/// What can be asked of a shard.
pub enum Call {
    /// Serve a socket that was accepted.
    Accept { listener: ListenerId, stream: std::net::TcpStream, peer: SocketAddr, permit: Permit },
    /// Go on with a client whose handshake is done.
    Connect { handover: Handover, opening: Box<Opening> },
    /// Do something that is for none of its own connections, and answer.
    Run(ShardJob),
    /// End all sessions, spread over this time.
    Drain { window: Duration },
}

/// The way into one shard.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    calls: mpsc::Sender<Call>,
    load: Arc<AtomicUsize>,
}

impl ShardHandle {
    /// A way in of at most `capacity` calls, and its other end.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Call>) {
        let (calls, receiver) = mpsc::channel(capacity);
        (Self { calls, load: Arc::default() }, receiver)
    }

    /// Asks, or gives the call back if the shard has too many.
    pub fn call(&self, call: Call) -> Result<(), Call> {
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(call) | mpsc::error::TrySendError::Closed(call) => call,
        })
    }

    /// Lets it do something, and waits for what comes of it. `None` if it has too much to do.
    pub async fn run<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> ShardJob) -> Option<T> {
        let (answer, came) = oneshot::channel();
        self.call(Call::Run(job(answer))).ok()?;
        came.await.ok()
    }

    /// Asks as soon as there is room; false if the shard has ended.
    pub async fn call_when_free(&self, call: Call) -> bool {
        self.calls.send(call).await.is_ok()
    }

    /// What counts its sockets.
    pub fn load(&self) -> &Arc<AtomicUsize> {
        &self.load
    }

    /// How many sockets it has.
    pub fn sockets(&self) -> usize {
        self.load.load(Ordering::Acquire)
    }
}

/// All shards of the node.
#[derive(Clone, Debug)]
pub struct Shards(Arc<[ShardHandle]>);

impl Shards {
    /// The shards behind these ways in.
    pub fn new(handles: Vec<ShardHandle>) -> Self {
        Self(handles.into())
    }

    /// The one with the fewest sockets. `None` only if there are none.
    pub fn least_loaded(&self) -> Option<&ShardHandle> {
        self.0.iter().min_by_key(|handle| handle.sockets())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ShardHandle> {
        self.0.iter()
    }

    /// Sockets on the node.
    pub fn sockets(&self) -> usize {
        self.iter().map(ShardHandle::sockets).sum()
    }
}
