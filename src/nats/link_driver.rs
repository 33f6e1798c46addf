//! Adds the socket and the clock to a [`Link`]. It spawns no task: it makes progress when it is polled.

use std::future::Future;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::LocalBoxFuture;
use tokio::time::Sleep;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::config::nats::NatsConfig;
use crate::nats::connect;
use crate::nats::connect::ConnectError;
use crate::nats::connect::NatsStream;
use crate::nats::connect::ServerConnection;
use crate::nats::incoming::Incoming;
use crate::nats::link::Link;
use crate::nats::login;
use crate::nats::read_pace::ReadPace;
use crate::nats::servers::Server;
use crate::nats::servers::Servers;
use crate::nats::version::OLDEST_SERVER;
use crate::nats::version::is_new_enough;
use crate::telemetry::limit::LogLimit;

/// How long a node takes at most to leave a server in lame duck mode, before the server closes its connections.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// After a read of this size there may be more to read. The buffer is larger, but over TLS one read returns one record,
/// of at most 16 KiB.
const LARGE_READ: usize = 8 * 1024;
/// How often to log again that a server cannot be reached.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// A connection that ends sooner counts as a failed attempt, so that a server which accepts and closes is not retried
/// without a pause.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// The minimum time between two requests for the server's message size limit.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// When a server goes away, every link of the process loses it at once: one line is enough for all.
static CONNECTED: LogLimit = LogLimit::per_second(1);
static LOST: LogLimit = LogLimit::per_second(1);
static UNREACHABLE: LogLimit = LogLimit::every(30, 1);
static REJECTED: LogLimit = LogLimit::every(30, 1);
static TOO_OLD: LogLimit = LogLimit::every(30, 1);
static LEAVING: LogLimit = LogLimit::every(30, 1);

/// A link, and what keeps it connected: the servers, a socket and a timer.
pub(super) struct LinkDriver {
    pub(super) link: Link,
    config: Arc<NatsConfig>,
    name: Arc<str>,
    servers: Servers,
    socket: SocketState,
    timer: Pin<Box<Sleep>>,
    /// When the timer will wake which task.
    armed: Option<(Instant, Waker)>,
    /// When to leave a server in lame duck mode.
    leave_at: Option<Instant>,
    /// The server of the current connection or attempt.
    server: Option<Server>,
    connected_since: Option<Instant>,
    /// Whether the last read was so large that there may be more to read.
    may_read_more: bool,
    pace: ReadPace,
    /// How often a connection has ended that read more slowly than the server sent.
    slow_ends: u64,
    /// The last round trip of a `PING`, until it is taken.
    round_trip: Option<Duration>,
    failure_log: FailureLog,
    /// The version of the server, if it is too old to be used.
    too_old: Option<String>,
    refresh: InfoRefresh,
}

/// A second connection to the server, to read its `INFO`: a server does not announce a changed `max_payload` after a
/// configuration reload.
#[derive(Default)]
struct InfoRefresh {
    connecting: Option<LocalBoxFuture<'static, Result<ServerConnection, ConnectError>>>,
    last: Option<Instant>,
}

impl std::fmt::Debug for LinkDriver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LinkDriver").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The state of the socket.
enum SocketState {
    /// Wait until then before the next attempt.
    Waiting(Instant),
    Connecting(LocalBoxFuture<'static, Result<ServerConnection, ConnectError>>),
    Connected(NatsStream),
}

/// When failed attempts were last logged, and how many there have been.
#[derive(Debug, Default)]
struct FailureLog {
    logged_at: Option<Instant>,
    attempts: u64,
    /// A server that ended an attempt, for example because of the login, has been logged.
    is_rejection_logged: bool,
}

/// Why a connection or an attempt ended.
enum Failure {
    /// TCP, TLS or the login could not be set up.
    Unreachable(String),
    /// The server closed the connection, or violated the protocol.
    Ended(String),
    /// The server has an unsupported version.
    TooOld(String),
}

impl LinkDriver {
    /// Starts without a connection; [`LinkDriver::poll_ready`] connects.
    pub(super) fn new(config: Arc<NatsConfig>, name: Arc<str>) -> Self {
        let now = Instant::now();
        let seed = RandomState::new().hash_one(&name);
        Self {
            link: Link::new(config.ping_interval, now),
            servers: Servers::new(&config.urls, seed),
            config,
            name,
            socket: SocketState::Waiting(now),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            leave_at: None,
            server: None,
            connected_since: None,
            may_read_more: false,
            pace: ReadPace::new(Instant::now()),
            slow_ends: 0,
            round_trip: None,
            failure_log: FailureLog::default(),
            too_old: None,
            refresh: InfoRefresh::default(),
        }
    }

