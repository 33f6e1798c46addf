//! `App`: a running node. Starts shards and listeners from a configuration, and drains them.
#![expect(clippy::disallowed_methods, reason = "app starts the tasks around the shards")]

pub mod certificates;
pub mod descriptors;
pub mod drain;
mod key_fetching;
pub mod options;
pub mod parts;
pub mod reload;
pub mod span_export;

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::app::options::AppOptions;
use crate::app::span_export::SpanExport;
use crate::config::Config;
use crate::config::endpoint;
use crate::config::listen_address::ListenAddress;
use crate::config::nats::NatsConfig;
use crate::http::accept;
use crate::http::accept::Acceptor;
use crate::http::accept::SocketCount;
use crate::http::accept::SocketOptions;
use crate::http::admin;
use crate::http::admin::access::Admin;
use crate::http::busy_reply::BusyText;
use crate::http::serve::ListenerRoutes;
use crate::http::socket_gate::SocketGate;
use crate::lane::LaneStatus;
use crate::lane::inbox::InboxSender;
use crate::nats::probe;
use crate::nats::version::OLDEST_SERVER;
use crate::nats::version::is_new_enough;
use crate::net::listen;
use crate::net::listener::Listener;
use crate::net::tls::reloader::TlsReloader;
use crate::node::Node;
use crate::shard;
use crate::shard::ShardError;
use crate::shard::ShardParts;
use crate::shard::handle::ListenerId;
use crate::shard::handle::Shards;
use crate::telemetry::limit::LogLimit;

/// How long the start waits for NATS, to check its version.
const NATS_WAIT: Duration = Duration::from_secs(3);

/// How long it then tries to find out why NATS cannot be used.
const NATS_PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A running node.
#[derive(Debug)]
pub struct App {
    /// The local address of `http.listen`.
    pub address: ListenAddress,
    /// The listeners of endpoints: each configured address, with the local address.
    pub endpoint_addresses: Vec<(ListenAddress, ListenAddress)>,
    /// The local address of `http.redirect_listen`.
    pub redirect_address: Option<ListenAddress>,
    /// The local address of `admin.listen`.
    pub admin_address: Option<ListenAddress>,
    /// What all shards share.
    pub node: Arc<Node>,
    pub shards: Shards,
    /// The inbox of each shard.
    pub inboxes: Vec<InboxSender>,
    /// The open sockets of all listeners.
    sockets: SocketCount,
    /// The configuration that is in use, and what serves the sockets of each listener.
    config: watch::Sender<Config>,
    routes: watch::Sender<Vec<ListenerRoutes>>,
    admin: Option<Arc<Admin>>,
    lame_duck: Duration,
    drain: Duration,
    /// Dropping these stops the listeners and the shards, so that they end with the `App`.
    stop_accepting: DropGuard,
    stop_shards: DropGuard,
    failed: CancellationToken,
    /// Asks for a reload of the certificates, if there are any.
    certificates: Option<Arc<Notify>>,
    threads: Vec<JoinHandle<()>>,
    span_export: SpanExport,
}

