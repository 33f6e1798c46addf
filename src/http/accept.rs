//! The acceptor: takes connections, up to the limit, and hands each to the least loaded shard.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tracing::warn;

use crate::shard::handle::Call;
use crate::shard::handle::Permit;
use crate::shard::handle::Shards;

/// Sent to a connection that is one too many, before it has said anything.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

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

/// Accepts until it is stopped.
pub async fn accept(listener: TcpListener, shards: Shards, limits: SocketLimits, stop: CancellationToken) {
    let connections: Arc<AtomicUsize> = Arc::default();
    // Sockets inherit it from the listener.
    if let Err(error) = SockRef::from(&listener).set_send_buffer_size(limits.send_buffer) {
        warn!(%error, "cannot set the size of the kernel's send buffer");
    }
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: waiting is all that helps, and a loop would burn the core.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(shard) = shards.least_loaded() else {
            return;
        };
        let count = connections.load(std::sync::atomic::Ordering::Acquire);
        if limits.connections > 0 && count >= limits.connections {
            debug!(count, "too many connections");
            let _ = stream.try_write(TOO_MANY);
            continue;
        }
        let permit = Permit::new(vec![Arc::clone(&connections), Arc::clone(shard.load())]);
        match prepare(stream, limits) {
            Ok(stream) => {
                if !shard.call_when_free(Call::Accept { stream, peer, permit }).await {
                    return;
                }
            }
            Err(error) => debug!(%error, "socket broken before it was served"),
        }
    }
}

fn prepare(stream: TcpStream, limits: SocketLimits) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    SockRef::from(&stream).set_tcp_user_timeout(Some(limits.user_timeout))?;
    stream.into_std()
}
