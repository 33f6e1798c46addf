//! A whole shard on this thread, with its runtime, lane and sockets, and a driver that acts for its clients and for
//! nats-server. Shard and driver take turns on one thread, so the same events arrive together in every run.
#![expect(clippy::disallowed_methods, reason = "the driver is a task next to those of the shard")]

use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use std::time::SystemTime;

use futures_util::future::LocalBoxFuture;
use serde_json::json;
use tidegate::app::descriptors;
use tidegate::app::options::AppOptions;
use tidegate::app::parts;
use tidegate::auth::jwt;
use tidegate::config::Config;
use tidegate::config::auth::key::KeyConfig;
use tidegate::config::listen_address::ListenAddress;
use tidegate::config::secret::Secret;
use tidegate::http::accept::SocketCount;
use tidegate::net::listener::Listener;
use tidegate::net::peer::Peer;
use tidegate::net::socket::Socket;
use tidegate::node::permit::Permit;
use tidegate::shard;
use tidegate::shard::handle::ListenerId;
use tidegate::shard::handle::ShardHandle;
use tidegate::shard::handle::ShardRequest;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::template::Template;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::callgrind;
use crate::nats_stub::NatsStub;

const SECRET: &str = "a secret that is only ever used by these measurements";

/// Acts for clients and for nats-server.
pub(crate) struct Driver {
    pub(crate) nats: NatsStub,
    shard: ShardHandle,
    /// Where clients connect.
    listener: TcpListener,
    sockets: Arc<AtomicUsize>,
    token: String,
}

/// Starts a node with one shard, and runs both the shard and this driver until the driver ends. Everything on this
/// thread is counted.
pub(crate) fn run(configure: fn(&mut Config), drive: fn(Driver) -> LocalBoxFuture<'static, ()>) {
    let nats = NatsStub::start();
    let mut config = config(&nats.url);
    configure(&mut config);
    let budget = descriptors::budget(1, 0);
    let stop = CancellationToken::new();
    let mut built = {
        // `AppOptions` has a listener, which needs a runtime. The driver accepts its clients itself.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        let listener = Listener::bind(&ListenAddress::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
        let options = AppOptions { config, report: Default::default(), listener, hooks: Default::default() };
        parts::build(&options, None, (budget, &SocketCount::new(budget.sockets)), &stop).unwrap()
    };
    let mut part = built.parts.remove(0);
    let serve = part.serve;
    part.serve = Box::new(move |shard| {
        let (listener, sockets) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::default());
        let driver = Driver { nats, shard: shard.clone(), listener, sockets, token: token() };
        // Also if the driver panics.
        let ends_shard = stop.drop_guard();
        tokio::task::spawn_local(async move {
            drive(driver).await;
            drop(ends_shard);
        });
        serve(shard)
    });
    let (started, _outcome) = oneshot::channel();
    let mut parts = Some((part, started));
    callgrind::collected(&mut || {
        let (part, started) = parts.take().unwrap();
        shard::run(part, started);
    });
}

fn config(nats_url: &str) -> Config {
    let mut config = Config::default();
    config.nats.urls = vec![nats_url.to_owned()];
    config.server.shards = 1;
    config.limits.handshakes_per_s = 0;
    config.auth.keys = vec![KeyConfig::hs256("k", Secret::new(SECRET))];
    let allow = vec![Template::parse("user.>").unwrap()];
    let subscribe = RuleTemplates { allow, deny: Vec::new() };
    config.roles = vec![Role { name: "user".to_owned(), subscribe, ..Role::default() }];
    config
}

fn token() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": "alice", "role": "user", "iat": now, "exp": now + 3600 });
    jwt::mint_hs256(&Secret::new(SECRET), Some("k"), &claims).unwrap()
}

impl Driver {
    /// A client that has connected. Its socket is non-blocking.
    pub(crate) async fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = self.listener.accept().unwrap();
        for socket in [&client, &stream] {
            socket.set_nonblocking(true).unwrap();
            socket.set_nodelay(true).unwrap();
        }
        let permit = Permit::new(Arc::clone(&self.sockets), Arc::clone(self.shard.load()));
        let (socket, peer) = (Socket::Tcp(stream), Peer::Tcp(peer));
        let request = ShardRequest::Accept { listener: ListenerId(0), socket, peer, permit };
        assert!(self.shard.try_send(request).is_ok());
        let token = &self.token;
        let handshake = format!(
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        (&client).write_all(handshake.as_bytes()).unwrap();
        until(&client, r#""type":"connected""#).await;
        client
    }

    /// Subscribes a client to a channel.
    pub(crate) async fn subscribe(&self, client: &TcpStream, channel: &str) {
        let message = format!(r#"{{"type":"subscribe","id":1,"channel":"{channel}"}}"#);
        send(client, 0x81, message.as_bytes());
        until(client, r#""type":"subscribed""#).await;
    }
}

/// Sends a frame of a client with this first byte. Its mask is zero.
pub(crate) fn send(mut client: &TcpStream, first: u8, payload: &[u8]) {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    let frame = [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat();
    client.write_all(&frame).unwrap();
}

/// Reads until the client has received this text.
async fn until(mut client: &TcpStream, text: &str) {
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match client.read(&mut buffer) {
            Ok(count) => {
                assert!(count > 0, "the node has closed the connection: {received:?}");
                received.extend_from_slice(&buffer[..count]);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        if String::from_utf8_lossy(&received).contains(text) {
            return;
        }
    }
}
