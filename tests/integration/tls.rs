//! TLS on a listener: clients send and receive the same as without it, and peers without TLS affect no other client.

use std::time::Duration;

use serde_json::json;
use tidegate::config::Config;
use tidegate::config::tls::TlsVersion;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::ProtocolVersion;

use crate::support::certificates::CertificateFolder;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::token;
use crate::support::flood::flood;
use crate::support::flood::read_flood;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::tls::TlsClient;
use crate::support::within;

/// More than the outbox, TLS and the kernel's buffers at both ends can hold together.
const FLOOD: u64 = 600;

/// Starts TLS over a socket and verifies the certificate.
pub(crate) async fn over(stream: TcpStream) -> TlsStream<TcpStream> {
    TlsClient::new(include_str!("support/tls/ca.pem")).over("localhost", stream).await
}

async fn connect(edge: &TestEdge) -> TlsStream<TcpStream> {
    over(TcpStream::connect(edge.address()).await.unwrap()).await
}

async fn client(edge: &TestEdge, user: &str) -> Client {
    Client::connect_over(connect(edge).await, &token(user)).await
}

#[tokio::test]
async fn over_tls_a_client_publishes_and_receives_its_channels() {
    let edge = TestEdge::with_tls(|_| {}).await;
    let (mut alice, mut bob) = (client(&edge, "alice").await, client(&edge, "bob").await);
    alice.subscribe("chat.room").await;
    bob.subscribe("chat.room").await;
    for length in [1, 16_000, 60_000] {
        let data = json!("x".repeat(length));
        bob.send(&json!({ "type": "publish", "id": 9, "channel": "chat.room", "data": data })).await;
        assert_eq!(alice.expect("message").await["data"], data);
        let received = bob.until("published").await;
        if received.len() == 1 {
            bob.expect("message").await;
        }
    }
}

#[tokio::test]
async fn over_tls_several_requests_share_a_connection() {
    let edge = TestEdge::with_tls(|_| {}).await;
    let mut stream = connect(&edge).await;
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let count = within("an answer", stream.read_buf(&mut answer)).await.unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
    }
}

fn small(config: &mut Config) {
    config.limits.outbox_bytes = 256 * 1024;
    config.limits.send_buffer_bytes = 16 * 1024;
    config.classes.push(Class { kind: Kind::Buffer, ..class("chat.>") });
}

#[tokio::test]
async fn ex_03_over_tls_a_client_that_stops_reading_gets_a_gap() {
    let edge = TestEdge::with_tls(small).await;
    let sleeper = RawClient::connect_small(&edge.address()).await.stream;
    let mut sleeper = Client::connect_over(over(sleeper).await, &token("alice")).await;
    sleeper.subscribe("chat.room").await;
    let mut healthy = client(&edge, "bob").await;
    healthy.subscribe("chat.room").await;
    flood(&edge, "chat.room", FLOOD, &mut healthy).await;
    let missed = read_flood(FLOOD, async || sleeper.next().await.unwrap()).await;
    assert!(missed > 0, "the client has received everything");
    assert_eq!(sleeper.so_far().await, Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn tls_01_a_client_without_tls_is_closed_and_affects_no_other() {
    let edge = TestEdge::with_tls(|config| {
        config.limits.handshake_timeout = Duration::from_millis(500);
    })
    .await;
    let mut good = client(&edge, "alice").await;
    let mut plain = Vec::new();
    // HTTP without TLS, the start of a TLS record, and nothing at all.
    for bytes in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"\x16\x03\x01\x02\0\x01", b""] {
        let mut client = TcpStream::connect(edge.address()).await.unwrap();
        client.write_all(bytes).await.unwrap();
        plain.push(client);
    }
    for mut client in plain {
        let mut received = Vec::new();
        // A close or a reset will do.
        let _ = within("the end", client.read_to_end(&mut received)).await;
        assert!(!received.starts_with(b"HTTP"), "no response in plain text");
    }
    good.subscribe("prices.AAPL").await;
    client(&edge, "bob").await.subscribe("prices.AAPL").await;
}

/// A `ClientHello` of TLS 1.1 (RFC 4346 §7.4.1.2). But for its version, the server could accept it.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    // No session, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression.
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // The extensions signature_algorithms, supported_groups and ec_point_formats.
    body.extend([0, 22, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0]);
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[tokio::test]
async fn tls_01_older_versions_than_the_configured_one_are_refused() {
    let edge = TestEdge::with_tls(|_| {}).await;
    let mut old = TcpStream::connect(edge.address()).await.unwrap();
    old.write_all(&hello_of_tls_1_1()).await.unwrap();
    let mut answer = Vec::new();
    within("the end", old.read_to_end(&mut answer)).await.unwrap();
    // A fatal alert: protocol_version (RFC 8446 §6.2).
    assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]), "{answer:?}");
    let tls_1_2 = TlsClient::new(include_str!("support/tls/ca.pem")).with_tls_1_2_only();
    let stream = TcpStream::connect(edge.address()).await.unwrap();
    let stream = tls_1_2.over("localhost", stream).await;
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let strict = TestEdge::with_tls(|config| config.tls.min_version = TlsVersion::V1_3).await;
    let stream = TcpStream::connect(strict.address()).await.unwrap();
    assert!(tls_1_2.try_over("localhost", stream).await.is_err());
    let stream = connect(&strict).await;
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn a_client_resumes_its_session_with_a_ticket() {
    let edge = TestEdge::with_tls(|_| {}).await;
    for tls in [
        TlsClient::new(include_str!("support/tls/ca.pem")),
        TlsClient::new(include_str!("support/tls/ca.pem")).with_tls_1_2_only(),
    ] {
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let stream = TcpStream::connect(edge.address()).await.unwrap();
            let mut stream = tls.over("localhost", stream).await;
            // Tickets of TLS 1.3 come after the handshake.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            within("an answer", stream.read_to_end(&mut Vec::new())).await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        }
        assert!(kinds[0] != HandshakeKind::Resumed && kinds[1] == HandshakeKind::Resumed, "{kinds:?}");
    }
}

