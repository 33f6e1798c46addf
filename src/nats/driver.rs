//! Driver: the socket and the clock around a [`Link`]. It starts no task: whoever waits for it drives it.

use std::future::Future;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::LocalBoxFuture;
use tokio::time::Sleep;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::config::nats::NatsConfig;
use crate::nats::dial;
use crate::nats::dial::DialError;
use crate::nats::dial::Dialed;
use crate::nats::dial::NatsStream;
use crate::nats::incoming::Incoming;
use crate::nats::link::Link;
use crate::nats::login;
use crate::nats::servers::Server;
use crate::nats::servers::Servers;
use crate::nats::version::OLDEST_SERVER;
use crate::nats::version::is_new_enough;
use crate::telemetry::limit::LogLimit;

/// A server that is about to stop is left within this time, before it ends its connections itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Behind a read of so many bytes there may be more. There is room for more than that, but over TLS a read brings one
/// record, of 16 KiB at most.
const MUCH: usize = 8 * 1024;
/// That a server is still not there is said again after so long.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// A connection that ends sooner counts as an attempt that failed, so that a server which greets and closes is not
/// called again without a pause.
const STOOD: Duration = Duration::from_secs(5);

/// How often a server is asked at most whether it takes larger messages by now.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// All links of a process lose their server at once, and none finds it: one line speaks for them.
static CONNECTED: LogLimit = LogLimit::per_second(1);
static LOST: LogLimit = LogLimit::per_second(1);
static AWAY: LogLimit = LogLimit::every(30, 1);
static TURNED_AWAY: LogLimit = LogLimit::every(30, 1);
static TOO_OLD: LogLimit = LogLimit::every(30, 1);
static LEAVING: LogLimit = LogLimit::every(30, 1);

/// A link and what it takes to keep it: servers, a socket, a clock.
pub(super) struct Driver {
    /// The link.
    pub(super) link: Link,
    config: Arc<NatsConfig>,
    name: Arc<str>,
    servers: Servers,
    stage: LinkStage,
    timer: Pin<Box<Sleep>>,
    /// When to leave a server that is about to stop.
    leave: Option<Instant>,
    /// The server that is tried, or that the connection is to.
    server: Option<Server>,
    /// Since when the connection is up.
    stands_since: Option<Instant>,
    /// Whether the last read brought so much that there may be more.
    was_much: bool,
    complaint: ConnectComplaint,
    /// The version of a server that was left because it is too old.
    too_old: Option<String>,
    look: Look,
}

/// A second connection to the server, to read what it says of itself: it tells no one when a reload of its
/// configuration changes that.
#[derive(Default)]
struct Look {
    dialing: Option<LocalBoxFuture<'static, Result<Dialed, DialError>>>,
    last: Option<Instant>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Driver").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How far the connection is.
enum LinkStage {
    /// The next attempt is made then.
    Pausing(Instant),
    Dialing(LocalBoxFuture<'static, Result<Dialed, DialError>>),
    Connected(NatsStream),
}

/// What was said last of attempts that failed, and when.
#[derive(Debug, Default)]
struct ConnectComplaint {
    said: Option<Instant>,
    attempts: u64,
}

/// Why there is no connection.
enum Failure {
    /// There was none.
    Unreachable(String),
    /// The server has ended it, or did not do what it should.
    Ended(String),
    /// The server is of an old version.
    TooOld(String),
}

impl Driver {
    /// No connection yet. It is made by whoever waits for [`Driver::poll_ready`].
    pub(super) fn new(config: Arc<NatsConfig>, name: Arc<str>) -> Self {
        let now = Instant::now();
        let seed = RandomState::new().hash_one(&name);
        Self {
            link: Link::new(config.ping_interval, now),
            servers: Servers::new(&config.urls, seed),
            config,
            name,
            stage: LinkStage::Pausing(now),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            leave: None,
            server: None,
            stands_since: None,
            was_much: false,
            complaint: ConnectComplaint::default(),
            too_old: None,
            look: Look::default(),
        }
    }

