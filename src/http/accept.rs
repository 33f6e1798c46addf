//! The acceptor: takes connections and hands each to the least loaded shard. Who may stay is decided at the handshake,
//! where it is known who wants what; here only so many are taken as can be heard.

use std::fs::File;
use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
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

use crate::http::farewell::Farewells;
use crate::node::permit::Permit;
use crate::shard::handle::ListenerId;
use crate::shard::handle::ShardRequest;
use crate::shard::handle::Shards;
use crate::telemetry::limit::LogLimit;

/// How long a socket is kept for which there is no descriptor.
const FAREWELL: Duration = Duration::from_millis(100);

/// How long the next one waits behind one that is told that there is no room.
const PACE: Duration = Duration::from_millis(2);

static FULL: LogLimit = LogLimit::every(60, 1);
static NO_DESCRIPTOR: LogLimit = LogLimit::every(60, 1);
static FAILED: LogLimit = LogLimit::every(60, 1);

/// What holds for every socket.
#[derive(Clone, Copy, Debug)]
pub struct SocketLimits {
    /// On this node, whatever becomes of them.
    pub sockets: usize,
    /// More than these, which are told that there is no room.
    pub farewells: usize,
    /// What the kernel keeps for a client that does not take it, in bytes.
    pub send_buffer: usize,
    /// How long sent bytes may go without an acknowledgement.
    pub user_timeout: Duration,
}

/// One of the node's listeners.
#[derive(Debug)]
pub struct Listener {
    /// Which one.
    pub id: ListenerId,
    /// Where sockets come in.
    pub socket: tokio::net::TcpListener,
    /// The sockets of all listeners.
    pub sockets: Arc<AtomicUsize>,
}

/// Accepts until it is stopped.
pub async fn accept(listener: Listener, shards: Shards, limits: SocketLimits, stop: CancellationToken) {
    let Listener { id, socket, sockets } = listener;
    // Not tokio's: it would make each socket known to the reactor of this thread, only to take it out again.
    let listener = socket.into_std().and_then(|listener| {
        prepare(&listener, limits);
        watch(listener)
    });
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "cannot listen"),
    };
    let mut farewells = Farewells::new(limits.farewells);
    let mut spare = spare();
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = farewells.some() => continue,
            accepted = next(&listener) => match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_out_of_descriptors(&error) => {
                    no_descriptor(&listener, &mut spare, &error).await;
                    continue;
                }
                Err(error) => {
                    if let Some(suppressed) = FAILED.pass() {
                        warn!(%error, suppressed, "cannot accept a connection");
                    }
                    tokio::time::sleep(FAREWELL).await;
                    continue;
                }
            },
        };
        let Some(shard) = shards.least_loaded() else {
            return;
        };
        let count = sockets.load(Ordering::Acquire);
        if count >= limits.sockets {
            if let Some(suppressed) = FULL.pass() {
                let advice = "no room for more sockets: new ones are told to come back. Raise limits.connections or the \
                              limit on open files, or start more nodes";
                warn!(sockets = count, suppressed, "{advice}");
            }
            farewells.add(stream);
            // Clients that come back at once must not take the time of those that are here.
            tokio::time::sleep(PACE).await;
            continue;
        }
        let permit = Permit::new(Arc::clone(&sockets), Arc::clone(shard.load()));
        if !shard.send(ShardRequest::Accept { listener: id, stream, peer, permit }).await {
            return;
        }
    }
}

#[expect(
    deprecated,
    reason = "its heir is unsafe: it asks for a descriptor that stays open, as a listener's does"
)]
fn watch(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    AsyncFd::new(listener)
}

/// What sockets inherit from the listener.
fn prepare(listener: &TcpListener, limits: SocketLimits) {
    let listener = SockRef::from(listener);
    let set = || -> io::Result<()> {
        listener.set_send_buffer_size(limits.send_buffer)?;
        listener.set_tcp_nodelay(true)?;
        #[cfg(target_os = "linux")]
        listener.set_tcp_user_timeout(Some(limits.user_timeout))?;
        Ok(())
    };
    if let Err(error) = set() {
        warn!(%error, "cannot set options of the listener");
    }
}

/// The next socket.
async fn next(listener: &AsyncFd<TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        // Others have their turn on this thread, however many come.
        consume_budget().await;
        match listener.get_ref().accept() {
            // Nothing is awaited from here on: a socket in the hands of a future that is dropped would be lost.
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                // Elsewhere it may not be inherited.
                #[cfg(not(target_os = "linux"))]
                stream.set_nodelay(true)?;
                return Ok((stream, peer));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => listener.readable().await?.clear_ready(),
            Err(error) if passing(error.kind()) => debug!(%error, "gone before it was accepted"),
            Err(error) => return Err(error),
        }
    }
}

/// An error of the socket that would have been accepted, and not of the listener.
fn passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// A descriptor that is given up to hear somebody when there is no other.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno == Some(Errno::MFILE) || errno == Some(Errno::NFILE)
}

/// There are fewer descriptors than the node has counted on. One client after the other is told to come back, with the
/// one that is spare.
async fn no_descriptor(listener: &AsyncFd<TcpListener>, spare: &mut Option<File>, error: &io::Error) {
    if let Some(suppressed) = NO_DESCRIPTOR.pass() {
        let advice = "no file descriptor is left: new clients are told to come back. Raise the limit on open files, or \
                      lower limits.connections";
        error!(%error, suppressed, "{advice}");
    }
    drop(spare.take());
    let mut farewells = Farewells::new(1);
    match listener.get_ref().accept() {
        Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
            farewells.add(stream);
            farewells.end(FAREWELL).await;
        }
        Ok(_) => {}
        Err(_) => tokio::time::sleep(FAREWELL).await,
    }
    *spare = self::spare();
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[tokio::test]
    async fn sockets_inherit_their_options() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let user_timeout = Duration::from_secs(25);
        prepare(&listener, SocketLimits { sockets: 1, farewells: 1, send_buffer: 65_536, user_timeout });
        let listener = watch(listener).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (stream, _) = next(&listener).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        // Linux doubles it for its own bookkeeping.
        assert!((65_536..=131_072).contains(&socket.send_buffer_size().unwrap()));
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(user_timeout));
        assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