impl App {
    /// Starts a node: shards on their own threads, listeners on the caller's runtime. NATS may be unreachable; then the
    /// node runs but is not ready.
    pub async fn start(options: AppOptions) -> anyhow::Result<Self> {
        let address = options.listener.local_address().context("the listener has no address")?;
        let config = &options.config;
        let extra = ExtraListeners::open(config)?;
        let tls = if config.tls.is_on() { Some(TlsReloader::new(&config.tls)?) } else { None };
        let tls_settings = tls.as_ref().map(TlsReloader::settings);
        let stop_shards = CancellationToken::new();
        let shards = parts::shard_count(config);
        let budget = descriptors::budget(shards, config.limits.connections);
        let sockets = SocketCount::new(budget.sockets);
        let built = parts::build(&options, tls_settings.as_ref(), (budget, &sockets), &stop_shards)?;
        let failed = CancellationToken::new();
        let mut threads = Vec::new();
        for part in built.parts {
            threads.push(start_shard(thread(options.hooks.stack()), part, failed.clone()).await?);
        }
        let fetching = key_fetching::run(Arc::clone(&built.node));
        let stopped = stop_shards.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(fetching).await });
        let mut certificates = None;
        if let Some(tls) = tls {
            let request = Arc::clone(certificates.insert(Arc::default()));
            threads.push(certificates::start(&config.tls, tls, request, stop_shards.clone())?);
        }
        let stop_accepting = CancellationToken::new();
        Acceptors {
            node: &built.node,
            shards: &built.shards,
            routes: &built.routes.borrow(),
            // It is the last listener.
            admin: built.admin.as_ref().map(|_| ListenerId(extra.listeners.len())),
            sockets: &sockets,
            options: parts::socket_options(config, budget),
        }
        .start(
            std::iter::once(options.listener).chain(extra.listeners),
            &stop_accepting,
            &stop_shards,
        );
        let (node, stop) = (Arc::clone(&built.node), stop_shards.clone());
        tokio::spawn(async move { node.tickets.control().run(&stop).await });
        let (lame_duck, drain) = (config.server.lame_duck, config.server.drain);
        let nats = config.nats.clone();
        let (stop_accepting, stop_shards) = (stop_accepting.drop_guard(), stop_shards.drop_guard());
        let app = Self {
            address,
            endpoint_addresses: extra.endpoint_addresses,
            redirect_address: extra.redirect_address,
            admin_address: extra.admin_address,
            node: built.node,
            shards: built.shards,
            inboxes: built.inboxes,
            sockets,
            config: watch::Sender::new(options.config),
            routes: built.routes,
            admin: built.admin,
            lame_duck,
            drain,
            stop_accepting,
            stop_shards,
            failed,
            certificates,
            threads,
            span_export: built.span_export,
        };
        app.check_nats(&nats).await?;
        tokio::spawn(app.node.readiness.clone().watch(log_readiness));
        app.log_listeners(shards, budget.connections);
        Ok(app)
    }

    fn log_listeners(&self, shards: usize, connections: usize) {
        let version = env!("CARGO_PKG_VERSION");
        let address = &self.address;
        let config = self.config.borrow();
        let tls = config.uses_tls(None);
        info!(%address, tls, node = %self.node.name, version, shards, connections, "listening");
        if let Some(address) = &self.redirect_address {
            info!(%address, tls = false, "redirecting to https");
        }
        if let Some(address) = &self.admin_address {
            info!(%address, "serving /metrics");
        }
        for (listen, address) in &self.endpoint_addresses {
            info!(%address, tls = config.uses_tls(Some(listen)), endpoint_listen = %listen, "listening");
        }
        if let Some(warning) = listen::short_queue() {
            warn!("{warning}");
        }
    }

    /// Reads certificates and keys again, if there are any. New sessions then use them.
    pub fn reload_certificates(&self) {
        if let Some(request) = &self.certificates {
            request.notify_one();
        }
    }

    /// Waits until a shard has ended unexpectedly. The node should then be drained, because it cannot work without one.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Waits for NATS. Returns an error if nats-server is too old. Logs what is wrong if it cannot be used.
    async fn check_nats(&self, nats: &NatsConfig) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + NATS_WAIT;
        let is_old = |lane: LaneStatus| lane.server.is_some_and(|version| !is_new_enough(&version));
        let is_seen =
            || self.node.readiness.is_ready() || self.node.readiness.lanes().into_iter().any(is_old);
        while !is_seen() && tokio::time::Instant::now() < deadline {
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
                    let trouble =
                        tokio::time::timeout(NATS_PROBE_TIMEOUT, probe::connection_failures(nats)).await;
                    let trouble = trouble.unwrap_or_else(|_| vec!["it does not answer".to_owned()]);
                    for trouble in &trouble {
                        warn!("nats cannot be used yet: {trouble}");
                    }
                    // Without problems, it has become reachable in the meantime.
                    if !trouble.is_empty() {
                        warn!(
                            "the node is not ready until nats can be used; `tidegate check --connect` shows details"
                        );
                    }
                    break;
                }
            }
        }
        Ok(())
    }
}

static READY: LogLimit = LogLimit::per_second(10);

fn log_readiness(is_ready: bool) {
    match READY.pass() {
        Some(suppressed) if is_ready => info!(suppressed, "ready: connected to nats"),
        Some(suppressed) => warn!(
            suppressed,
            "not ready, because a lane is disconnected from nats: check nats-server and nats.url"
        ),
        None => {}
    }
}

/// How to fix an error of `bind` for a TCP port.
const PORT_HELP: [(ErrorKind, &str); 3] = [
    (ErrorKind::AddrInUse, "Another program uses this port: stop it, or choose another port"),
    (
        ErrorKind::AddrNotAvailable,
        "This machine does not have this address: use 127.0.0.1 for this machine only, or 0.0.0.0 for all interfaces",
    ),
    (ErrorKind::PermissionDenied, "This user may not use ports below 1024: choose a higher one"),
];

