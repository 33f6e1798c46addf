//! Listeners on Unix sockets, which proxies on the same machine use.

use std::path::Path;
use std::path::PathBuf;

use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::listen_address::ListenAddress;
use tidegate::node::refusals::Refused;
use tokio::net::UnixStream;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::Answer;
use crate::support::raw::RawClient;
use crate::support::raw::handshake;
use crate::support::within;

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tidegate-{name}-{}.sock", std::process::id()))
}

#[tokio::test]
async fn a_proxy_reaches_all_listeners_over_unix_sockets_that_go_with_the_node() {
    let (main, own) = (path("main"), path("own"));
    let change = |config: &mut Config| {
        config.http.listen = ListenAddress::Unix(main.clone());
        config.endpoints.push(EndpointConfig {
            listen: Some(ListenAddress::Unix(own.clone())),
            path: "/own".to_owned(),
            ..EndpointConfig::default()
        });
    };
    let edge = TestEdge::with(change).await;
    assert_eq!(edge.address(), format!("unix:{}", main.display()));
    let mut alice = Client::connect_over(UnixStream::connect(&main).await.unwrap(), &token("alice")).await;
    alice.subscribe("chat.room").await;
    let data = "x".repeat(300_000);
    edge.publish("chat.room", format!("\"{data}\"")).await;
    assert_eq!(alice.expect("message").await["data"], data);
    let bearer = format!("Authorization: Bearer {}\r\n", token("bob"));
    for (socket, path, headers) in [
        (&own, "/own", bearer.clone()),
        // The same with hyper.
        (&own, "/own", format!("{bearer}Content-Length: 0\r\n")),
    ] {
        let stream = UnixStream::connect(socket).await.unwrap();
        let mut client = RawClient::upgrade(stream, path, &headers).await;
        assert_eq!(client.message().await["type"], "connected");
    }
    within("the end", edge.app.drain()).await;
    assert!(!main.exists() && !own.exists());
}

#[tokio::test]
async fn xff_01_the_peer_of_a_unix_socket_is_a_trusted_proxy() {
    let socket = path("xff");
    let nats = NatsServer::start().await;
    // Without an entry in http.trusted_proxies.
    let config = format!("[[endpoint]]\nlisten = \"unix:{}\"\npath = \"/ws\"", socket.display());
    let node = Process::serve(&nats.node_url(), &config).await;
    for (headers, forwarded) in
        [("X-Forwarded-For: 1.2.3.4, 203.0.113.7\r\n", Some("203.0.113.7")), ("", None)]
    {
        let mut client = RawClient::over(UnixStream::connect(&socket).await.unwrap());
        client.send(&handshake("/ws", &format!("Authorization: Bearer nonsense\r\n{headers}"))).await;
        assert!(client.head().await.starts_with("HTTP/1.1 401"));
        let line = node.logged("handshake rejected", |line| line["forwarded"].as_str() == forwarded).await;
        assert_eq!(line["peer"], "unix");
    }
}

/// A node with a Unix socket, one connection per address, and no trusted proxies.
async fn with_one_connection(socket: &Path, change: impl FnOnce(&mut Config)) -> TestEdge {
    TestEdge::with(|config| {
        config.http.listen = ListenAddress::Unix(socket.to_owned());
        config.limits.connections_per_address = 1;
        config.limits.address_handshakes_per_s = 1;
        config.limits.address_handshakes_burst = 1;
        change(config);
    })
    .await
}

/// The response to a handshake after these bytes, with these headers.
async fn shake(socket: &Path, before: &[u8], headers: &str) -> (Answer, RawClient<UnixStream>) {
    let mut client = RawClient::over(UnixStream::connect(socket).await.unwrap());
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    client.send(&[before, &handshake("/ws", &(bearer + headers))].concat()).await;
    (within("a response", client.answer()).await, client)
}

#[tokio::test]
async fn ex_01_clients_behind_a_unix_socket_are_limited_by_the_address_that_the_proxy_names() {
    let socket = path("limits");
    let _edge = with_one_connection(&socket, |_| {}).await;
    let named = "X-Forwarded-For: 203.0.113.1\r\n";
    let (one, _one) = shake(&socket, b"", named).await;
    let (two, _) = shake(&socket, b"", named).await;
    let (other, _other) = shake(&socket, b"", "X-Forwarded-For: 203.0.113.2\r\n").await;
    assert_eq!([one.status, two.status, other.status], [101, 429, 101], "{two:?}");
    // Clients that the proxy does not name are not limited, as those on this machine are not.
    let (one, _one) = shake(&socket, b"", "").await;
    let (two, _two) = shake(&socket, b"", "").await;
    assert_eq!((one.status, two.status), (101, 101));
    // Else a client could escape its limit with a second header.
    let ambiguous = "X-Forwarded-For: 203.0.113.3\r\nX-Real-IP: 203.0.113.4\r\n";
    let (one, _one) = shake(&socket, b"", ambiguous).await;
    let (two, _two) = shake(&socket, b"", ambiguous).await;
    assert_eq!((one.status, two.status), (101, 429));
}

#[tokio::test]
async fn xff_01_the_peer_of_a_unix_socket_sends_a_proxy_header_if_proxies_must() {
    let socket = path("header");
    let edge = with_one_connection(&socket, |config| config.http.proxy_protocol = true).await;
    let header = b"PROXY TCP4 203.0.113.1 10.0.0.1 12345 443\r\n";
    let (one, _one) = shake(&socket, header, "").await;
    // A header of the client itself changes nothing.
    let (two, _) = shake(&socket, header, "X-Forwarded-For: 203.0.113.9\r\n").await;
    let (other, _other) = shake(&socket, b"PROXY TCP4 203.0.113.2 10.0.0.1 12345 443\r\n", "").await;
    assert_eq!([one.status, two.status, other.status], [101, 429, 101], "{two:?}");
    // A health check of the proxy itself.
    assert_eq!(shake(&socket, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "").await.0.status, 101);
    let (without, _) = shake(&socket, b"", "").await;
    assert_eq!(without.status, 400, "{without:?}");
    assert_eq!(edge.app.node.refusals.of(Refused::ProxyHeader), 1);
}

#[tokio::test]
async fn a_node_replaces_the_socket_of_a_killed_one_and_respects_that_of_a_live_one() {
    let socket = path("kill");
    let nats = NatsServer::start().await;
    let config = format!("[[endpoint]]\nlisten = \"unix:{}\"\npath = \"/ws\"", socket.display());
    let mut first = Process::serve(&nats.node_url(), &config).await;
    let mut second = Process::spawn("exec \"$0\" \"$@\"", &nats.node_url(), &config);
    let error = second.logged("the node has failed", |_| true).await;
    assert!(error["error"].as_str().unwrap().contains("unix:"), "{error}");
    assert!(!second.ended().await);
    first.signal("KILL");
    first.ended().await;
    assert!(socket.exists());
    let mut third = Process::serve(&nats.node_url(), &config).await;
    UnixStream::connect(&socket).await.unwrap();
    third.signal("TERM");
    assert!(third.ended().await && !socket.exists());
}
