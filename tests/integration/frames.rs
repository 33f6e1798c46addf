//! Hostile and unusual frames over an open WebSocket, and how the server reacts.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::within;

/// The first bytes of frames: FIN and opcode.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const FIRST_TEXT: u8 = 0x01;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// Sends the bytes `times` times, without reading, or until the server closes the connection.
async fn flood(client: &mut RawClient, bytes: &[u8], times: usize) {
    let block = bytes.repeat(times.min(1000));
    for _ in 0..times.div_ceil(1000) {
        if tokio::io::AsyncWriteExt::write_all(&mut client.stream, &block).await.is_err() {
            return;
        }
    }
}

/// The opcodes of all frames until the server closes, and its close code.
async fn read_to_close(client: &mut RawClient) -> (Vec<u8>, Option<u16>) {
    let mut opcodes = Vec::new();
    let mut code = None;
    while let Some(frame) = client.frame().await {
        code = code.or_else(|| frame.close_code());
        opcodes.push(frame.opcode);
    }
    (opcodes, code)
}

#[tokio::test]
async fn ws_01_a_huge_length_is_rejected_before_the_payload_arrives() {
    let edge = TestEdge::start().await;
    for length in [65_537, 16 << 20, 1 << 40, 1 << 62, 1 << 63, u64::MAX] {
        for first in [TEXT, BINARY, FIRST_TEXT] {
            let mut client = edge.raw("alice").await;
            client.send(&raw::header(first, length)).await;
            client.send(&[1, 2, 3, 4]).await;
            assert_eq!(client.close_code().await, Some(1009), "{first:#x} of {length} bytes");
        }
    }
    let mut client = edge.raw("alice").await;
    client.send(&raw::frame(FIRST_TEXT, &[b'a'; 60_000])).await;
    client.send(&raw::header(LAST, 6_000)).await;
    client.send(&[1, 2, 3, 4]).await;
    assert_eq!(client.close_code().await, Some(1009), "the sum of fragments");
}

#[tokio::test]
async fn ws_02_endless_fragments_close_the_connection() {
    let edge = TestEdge::start().await;
    let mut client = edge.raw("alice").await;
    client.send(&raw::frame(FIRST_TEXT, b"{")).await;
    flood(&mut client, &raw::frame(MORE, b""), 1_000_000).await;
    assert_eq!(client.close_code().await, Some(1008));
}

#[tokio::test]
async fn ws_02_a_message_that_is_never_finished_has_a_deadline() {
    let edge = TestEdge::with(|config| config.limits.fragment_timeout = Duration::from_secs(1)).await;
    let mut half = edge.raw("alice").await;
    half.send(&raw::header(TEXT, 10)).await;
    assert_eq!(half.close_code().await, Some(1008));
    let mut drip = edge.raw("alice").await;
    drip.send(&raw::frame(FIRST_TEXT, b"a")).await;
    let code = loop {
        drip.send(&raw::frame(MORE, b"a")).await;
        if let Ok(code) = tokio::time::timeout(Duration::from_millis(50), drip.close_code()).await {
            break code;
        }
    };
    assert_eq!(code, Some(1008));
}

