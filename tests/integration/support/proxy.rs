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
    /// Nothing comes through any more, in no direction, and no one is told.
    Silence,
    /// Each connection is reset after so many more bytes from the server.
    ResetAfter(usize),
    /// Each connection is reset, and so is each that comes.
    Cut,
    /// What goes this way waits, and comes when the fault is over.
    Stall(Way),
    /// Whatever comes comes so much later.
    Delay(Duration),
    /// Bytes that the other side has never sent come first, once on each connection.
    Garbage(Way, &'static [u8]),
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the server.
    Up,
    /// To the node.
    Down,
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
    // Closed at once, with a reset: whatever ends here ends hard.
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

/// Which way bytes go, on a connection that is for requests or not, as it says itself.
struct Direction {
    way: Way,
    is_for_requests: Arc<AtomicBool>,
}

impl Direction {
    /// Looks at what a connection says of itself.
    fn learn(&self, bytes: &[u8]) {
        if self.way == Way::Up && String::from_utf8_lossy(bytes).contains("/requests\"") {
            self.is_for_requests.store(true, Ordering::Relaxed);
        }
    }

    /// What is done to it now.
    fn suffers(&self, (fault, whose): (Fault, Whose)) -> Fault {
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
    // Since the fault began: how many bytes may still pass; whether there has been garbage.
    let (mut left, mut soiled) = (None, false);
    // TCP brings all bytes or ends: a connection of which some were swallowed goes on as little as one into nowhere.
    let mut swallowed = false;
    loop {
        let does = direction.suffers(*fault.borrow_and_update());
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
        direction.learn(&buffer[..size]);
        let bytes = &buffer[..size];
        let does = direction.suffers(*fault.borrow());
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