    /// Reads the server's `INFO` again: a message was larger than `max_payload`, which may have changed.
    pub(super) fn refresh_info(&mut self) {
        let now = Instant::now();
        let is_soon = |last: Instant| now.saturating_duration_since(last) < REFRESH_EVERY;
        if self.refresh.connecting.is_none()
            && !self.refresh.last.is_some_and(is_soon)
            && let Some(server) = self.server.clone()
        {
            self.refresh = InfoRefresh {
                connecting: Some(connect::connect(server, self.config.ca_file.clone())),
                last: Some(now),
            };
        }
    }

    /// The version of the connected server, or of one that is too old to be used: `"2.15.1"`.
    pub(super) fn server_version(&self) -> Option<&str> {
        if self.link.is_up() { Some(&self.link.info().version) } else { self.too_old.as_deref() }
    }

    /// Whether there may be more to take or to read at once.
    pub(super) fn may_have_more(&self) -> bool {
        self.link.has_more() || self.may_read_more
    }

    /// Moves events to `batch` until it has `max`.
    pub(super) fn take(&mut self, max: usize, batch: &mut Vec<Incoming>) {
        self.link.take(max, batch);
        if let Some(sent) = self.link.take_answered_ping() {
            self.round_trip = Some(sent.elapsed());
        }
        self.on_link_change();
    }

    /// The last round trip of a `PING`, with everything that the server sent before its answer. Returned once.
    pub(super) fn take_round_trip(&mut self) -> Option<Duration> {
        self.round_trip.take()
    }

    /// How often the server has ended a connection because this node read too slowly, as far as the node can tell.
    pub(super) fn slow_ends(&self) -> u64 {
        self.slow_ends
    }

    /// Ready when there is something to take, or when the state of the connection has changed. Connects, reads, writes
    /// and pings meanwhile.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let before = self.state();
        let outcome = self.poll_events(context);
        if outcome.is_pending() && self.state() != before { Poll::Ready(()) } else { outcome }
    }

    /// Whether the link is connected and answers, and whether the server is too old.
    fn state(&self) -> (bool, bool, bool) {
        (self.link.is_up(), self.link.is_answering(), self.too_old.is_some())
    }

