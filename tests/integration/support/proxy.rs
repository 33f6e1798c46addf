//! A faulty proxy in front of nats-server.

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

/// What the proxy does to present and new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It forwards each byte separately.
    Slice,
    /// It discards all bytes in both directions, and keeps connections open.
    Silence,
    /// It resets each connection after so many more bytes from the server.
    ResetAfter(usize),
    /// It resets all connections, present and new.
    Cut,
    /// Bytes in this direction wait until the fault is over.
    Stall(Way),
    /// Bytes are delayed by this time.
    Delay(Duration),
    /// It inserts bytes that the other side has not sent, once on each connection.
    Garbage(Way, &'static [u8]),
}

/// The direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the server.
    Up,
    /// To the node.
    Down,
}

/// Which connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// All connections.
    All,
    /// The connections of lanes for feeds.
    Feeds,
    /// The connections of lanes for requests.
    Requests,
}

/// A proxy on a free port.
pub(crate) struct Proxy {
    port: u16,
    fault: watch::Sender<(Fault, Whose)>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy in front of the server.
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

    /// Sets the fault of all connections.
    pub(crate) fn does(&self, fault: Fault) {
        self.does_to(Whose::All, fault);
    }

    /// Sets the fault of some connections, and ends that of all others.
    pub(crate) fn does_to(&self, whose: Whose, fault: Fault) {
        self.fault.send_replace((fault, whose));
    }
}

async fn serve(client: TcpStream, target: u16, fault: watch::Receiver<(Fault, Whose)>) {
    // Connections close with a reset.
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    if *fault.borrow() == (Fault::Cut, Whose::All) {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_for_requests = Arc::new(AtomicBool::new(false));
    let up = Direction { way: Way::Up, is_for_requests: Arc::clone(&is_for_requests) };
    let down = Direction { way: Way::Down, is_for_requests };
    tokio::select! {
        () = carry(from_client, to_server, fault.clone(), up) => {}
        () = carry(from_server, to_client, fault, down) => {}
    }
}

/// The direction of bytes, and the kind of the connection, from its `CONNECT`.
struct Direction {
    way: Way,
    is_for_requests: Arc<AtomicBool>,
}

impl Direction {
    /// Reads the kind of the connection from its `CONNECT`.
    fn read_connect(&self, bytes: &[u8]) {
        if self.way == Way::Up && String::from_utf8_lossy(bytes).contains("/requests\"") {
            self.is_for_requests.store(true, Ordering::Relaxed);
        }
    }

    /// The current fault of the connection.
    fn current_fault(&self, (fault, whose): (Fault, Whose)) -> Fault {
        let is_for_requests = self.is_for_requests.load(Ordering::Relaxed);
        let concerned = match whose {
            Whose::All => true,
            Whose::Feeds => !is_for_requests,
            Whose::Requests => is_for_requests,
        };
        let this_way = match fault {
            Fault::Stall(way) | Fault::Garbage(way, _) => way == self.way,
            Fault::ResetAfter(_) => self.way == Way::Down,
            Fault::None | Fault::Slice | Fault::Silence | Fault::Cut | Fault::Delay(_) => true,
        };
        if concerned && this_way { fault } else { Fault::None }
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fault: watch::Receiver<(Fault, Whose)>,
    direction: Direction,
) {
    let mut buffer = vec![0; 4096];
    // Since the fault began: how many bytes may still pass, and whether garbage was inserted.
    let (mut left, mut soiled) = (None, false);
    // TCP delivers all bytes or ends: after some bytes were discarded, the connection cannot continue.
    let mut swallowed = false;
    loop {
        let does = direction.current_fault(*fault.borrow_and_update());
        let size = tokio::select! {
            changed = fault.changed() => match changed {
                Ok(()) if swallowed => return,
                Ok(()) => {
                    (left, soiled) = (None, false);
                    continue;
                }
                Err(_) => return,
            },
            () = std::future::ready(()), if does == Fault::Cut => return,
            read = from.read(&mut buffer), if !matches!(does, Fault::Stall(_)) => match read {
                Ok(0) | Err(_) => return,
                Ok(size) => size,
            },
        };
        direction.read_connect(&buffer[..size]);
        let bytes = &buffer[..size];
        let does = direction.current_fault(*fault.borrow());
        if swallowed && does != Fault::Silence {
            return;
        }
        let written = match does {
            Fault::Cut => return,
            Fault::Silence => {
                swallowed = true;
                Ok(())
            }
            Fault::Slice => slice(&mut to, bytes).await,
            Fault::ResetAfter(limit) => {
                let left = left.get_or_insert(limit);
                let now = size.min(*left);
                *left -= now;
                let written = to.write_all(&bytes[..now]).await;
                if *left == 0 {
                    return;
                }
                written
            }
            Fault::Delay(delay) => {
                tokio::time::sleep(delay).await;
                to.write_all(bytes).await
            }
            Fault::Garbage(_, garbage) if !std::mem::replace(&mut soiled, true) => {
                to.write_all(&[garbage, bytes].concat()).await
            }
            Fault::None | Fault::Stall(_) | Fault::Garbage(..) => to.write_all(bytes).await,
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
