//! permessage-deflate (RFC 7692) over real sockets: negotiation, which clients get compressed frames, and the cost of
//! bombs.

use std::sync::atomic::Ordering;

use serde_json::Value;
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::RawFrame;

const DEFLATED_TEXT: u8 = 0xc1;
const DEFLATED_FIRST: u8 = 0x41;
const LAST: u8 = 0x80;

/// The head of the response to a handshake with these extra headers.
async fn response_head(edge: &TestEdge, headers: &str) -> String {
    let mut client = RawClient::connect(&edge.address()).await;
    let headers = format!("Authorization: Bearer {}\r\n{headers}", token("alice"));
    client.send(&raw::handshake("/ws", &headers)).await;
    client.head().await.to_ascii_lowercase()
}

/// A payload that is worth compressing.
fn payload(number: usize) -> Value {
    json!({ "n": number, "orders": vec![json!({ "side": "buy", "price": 190.1 }); 30] })
}

async fn subscribe(client: &mut RawClient, channel: &str) -> Value {
    let subscribe = json!({ "type": "subscribe", "channel": channel });
    client.send(&raw::text(&subscribe.to_string())).await;
    let subscribed = client.message().await;
    assert_eq!(subscribed["type"], "subscribed");
    subscribed
}

async fn message_frame(client: &mut RawClient) -> RawFrame {
    loop {
        let frame = client.frame().await.expect("a message");
        if frame.opcode == 1 {
            return frame;
        }
    }
}

#[tokio::test]
async fn compression_is_negotiated_as_in_rfc_7692() {
    let (on, off) =
        (TestEdge::start().await, TestEdge::with(|config| config.server.compression = false).await);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let agreed = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
                  client_no_context_takeover\r\n";
    let head = response_head(&on, offer).await;
    assert!(head.starts_with("http/1.1 101") && head.contains(agreed), "{head}");
    for (edge, headers) in [
        (&on, ""),
        (&on, "Sec-WebSocket-Extensions: permessage-deflate; unknown\r\n"),
        (&off, offer),
        (&off, "Sec-WebSocket-Extensions: ;\r\n"),
    ] {
        let head = response_head(edge, headers).await;
        assert!(head.starts_with("http/1.1 101") && !head.contains("extensions"), "{head}");
    }
    let head = response_head(&on, "Sec-WebSocket-Extensions: permessage-deflate;;\r\n").await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
}

#[tokio::test]
async fn a_publication_is_compressed_once_for_all_shards() {
    const PUBLICATIONS: usize = 20;
    let edge = TestEdge::start().await;
    let mut deflating = Vec::new();
    // Connections go to the shard with fewer sockets, so both shards have some of each kind.
    for _ in 0..4 {
        deflating.push(edge.deflating("alice").await);
    }
    let mut plain = [edge.raw("alice").await, edge.raw("alice").await];
    for client in deflating.iter_mut().chain(&mut plain) {
        subscribe(client, "chat.orders").await;
    }
    for number in 0..PUBLICATIONS {
        edge.publish("chat.orders", payload(number).to_string()).await;
        let frame = message_frame(&mut deflating[0]).await;
        let message: Value = serde_json::from_slice(&frame.message()).unwrap();
        assert_eq!((frame.deflated, &message["data"]), (true, &payload(number)));
        for client in &mut deflating[1..] {
            assert_eq!(message_frame(client).await, frame);
        }
        for client in &mut plain {
            let plain = message_frame(client).await;
            assert_eq!((plain.deflated, plain.payload), (false, frame.message()));
        }
    }
    assert_eq!(edge.hooks.deflated.load(Ordering::SeqCst), PUBLICATIONS as u64);
    edge.publish("chat.orders", "\"short\"").await;
    for client in deflating.iter_mut().chain(&mut plain) {
        let frame = message_frame(client).await;
        assert!(!frame.deflated && frame.message().ends_with(b"Z\"}"), "{frame:?}");
    }
    assert_eq!(edge.hooks.deflated.load(Ordering::SeqCst), PUBLICATIONS as u64);
}

