//! The end of a node: its clients are told where to go on, and when.

use serde_json::json;

use crate::support::edge::TestEdge;
use crate::support::eventually;
use crate::support::raw::RawClient;

#[tokio::test]
async fn a_draining_node_sends_its_clients_away_with_a_hint() {
    let edge = TestEdge::start().await;
    let (mut one, mut other) = edge.pair().await;
    one.subscribe("chat.a").await;
    let TestEdge { nats, app, .. } = edge;
    let (readiness, address) = (app.readiness.clone(), app.address);
    let drained = tokio::spawn(app.drain());
    for client in [&mut one, &mut other] {
        let (messages, code) = client.until_closed().await;
        let close = messages.last().unwrap();
        assert_eq!(
            (&close["type"], &close["code"], &close["reason"]),
            (&json!("close"), &json!(4000), &json!("going_away"))
        );
        assert!(close["retry_after_ms"].as_u64().unwrap() >= 100);
        assert_eq!(code, Some(4000));
    }
    assert!(!readiness.is_ready());
    drained.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
    eventually("the node has left NATS", || async { nats.connections("tidegate/").await == 0 }).await;
}

#[tokio::test]
async fn a_connection_that_waits_for_its_next_request_does_not_hold_up_the_end() {
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
