//! A proxy in front of nats-server that treats connections badly.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::nats_server::NatsServer;

/// What it does to the connections that it has and those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Each byte comes by itself.
    Slice,
    /// Nothing comes through any more, in no direction, and nobody is told.
    Silence,
    /// Each connection is reset after so many more bytes from the server.
    ResetAfter(usize),
}

/// Whose connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Everybody's.
    All,
    /// Those that lanes have for their feeds.
    Feeds,
    /// Those that lanes have for requests.
    Requests,
}

/// A proxy on a free port.
pub(crate) struct Proxy {
    port: u16,
    fault: watch::Sender<(Fault, Whose)>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Starts one in front of the server.
    pub(crate) async fn start(nats: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (fault, seen) = watch::channel((Fault::None, Whose::All));
        let target = nats.port();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, target, seen.clone()));
            }
        });
        Self { port, fault, _task: task }
    }

    /// The address for clients.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// From now on it does this.
    pub(crate) fn does(&self, fault: Fault) {
        self.does_to(Whose::All, fault);
    }

    /// From now on it does this to these, and nothing to others.
    pub(crate) fn does_to(&self, whose: Whose, fault: Fault) {
        self.fault.send_replace((fault, whose));
    }
}

async fn serve(client: TcpStream, target: u16, fault: watch::Receiver<(Fault, Whose)>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    client.set_nodelay(true).unwrap();
    // Closed at once, with a reset: whatever ends here ends hard.
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_for_requests = Arc::new(AtomicBool::new(false));
    let up = Direction::Up(Arc::clone(&is_for_requests));
    tokio::select! {
        () = carry(from_client, to_server, fault.clone(), up) => {}
        () = carry(from_server, to_client, fault, Direction::Down(is_for_requests)) => {}
    }
}

/// Which way bytes go, on a connection that is for requests or not, as it says itself.
enum Direction {
    Up(Arc<AtomicBool>),
    Down(Arc<AtomicBool>),
}

impl Direction {
    fn concerns(&self, whose: Whose, bytes: &[u8]) -> bool {
        let (Self::Up(is_for_requests) | Self::Down(is_for_requests)) = self;
        if matches!(self, Self::Up(_)) && String::from_utf8_lossy(bytes).contains("/requests\"") {
            is_for_requests.store(true, Ordering::Relaxed);
        }
        match whose {
            Whose::All => true,
            Whose::Feeds => !is_for_requests.load(Ordering::Relaxed),
            Whose::Requests => is_for_requests.load(Ordering::Relaxed),
        }
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fault: watch::Receiver<(Fault, Whose)>,
    direction: Direction,
) {
    let mut buffer = vec![0; 4096];
    let mut left = None;
    loop {
        let size = tokio::select! {
            changed = fault.changed() => match changed {
                Ok(()) => {
                    left = None;
                    continue;
                }
                Err(_) => return,
            },
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(size) => size,
            },
        };
        let (does, whose) = *fault.borrow();
        let does = if direction.concerns(whose, &buffer[..size]) { does } else { Fault::None };
        let written = match does {
            Fault::Silence => Ok(()),
            Fault::Slice => slice(&mut to, &buffer[..size]).await,
            Fault::ResetAfter(bytes) if matches!(direction, Direction::Down(_)) => {
                let left = left.get_or_insert(bytes);
                let now = size.min(*left);
                *left -= now;
                let written = to.write_all(&buffer[..now]).await;
                if *left == 0 {
                    return;
                }
                written
            }
            Fault::None | Fault::ResetAfter(_) => to.write_all(&buffer[..size]).await,
        };
        if written.is_err() {
            return;
        }
    }
}

async fn slice(to: &mut OwnedWriteHalf, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        to.write_all(std::slice::from_ref(byte)).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}