#[tokio::test]
async fn ws_02_each_message_has_its_own_deadline() {
    let edge = TestEdge::with(|config| {
        config.limits.fragment_timeout = Duration::from_secs(1);
        config.limits.commands_per_s = 1000;
    })
    .await;
    let mut client = edge.raw("alice").await;
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    let ping = raw::text(r#"{"type":"ping"}"#);
    let (first, rest) = ping.split_at(9);
    client.send(first).await;
    // There is always an unfinished message, but each ends soon.
    while tokio::time::Instant::now() < until {
        client.send(&[rest, first].concat()).await;
        assert_eq!(client.message().await, json!({ "type": "pong" }));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn ws_03_floods_of_control_frames_close_the_connection_even_if_the_peer_never_reads() {
    let edge = TestEdge::start().await;
    let (_, mut healthy) = edge.pair().await;
    for (what, bytes) in [
        ("pings", raw::frame(PING, b"are you there?")),
        ("pings of 125 bytes", raw::frame(PING, &[b'p'; 125])),
        ("pongs", raw::frame(PONG, b"")),
    ] {
        let mut client = edge.raw("alice").await;
        flood(&mut client, &bytes, 500_000).await;
        let (opcodes, code) = within("the end of a flood", read_to_close(&mut client)).await;
        assert_eq!(code, Some(1008), "{what}");
        let pongs = opcodes.iter().filter(|opcode| **opcode == 10).count();
        assert!(pongs <= 51, "{what}: {pongs} answers; the burst is 50");
    }
    assert!(healthy.so_far().await.is_empty());
    assert_eq!(healthy.closed, None);
}

/// RFC 6455 §1.4: data after a close frame is ignored.
#[tokio::test]
async fn ws_03_a_flood_of_close_frames_is_answered_once() {
    let edge = TestEdge::start().await;
    let mut client = edge.raw("alice").await;
    flood(&mut client, &raw::frame(CLOSE, &1000_u16.to_be_bytes()), 50_000).await;
    assert_eq!(read_to_close(&mut client).await, (vec![8], Some(1000)));
    eventually("its socket is closed", || async { edge.app.shards.sockets() == 0 }).await;
}

#[tokio::test]
async fn ws_03_of_several_pending_pings_only_the_last_is_answered() {
    let edge = TestEdge::with(|config| {
        config.limits.send_buffer_bytes = 4096;
        config.limits.outbox_bytes = 64 << 20;
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let stream = socket.connect(edge.address().parse().unwrap()).await.unwrap();
    let mut client = edge.raw_on(stream, "alice").await;
    let (mut other_shard, mut same_shard) = edge.pair().await;
    client.send(&raw::text(r#"{"type":"subscribe","channel":"chat.big"}"#)).await;
    assert_eq!(client.message().await["type"], "subscribed");
    for healthy in [&mut other_shard, &mut same_shard] {
        healthy.subscribe("chat.>").await;
    }
    let nats = edge.nats.client().await;
    for _ in 0..8 {
        nats.publish("chat.big", vec![b'x'; 64 * 1024].into()).await.unwrap();
    }
    nats.flush().await.unwrap();
    for healthy in [&mut other_shard, &mut same_shard] {
        for _ in 0..8 {
            healthy.expect("message").await;
        }
    }
    // By now the client's receive buffer is full, but the server still reads.
    for number in 0..40 {
        client.send(&raw::frame(PING, format!("{number}").as_bytes())).await;
        tokio::task::yield_now().await;
    }
    client.send(&raw::text(r#"{"type":"publish","channel":"chat.done","data":1}"#)).await;
    assert_eq!(same_shard.expect("message").await["subject"], "chat.done");
    let mut pongs = Vec::new();
    loop {
        let frame = client.frame().await.unwrap();
        match frame.opcode {
            10 => pongs.push(String::from_utf8(frame.payload).unwrap()),
            _ if frame.payload.starts_with(br#"{"type":"published""#) => break,
            _ => {}
        }
    }
    client.send(&raw::text(r#"{"type":"ping","id":"end"}"#)).await;
    loop {
        let frame = client.frame().await.unwrap();
        match frame.opcode {
            10 => pongs.push(String::from_utf8(frame.payload).unwrap()),
            _ if frame.payload.starts_with(br#"{"type":"pong","id":"end""#) => break,
            _ => {}
        }
    }
    assert_eq!(pongs, ["39"]);
}

#[tokio::test]
async fn ws_07_each_hostile_message_gets_an_error_and_too_many_end_the_session() {
    let edge = TestEdge::with(|config| {
        config.limits.max_message_bytes = 4 << 20;
        config.limits.inbound_burst_bytes = 64 << 20;
    })
    .await;
    let members: String = (0..100_000).map(|number| format!("\"{number}\":1,")).collect();
    let depth = 10_000;
    let hostile = [
        "".to_owned(),
        "nonsense".to_owned(),
        "null".to_owned(),
        "\u{feff}{\"type\":\"ping\"}".to_owned(),
        "[".repeat(depth),
        format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
        format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth)),
        format!(r#"{{"type":"subscribe","channel":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth)),
        r#"{"type":"subscribe","channel":"chat.a","max_rate_ms":1e400}"#.to_owned(),
        r#"{"type":"subscribe","channel":"chat.a","max_rate_ms":-1}"#.to_owned(),
        r#"{"type":"ping","id":1e400}"#.to_owned(),
        r#"{"type":"ping","id":"\ud800"}"#.to_owned(),
        r#"{"type":"ping","id":{}}"#.to_owned(),
        r#"{"type":"\ud800"}"#.to_owned(),
        r#"{"type":"subscribe","channel":"chat.\ud800"}"#.to_owned(),
        r#"{"type":"ping","type":"ping"}"#.to_owned(),
        r#"{"type":"ping","id":1,"\u0069d":2}"#.to_owned(),
        format!("{{{members}\"type\":\"ping\"}}"),
        r#"{"type":"ping"} {"type":"ping"}"#.to_owned(),
        r#"{"__proto__":{"type":"ping"}}"#.to_owned(),
    ];
    let mut client = edge.raw("alice").await;
    for message in &hostile {
        client.send(&raw::text(message)).await;
        let answer = client.message().await;
        assert_eq!(answer["type"], "error", "{answer} to {:.80}", message);
        assert_eq!(answer["code"], "bad_request", "{answer} to {:.80}", message);
    }
    assert_eq!(hostile.len(), 20, "as many as a session may have");
    client.send(&raw::text(r#"{"type":"ping","__proto__":{"type":"close"}}"#)).await;
    assert_eq!(client.message().await, json!({ "type": "pong" }));
    client.send(&raw::text("one more")).await;
    assert_eq!(client.message().await["type"], "error");
    let close = client.message().await;
    assert_eq!((&close["type"], &close["code"]), (&json!("close"), &json!(4509)));
    assert_eq!(client.close_code().await, Some(4509));
}

#[tokio::test]
async fn a_client_above_its_byte_rate_is_closed() {
    let edge = TestEdge::start().await;
    let mut client = edge.raw("alice").await;
    let ping = raw::text(&json!({ "type": "ping", "padding": "x".repeat(60_000) }).to_string());
    // 128 KiB at once and 32 KiB per second: two messages fit, ten do not.
    for _ in 0..10 {
        client.send(&ping).await;
    }
    assert_eq!(client.close_code().await, Some(4029));
}

/// Clients of a node that is stopped for longer than any of its deadlines. Each client runs `before` while the node
/// works, and sends `meanwhile` while it is stopped.
async fn while_stopped(limits: &str, before: impl AsyncFn(&mut RawClient), meanwhile: &[u8]) {
    let nats = NatsServer::start().await;
    let process = Process::serve(&nats.node_url(), limits).await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    let mut clients = Vec::new();
    for _ in 0..40 {
        let stream = TcpStream::connect(&process.address).await.unwrap();
        let mut client = RawClient::upgrade(stream, "/ws", &bearer).await;
        assert_eq!(client.message().await["type"], "connected");
        clients.push(client);
    }
    for client in &mut clients {
        before(client).await;
    }
    process.signal("STOP");
    for client in &mut clients {
        client.send(meanwhile).await;
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    process.signal("CONT");
    for client in &mut clients {
        client.send(&raw::text(r#"{"type":"ping","id":"after"}"#)).await;
        loop {
            let frame = client.frame().await.expect("an answer");
            assert_ne!(frame.opcode, 8, "{frame:?}");
            if frame.opcode == 1 && String::from_utf8(frame.message()).unwrap().contains("after") {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_message_that_arrived_while_the_node_was_stalled_is_not_late() {
    let ping = raw::text(r#"{"type":"ping"}"#);
    let (begin, rest) = ping.split_at(ping.len() / 2);
    while_stopped("limits.fragment_timeout_s = 1\n", async |client| client.send(begin).await, rest).await;
}

#[tokio::test]
async fn a_pong_that_arrived_while_the_node_was_stalled_is_not_late() {
    let limits = "limits.ping_interval_s = 1\nlimits.pong_timeout_s = 2\n";
    let before = async |client: &mut RawClient| {
        assert!(String::from_utf8(client.frame().await.expect("a ping").message()).unwrap().contains("ping"));
    };
    while_stopped(limits, before, &raw::text(r#"{"type":"pong"}"#)).await;
}

#[tokio::test]
async fn control_frames_may_be_between_fragments() {
    let edge = TestEdge::start().await;
    let mut client = edge.raw("alice").await;
    let parts = [
        raw::frame(FIRST_TEXT, b"{\"type\":"),
        raw::frame(PING, b"one"),
        raw::frame(MORE, b"\"ping\",\"id\":"),
        raw::frame(PONG, b"unasked"),
        raw::frame(MORE, b""),
        raw::frame(LAST, b"7}"),
    ];
    for bytes in parts.concat().chunks(3) {
        client.send(bytes).await;
        tokio::task::yield_now().await;
    }
    let pong = client.frame().await.unwrap();
    assert_eq!((pong.opcode, &pong.payload[..]), (10, &b"one"[..]));
    assert_eq!(client.message().await, json!({ "type": "pong", "id": 7 }));
}

#[tokio::test]
async fn a_binary_message_is_an_error_and_the_session_continues() {
    let edge = TestEdge::start().await;
    let mut client = edge.raw("alice").await;
    client.send(&raw::frame(BINARY, br#"{"type":"ping"}"#)).await;
    assert_eq!(client.message().await["code"], "bad_request");
    client.send(&raw::text(r#"{"type":"ping"}"#)).await;
    assert_eq!(client.message().await["type"], "pong");
}

/// RFC 6455 §7.4.1: 1002 for violations of the protocol, 1007 for text that is not UTF-8.
#[tokio::test]
async fn invalid_frames_close_with_the_code_of_rfc_6455() {
    let edge = TestEdge::start().await;
    let mask_missing = [0x81, 0x02, b'{', b'}'].to_vec();
    for (what, bytes, code) in [
        ("unmasked", mask_missing, 1002),
        ("reserved bit", raw::frame(0xc1, b"{}"), 1002),
        ("reserved opcode", raw::frame(0x83, b"{}"), 1002),
        ("a continuation of nothing", raw::frame(LAST, b"{}"), 1002),
        ("a long ping", raw::frame(PING, &[0; 126]), 1002),
        ("half a close code", raw::frame(CLOSE, &[3]), 1002),
        ("a close code that may not be sent", raw::frame(CLOSE, &1005_u16.to_be_bytes()), 1002),
        ("no UTF-8", raw::frame(TEXT, b"\xff\xfe"), 1007),
        ("no UTF-8 at the end of a fragment", raw::frame(FIRST_TEXT, b"\xed\xa0\x80"), 1007),
    ] {
        let mut client = edge.raw("alice").await;
        client.send(&bytes).await;
        assert_eq!(client.close_code().await, Some(code), "{what}");
    }
}

/// Reads the end of the stream; a reset is an error.
async fn end(client: &mut RawClient) -> std::io::Result<usize> {
    within("the end of the connection", client.stream.read(&mut [0; 16])).await
}

#[tokio::test]
async fn a_close_frame_is_echoed_and_the_server_closes_the_connection() {
    let edge = TestEdge::start().await;
    for (sent, answered) in [
        (&b""[..], &b""[..]),
        (b"\x03\xe8", b"\x03\xe8"),
        (b"\x03\xe9bye, bye", b"\x03\xe9"),
        (b"\x0f\xa0", b"\x0f\xa0"),
    ] {
        let mut client = edge.raw("alice").await;
        client.send(&raw::frame(CLOSE, sent)).await;
        let close = client.frame().await.unwrap();
        assert_eq!((close.opcode, &close.payload[..]), (8, answered));
        assert_eq!(end(&mut client).await.unwrap(), 0);
        assert_eq!(edge.app.shards.sockets(), 1, "the server closes first, and waits for the client");
        drop(client);
        eventually("its socket is closed", || async { edge.app.shards.sockets() == 0 }).await;
    }
}

#[tokio::test]
async fn a_close_frame_arrives_before_any_reset_of_the_connection() {
    let edge = TestEdge::start().await;
    // Bytes after the invalid frame are still in flight when the server closes.
    let mut client = edge.raw("alice").await;
    client.send(&[raw::frame(LAST, b"{}"), vec![0; 512 * 1024]].concat()).await;
    let close: Value = client.message().await;
    assert_eq!((&close["type"], &close["code"]), (&json!("close"), &json!(1002)));
    assert_eq!(client.close_code().await, Some(1002));
    assert_eq!(end(&mut client).await.unwrap(), 0);
    assert_eq!(edge.app.shards.sockets(), 1, "the server still reads, or later bytes would cause a reset");
    client.send(&raw::frame(CLOSE, b"\x03\xea")).await;
    drop(client);
    eventually("its socket is closed", || async { edge.app.shards.sockets() == 0 }).await;
}

#[tokio::test]
async fn the_server_does_not_wait_forever_for_the_peer_to_close() {
    let edge = TestEdge::start().await;
    let mut client = edge.raw("alice").await;
    client.send(&raw::frame(LAST, b"{}")).await;
    assert_eq!(client.close_code().await, Some(1002));
    eventually("its socket is closed", || async { edge.app.shards.sockets() == 0 }).await;
}
