//! The subscriptions of a lane, over a connection of their own: the socket and the clock around [`Link`]. It starts no
//! task: whoever waits for it drives it. It never drops anything; what is not taken is not read either, and waits at the
//! server.

use std::future::Future;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::LocalBoxFuture;
use tokio::time::Sleep;
use tracing::info;
use tracing::warn;

use crate::nats::Nats;
use crate::nats::NatsError;
use crate::nats::dial;
use crate::nats::dial::DialError;
use crate::nats::dial::Dialed;
use crate::nats::dial::Socket;
use crate::nats::link::Link;
use crate::nats::login;
use crate::nats::message::Message;
use crate::nats::servers::Server;
use crate::nats::servers::Servers;
use crate::protocol::subject::Pattern;

/// A server that is about to stop is left within this time, before it ends its connections itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Behind a read of so many bytes there may be more. There is room for more than that, but over TLS a read brings one
/// record, of 16 KiB at most.
const MUCH: usize = 8 * 1024;
/// That a server is still not there is said again after so long.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// Names one subscription of a connection. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionKey(pub(super) u64);

/// What comes out of the subscriptions, in order for each of them.
#[derive(Debug)]
pub enum Incoming {
    /// The server knows the subscription.
    Opened(SubscriptionKey),
    /// The subscription could not be made: it is to be unsubscribed.
    Failed(SubscriptionKey, NatsError),
    /// A message.
    Message(SubscriptionKey, Message),
    /// At this place a message came whose subject cannot be read.
    Malformed(SubscriptionKey),
    /// At this place the server has taken the subscription back. It is [`Incoming::Opened`] again when it has it again.
    Interrupted(SubscriptionKey),
    /// At this place the link was lost, for all subscriptions. Each is [`Incoming::Opened`] again when the server
    /// knows it again.
    LinkLost,
}

/// The subscriptions of one lane.
pub struct Subscriptions {
    nats: Nats,
    link: Link,
    servers: Servers,
    stage: Stage,
    timer: Pin<Box<Sleep>>,
    /// When to leave a server that is about to stop.
    leave: Option<Instant>,
    is_connected: bool,
    /// Whether the last read brought so much that there may be more.
    was_much: bool,
    complaint: Complaint,
}

/// How far the connection is.
enum Stage {
    /// The next attempt is made then.
    Pausing(Instant),
    Dialing(LocalBoxFuture<'static, Result<Dialed, DialError>>),
    Connected(Server, Socket),
}

/// What was said last of attempts that failed, and when.
#[derive(Debug, Default)]
struct Complaint {
    reason: String,
    said: Option<Instant>,
    attempts: u64,
}

impl Subscriptions {
    /// None yet. The connection is made by whoever waits for [`Subscriptions::ready`].
    pub fn new(nats: Nats) -> Self {
        let now = Instant::now();
        let chance = RandomState::new().hash_one(&nats.name);
        Self {
            link: Link::new(nats.config.ping_interval, now),
            servers: Servers::new(&nats.config.urls, chance),
            stage: Stage::Pausing(now),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            leave: None,
            is_connected: false,
            was_much: false,
            complaint: Complaint::default(),
            nats,
        }
    }

    /// Subscribes. [`Incoming::Opened`] tells when the server knows; messages may come before.
    pub fn subscribe(&mut self, pattern: &Pattern) -> SubscriptionKey {
        self.link.subscribe(pattern)
    }

    /// Unsubscribes. Messages that are on their way may still come.
    pub fn unsubscribe(&mut self, key: SubscriptionKey) {
        self.link.unsubscribe(key);
    }

    /// Whether the connection stands.
    pub fn is_connected(&self) -> bool {
        self.link.is_up()
    }

    /// The version of the server that it stands to: `"2.15.1"`.
    pub fn server_version(&self) -> Option<String> {
        self.is_connected().then(|| self.link.info().version.clone())
    }

    /// Waits until there is something, and does meanwhile what the connection needs.
    pub async fn ready(&mut self) {
        #[cfg(feature = "test-hooks")]
        self.nats.hooks.reader.pass(self.nats.lane).await;
        poll_fn(|context| self.poll_ready(context)).await;
    }

    /// Whether there is more to take, or to read, as far as is known.
    pub fn may_have_more(&self) -> bool {
        self.link.has_more() || self.was_much
    }

