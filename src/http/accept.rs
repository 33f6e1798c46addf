//! The acceptor: accepts sockets and moves each to the least loaded shard. It only limits the number of sockets; the
//! handshake decides which clients may connect.

use std::fs::File;
use std::io;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::consume_budget;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tracing::error;
use tracing::warn;

use crate::http::busy_reply::BusyReplies;
use crate::http::busy_reply::BusyText;
use crate::http::socket_gate::SocketGate;
use crate::net::listener::Listener;
use crate::net::peer::Peer;
use crate::net::socket::Socket;
use crate::node::permit::Permit;
use crate::node::refusals::Refused;
use crate::shard::handle::ListenerId;
use crate::shard::handle::ShardRequest;
use crate::shard::handle::Shards;
use crate::telemetry::limit::LogLimit;

/// How long to reply to one socket when there are no descriptors for more, and how long to pause after an error.
const BUSY_REPLY_TIMEOUT: Duration = Duration::from_millis(100);

/// The pause after each socket above the limit, so that clients that reconnect at once take no time from the others.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(2);

static SOCKETS_FULL: LogLimit = LogLimit::every(60, 1);
static NO_DESCRIPTOR: LogLimit = LogLimit::every(60, 1);
static ACCEPT_FAILED: LogLimit = LogLimit::every(60, 1);

/// The number of open sockets of the node, upgraded or not, on all listeners together.
#[derive(Clone, Debug)]
pub struct SocketCount {
    open: Arc<AtomicUsize>,
    max: Arc<AtomicUsize>,
}

impl SocketCount {
    /// At most `max` sockets.
    pub fn new(max: usize) -> Self {
        Self { open: Arc::default(), max: Arc::new(AtomicUsize::new(max)) }
    }

    /// The sockets that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The most sockets.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Changes the limit. Sockets above it stay open.
    pub fn change_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }
}

/// The limits and options of all sockets of the node.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// The most sockets above the limit which get a reply at the same time.
    pub busy_replies: usize,
    /// The kernel's send buffer for one socket, in bytes.
    pub send_buffer: usize,
    /// How long sent bytes may stay unacknowledged before the kernel closes the connection.
    pub user_timeout: Duration,
}

/// One of the node's listeners, and what its acceptor needs.
#[derive(Debug)]
pub struct Acceptor {
    pub id: ListenerId,
    /// The listening socket.
    pub listener: Listener,
    /// What sockets above a limit are told.
    pub busy: BusyText,
    pub sockets: SocketCount,
    /// Limits the sockets of each address.
    pub gate: SocketGate,
}

/// Accepts sockets until `stop` is cancelled.
pub async fn accept(acceptor: Acceptor, shards: Shards, options: SocketOptions, stop: CancellationToken) {
    let Acceptor { id, listener, busy, sockets, gate } = acceptor;
    set_socket_options(&listener, options);
    // Not with tokio's listener: it would register each socket with the reactor of this thread, and a shard must
    // register it with its own.
    let listener = match register(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "a listener accepts no sockets any more: restart the node"),
    };
    let mut busy_replies = BusyReplies::new(busy, options.busy_replies);
    let mut spare = open_spare();
    loop {
        let (socket, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = busy_replies.next_done() => continue,
            accepted = next_socket(&listener) => match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_out_of_descriptors(&error) => {
                    reply_without_descriptor(&listener, busy, &mut spare, &error).await;
                    continue;
                }
                Err(error) => {
                    if let Some(suppressed) = ACCEPT_FAILED.pass() {
                        warn!(%error, suppressed, "cannot accept a socket, trying again: see `error`");
                    }
                    tokio::time::sleep(BUSY_REPLY_TIMEOUT).await;
                    continue;
                }
            },
        };
        let Some(shard) = shards.least_loaded() else {
            return;
        };
        let address_permit = match gate.admit_peer(peer) {
            Ok(address_permit) => address_permit,
            Err(problem) => {
                busy_replies.reject(socket, problem);
                continue;
            }
        };
        let count = sockets.open.load(Ordering::Acquire);
        if count >= sockets.max.load(Ordering::Relaxed) {
            if let Some(suppressed) = SOCKETS_FULL.pass() {
                let advice = "no room for more sockets: new ones are told to come back. Raise limits.connections or the \
                              limit on open files, or start more nodes";
                warn!(sockets = count, limit = Refused::Sockets.limit(), suppressed, "{advice}");
            }
            gate.count_full_node();
            busy_replies.add(socket);
            tokio::time::sleep(OVERLOAD_PAUSE).await;
            continue;
        }
        let mut permit = Permit::new(Arc::clone(&sockets.open), Arc::clone(shard.load()));
        permit.count_address(address_permit);
        if !shard.send(ShardRequest::Accept { listener: id, socket, peer, permit }).await {
            return;
        }
    }
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe: it requires a descriptor that stays open, and a listener's does"
)]
fn register(listener: Listener) -> io::Result<AsyncFd<Listener>> {
    AsyncFd::new(listener)
}

