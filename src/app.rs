//! App: builds everything from a configuration, starts the shards, and owns what runs around them.
#![expect(clippy::disallowed_methods, reason = "app starts what runs around the shards")]

pub mod drain;
pub mod files;
pub mod options;
pub mod parts;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::app::options::AppOptions;
use crate::config::Config;
use crate::config::endpoint;
use crate::config::nats::NatsConfig;
use crate::http::accept;
use crate::http::accept::Listener;
use crate::lane::LaneStatus;
use crate::lane::inbox::InboxSender;
use crate::nats::probe;
use crate::nats::version::OLDEST_SERVER;
use crate::nats::version::is_new_enough;
use crate::node::Node;
use crate::shard;
use crate::shard::ShardError;
use crate::shard::ShardParts;
use crate::shard::handle::ListenerId;
use crate::shard::handle::Shards;
use crate::telemetry::limit::LogLimit;

/// How long the start waits to see which NATS it has to do with.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// How long it waits to see what is wrong with it.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// A running node.
#[derive(Debug)]
pub struct App {
    /// Where clients come in.
    pub address: SocketAddr,
    /// The same for endpoints with a listener of their own: where they were to listen, and where they do.
    pub beside: Vec<(SocketAddr, SocketAddr)>,
    /// What is the same for all of it: its name, whether it is ready, its lanes.
    pub node: Arc<Node>,
    /// Its shards.
    pub shards: Shards,
    /// The inbox of each shard.
    pub inboxes: Vec<InboxSender>,
    lame_duck: Duration,
    drain: Duration,
    /// Dropping them stops what they guard, so that nothing of a node outlives it.
    stop_accepting: DropGuard,
    stop_shards: DropGuard,
    failed: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl App {
    /// Starts a node on the caller's runtime and threads of its own. NATS may come later: until then the node is
    /// not ready.
    pub async fn start(options: AppOptions) -> anyhow::Result<Self> {
        let address = options.listener.local_addr().context("the listener has no address")?;
        let config = &options.config;
        let (beside, extra_listeners) = listen_beside(config).await?;
        let stop_shards = CancellationToken::new();
        let shards = parts::shard_count(config);
        let budget = files::budget(shards, config.limits.connections);
        let built = parts::build(&options, budget, &stop_shards)?;
        let failed = CancellationToken::new();
        let mut threads = Vec::new();
        for part in built.parts {
            threads.push(start_shard(thread(options.hooks.stack()), part, failed.clone()).await?);
        }
        let stop_accepting = CancellationToken::new();
        let limits = parts::socket_limits(config, budget);
        let sockets = Arc::default();
        for (id, socket) in std::iter::once(options.listener).chain(extra_listeners).enumerate() {
            let listener = Listener { id: ListenerId(id), socket, sockets: Arc::clone(&sockets) };
            tokio::spawn(accept::accept(listener, built.shards.clone(), limits, stop_accepting.clone()));
        }
        let (lame_duck, drain) = (config.server.lame_duck, config.server.drain);
        let nats = config.nats.clone();
        let (stop_accepting, stop_shards) = (stop_accepting.drop_guard(), stop_shards.drop_guard());
        let app = Self {
            address,
            beside,
            node: built.node,
            shards: built.shards,
            inboxes: built.inboxes,
            lame_duck,
            drain,
            stop_accepting,
            stop_shards,
            failed,
            threads,
        };
        app.look_at_nats(&nats).await?;
        tokio::spawn(app.node.readiness.clone().watch(announce));
        let version = env!("CARGO_PKG_VERSION");
        info!(%address, node = %app.node.name, version, shards, connections = budget.connections, "listening");
        for (listen, address) in &app.beside {
            info!(%address, endpoint_listen = %listen, "listening");
        }
        Ok(app)
    }

    /// Waits until a thread has ended that should not: half a node is worse than none.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Refuses a NATS that is too old; one that is not there yet is waited for, with a word of advice.
    async fn look_at_nats(&self, nats: &NatsConfig) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + FIRST_LOOK;
        let is_old = |lane: LaneStatus| lane.server.is_some_and(|version| !is_new_enough(&version));
        let is_seen =
            || self.node.readiness.is_ready() || self.node.readiness.lanes().into_iter().any(is_old);
        while !is_seen() && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for lane in self.node.readiness.lanes() {
            match lane.server {
                Some(version) if !is_new_enough(&version) => {
                    let (major, minor) = OLDEST_SERVER;
                    bail!("nats-server {version} is too old: Tidegate needs {major}.{minor} or newer");
                }
                Some(_) => {}
                None => {
                    let trouble = tokio::time::timeout(SECOND_LOOK, probe::trouble(nats)).await;
                    let trouble = trouble.unwrap_or_else(|_| vec!["it does not answer".to_owned()]);
                    for trouble in &trouble {
                        warn!("nats cannot be used yet: {trouble}");
                    }
                    // It may have come in the meantime.
                    if !trouble.is_empty() {
                        warn!("not ready until nats can be used; `tidegate check --connect` tries it again");
                    }
                    break;
                }
            }
        }
        Ok(())
    }
}