    /// Moves what is there to `batch`, until that has `max`.
    pub fn take(&mut self, max: usize, batch: &mut Vec<Incoming>) {
        #[cfg(feature = "test-hooks")]
        if self.nats.hooks.reader.is_closed(self.nats.lane) {
            return;
        }
        self.link.take(max, batch);
        #[cfg(feature = "test-hooks")]
        for incoming in batch.iter() {
            if let Incoming::Message(_, message) = incoming {
                crate::hooks::panic_on(&message.payload(), "panic in read");
            }
        }
        self.follow(Instant::now());
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.link.has_more() {
            let now = Instant::now();
            let until = match &mut self.stage {
                Stage::Pausing(until) if *until > now => Some(*until),
                Stage::Pausing(_) => {
                    self.begin(now);
                    continue;
                }
                Stage::Dialing(dialing) => {
                    let Poll::Ready(dialed) = dialing.as_mut().poll(context) else { return Poll::Pending };
                    self.greet(dialed, now);
                    continue;
                }
                Stage::Connected(_, socket) => {
                    match exchange(&mut self.link, socket, context) {
                        Poll::Ready(Ok(bytes)) => {
                            self.was_much = bytes >= MUCH;
                            self.link.received();
                        }
                        Poll::Ready(Err(error)) => self.link.cut(error.to_string()),
                        Poll::Pending => {}
                    }
                    if self.link.has_more() || self.is_moved_by_time(now) {
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

    /// Everything has been read that has come by now. Whether that leaves something to do.
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
        match self.servers.next() {
            Some(server) => self.stage = Stage::Dialing(dial::dial(server, self.nats.config.ca_file.clone())),
            None => self.pause("there is no address", now),
        }
    }

    fn greet(&mut self, dialed: Result<Dialed, DialError>, now: Instant) {
        let Dialed { server, socket, info, rest } = match dialed {
            Ok(dialed) => dialed,
            Err(error) => return self.pause(&error.to_string(), now),
        };
        let Nats { config, name, .. } = &self.nats;
        match login::connect(&config.login, name, &info.nonce, socket.is_tls()) {
            Ok(connect) => {
                self.link.open(info, &connect, rest, now);
                self.stage = Stage::Connected(server, socket);
            }
            Err(error) => self.pause(&error.to_string(), now),
        }
    }

    /// Does what follows from what the link has heard.
    fn follow(&mut self, now: Instant) {
        if let Some(reason) = self.link.ended() {
            self.pause(&reason, now);
        }
        let Stage::Connected(server, _) = &self.stage else { return };
        if self.link.is_up() && !self.is_connected {
            let Server { host, port, .. } = server;
            info!(name = %self.nats.name, %host, port, "connected to nats");
            self.is_connected = true;
            self.servers.connected();
            self.complaint = Complaint::default();
        }
        if let Some(info) = self.link.news() {
            self.servers.discover(server, &info.servers);
            if info.leaving && self.leave.is_none() {
                warn!(name = %self.nats.name, "nats-server is about to stop");
                let another = self.servers.has_another();
                self.leave = another.then(|| now + self.servers.part_of(LEAVE_WITHIN));
            }
        }
    }

    /// There is no connection: the next attempt comes after a pause.
    fn pause(&mut self, reason: &str, now: Instant) {
        self.stage = Stage::Pausing(now + self.servers.pause());
        self.leave = None;
        let name = &self.nats.name;
        if std::mem::take(&mut self.is_connected) {
            return warn!(%name, reason, "connection to nats lost");
        }
        let Complaint { reason: last, said, attempts } = &mut self.complaint;
        *attempts += 1;
        if last != reason || said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_AGAIN) {
            warn!(%name, reason, attempts, "cannot connect to nats: trying again");
            (*last, *said) = (reason.to_owned(), Some(now));
        }
    }
}

/// Sends what is to be sent and reads once; how many bytes. An error is the end of the connection, once nothing is left to
/// read.
fn exchange(link: &mut Link, socket: &mut Socket, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let sent = send(link, socket, context);
    let read = socket.poll_read(context, link.room());
    match (read, sent) {
        (Poll::Ready(Ok(0)), _) => Poll::Ready(Err(io::Error::other("it ended the connection"))),
        (Poll::Ready(read), _) => Poll::Ready(read),
        (Poll::Pending, sent) => sent.map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
    }
}

/// Sends until nothing is left or nothing is taken.
fn send(link: &mut Link, socket: &mut Socket, context: &mut Context<'_>) -> Option<io::Error> {
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