#[tokio::test]
async fn nothing_is_compressed_if_no_client_negotiated_it() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.orders").await;
    edge.publish("chat.orders", payload(1).to_string()).await;
    assert_eq!(client.expect("message").await["data"], payload(1));
    assert_eq!(edge.hooks.deflated.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_reply_with_a_snapshot_is_not_compressed() {
    let edge = TestEdge::start().await;
    let mut one = edge.deflating("alice").await;
    assert_eq!(subscribe(&mut one, "prices.AAPL").await["snapshot"], json!([]));
    edge.publish("prices.AAPL", payload(7).to_string()).await;
    assert!(message_frame(&mut one).await.deflated);
    let mut other = edge.deflating("alice").await;
    assert_eq!(subscribe(&mut other, "prices.AAPL").await["snapshot"][0]["data"], payload(7));
}

#[tokio::test]
async fn compressed_frames_survive_partial_writes() {
    const PUBLICATIONS: usize = 1000;
    let edge = TestEdge::with(|config| {
        config.limits.send_buffer_bytes = 4096;
        config.limits.outbox_bytes = 64 << 20;
    })
    .await;
    let stream = RawClient::connect_small(&edge.address()).await.stream;
    let mut client = edge.deflating_on(stream, "alice").await;
    subscribe(&mut client, "chat.orders").await;
    let mut watcher = edge.client("alice").await;
    watcher.subscribe("chat.orders").await;
    let nats = edge.nats.client().await;
    for number in 0..PUBLICATIONS {
        let noise: Vec<_> =
            (1..100).map(|n| json!({ "quantity": (number * n * 7919) % 1_000_003 })).collect();
        nats.publish("chat.orders", json!({ "n": number, "noise": noise }).to_string().into()).await.unwrap();
    }
    // The client reads only after all of it is queued and its socket has been full for a while.
    while watcher.expect("message").await["data"]["n"] != PUBLICATIONS - 1 {}
    for number in 0..PUBLICATIONS {
        let frame = message_frame(&mut client).await;
        let message: Value = serde_json::from_slice(&frame.message()).unwrap();
        assert_eq!((frame.deflated, &message["data"]["n"]), (true, &json!(number)));
    }
}

#[tokio::test]
async fn compressed_fragmented_and_plain_messages_may_alternate() {
    let edge = TestEdge::start().await;
    let mut client = edge.deflating("alice").await;
    for id in 0..20 {
        let ping = json!({ "type": "ping", "id": id }).to_string();
        let deflated = raw::deflated(ping.as_bytes());
        let (begin, end) = deflated.split_at(id % deflated.len());
        client.send(&raw::deflated_text(&ping)).await;
        assert_eq!(client.message().await["id"], json!(id));
        client.send(&[raw::frame(DEFLATED_FIRST, begin), raw::frame(LAST, end)].concat()).await;
        assert_eq!(client.message().await["id"], json!(id));
        client.send(&raw::text(&ping)).await;
        assert_eq!(client.message().await["id"], json!(id));
    }
}

#[tokio::test]
async fn ws_04_invalid_compressed_messages_end_only_their_session() {
    let edge = TestEdge::start().await;
    let mut healthy = edge.deflating("alice").await;
    let zeros = raw::deflated(&vec![b' '; 1 << 20]);
    let ping = raw::deflated(br#"{"type":"ping"}"#);
    for (what, sent, code) in [
        ("a bomb", raw::frame(DEFLATED_TEXT, &zeros), 1009),
        ("a bomb in a bomb", raw::frame(DEFLATED_TEXT, &raw::deflated(&zeros.repeat(100))), 1009),
        ("more than a message, before inflating", raw::frame(DEFLATED_TEXT, &[0; 65_537]), 1009),
        ("a bad block", raw::frame(DEFLATED_TEXT, b"\x06"), 1002),
        ("trailing garbage", raw::frame(DEFLATED_TEXT, &[&ping[..], b"garbage"].concat()), 1002),
        ("half a message", raw::frame(DEFLATED_TEXT, &ping[..ping.len() / 2]), 1002),
        ("a compressed ping", raw::frame(0xc9, &ping), 1002),
        ("a compressed continuation", [raw::frame(1, b"{"), raw::frame(0xc0, b"}")].concat(), 1002),
        ("text that is not UTF-8", raw::frame(DEFLATED_TEXT, &raw::deflated(b"a\xff")), 1007),
    ] {
        let mut client = edge.deflating("alice").await;
        client.send(&sent).await;
        assert_eq!(client.close_code().await, Some(code), "{what}");
    }
    let mut plain = edge.raw("alice").await;
    plain.send(&raw::deflated_text(r#"{"type":"ping"}"#)).await;
    assert_eq!(plain.close_code().await, Some(1002), "RSV1 without negotiation");
    healthy.send(&raw::frame(DEFLATED_TEXT, b"")).await;
    assert_eq!(healthy.message().await["code"], "bad_request", "an empty message is a message");
    healthy.send(&raw::deflated_text(r#"{"type":"ping"}"#)).await;
    assert_eq!(healthy.message().await["type"], "pong");
}

#[tokio::test]
async fn ws_04_the_inflated_size_counts_against_the_byte_rate() {
    let edge = TestEdge::with(|config| config.limits.commands_burst = 1_000_000).await;
    // A thousand of them, 60,000 bytes each, are 60 KB on the wire.
    let spaces = raw::deflated_text(&format!("{}{{\"type\":\"ping\"}}", " ".repeat(60_000)));
    assert!(spaces.len() < 120, "{}", spaces.len());
    let mut client = edge.deflating("alice").await;
    client.send(&spaces.repeat(1000)).await;
    let mut pongs = 0;
    let code = loop {
        match client.frame().await.expect("an answer or the end") {
            frame if frame.opcode == 8 => break frame.close_code(),
            _ => pongs += 1,
        }
    };
    assert_eq!((pongs, code), (2, Some(4029)), "the burst is 131072 bytes");
}

#[tokio::test]
async fn a_small_negotiated_window_is_respected() {
    let edge = TestEdge::start().await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n";
    let headers = format!("Authorization: Bearer {}\r\n{offer}", token("alice"));
    let stream = TcpStream::connect(edge.address()).await.unwrap();
    let mut client = RawClient::upgrade(stream, "/ws", &headers).await;
    assert_eq!(client.message().await["type"], "connected");
    subscribe(&mut client, "chat.orders").await;
    edge.publish("chat.orders", payload(1).to_string()).await;
    assert!(!message_frame(&mut client).await.deflated, "it is longer than the window");
    edge.publish("chat.orders", json!("and on ".repeat(50)).to_string()).await;
    assert!(message_frame(&mut client).await.deflated);
}