#[tokio::test]
async fn tls_01_a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let folder = CertificateFolder::new("names");
    let files = [folder.issue("a", &["a.example"]), folder.issue("b", &["b.example", "*.b.example"])];
    let edge = TestEdge::with(|config| config.tls.certificates = files.to_vec()).await;
    let tls = TlsClient::new(&folder.ca_pem());
    for (name, is_known) in [
        ("a.example", true),
        ("b.example", true),
        ("x.b.example", true),
        ("x.y.b.example", false),
        ("x.a.example", false),
        ("other.example", false),
    ] {
        let stream = TcpStream::connect(edge.address()).await.unwrap();
        assert_eq!(tls.try_over(name, stream).await.is_ok(), is_known, "{name}");
    }
    // An unknown name gets the first certificate, and the client decides.
    let stream = TcpStream::connect(edge.address()).await.unwrap();
    let error = tls.try_over("other.example", stream).await.unwrap_err().to_string();
    assert!(error.contains("a.example"), "{error}");
}

#[tokio::test]
async fn tls_01_a_client_needs_a_certificate_if_there_are_cas_for_clients() {
    let (folder, others) = (CertificateFolder::new("clients"), CertificateFolder::new("others"));
    let files = folder.issue("server", &["localhost"]);
    let edge = TestEdge::with(|config| {
        config.tls.certificates = vec![files];
        config.tls.client_ca_file = Some(folder.ca_file());
    })
    .await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = async |tls: TlsClient| {
        let stream = TcpStream::connect(edge.address()).await.unwrap();
        let mut answer = Vec::new();
        // In TLS 1.3, a client learns from its first read that it is refused.
        if let Ok(mut stream) = tls.try_over("localhost", stream).await {
            let _ = stream.write_all(request).await;
            let _ = within("the end", stream.read_to_end(&mut answer)).await;
        }
        String::from_utf8(answer).unwrap()
    };
    let tls = TlsClient::new(&folder.ca_pem());
    let with = |folder: &CertificateFolder| {
        tls.clone().with_certificate(&folder.issue("client", &["client.example"]))
    };
    assert!(answer(with(&folder)).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(answer(tls.clone()).await, "", "without a certificate");
    assert_eq!(answer(with(&others)).await, "", "with that of another CA");
    assert_eq!(answer(with(&folder).with_tls_1_2_only()).await.get(..12), Some("HTTP/1.1 200"));
    assert_eq!(answer(tls.with_tls_1_2_only()).await, "");
}

#[tokio::test]
async fn tls_01_browsers_are_told_to_use_tls_in_every_response() {
    let folder = CertificateFolder::new("hsts");
    let files = folder.issue("server", &["localhost"]);
    let listen = "127.0.0.1:0";
    let edge = TestEdge::with(|config| {
        config.tls.certificates = vec![files];
        config.tls.hsts = Some(Duration::from_hours(1));
        let plain = tidegate::config::endpoint::EndpointConfig {
            listen: listen.parse().ok(),
            tls: false,
            path: "/plain".to_owned(),
            ..Default::default()
        };
        config.endpoints.push(plain);
    })
    .await;
    let tls = TlsClient::new(&folder.ca_pem());
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let (ok, rejected) = (handshake("/ws", &bearer), handshake("/ws", "Authorization: Bearer x\r\n"));
    // The last takes the path of hyper.
    let by_hyper = handshake("/ws", &format!("{bearer}Content-Length: 0\r\n"));
    let (_, plain) = &edge.app.endpoint_addresses[0];
    for (request, status) in [
        (get("/healthz"), "200"),
        (get("/nothing"), "404"),
        (get("/ws"), "426"),
        (ok.clone(), "101"),
        (rejected, "401"),
        (by_hyper, "101"),
    ] {
        let stream = TcpStream::connect(edge.address()).await.unwrap();
        let mut client = RawClient::over(tls.over("localhost", stream).await);
        client.send(&request).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert!(head.contains("\r\nstrict-transport-security: max-age=3600\r\n"), "{head}");
        let request = String::from_utf8(request).unwrap().replace("/ws", "/plain");
        let answer = ask(&plain.to_string(), request).await;
        assert!(!answer.head.contains("strict-transport-security"), "{}", answer.head);
    }
}

#[tokio::test]
async fn over_tls_messages_are_compressed() {
    let edge = TestEdge::with_tls(|_| {}).await;
    let headers = format!(
        "Authorization: Bearer {}\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        token("alice")
    );
    let mut client = RawClient::upgrade(connect(&edge).await, "/ws", &headers).await;
    assert_eq!(client.message().await["type"], "connected");
    let subscribe = json!({ "type": "subscribe", "id": 1, "channel": "chat.room" }).to_string();
    client.send(&crate::support::raw::deflated_text(&subscribe)).await;
    assert_eq!(client.message().await["type"], "subscribed");
    edge.publish("chat.room", format!("\"{}\"", "abc".repeat(50_000))).await;
    let frame = client.frame().await.unwrap();
    assert!(frame.deflated && frame.payload.len() < 10_000);
    assert!(frame.message().len() > 150_000);
}
