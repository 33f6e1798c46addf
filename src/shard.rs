//! Shard: one thread with its runtime, its lane, its hub and its connections; its start and its end.

pub mod cluster;
pub mod handle;
pub mod job;
mod jobs;
pub mod pump;

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
use tidegate_protocol::session::settings::Settings;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;
use tracing::error;

use crate::connection::Opening;
use crate::connection::context::Context;
use crate::connection::context::ContextParts;
use crate::connection::table::Connections;
use crate::connection::transport::Transport;
use crate::lane::Lane;
use crate::lane::LaneParts;
use crate::lane::LaneRequest;
use crate::lane::LaneStatus;
use crate::lane::LocalShard;
use crate::lane::encoder::Encoder;
use crate::lane::inbox::Inbox;
use crate::lane::inbox::ShardQueue;
use crate::nats::Nats;
use crate::nats::error::NatsError;
use crate::node::Node;
use crate::node::permit::Permit;
use crate::shard::cluster::Nodes;
use crate::shard::cluster::NodesWork;
use crate::shard::handle::Call;
use crate::shard::handle::ListenerId;
use crate::shard::handle::ShardHandle;

/// What other lanes have is published in one go, about so many items of it, before something else has its turn.
const TURN_ITEMS: usize = 256;

/// Serves one accepted socket: given by `app`, because a shard does not know HTTP. It ends in a handshake that is done,
/// or in nothing.
pub struct Serve(pub Box<dyn Fn(AcceptedSocket) -> LocalBoxFuture<'static, Option<Opened>>>);

/// A socket whose handshake is done.
pub struct Opened {
    /// What carries its messages.
    pub transport: Transport,
    /// What the handshake has shown.
    pub opening: Opening,
}

/// An accepted socket on its shard.
pub struct AcceptedSocket {
    /// Who took it.
    pub listener: ListenerId,
    /// The stream.
    pub stream: tokio::net::TcpStream,
    /// Where it comes from.
    pub peer: std::net::SocketAddr,
    /// Counts it.
    pub permit: Permit,
}

/// Why a shard could not start.
#[derive(Debug, Error)]
pub enum ShardError {
    /// No runtime.
    #[error("cannot start a runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// NATS will not do.
    #[error(transparent)]
    Nats(#[from] NatsError),
}

/// One end of everything that a shard is connected to. It travels to the shard's thread.
pub struct ShardParts {
    /// Its number, and its lane's.
    pub index: usize,
    /// The way into it, which it gives to those it serves.
    pub handle: ShardHandle,
    /// What it is asked.
    pub calls: mpsc::Receiver<Call>,
    /// What other lanes have for it.
    pub inbox: Inbox,
    /// What its lane is asked.
    pub questions: mpsc::Receiver<LaneRequest>,
    /// The other shards' inboxes, by number; `None` for its own.
    pub shard_queues: Vec<Option<ShardQueue>>,
    /// Where its lane reports its state.
    pub status: watch::Sender<LaneStatus>,
    /// What all shards share.
    pub node: Arc<Node>,
    /// The way to what all nodes know together.
    pub nodes: Nodes,
    /// What asks other nodes and answers them, if that is on this shard.
    pub nodes_work: Option<NodesWork>,
    /// What holds for every session.
    pub settings: Settings,
    /// Makes what serves its sockets.
    pub serve: Box<dyn FnOnce(ShardHandle) -> Serve + Send>,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Runs a shard on the current thread until it is stopped. `started` hears whether it could start.
pub fn run(parts: ShardParts, started: oneshot::Sender<Result<(), ShardError>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error.into()))),
    };
    let tasks = LocalSet::new();
    // As a task it is polled when one of what it waits for has ended; what is waited for here is polled at every turn.
    let work = tasks.spawn_local(work(parts, started));
    if let Err(error) = tasks.block_on(&runtime, work) {
        error!(%error, "a shard has ended by a fault");
    }
}

async fn work(parts: ShardParts, started: oneshot::Sender<Result<(), ShardError>>) {
    let tasks = TaskTracker::new();
    let node = &parts.node;
    let nats = match Nats::new(&node.nats, &format!("tidegate/{}/{}", node.name, parts.index)) {
        Ok(nats) => nats.with_hooks(parts.index, node.hooks.clone()),
        Err(error) => return drop(started.send(Err(error.into()))),
    };
    // No one waits for the answer only if the node is ending already.
    let _ = started.send(Ok(()));
    let context = Rc::new(Context::new(ContextParts {
        shard: parts.index,
        node: Arc::clone(node),
        nats: nats.clone(),
        settings: parts.settings,
        tasks: tasks.clone(),
    }));
    let connections = Rc::new(Connections::new(Rc::clone(&context)));
    let nats_work = nats.clone().run();
    let own = Rc::clone(&connections);
    let encoder =
        Encoder::new(node.vocabularies.renderers(), node.compression).with_hooks(node.hooks.clone());
    let lane = LaneParts {
        index: parts.index,
        nats,
        requests: parts.questions,
        shard_queues: parts.shard_queues,
        local_shard: LocalShard(Rc::new(move |batch| pump::deliver(&own, batch))),
        status: parts.status,
        settings: node.lane.clone(),
        encoder,
        hooks: node.hooks.clone(),
    };
    let requests = tasks.spawn_local(nats_work);
    let lane = tasks.spawn_local(Lane::new(lane).run(parts.stop.clone()));
    let inbox = tasks.spawn_local(empty_inbox(Rc::clone(&connections), parts.inbox));
    let flushes = tasks.spawn_local(flush(Rc::clone(&connections)));
    let deadlines = tasks.spawn_local(keep_deadlines(Rc::clone(&connections)));
    let nodes = parts.nodes_work.map(|nodes| nodes.run(Rc::clone(&context)));
    let nodes = tasks.spawn_local(OptionFuture::from(nodes));
    let serve = (parts.serve)(parts.handle);
    let calls = tasks.spawn_local(answer_calls(connections, parts.calls, parts.nodes, serve));
    // A fault in any of them ends the shard: without one of them it would be half alive.
    tokio::select! {
        _ = lane => {}
        Err(_) = requests => {}
        Err(_) = inbox => {}
        Err(_) = flushes => {}
        Err(_) = deadlines => {}
        Err(_) = nodes => {}
        Err(_) = calls => {}
    }
}