/// The same for a Unix socket.
const SOCKET_HELP: [(ErrorKind, &str); 4] = [
    (
        ErrorKind::AddrInUse,
        "Another program listens on this socket, or the file is no socket: stop the program, remove the file, or choose \
         another path",
    ),
    (ErrorKind::NotFound, "The folder of the socket does not exist: create it, or choose another path"),
    (
        ErrorKind::PermissionDenied,
        "This user may not create files in the folder of the socket: change its owner or mode",
    ),
    (ErrorKind::InvalidInput, "The path is too long for a socket: choose a shorter one"),
];

/// Opens a listener. `key` is the configuration key of its address, for the error.
pub fn listen(address: &ListenAddress, key: &str) -> anyhow::Result<Listener> {
    Listener::bind(address).map_err(|error| {
        let helps = match address {
            ListenAddress::Tcp(_) => &PORT_HELP[..],
            ListenAddress::Unix(_) => &SOCKET_HELP[..],
        };
        let known = helps.iter().find(|(kind, _)| *kind == error.kind());
        let help = known.map_or("Choose another address", |(_, help)| help);
        anyhow::anyhow!("cannot listen on {address} ({key}): {error}. {help}")
    })
}

/// The listeners in addition to `http.listen`.
struct ExtraListeners {
    /// Those of endpoints: each configured address, with the local address.
    endpoint_addresses: Vec<(ListenAddress, ListenAddress)>,
    /// The local address of `http.redirect_listen`.
    redirect_address: Option<ListenAddress>,
    /// The local address of `admin.listen`.
    admin_address: Option<ListenAddress>,
    /// First those of endpoints, in the order of the endpoints; then those of `http.redirect_listen` and
    /// `admin.listen`.
    listeners: Vec<Listener>,
}

impl ExtraListeners {
    fn open(config: &Config) -> anyhow::Result<Self> {
        let (mut endpoint_addresses, mut listeners) = (Vec::new(), Vec::new());
        let mut open = |address: &ListenAddress, key: &str| {
            let listener = listen(address, key)?;
            let local = listener.local_address().context("the listener has no address")?;
            listeners.push(listener);
            anyhow::Ok(local)
        };
        for listen in endpoint::extra_listeners(&config.endpoints) {
            let local = open(&listen, "endpoint.listen")?;
            endpoint_addresses.push((listen, local));
        }
        let redirect = config.http.redirect_listen.map(ListenAddress::Tcp);
        let redirect_address = redirect.map(|address| open(&address, "http.redirect_listen")).transpose()?;
        let admin = config.admin.listen.as_ref();
        let admin_address = admin.map(|address| open(address, "admin.listen")).transpose()?;
        Ok(Self { endpoint_addresses, redirect_address, admin_address, listeners })
    }
}

/// Starts the acceptors of all listeners.
struct Acceptors<'a> {
    node: &'a Arc<Node>,
    shards: &'a Shards,
    /// Of each listener.
    routes: &'a [ListenerRoutes],
    admin: Option<ListenerId>,
    /// The sockets of all listeners but that for operators.
    sockets: &'a SocketCount,
    options: SocketOptions,
}

impl Acceptors<'_> {
    /// They accept until `stop`; that of the admin listener until the shards stop, so that a drain can be observed.
    fn start(
        &self,
        listeners: impl Iterator<Item = Listener>,
        stop: &CancellationToken,
        stop_shards: &CancellationToken,
    ) {
        for ((id, listener), routes) in listeners.enumerate().zip(self.routes) {
            let id = ListenerId(id);
            let (sockets, stop) = if Some(id) == self.admin {
                (SocketCount::new(admin::MAX_SOCKETS), stop_shards)
            } else {
                (self.sockets.clone(), stop)
            };
            let busy = if routes.tls.is_some() { BusyText::Tls } else { BusyText::Http };
            let acceptor = Acceptor { id, listener, busy, sockets, gate: SocketGate::new(self.node) };
            tokio::spawn(accept::accept(acceptor, self.shards.clone(), self.options, stop.clone()));
        }
    }
}

/// A builder for a thread, with this stack size if there is one.
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
            error!(shard = index.0, "a shard has ended unexpectedly: the node shuts down");
        }
    })?;
    outcome.await.context("a shard ended before it had started")??;
    Ok(thread)
}