static READY: LogLimit = LogLimit::per_second(10);

fn announce(is_ready: bool) {
    match READY.pass() {
        Some(suppressed) if is_ready => info!(suppressed, "ready: connected to nats"),
        Some(suppressed) => warn!(suppressed, "not ready: disconnected from nats"),
        None => {}
    }
}

/// Why a port cannot be had, and what to do.
const LISTEN_CURES: [(ErrorKind, &str); 3] = [
    (ErrorKind::AddrInUse, "another program has this port: end it, or choose another port"),
    (
        ErrorKind::AddrNotAvailable,
        "this machine has no such address: 127.0.0.1 is this machine alone, 0.0.0.0 every interface",
    ),
    (ErrorKind::PermissionDenied, "this user may not have a port this low: choose one above 1023"),
];

/// Opens a listener; `key` of the configuration names its address.
pub async fn listen(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let known = LISTEN_CURES.iter().find(|(kind, _)| *kind == error.kind());
        let cure = known.map_or("choose another address", |(_, cure)| cure);
        anyhow::anyhow!("cannot listen on {address} ({key}): {error}. {cure}")
    })
}

/// The listeners that endpoints have for themselves, in their order: where each was to be, where it is, and itself.
async fn listen_beside(config: &Config) -> anyhow::Result<(Vec<(SocketAddr, SocketAddr)>, Vec<TcpListener>)> {
    let (mut addresses, mut listeners) = (Vec::new(), Vec::new());
    for listen in endpoint::extra_listeners(&config.endpoints) {
        let listener = self::listen(listen, "endpoint.listen").await?;
        addresses.push((listen, listener.local_addr().context("the listener has no address")?));
        listeners.push(listener);
    }
    Ok((addresses, listeners))
}

/// A thread that is not started; with this stack, if one is named.
fn thread(stack: Option<usize>) -> std::thread::Builder {
    let thread = std::thread::Builder::new();
    match stack {
        Some(stack) => thread.stack_size(stack),
        None => thread,
    }
}

async fn start_shard(
    thread: std::thread::Builder,
    parts: ShardParts,
    failed: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let (started, outcome) = oneshot::channel::<Result<(), ShardError>>();
    let stop = parts.stop.clone();
    let index = parts.index;
    let thread = thread.name(format!("shard-{index}")).spawn(move || {
        let ended = failed.drop_guard();
        shard::run(parts, started);
        if stop.is_cancelled() {
            let _ = ended.disarm();
        } else {
            error!(shard = index, "a shard has ended: the node cannot go on");
        }
    })?;
    outcome.await.context("a shard ended before it began")??;
    Ok(thread)
}
