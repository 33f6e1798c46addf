//! A shard: one thread with its runtime, lane, hub and connections. This file starts its tasks, and ends its sessions.

mod audit;
pub mod channels;
pub mod cluster;
mod events;
pub mod handle;
pub mod job;
mod jobs;
mod last_values;
mod publishing;
pub mod pump;
mod stretch;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use futures_util::future::LocalBoxFuture;
use futures_util::future::OptionFuture;
use thiserror::Error;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::now::Now;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;
use tracing::error;

use crate::connection::ConnectionSetup;
use crate::connection::context::Context;
use crate::connection::context::ContextParts;
use crate::connection::settings::ConnectionSettings;
use crate::connection::table::Connections;
use crate::connection::transport::Transport;
use crate::hub::subscriber::ConnectionId;
use crate::lane::Lane;
use crate::lane::LaneParts;
use crate::lane::LaneRequest;
use crate::lane::LaneStatus;
use crate::lane::LocalShard;
use crate::lane::driver::LaneDriver;
use crate::lane::driver::LaneDriverParts;
use crate::lane::encoder::Encoder;
use crate::lane::inbox::Inbox;
use crate::lane::inbox::ShardQueue;
use crate::lane::lane_index::LaneIndex;
use crate::lane::shard_index::ShardIndex;
use crate::nats::Nats;
use crate::nats::error::NatsError;
use crate::net::peer::Peer;
use crate::net::socket::RegisteredSocket;
use crate::node::Node;
use crate::node::audit::AuditReceiver;
use crate::node::permit::Permit;
use crate::node::refused_requests::RefusedRequestReceiver;
use crate::shard::cluster::Cluster;
use crate::shard::cluster::ClusterWorker;
use crate::shard::handle::ListenerId;
use crate::shard::handle::ShardHandle;
use crate::shard::handle::ShardRequest;
use crate::shard::pump::Pump;

/// Items of the inbox to deliver before other tasks run.
const TURN_ITEMS: usize = 256;
/// Connections with due deadlines to handle before other tasks run. Many share a slot, and each may write.
const TURN_DEADLINES: usize = 64;

/// Serves HTTP on an accepted socket. Returns a connection if the socket becomes one. `app` provides this function,
/// because a shard does not know HTTP.
pub struct Serve(pub Box<dyn Fn(AcceptedSocket) -> LocalBoxFuture<'static, Option<NewConnection>>>);

/// A connection to start, after its handshake.
pub struct NewConnection {
    pub transport: Transport,
    pub setup: ConnectionSetup,
}

/// An accepted socket on its shard.
pub struct AcceptedSocket {
    /// The listener that accepted it.
    pub listener: ListenerId,
    pub socket: RegisteredSocket,
    pub peer: Peer,
    /// Its place in the limit on sockets.
    pub permit: Permit,
}

/// Why a shard could not start.
#[derive(Debug, Error)]
pub enum ShardError {
    #[error("cannot start a runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// The NATS configuration cannot be used, for example because credentials are unreadable.
    #[error(transparent)]
    Nats(#[from] NatsError),
}

/// The parts of a shard. They are built on the main thread and sent to the shard's thread.
pub struct ShardParts {
    /// Its number; its lane has the same.
    pub index: ShardIndex,
    /// Sends requests to this shard. HTTP uses it to start connections.
    pub handle: ShardHandle,
    pub requests: mpsc::Receiver<ShardRequest>,
    /// Batches from the lanes of other threads.
    pub inbox: Inbox,
    /// Requests to its lane.
    pub questions: mpsc::Receiver<LaneRequest>,
    /// Its lane's queue for each other shard, by number; `None` for this shard.
    pub shard_queues: Vec<Option<ShardQueue>>,
    /// Publishes the status of its lane.
    pub status: watch::Sender<LaneStatus>,
    /// What all shards share.
    pub node: Arc<Node>,
    /// Queries other nodes.
    pub cluster: Cluster,
    /// Talks to other nodes; on one shard only.
    pub cluster_worker: Option<ClusterWorker>,
    /// Publishes the audit feed; on one shard, if there is a feed.
    pub audit: Option<AuditReceiver>,
    /// Receives the refused requests of all shards; on one shard only.
    pub refused_requests: Option<RefusedRequestReceiver>,
    /// The settings of the connections that it starts.
    pub settings: ConnectionSettings,
    /// Creates the function that serves its sockets.
    pub serve: Box<dyn FnOnce(ShardHandle) -> Serve + Send>,
    /// Cancelled to stop the shard.
    pub stop: CancellationToken,
}

/// Runs a shard on the current thread until it is stopped. Sends to `started` whether it could start.
pub fn run(parts: ShardParts, started: oneshot::Sender<Result<(), ShardError>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error.into()))),
    };
    let tasks = LocalSet::new();
    // A task is polled only when it is woken; the future of `block_on` would be polled at every turn of the runtime.
    let work = tasks.spawn_local(work(parts, started));
    if let Err(error) = tasks.block_on(&runtime, work) {
        error!(%error, "a shard has panicked: the node drains and exits; report this as a bug");
    }
}