    fn poll_events(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(connecting) = &mut self.refresh.connecting
            && let Poll::Ready(connection) = connecting.as_mut().poll(context)
        {
            self.refresh.connecting = None;
            connection
                .into_iter()
                .for_each(|connection| self.link.set_max_payload(connection.info.max_payload));
        }
        while !self.link.has_more() {
            let now = Instant::now();
            let until = match &mut self.socket {
                SocketState::Waiting(until) if *until > now => Some(*until),
                SocketState::Waiting(_) => {
                    self.connect(now);
                    continue;
                }
                SocketState::Connecting(connecting) => {
                    let Poll::Ready(connection) = connecting.as_mut().poll(context) else {
                        return Poll::Pending;
                    };
                    self.on_connected(connection, now);
                    continue;
                }
                SocketState::Connected(socket) => {
                    let mut is_drained = false;
                    match write_and_read(&mut self.link, socket, context) {
                        Poll::Ready(Ok(bytes)) => {
                            self.may_read_more = bytes >= LARGE_READ;
                            self.pace.on_read(bytes, now);
                            self.link.received();
                        }
                        Poll::Ready(Err(error)) if self.pace.is_behind(now) => {
                            self.slow_ends += 1;
                            self.link.disconnect(format!("{error}: this node has read too slowly"));
                        }
                        Poll::Ready(Err(error)) => self.link.disconnect(error.to_string()),
                        Poll::Pending => is_drained = true,
                    }
                    // Check the clock even if the server never pauses. While connecting, wait until everything is read:
                    // the `PONG` may be there already.
                    let has_changed = (is_drained || self.link.is_up()) && self.advance_time(now);
                    if has_changed || self.link.has_more() {
                        continue;
                    }
                    self.link.next_timeout().into_iter().chain(self.leave_at).min()
                }
            };
            if until.is_none_or(|until| self.poll_timer(until, now, context).is_pending()) {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Acts on the clock. Returns whether that left something to deliver or to send.
    fn advance_time(&mut self, now: Instant) -> bool {
        let is_due = |at: Instant| at <= now;
        if !self.link.next_timeout().is_some_and(is_due) && !self.leave_at.is_some_and(is_due) {
            return self.link.has_more();
        }
        let unsent = self.link.unsent().len();
        self.link.on_timeout(now);
        if self.leave_at.is_some_and(is_due) {
            self.leave_at = None;
            self.link.disconnect("the server is about to stop");
        }
        self.link.has_more() || self.link.unsent().len() > unsent
    }

    fn poll_timer(&mut self, until: Instant, now: Instant, context: &mut Context<'_>) -> Poll<()> {
        // Each message brings the task here, and the timer is nearly always the same: it wakes the task by itself.
        if let Some((at, task)) = &self.armed
            && *at == until
            && until > now
            && task.will_wake(context.waker())
        {
            return Poll::Pending;
        }
        if self.timer.deadline() != until.into() {
            self.timer.as_mut().reset(until.into());
        }
        let outcome = self.timer.as_mut().poll(context);
        self.armed = outcome.is_pending().then(|| (until, context.waker().clone()));
        outcome
    }

    fn connect(&mut self, now: Instant) {
        self.server = self.servers.next();
        match self.server.clone() {
            Some(server) => {
                self.socket = SocketState::Connecting(connect::connect(server, self.config.ca_file.clone()))
            }
            None => self.retry_later(Failure::Unreachable("nats.url has no valid address".to_owned()), now),
        }
    }

    fn on_connected(&mut self, connection: Result<ServerConnection, ConnectError>, now: Instant) {
        let ServerConnection { socket, info, unread } = match connection {
            Ok(connection) => connection,
            Err(error) => return self.retry_later(Failure::Unreachable(error.to_string()), now),
        };
        if !is_new_enough(&info.version) {
            return self.retry_later(Failure::TooOld(info.version), now);
        }
        self.too_old = None;
        match login::connect_command(&self.config.login, &self.name, &info.nonce, socket.is_tls()) {
            Ok(connect) => {
                self.link.open(info, &connect, unread, now);
                self.pace = ReadPace::new(now);
                self.socket = SocketState::Connected(socket);
            }
            Err(error) => self.retry_later(Failure::Unreachable(error.to_string()), now),
        }
    }

    /// Reacts to changes of the link's state.
    fn on_link_change(&mut self) {
        if let Some(reason) = self.link.take_end_reason() {
            self.retry_later(Failure::Ended(reason), Instant::now());
        }
        if !matches!(self.socket, SocketState::Connected(_)) {
            return;
        }
        let Some(server) = &self.server else { return };
        if self.link.is_up() && self.connected_since.is_none() {
            if let Some(suppressed) = CONNECTED.pass() {
                let Server { host, port, .. } = server;
                info!(name = %self.name, %host, port, suppressed, "connected to nats");
            }
            self.connected_since = Some(Instant::now());
            self.failure_log = FailureLog::default();
        }
        let Some(info) = self.link.take_new_info() else { return };
        self.servers.discover(server, &info.connect_urls);
        if info.lame_duck && self.leave_at.is_none() {
            if let Some(suppressed) = LEAVING.pass() {
                let message =
                    "nats-server is about to stop: this node moves to another server if it knows one";
                warn!(name = %self.name, suppressed, "{message}");
            }
            let has_other = self.servers.has_other();
            self.leave_at = has_other.then(|| Instant::now() + self.servers.random_part_of(LEAVE_WITHIN));
        }
        // The server may have been replaced by an older one.
        if !is_new_enough(&info.version) {
            self.link.disconnect("the server is too old");
        }
    }

    /// The connection or the attempt ended: schedules the next attempt.
    fn retry_later(&mut self, failure: Failure, now: Instant) {
        let connected_since = self.connected_since.take();
        if connected_since.is_some_and(|since| now.saturating_duration_since(since) >= STABLE_AFTER) {
            self.servers.reset_pause();
        }
        self.socket = SocketState::Waiting(now + self.servers.next_pause());
        self.leave_at = None;
        let server = self.server.as_ref();
        let (host, port) = (server.map(|server| server.host.as_str()), server.map(|server| server.port));
        let (name, FailureLog { logged_at, attempts, is_rejection_logged }) =
            (&self.name, &mut self.failure_log);
        if let (Some(_), Failure::Ended(reason)) = (connected_since, &failure) {
            *logged_at = Some(now);
            if let Some(suppressed) = LOST.pass() {
                warn!(%name, host, port, %reason, suppressed, "connection to nats lost: reconnecting");
            }
            return;
        }
        *attempts += 1;
        if let Failure::TooOld(version) = failure {
            if let Some(suppressed) = TOO_OLD.pass() {
                let (major, minor) = OLDEST_SERVER;
                let message = format!("nats-server is too old: upgrade it to {major}.{minor} or newer");
                error!(%name, host, port, version, suppressed, "{message}");
            }
            self.too_old = Some(version);
            return;
        }
        // The first rejection is logged at once: its reason is another than that of earlier lines.
        let is_rejection = matches!(failure, Failure::Ended(_));
        let is_recent = |at: Instant| now.saturating_duration_since(at) < LOG_AGAIN_AFTER;
        if logged_at.is_some_and(is_recent) && (*is_rejection_logged || !is_rejection) {
            return;
        }
        let (limit, reason) = match failure {
            Failure::Unreachable(reason) => (&UNREACHABLE, reason),
            Failure::Ended(reason) | Failure::TooOld(reason) => (&REJECTED, reason),
        };
        if let Some(suppressed) = limit.pass() {
            *logged_at = Some(now);
            *is_rejection_logged |= is_rejection;
            let message = "cannot connect to nats: retrying; check nats.url and the server";
            warn!(%name, host, port, reason, attempts, suppressed, "{message}");
        }
    }
}

/// Writes what there is and reads once; returns the number of bytes read. Returns an error when the connection has
/// ended and nothing is left to read.
fn write_and_read(
    link: &mut Link,
    socket: &mut NatsStream,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let sent = send(link, socket, context);
    let read = socket.poll_read(context, link.read_buffer());
    match (read, sent) {
        (Poll::Ready(Ok(0)), _) => Poll::Ready(Err(io::Error::other("the server closed the connection"))),
        (Poll::Ready(read), _) => Poll::Ready(read),
        (Poll::Pending, sent) => sent.map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
    }
}

/// Writes until nothing is left or the socket is full.
fn send(link: &mut Link, socket: &mut NatsStream, context: &mut Context<'_>) -> Option<io::Error> {
    loop {
        let unsent = link.unsent();
        if unsent.is_empty() {
            break;
        }
        match socket.poll_write(context, unsent) {
            Poll::Ready(Ok(0)) => return Some(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(bytes)) => link.sent(bytes),
            Poll::Ready(Err(error)) => return Some(error),
            Poll::Pending => return None,
        }
    }
    match socket.poll_flush(context) {
        Poll::Ready(Err(error)) => Some(error),
        Poll::Ready(Ok(())) | Poll::Pending => None,
    }
}
