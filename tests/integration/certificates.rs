//! Certificates that are replaced while the node runs.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::support::certificates::CertificateFolder;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::tls::TlsClient;

/// The certificate that a new client gets, in DER.
async fn served(address: &str, tls: &TlsClient) -> Vec<u8> {
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = tls.over("localhost", stream).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn in_file(path: &std::path::Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

async fn is_served(address: &str, ca: &str, certificate: &[u8]) {
    // Each handshake is a full one, because a resumed session has the certificate of the first.
    eventually("the new certificate", || async { served(address, &TlsClient::new(ca)).await == certificate })
        .await;
}

#[tokio::test]
async fn tls_01_new_clients_get_a_new_certificate_and_live_ones_stay() {
    let folder = CertificateFolder::new("reload");
    let files = folder.issue("server", &["localhost"]);
    let edge = TestEdge::with(|config| config.tls.certificates = vec![files.clone()]).await;
    let tls = TlsClient::new(&folder.ca_pem());
    let stream = tls.over("localhost", TcpStream::connect(edge.address()).await.unwrap()).await;
    let mut live = Client::connect_over(stream, &token("alice")).await;
    let old = in_file(&files.cert_file);
    assert_eq!(served(&edge.address(), &tls).await, old);
    folder.issue("server", &["localhost"]);
    let new = in_file(&files.cert_file);
    assert_ne!(new, old);
    edge.app.reload_certificates();
    is_served(&edge.address(), &folder.ca_pem(), &new).await;
    live.subscribe("chat.room").await;
}

#[tokio::test]
async fn tls_01_changed_files_are_found_without_a_signal() {
    let folder = CertificateFolder::new("poll");
    let files = folder.issue("server", &["localhost"]);
    let edge = TestEdge::with(|config| {
        config.tls.certificates = vec![files.clone()];
        config.tls.poll = Duration::from_millis(50);
    })
    .await;
    folder.issue("server", &["localhost"]);
    is_served(&edge.address(), &folder.ca_pem(), &in_file(&files.cert_file)).await;
}

#[tokio::test]
async fn tls_01_a_bad_new_file_keeps_the_old_certificate_and_the_log_says_why() {
    let folder = CertificateFolder::new("bad");
    let files = folder.issue("server", &["localhost"]);
    let old = in_file(&files.cert_file);
    let config = format!(
        "tls.cert_file = {:?}\ntls.key_file = {:?}\ntls.poll_s = 3600",
        files.cert_file, files.key_file
    );
    let nats = NatsServer::start().await;
    let mut node = Process::serve(&nats.node_url(), &config).await;
    let tls = TlsClient::new(&folder.ca_pem());
    let key = std::fs::read(&files.key_file).unwrap();
    let other = folder.issue("other", &["localhost"]);
    for (bad, reason) in [
        (Vec::new(), "is empty"),
        (b"garbage".to_vec(), "has no private key"),
        (std::fs::read(&other.key_file).unwrap(), "does not belong to the private key"),
    ] {
        std::fs::write(&files.key_file, bad).unwrap();
        node.signal("HUP");
        let is_told = |line: &serde_json::Value| {
            line["level"] == "ERROR" && line["error"].as_str().is_some_and(|text| text.contains(reason))
        };
        eventually(reason, async || node.logs().iter().any(is_told)).await;
        assert_eq!(served(&node.address, &tls).await, old);
    }
    std::fs::write(&files.key_file, key).unwrap();
    // An expired one does not replace one that is valid.
    let expired = folder.issue_for("expired", &["localhost"], Duration::ZERO);
    std::fs::copy(&expired.key_file, &files.key_file).unwrap();
    std::fs::copy(&expired.cert_file, &files.cert_file).unwrap();
    node.signal("HUP");
    let is_told = |line: &serde_json::Value| {
        line["error"].as_str().is_some_and(|error| error.contains("it expired on"))
    };
    eventually("expired", async || node.logs().iter().any(is_told)).await;
    let contradicts = |line: &serde_json::Value| line.to_string().contains("so clients refuse it");
    assert!(!node.logs().iter().any(contradicts), "the old certificate stays");
    assert_eq!(served(&node.address, &tls).await, old);
    folder.issue("server", &["localhost"]);
    node.signal("HUP");
    is_served(&node.address, &folder.ca_pem(), &in_file(&files.cert_file)).await;
    node.signal("TERM");
    assert!(node.ended().await);
}

#[tokio::test]
async fn tls_01_new_cas_of_clients_count_at_once_and_end_old_tickets() {
    let (folder, new) = (CertificateFolder::new("old-ca"), CertificateFolder::new("new-ca"));
    let files = folder.issue("server", &["localhost"]);
    let edge = TestEdge::with(|config| {
        config.tls.certificates = vec![files];
        config.tls.client_ca_file = Some(folder.ca_file());
    })
    .await;
    let tls = TlsClient::new(&folder.ca_pem());
    let is_let_in = async |tls: &TlsClient| {
        let stream = TcpStream::connect(edge.address()).await.unwrap();
        let Ok(stream) = tls.try_over("localhost", stream).await else { return false };
        let mut client = crate::support::raw::RawClient::over(stream);
        client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        client.rest().await.starts_with(b"HTTP/1.1 200")
    };
    let old_client = tls.clone().with_certificate(&folder.issue("client", &["client.example"]));
    let new_client = tls.with_certificate(&new.issue("client", &["client.example"]));
    assert!(is_let_in(&old_client).await && !is_let_in(&new_client).await);
    std::fs::copy(new.ca_file(), folder.ca_file()).unwrap();
    edge.app.reload_certificates();
    eventually("the new CA", || async { is_let_in(&new_client).await }).await;
    assert!(!is_let_in(&old_client).await, "it has a ticket");
}