async fn work(parts: ShardParts, started: oneshot::Sender<Result<(), ShardError>>) {
    let tasks = TaskTracker::new();
    let node = &parts.node;
    let nats = match Nats::new(&node.nats, &format!("tidegate/{}/{}", node.name, parts.index)) {
        Ok(nats) => nats.with_hooks(parts.index.0, node.hooks.clone()),
        Err(error) => return drop(started.send(Err(error.into()))),
    };
    // An error means that the node is already ending.
    let _ = started.send(Ok(()));
    let context = Rc::new(Context::new(ContextParts {
        shard: parts.index,
        node: Arc::clone(node),
        nats: nats.clone(),
        settings: parts.settings,
        tasks: tasks.clone(),
        now: Now { instant: Instant::now(), wall: SystemTime::now() },
    }));
    let connections = Rc::new(Connections::new(Rc::clone(&context)));
    let nats_work = nats.clone().run();
    let pump = Rc::new(Pump::new(Rc::clone(&connections)));
    let (own, inbox_level) = (Rc::clone(&pump), parts.inbox.level());
    let encoder = Encoder::new(node.current_vocabularies.get().renderers(), node.compression)
        .with_hooks(node.hooks.clone())
        .with_counts(Rc::clone(&context.lane_counts));
    let index = LaneIndex(parts.index.0);
    let lane = Lane::new(LaneParts {
        index,
        lanes: node.lanes.clone(),
        shard_queues: parts.shard_queues,
        local_shard: LocalShard(Rc::new(move |batch, more| {
            own.deliver(batch, more || !inbox_level.is_empty(), Instant::now())
        })),
        settings: node.lane.clone(),
        encoder,
        spans: node.spans.clone(),
        hooks: node.hooks.clone(),
    });
    let lane_parts = LaneDriverParts {
        nats,
        requests: parts.questions,
        status: parts.status,
        kept: node.lanes.kept_by(index, &context.settings().session.classes),
    };
    let nats_requests = tasks.spawn_local(nats_work);
    let lane = tasks.spawn_local(LaneDriver::new(lane, lane_parts).run(parts.stop.clone()));
    let inbox = tasks.spawn_local(empty_inbox(pump, parts.inbox));
    let flushes = tasks.spawn_local(flush(Rc::clone(&connections)));
    let deadlines = tasks.spawn_local(handle_deadlines(Rc::clone(&connections)));
    let cluster = parts.cluster_worker.map(|worker| worker.run(Rc::clone(&context)));
    let cluster = tasks.spawn_local(OptionFuture::from(cluster));
    let audit = parts.audit.map(|receiver| audit::publish(Rc::clone(&context), receiver));
    let audit = tasks.spawn_local(OptionFuture::from(audit));
    let refused = parts.refused_requests.map(|receiver| events::keep_refused(Rc::clone(&context), receiver));
    let refused = tasks.spawn_local(OptionFuture::from(refused));
    let serve = (parts.serve)(parts.handle);
    let shard_requests = tasks.spawn_local(serve_requests(connections, parts.requests, parts.cluster, serve));
    // A panic in one of these tasks ends the shard, because it cannot work without any of them.
    tokio::select! {
        _ = lane => {}
        Err(_) = nats_requests => {}
        Err(_) = inbox => {}
        Err(_) = flushes => {}
        Err(_) = deadlines => {}
        Err(_) = cluster => {}
        Err(_) = audit => {}
        Err(_) = refused => {}
        Err(_) = shard_requests => {}
    }
}

