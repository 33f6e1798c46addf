//! Tests of the small HTTP client, with servers that answer badly.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use super::*;

const MAX: usize = 1000;

fn target(port: u16, path: &str) -> FetchTarget<'_> {
    FetchTarget { is_tls: false, host: "127.0.0.1", port, path, ca_file: None }
}

/// Fetches from a server that answers with these bytes. Returns the request, too.
async fn exchange_with(answer: Vec<u8>) -> (Result<Vec<u8>, FetchError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
        }
        // The client may have closed the connection before it was sent all.
        let _ = socket.write_all(&answer).await;
        String::from_utf8(request).unwrap()
    };
    tokio::join!(fetch(target(port, "/keys?a=b"), MAX), server)
}

fn with_length(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn a_document_is_fetched_with_a_plain_request() {
    let (result, request) = exchange_with(with_length("200 OK", "", "{}")).await;
    assert_eq!(result.unwrap(), b"{}");
    assert!(request.starts_with("GET /keys?a=b HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
    assert!(!request.to_lowercase().contains("accept-encoding"), "{request}");
    let until_the_end = b"HTTP/1.1 200 OK\r\n\r\n{\"a\":1}".to_vec();
    assert_eq!(exchange_with(until_the_end).await.0.unwrap(), b"{\"a\":1}");
}

#[tokio::test]
async fn jwt_10_no_redirect_is_followed_and_no_other_status_is_taken() {
    for status in [301, 302, 303, 307, 308] {
        let answer = with_length(&format!("{status} Moved"), "location: http://127.0.0.1:1/keys\r\n", "{}");
        let (result, _) = exchange_with(answer).await;
        assert!(matches!(result, Err(FetchError::Redirect(found)) if found == status), "{result:?}");
    }
    for status in [201, 204, 206, 400, 401, 404, 500, 503] {
        let (result, _) = exchange_with(with_length(&format!("{status} Other"), "", "")).await;
        assert!(matches!(result, Err(FetchError::Status(found)) if found == status), "{result:?}");
    }
}

#[tokio::test]
async fn jwt_10_an_answer_has_a_largest_size_however_it_is_sent() {
    for (size, is_ok) in [(MAX, true), (MAX + 1, false)] {
        let body = "x".repeat(size);
        let chunked = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1f4\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            &body[..500],
            size - 500,
            &body[500..]
        );
        let until_the_end = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
        for answer in [with_length("200 OK", "", &body), chunked.into_bytes(), until_the_end.into_bytes()] {
            let (result, _) = exchange_with(answer).await;
            match is_ok {
                true => assert_eq!(result.unwrap().len(), MAX),
                false => assert!(
                    matches!(result, Err(FetchError::Exchange(ExchangeError::TooLarge(MAX)))),
                    "{result:?}"
                ),
            }
        }
    }
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(100_000));
    assert!(matches!(
        exchange_with(endless.into_bytes()).await.0,
        Err(FetchError::Exchange(ExchangeError::Http(_)))
    ));
    let many = (0..200).map(|number| format!("x{number}: y\r\n")).collect::<String>();
    let answer = with_length("200 OK", &many, "{}");
    assert!(matches!(exchange_with(answer).await.0, Err(FetchError::Exchange(ExchangeError::Http(_)))));
}

#[tokio::test]
async fn broken_answers_are_errors() {
    for answer in [
        &b""[..],
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let (result, _) = exchange_with(answer.to_vec()).await;
        assert!(matches!(result, Err(FetchError::Exchange(ExchangeError::Http(_)))), "{result:?}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert!(matches!(fetch(target(port, "/"), MAX).await, Err(FetchError::Io(_))), "no one listens");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let bad = fetch(target(port, "not a path"), MAX).await;
    assert!(matches!(bad, Err(FetchError::Request(_))), "{bad:?}");
    let silent = tokio::time::timeout(Duration::from_millis(50), fetch(target(port, "/"), MAX)).await;
    assert!(silent.is_err(), "the caller limits the time");
}

#[tokio::test]
async fn jwt_10_a_certificate_of_an_unknown_authority_is_refused() {
    // Made for these tests.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/support/tls");
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ca = folder.join("ca.pem");
    let serve = async || {
        let (socket, _) = listener.accept().await.unwrap();
        let Ok(mut socket) = acceptor.accept(socket).await else { return };
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
        }
        socket.write_all(&with_length("200 OK", "", "{}")).await.unwrap();
        socket.shutdown().await.unwrap();
    };
    let secure = |host, ca_file| FetchTarget { is_tls: true, host, port, path: "/", ca_file };
    let (result, ()) = tokio::join!(fetch(secure("localhost", Some(&ca)), MAX), serve());
    assert_eq!(result.unwrap(), b"{}");
    let (result, ()) = tokio::join!(fetch(secure("localhost", None), MAX), serve());
    assert!(matches!(result, Err(FetchError::Io(_))), "unknown authority: {result:?}");
    let key_file = folder.join("server.key");
    let result = fetch(secure("localhost", Some(&key_file)), MAX).await;
    assert!(matches!(result, Err(FetchError::Tls(ClientTlsError::Certificates { .. }))), "{result:?}");
}
