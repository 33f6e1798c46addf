//! Certificates that the node orders by ACME, from Pebble.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::tls::acme::AcmeConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::aws_lc_rs;

use crate::support::certificates::CertificateFolder;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::pebble::Pebble;
use crate::support::tls::TlsClient;
use crate::support::within;

const NAME: &str = "live.tidegate.test";

/// A node that orders certificates. Its listener with this port is the one that the authority checks.
fn ordering(acme: AcmeConfig, port: u16) -> impl FnOnce(&mut Config) {
    move |config| {
        config.tls.acme = Some(acme);
        config.endpoints.push(EndpointConfig {
            listen: format!("127.0.0.1:{port}").parse().ok(),
            path: "/ws".to_owned(),
            ..EndpointConfig::default()
        });
    }
}

/// The certificate for the name, in DER; `None` if there is none that this CA has issued.
async fn served(port: u16, ca: &str) -> Option<Vec<u8>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let stream = TlsClient::new(ca).try_over(NAME, stream).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].to_vec())
}

async fn ordered(port: u16, ca: &str) -> Vec<u8> {
    eventually("a certificate", || async { served(port, ca).await.is_some() }).await;
    served(port, ca).await.unwrap()
}

#[tokio::test]
async fn tls_02_a_node_orders_a_certificate_and_the_next_one_uses_it_without_the_authority() {
    let (port, other_port) = (NatsServer::free_port(), NatsServer::free_port());
    let mut pebble = Pebble::start("order", port, Duration::from_hours(1)).await;
    let (acme, ca) = (pebble.config(NAME), pebble.root().await);
    let edge = TestEdge::with(ordering(acme.clone(), port)).await;
    let certificate = ordered(port, &ca).await;
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut live = Client::connect_over(TlsClient::new(&ca).over(NAME, stream).await, &token("alice")).await;
    live.subscribe("chat.room").await;
    for entry in std::fs::read_dir(&acme.cache_dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        assert!(!entry.file_name().to_str().unwrap().starts_with("challenge-"), "{entry:?}");
    }
    pebble.kill().await;
    // Another node with the same folder, and the same node after a restart.
    let other = TestEdge::with(ordering(acme.clone(), other_port)).await;
    assert_eq!(ordered(other_port, &ca).await, certificate);
    drop(other);
    within("the end", edge.app.drain()).await;
    let _again = TestEdge::with(ordering(acme, port)).await;
    assert_eq!(ordered(port, &ca).await, certificate);
}

#[tokio::test]
async fn tls_02_a_certificate_is_renewed_and_stays_if_the_authority_is_away() {
    let port = NatsServer::free_port();
    let mut pebble = Pebble::start("renew", port, Duration::from_secs(9)).await;
    let (acme, ca) = (pebble.config(NAME), pebble.root().await);
    let own = CertificateFolder::new("renew-own");
    let files = own.issue("own", &["own.tidegate.test"]);
    let cache = acme.cache_dir.clone();
    let _edge = TestEdge::with(|config| {
        config.tls.certificates = vec![files];
        ordering(acme, port)(config);
    })
    .await;
    let first = ordered(port, &ca).await;
    eventually("another certificate", || async { served(port, &ca).await.is_some_and(|new| new != first) })
        .await;
    pebble.kill().await;
    let last = served(port, &ca).await.unwrap();
    let has_failed = || {
        let files = std::fs::read_dir(&cache).unwrap();
        files.into_iter().any(|file| file.unwrap().file_name().to_str().unwrap().starts_with("retry-"))
    };
    eventually("a failed order", || async { has_failed() }).await;
    // It may have expired by now, so the client does not verify it.
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let error = TlsClient::new(&ca).try_over(NAME, stream).await;
    if let Ok(stream) = error {
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec(), last);
    }
    // The certificate in files is served next to it.
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    TlsClient::new(&own.ca_pem()).over("own.tidegate.test", stream).await;
}

#[tokio::test]
async fn tls_02_any_node_of_a_shared_folder_answers_the_check_of_the_authority() {
    let (port, folder) = (NatsServer::free_port(), CertificateFolder::new("challenge"));
    let acme = AcmeConfig {
        domains: vec![NAME.to_owned()],
        contact: Vec::new(),
        cache_dir: folder.path().to_owned(),
        // Nothing listens there.
        directory_url: "https://127.0.0.1:1/dir".to_owned(),
        directory_ca_file: Some(folder.ca_file()),
    };
    let _edge = TestEdge::with(ordering(acme, port)).await;
    let challenge = folder.issue("challenge", &[NAME]);
    let pem = [&challenge.key_file, &challenge.cert_file]
        .map(|file| std::fs::read_to_string(file).unwrap())
        .concat();
    let ask = async |protocols: &[&[u8]], name: &'static str| {
        let mut roots = RootCertStore::empty();
        roots.add(folder.ca_der()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name.try_into().unwrap(), stream);
        within("a handshake", connecting).await
    };
    assert!(ask(&[b"acme-tls/1"], NAME).await.is_err(), "no check is expected");
    folder.write(&format!("challenge-{NAME}.pem"), &pem);
    let mut checked = ask(&[b"acme-tls/1"], NAME).await.unwrap();
    assert_eq!(checked.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    // It serves no request there (RFC 8737 §3).
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    checked.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end", checked.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"");
    for (protocols, name) in [
        (&[&b"acme-tls/1"[..], b"http/1.1"][..], NAME),
        (&[b"http/1.1"], NAME),
        (&[b"acme-tls/1"], "other.tidegate.test"),
    ] {
        assert!(ask(protocols, name).await.is_err(), "{name}: the certificate of a check is for checks only");
    }
}
