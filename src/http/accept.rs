//! The acceptor: takes connections and hands each to the least loaded shard. Who may stay is decided at the handshake,
//! where it is known who wants what; here only so many are taken as can be heard.

use std::collections::VecDeque;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tracing::warn;

use crate::shard::handle::Call;
use crate::shard::handle::ListenerId;
use crate::shard::handle::Permit;
use crate::shard::handle::Shards;

/// Sockets beyond `limits.connections` that may be there without being connections: they shake hands, are told that
/// there is no room, or ask for the node's health.
const BESIDE: usize = 1024;
/// Sent to a socket for which there is not even that room, before it has said anything.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// How many of these are kept, and how long, so that they can read it.
const FAREWELLS: usize = 256;
const FAREWELL: Duration = Duration::from_secs(1);

/// What holds for every socket.
#[derive(Clone, Copy, Debug)]
pub struct SocketLimits {
    /// Connections on this node; 0 for no limit.
    pub connections: usize,
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
    let mut farewells = Farewells::default();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => return,
            () = farewells.due() => continue,
            accepted = next(&listener) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly: waiting is all that helps, and a loop would burn the core.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Some(shard) = shards.least_loaded() else {
            return;
        };
        let count = sockets.load(Ordering::Acquire);
        if limits.connections > 0 && count >= limits.connections.saturating_add(BESIDE) {
            debug!(count, "too many sockets");
            farewells.add(stream);
            continue;
        }
        let permit = Permit::new(vec![Arc::clone(&sockets), Arc::clone(shard.load())]);
        if !shard.call_when_free(Call::Accept { listener: id, stream, peer, permit }).await {
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

/// Sockets that were told that there is no room. To close one with something unread would be a reset, which takes back
/// what it was told; so it is closed when it has had time to read.
#[derive(Debug, Default)]
struct Farewells(VecDeque<(Instant, TcpStream)>);

impl Farewells {
    fn add(&mut self, mut stream: TcpStream) {
        if stream.write(TOO_MANY).is_err() || stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        if self.0.len() == FAREWELLS {
            self.end_first();
        }
        self.0.push_back((Instant::now() + FAREWELL, stream));
    }

    /// Ends the first whose time has come.
    async fn due(&mut self) {
        match self.0.front() {
            Some((due, _)) => sleep_until(*due).await,
            None => std::future::pending().await,
        }
        self.end_first();
    }

    fn end_first(&mut self) {
        if let Some((_, mut stream)) = self.0.pop_front() {
            // What a client sends in a second of being refused; more is answered with the reset that it asks for.
            let _ = stream.read(&mut [0; 4096]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_inherit_their_options() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let user_timeout = Duration::from_secs(25);
        prepare(&listener, SocketLimits { connections: 0, send_buffer: 65_536, user_timeout });
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

    #[tokio::test]
    async fn ex_01_whoever_is_one_too_many_can_read_why_whatever_it_has_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut farewells = Farewells::default();
        let mut clients = Vec::new();
        for _ in 0..FAREWELLS + 3 {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.write_all(&[b'x'; 2000]).unwrap();
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            farewells.add(stream);
            client.write_all(b"more").unwrap();
            clients.push(client);
        }
        assert_eq!(farewells.0.len(), FAREWELLS);
        for client in &mut clients[3..] {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, TOO_MANY);
        }
        while !farewells.0.is_empty() {
            farewells.due().await;
        }
    }
}