/// Sets the options that accepted sockets inherit from the listener.
fn set_socket_options(listener: &Listener, options: SocketOptions) {
    let is_unix = listener.is_unix();
    let listener = SockRef::from(listener);
    let set = || -> io::Result<()> {
        listener.set_send_buffer_size(options.send_buffer)?;
        if is_unix {
            return Ok(());
        }
        listener.set_tcp_nodelay(true)?;
        #[cfg(target_os = "linux")]
        listener.set_tcp_user_timeout(Some(options.user_timeout))?;
        Ok(())
    };
    if let Err(error) = set() {
        warn!(%error, "cannot set the socket options of a listener, so the system's defaults apply: check limits.send_buffer_bytes");
    }
}

/// Accepts the next socket.
async fn next_socket(listener: &AsyncFd<Listener>) -> io::Result<(Socket, Peer)> {
    loop {
        // Let other tasks of this thread run between sockets.
        consume_budget().await;
        match listener.get_ref().accept() {
            // Do not await from here on: if the future were dropped, the socket would be lost.
            Ok(accepted) => return Ok(accepted),
            Err(error) if error.kind() == ErrorKind::WouldBlock => listener.readable().await?.clear_ready(),
            Err(error) if is_transient(error.kind()) => {
                debug!(%error, "client gone before its socket was accepted")
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the error concerns only the socket that was to be accepted, not the listener.
fn is_transient(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// Reserves a descriptor, which is released to accept one socket when there are no others.
fn open_spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno == Some(Errno::MFILE) || errno == Some(Errno::NFILE)
}

/// Accepts one socket with the spare descriptor and replies that the node is busy. The system has fewer descriptors
/// than the node's limits assume.
async fn reply_without_descriptor(
    listener: &AsyncFd<Listener>,
    busy: BusyText,
    spare: &mut Option<File>,
    error: &io::Error,
) {
    if let Some(suppressed) = NO_DESCRIPTOR.pass() {
        let advice = "no file descriptor is left: new clients are told to come back. Raise the limit on open files, or \
                      lower limits.connections";
        error!(%error, suppressed, "{advice}");
    }
    drop(spare.take());
    let mut busy_replies = BusyReplies::new(busy, 1);
    match listener.get_ref().accept() {
        Ok((socket, _)) => {
            busy_replies.add(socket);
            busy_replies.finish(BUSY_REPLY_TIMEOUT).await;
        }
        Err(_) => tokio::time::sleep(BUSY_REPLY_TIMEOUT).await,
    }
    *spare = open_spare();
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn sockets_inherit_their_options() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::from(listener);
        let user_timeout = Duration::from_secs(25);
        set_socket_options(&listener, SocketOptions { busy_replies: 1, send_buffer: 65_536, user_timeout });
        let listener = register(listener).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (stream, _) = next_socket(&listener).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        // Linux doubles the value for its own bookkeeping.
        assert!((65_536..=131_072).contains(&socket.send_buffer_size().unwrap()));
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(user_timeout));
        assert_eq!((&*socket).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
