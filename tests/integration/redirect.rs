//! The listener that sends clients from `http` to `https`.

use std::time::Duration;

use tidegate::config::origin::WebOrigin;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::edge::TestEdge;
use crate::support::raw::ask;
use crate::support::within;

async fn edge() -> TestEdge {
    TestEdge::with_tls(|config| {
        config.http.redirect_listen = "127.0.0.1:0".parse().ok();
        config.tls.hsts = Some(Duration::from_hours(1));
        config.limits.handshake_timeout = Duration::from_millis(500);
    })
    .await
}

fn address(edge: &TestEdge) -> String {
    edge.app.redirect_address.as_ref().unwrap().to_string()
}

#[tokio::test]
async fn every_request_is_sent_to_https_and_nothing_else_is_served() {
    let edge = edge().await;
    let (address, port) = (address(&edge), edge.app.address.tcp().unwrap().port());
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/ws?token=x&a=%2F"),
        ("POST", "/healthz"),
        ("GET", "/healthz"),
        ("OPTIONS", "/%0d%0aSet-Cookie:%20a"),
        ("GET", "//evil.example/"),
    ] {
        let answer =
            ask(&address, format!("{method} {target} HTTP/1.1\r\nHost: live.example:80\r\n\r\n")).await;
        assert_eq!(answer.status, 308, "{answer:?}");
        let location = format!("https://live.example:{port}{target}");
        assert_eq!(answer.header("location"), Some(location.as_str()));
        assert_eq!(answer.header("strict-transport-security"), None, "browsers ignore it without TLS");
    }
    let upgrade = crate::support::raw::handshake("/ws", "");
    assert_eq!(ask(&address, upgrade).await.status, 308);
    for host in ["", "user@live.example", "live.example/evil"] {
        let answer = ask(&address, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("location")), (400, None), "{host:?}");
    }
}

#[tokio::test]
async fn requests_are_sent_to_the_public_url_if_there_is_one() {
    let edge = TestEdge::with_tls(|config| {
        config.http.redirect_listen = "127.0.0.1:0".parse().ok();
        config.http.public_url = WebOrigin::parse("https://edge.example.com").ok();
    })
    .await;
    for host in ["live.example:80", "evil.example"] {
        let answer = ask(&address(&edge), format!("GET /a?b HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("location")), (308, Some("https://edge.example.com/a?b")));
    }
}

#[tokio::test]
async fn hs_03_its_clients_have_the_same_deadline() {
    let edge = edge().await;
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut client = TcpStream::connect(address(&edge)).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let _ = within("the end", client.read_to_end(&mut Vec::new())).await;
    }
}