async fn empty_inbox(pump: Rc<Pump>, mut inbox: Inbox) {
    let context = &pump.connections.context;
    while let Some(mut batch) = inbox.next().await {
        context.node.hooks.pass_pump(context.shard.0).await;
        let mut items = batch.items.len();
        pump.deliver(&mut batch, !inbox.is_empty(), Instant::now());
        while items < TURN_ITEMS
            && let Some(mut batch) = inbox.try_next()
        {
            items += batch.items.len();
            // Only the first batch of a turn may be flushed at once: otherwise batches that arrive meanwhile prolong it.
            pump.deliver(&mut batch, true, Instant::now());
        }
        // Let clients be flushed and read. If the inbox is empty, the loop waits anyway.
        if items >= TURN_ITEMS || !inbox.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

async fn flush(connections: Rc<Connections>) {
    loop {
        connections.flush_queue.wait().await;
        connections.flush_some(Instant::now());
        if !connections.flush_queue.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

/// If the system clock differs from the elapsed time by more than this, the expiry of all tokens is checked again.
const CLOCK_STEP: Duration = Duration::from_millis(500);

async fn handle_deadlines(connections: Rc<Connections>) {
    let context = &connections.context;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut checked = now(context);
    loop {
        tokio::select! {
            due = context.deadlines.due() => handle_due(&connections, &due).await,
            _ = tick.tick() => {
                context.repeat_pending_leaves();
                let now = now(context);
                context.clock.set(now);
                if is_clock_step(checked, now) {
                    checked = now;
                    for connection in connections.all() {
                        connection.apply(Input::ClockSet, now.instant);
                        connection.flush(now.instant);
                    }
                }
            }
        }
    }
}

/// Handles the deadlines of these connections, and lets clients be served in between.
async fn handle_due(connections: &Connections, due: &[ConnectionId]) {
    let mut turns = due.chunks(TURN_DEADLINES).peekable();
    while let Some(turn) = turns.next() {
        let now = Instant::now();
        for connection in turn.iter().filter_map(|id| connections.get(*id)) {
            connection.on_deadline(now);
        }
        if turns.peek().is_some() {
            tokio::task::yield_now().await;
        }
    }
}

fn now(context: &Context) -> Now {
    Now { instant: Instant::now(), wall: context.node.hooks.wall(SystemTime::now()) }
}

/// Whether the system clock was set: tokens expire by the system clock, but deadlines use the monotonic clock.
fn is_clock_step(before: Now, now: Now) -> bool {
    let expected = before.wall + now.instant.saturating_duration_since(before.instant);
    let ahead = now.wall.duration_since(expected).or_else(|_| expected.duration_since(now.wall));
    ahead.is_ok_and(|by| by > CLOCK_STEP)
}

async fn serve_requests(
    connections: Rc<Connections>,
    mut requests: mpsc::Receiver<ShardRequest>,
    cluster: Cluster,
    serve: Serve,
) {
    let tasks = connections.context.tasks.clone();
    while let Some(request) = requests.recv().await {
        match request {
            ShardRequest::Accept { listener, socket, peer, permit } => match socket.register() {
                Ok(socket) => {
                    let (connections, served) = (
                        Rc::clone(&connections),
                        (serve.0)(AcceptedSocket { listener, socket, peer, permit }),
                    );
                    tasks.spawn_local(async move {
                        if let Some(NewConnection { transport, setup }) = served.await {
                            connections.start(transport, setup);
                        }
                    });
                }
                Err(error) => debug!(%error, "cannot serve an accepted socket"),
            },
            ShardRequest::Connect { transport, setup } => {
                let connections = Rc::clone(&connections);
                tasks.spawn_local(async move {
                    if let Some(transport) = transport.0.await {
                        connections.start(transport, *setup);
                    }
                });
            }
            ShardRequest::Run(job) => {
                tasks.spawn_local(jobs::run(Rc::clone(&connections), cluster.clone(), job));
            }
            ShardRequest::ChangeSettings(settings) => connections.context.change_settings(*settings),
            ShardRequest::Drain { window } => {
                tasks.spawn_local(drain(Rc::clone(&connections), window));
            }
        }
    }
}

/// Closes all sessions, spread over the window and each with its own time to reconnect, so that clients do not
/// reconnect all at once.
async fn drain(connections: Rc<Connections>, window: Duration) {
    let connections = connections.all();
    let pause = window / u32::try_from(connections.len().max(1)).unwrap_or(u32::MAX);
    let start = tokio::time::Instant::now();
    for (index, connection) in connections.into_iter().enumerate() {
        let after = pause * u32::try_from(index).unwrap_or(u32::MAX);
        tokio::time::sleep_until(start + after).await;
        let now = Instant::now();
        connection.apply(Input::Drain { retry_after: Duration::from_millis(100) + after / 4 }, now);
        connection.flush(now);
    }
}
