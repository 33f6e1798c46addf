//! Listeners on Unix sockets, which proxies on the same machine use.

use std::path::PathBuf;

use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::listen_address::ListenAddress;
use tokio::net::UnixStream;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
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
    let node = Process::serve(&nats.url(), &config).await;
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

#[tokio::test]
async fn a_node_replaces_the_socket_of_a_killed_one_and_respects_that_of_a_live_one() {
    let socket = path("kill");
    let nats = NatsServer::start().await;
    let config = format!("[[endpoint]]\nlisten = \"unix:{}\"\npath = \"/ws\"", socket.display());
    let mut first = Process::serve(&nats.url(), &config).await;
    let mut second = Process::spawn("exec \"$0\" \"$@\"", &nats.url(), &config);
    let error = second.logged("the node has failed", |_| true).await;
    assert!(error["error"].as_str().unwrap().contains("unix:"), "{error}");
    assert!(!second.ended().await);
    first.signal("KILL");
    first.ended().await;
    assert!(socket.exists());
    let mut third = Process::serve(&nats.url(), &config).await;
    UnixStream::connect(&socket).await.unwrap();
    third.signal("TERM");
    assert!(third.ended().await && !socket.exists());
}
