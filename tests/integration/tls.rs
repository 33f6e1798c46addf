//! TLS on a listener: clients send and receive the same as without it, and peers without TLS affect no other client.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidegate::config::Config;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::token;
use crate::support::flood::flood;
use crate::support::flood::read_flood;
use crate::support::raw::RawClient;
use crate::support::within;

/// More than the outbox, TLS and the kernel's buffers at both ends can hold together.
const FLOOD: u64 = 600;

/// Starts TLS over a socket and verifies the certificate.
pub(crate) async fn over(stream: TcpStream) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(include_bytes!("support/tls/ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), stream);
    let stream = within("a TLS handshake", stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream
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