    /// A message is larger than the server said it takes: that may have changed.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        let is_soon = |last: Instant| now.saturating_duration_since(last) < LOOK_EVERY;
        if self.look.dialing.is_none()
            && !self.look.last.is_some_and(is_soon)
            && let Some(server) = self.server.clone()
        {
            self.look =
                Look { dialing: Some(dial::dial(server, self.config.ca_file.clone())), last: Some(now) };
        }
    }

    /// The version of the server that the connection is to, or that was left because it is too old: `"2.15.1"`.
    pub(super) fn server_version(&self) -> Option<&str> {
        if self.link.is_up() { Some(&self.link.info().version) } else { self.too_old.as_deref() }
    }

    /// Whether there is more to take, or to read, as far as is known.
    pub(super) fn may_have_more(&self) -> bool {
        self.link.has_more() || self.was_much
    }

    /// Moves what is there to `batch`, until that has `max`.
    pub(super) fn take(&mut self, max: usize, batch: &mut Vec<Incoming>) {
        self.link.take(max, batch);
        self.follow(Instant::now());
    }

    /// Ready when there is something to take. Does meanwhile what the connection needs.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(dialing) = &mut self.look.dialing
            && let Poll::Ready(dialed) = dialing.as_mut().poll(context)
        {
            self.look.dialing = None;
            dialed.into_iter().for_each(|dialed| self.link.takes(dialed.info.max_payload));
        }
        while !self.link.has_more() {
            let now = Instant::now();
            let until = match &mut self.stage {
                LinkStage::Pausing(until) if *until > now => Some(*until),
                LinkStage::Pausing(_) => {
                    self.begin(now);
                    continue;
                }
                LinkStage::Dialing(dialing) => {
                    let Poll::Ready(dialed) = dialing.as_mut().poll(context) else { return Poll::Pending };
                    self.greet(dialed, now);
                    continue;
                }
                LinkStage::Connected(socket) => {
                    let mut is_drained = false;
                    match exchange(&mut self.link, socket, context) {
                        Poll::Ready(Ok(bytes)) => {
                            self.was_much = bytes >= MUCH;
                            self.link.received();
                        }
                        Poll::Ready(Err(error)) => self.link.cut(error.to_string()),
                        Poll::Pending => is_drained = true,
                    }
                    // A server that never pauses is looked at as well; one that greets may have greeted already.
                    let is_moved = (is_drained || self.link.is_up()) && self.is_moved_by_time(now);
                    if is_moved || self.link.has_more() {
                        continue;
                    }
                    self.link.timeout().into_iter().chain(self.leave).min()
                }
            };
            if until.is_none_or(|until| self.poll_timer(until, context).is_pending()) {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Whether the time leaves something to do.
    fn is_moved_by_time(&mut self, now: Instant) -> bool {
        let unsent = self.link.unsent().len();
        self.link.on_time(now);
        if self.leave.is_some_and(|leave| leave <= now) {
            self.leave = None;
            self.link.cut("it is about to stop");
        }
        self.link.has_more() || self.link.unsent().len() > unsent
    }

    fn poll_timer(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        if self.timer.deadline() != until.into() {
            self.timer.as_mut().reset(until.into());
        }
        self.timer.as_mut().poll(context)
    }

    fn begin(&mut self, now: Instant) {
        self.server = self.servers.next();
        match self.server.clone() {
            Some(server) => self.stage = LinkStage::Dialing(dial::dial(server, self.config.ca_file.clone())),
            None => self.pause(Failure::Unreachable("there is no address".to_owned()), now),
        }
    }

    fn greet(&mut self, dialed: Result<Dialed, DialError>, now: Instant) {
        let Dialed { socket, info, rest } = match dialed {
            Ok(dialed) => dialed,
            Err(error) => return self.pause(Failure::Unreachable(error.to_string()), now),
        };
        if !is_new_enough(&info.version) {
            return self.pause(Failure::TooOld(info.version), now);
        }
        self.too_old = None;
        match login::connect(&self.config.login, &self.name, &info.nonce, socket.is_tls()) {
            Ok(connect) => {
                self.link.open(info, &connect, rest, now);
                self.stage = LinkStage::Connected(socket);
            }
            Err(error) => self.pause(Failure::Unreachable(error.to_string()), now),
        }
    }

    /// Does what follows from what the link has heard.
    fn follow(&mut self, now: Instant) {
        if let Some(reason) = self.link.ended() {
            self.pause(Failure::Ended(reason), now);
        }
        if !matches!(self.stage, LinkStage::Connected(_)) {
            return;
        }
        let Some(server) = &self.server else { return };
        if self.link.is_up() && self.stands_since.is_none() {
            if let Some(suppressed) = CONNECTED.pass() {
                let Server { host, port, .. } = server;
                info!(name = %self.name, %host, port, suppressed, "connected to nats");
            }
            self.stands_since = Some(now);
            self.complaint = ConnectComplaint::default();
        }
        let Some(info) = self.link.news() else { return };
        self.servers.discover(server, &info.servers);
        if info.leaving && self.leave.is_none() {
            if let Some(suppressed) = LEAVING.pass() {
                warn!(name = %self.name, suppressed, "nats-server is about to stop");
            }
            let another = self.servers.has_another();
            self.leave = another.then(|| now + self.servers.part_of(LEAVE_WITHIN));
        }
        // A reload of its configuration may have made it another one.
        if !is_new_enough(&info.version) {
            self.link.cut("it is too old");
        }
    }

    /// There is no connection: the next attempt comes after a pause.
    fn pause(&mut self, failure: Failure, now: Instant) {
        let stood = self.stands_since.take();
        if stood.is_some_and(|since| now.saturating_duration_since(since) >= STOOD) {
            self.servers.stood();
        }
        self.stage = LinkStage::Pausing(now + self.servers.pause());
        self.leave = None;
        let server = self.server.as_ref();
        let (host, port) = (server.map(|server| server.host.as_str()), server.map(|server| server.port));
        let (name, ConnectComplaint { said, attempts }) = (&self.name, &mut self.complaint);
        if let (Some(_), Failure::Ended(reason)) = (stood, &failure) {
            *said = Some(now);
            if let Some(suppressed) = LOST.pass() {
                warn!(%name, host, port, %reason, suppressed, "connection to nats lost: trying again");
            }
            return;
        }
        *attempts += 1;
        if let Failure::TooOld(version) = failure {
            if let Some(suppressed) = TOO_OLD.pass() {
                let (major, minor) = OLDEST_SERVER;
                let advice = format!("nats-server is too old: Tidegate needs {major}.{minor} or newer");
                error!(%name, host, port, version, suppressed, "{advice}");
            }
            self.too_old = Some(version);
            return;
        }
        if said.is_some_and(|said| now.saturating_duration_since(said) < SAY_AGAIN) {
            return;
        }
        let (limit, reason) = match failure {
            Failure::Unreachable(reason) => (&AWAY, reason),
            Failure::Ended(reason) | Failure::TooOld(reason) => (&TURNED_AWAY, reason),
        };
        if let Some(suppressed) = limit.pass() {
            *said = Some(now);
            warn!(%name, host, port, reason, attempts, suppressed, "cannot connect to nats: trying again");
        }
    }
}

/// Sends what is to be sent and reads once; how many bytes. An error is the end of the connection, once nothing is left to
/// read.
fn exchange(link: &mut Link, socket: &mut NatsStream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let sent = send(link, socket, context);
    let read = socket.poll_read(context, link.room());
    match (read, sent) {
        (Poll::Ready(Ok(0)), _) => Poll::Ready(Err(io::Error::other("it ended the connection"))),
        (Poll::Ready(read), _) => Poll::Ready(read),
        (Poll::Pending, sent) => sent.map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
    }
}

/// Sends until nothing is left or nothing is taken.
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
