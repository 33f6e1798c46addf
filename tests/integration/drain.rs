//! Draining a node: it tells its clients when to reconnect, and closes its sessions.

use serde_json::json;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::RawClient;
use crate::support::raw::get;

/// PROTOCOL.md: "It always has the same code and reason as the frame"
#[tokio::test]
async fn a_draining_node_closes_its_sessions_and_hints_when_to_reconnect() {
    let edge = TestEdge::start().await;
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("chat.a").await;
    let TestEdge { nats, app, .. } = edge;
    let (readiness, address) = (app.node.readiness.clone(), app.address.to_string());
    let drained = tokio::spawn(app.drain());
    for client in [&mut one, &mut other] {
        let (messages, code) = client.until_closed().await;
        let close = messages.last().unwrap();
        assert_eq!(
            (&close["type"], &close["code"], &close["reason"]),
            (&json!("close"), &json!(4000), &json!("going_away"))
        );
        assert!(close["retry_after_ms"].as_u64().unwrap() >= 100);
        assert_eq!((code, client.close_reason.as_deref()), (Some(4000), Some("going_away")));
    }
    assert!(!readiness.is_ready());
    drained.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the listener is closed");
    eventually("the node has left NATS", || async { nats.connections("tidegate/").await == 0 }).await;
}

#[tokio::test]
async fn an_idle_http_connection_does_not_delay_the_drain() {
    let edge = TestEdge::start().await;
    let mut client = RawClient::connect(&edge.address()).await;
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    let TestEdge { nats: _nats, app, .. } = edge;
    let shards = app.shards.clone();
    let drained = tokio::spawn(app.drain());
    client.rest().await;
    eventually("its socket is gone", || async { shards.sockets() == 0 }).await;
    drained.await.unwrap();
}

#[tokio::test]
async fn a_node_fails_readyz_before_it_rejects_new_clients() {
    let nats = NatsServer::start().await;
    let mut node = Process::serve(&nats.node_url(), "server.lame_duck_s = 3\nserver.drain_s = 0").await;
    node.ready().await;
    let mut early = Client::connect(&node.address, &token("alice")).await;
    node.signal("TERM");
    node.logged("shutting down soon: not ready, but still serving", |_| true).await;
    assert_eq!(get(&node.address, "/readyz").await.0, 503);
    assert_eq!(get(&node.address, "/healthz").await.0, 200);
    let mut late = Client::connect(&node.address, &token("bob")).await;
    for client in [&mut early, &mut late] {
        client.subscribe("chat.general").await;
    }
    for client in [&mut early, &mut late] {
        assert_eq!(client.until_closed().await.1, Some(4000));
    }
    assert!(node.ended().await);
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_at_once_and_sighup_closes_nothing() {
    let nats = NatsServer::start().await;
    for between in ["shutting down soon: not ready, but still serving", "draining"] {
        let lame_duck = if between == "draining" { 0 } else { 600 };
        let config = format!("server.lame_duck_s = {lame_duck}\nserver.drain_s = 600");
        let mut node = Process::serve(&nats.node_url(), &config).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Client::connect(&node.address, &token("alice")).await);
        }
        node.signal("HUP");
        node.logged("SIGHUP: nothing has changed in the configuration", |_| true).await;
        assert!(clients[0].so_far().await.is_empty());
        node.signal("TERM");
        node.logged(between, |_| true).await;
        node.signal("INT");
        for client in &mut clients {
            assert_eq!(client.until_closed().await.1, Some(4000));
        }
        assert!(node.ended().await);
    }
}

#[tokio::test]
async fn a_signal_before_nats_is_reachable_ends_the_process_cleanly() {
    let absent = NatsServer::absent();
    for signal in ["TERM", "INT"] {
        let mut node = Process::spawn("exec \"$0\" \"$@\"", &absent.node_url(), "");
        let is_about_nats =
            |line: &serde_json::Value| line["target"].as_str().is_some_and(|target| target.contains("nats"));
        eventually("the node tries to connect to NATS", || async { node.logs().iter().any(is_about_nats) })
            .await;
        node.signal("HUP");
        node.signal(signal);
        assert!(node.ended().await, "{:?}", node.logs());
    }
}