async fn empty_inbox(connections: Rc<Connections>, mut inbox: Inbox) {
    let context = &connections.context;
    while let Some(batch) = inbox.next().await {
        context.node.hooks.pass_pump(context.shard).await;
        let mut items = batch.items.len();
        pump::deliver(&connections, batch);
        while items < TURN_ITEMS
            && let Some(batch) = inbox.try_next()
        {
            items += batch.items.len();
            pump::deliver(&connections, batch);
        }
        // Clients are flushed and read in between, however much there is. With nothing left it waits anyway.
        if items >= TURN_ITEMS {
            tokio::task::yield_now().await;
        }
    }
}

async fn flush(connections: Rc<Connections>) {
    loop {
        connections.flush_some().await;
        if !connections.flushes.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

/// The time of day may run away from the time that passes by this much before ends of tokens are judged anew.
const CLOCK_STEP: Duration = Duration::from_millis(500);

async fn keep_deadlines(connections: Rc<Connections>) {
    let context = &connections.context;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut judged = now(context);
    loop {
        tokio::select! {
            due = context.deadlines.due() => {
                let now = Instant::now();
                for id in due {
                    if let Some(connection) = connections.get(id) {
                        connection.on_deadline(now);
                    }
                }
            }
            _ = tick.tick() => {
                context.repeat_pending_leaves();
                let now = now(context);
                context.clock.set(now);
                if is_another_time(judged, now) {
                    judged = now;
                    for connection in connections.all() {
                        connection.apply(Input::ClockSet, now.instant);
                        connection.flush(now.instant);
                    }
                }
            }
        }
    }
}

fn now(context: &Context) -> Now {
    Now { instant: Instant::now(), wall: context.node.hooks.wall(SystemTime::now()) }
}

/// Whether the time of day has gone another way than the time that passes: tokens end by the one, deadlines are by the other.
fn is_another_time(before: Now, now: Now) -> bool {
    let expected = before.wall + now.instant.saturating_duration_since(before.instant);
    let ahead = now.wall.duration_since(expected).or_else(|_| expected.duration_since(now.wall));
    ahead.is_ok_and(|by| by > CLOCK_STEP)
}

async fn answer_calls(
    connections: Rc<Connections>,
    mut calls: mpsc::Receiver<Call>,
    nodes: Nodes,
    serve: Serve,
) {
    let tasks = connections.context.tasks.clone();
    while let Some(call) = calls.recv().await {
        match call {
            Call::Accept { listener, stream, peer, permit } => {
                match tokio::net::TcpStream::from_std(stream) {
                    Ok(stream) => {
                        let (connections, opened) = (
                            Rc::clone(&connections),
                            (serve.0)(AcceptedSocket { listener, stream, peer, permit }),
                        );
                        tasks.spawn_local(async move {
                            if let Some(Opened { transport, opening }) = opened.await {
                                connections.start(transport, opening);
                            }
                        });
                    }
                    Err(error) => debug!(%error, "cannot serve a socket"),
                }
            }
            Call::Connect { handover, opening } => {
                let connections = Rc::clone(&connections);
                tasks.spawn_local(async move {
                    if let Some(transport) = handover.0.await {
                        connections.start(transport, *opening);
                    }
                });
            }
            Call::Run(job) => {
                tasks.spawn_local(jobs::run(Rc::clone(&connections), nodes.clone(), job));
            }
            Call::Drain { window } => {
                tasks.spawn_local(drain(Rc::clone(&connections), window));
            }
        }
    }
}

/// Ends all sessions one after the other, so that they do not come back all at once, each with its own time to come
/// back.
async fn drain(connections: Rc<Connections>, window: Duration) {
    let connections = connections.all();
    let pause = window / u32::try_from(connections.len().max(1)).unwrap_or(u32::MAX);
    let start = tokio::time::Instant::now();
    for (number, connection) in connections.into_iter().enumerate() {
        let after = pause * u32::try_from(number).unwrap_or(u32::MAX);
        tokio::time::sleep_until(start + after).await;
        let now = Instant::now();
        connection.apply(Input::Drain { retry_after: Duration::from_millis(100) + after / 4 }, now);
        connection.flush(now);
    }
}
