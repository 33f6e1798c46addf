//! `GET /v1/preflight`: the answer to a handshake that a page cannot read.

use serde_json::json;
use tidegate::config::origin::WebOrigin;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::Answer;
use crate::support::raw::ask;
use crate::support::raw::handshake;

const APP: &str = "https://app.example.com";

async fn ask_about(address: &str, query: &str, headers: &str) -> Answer {
    ask(address, format!("GET /v1/preflight{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The answer of a preflight must be that of the handshake.
async fn answers_like_a_handshake(edge: &TestEdge, path: &str, headers: &str, status: u16, code: &str) {
    let headers = &format!("{headers}X-Request-Id: mine\r\n");
    let preflight = ask_about(&edge.address(), &format!("?path={path}"), headers).await;
    let socket = ask(&edge.address(), handshake(path, headers)).await;
    assert_eq!((preflight.status, &preflight.json()["code"]), (status, &code.into()), "{preflight:?}");
    assert_eq!((socket.status, &socket.json()), (status, &preflight.json()), "{socket:?}");
    assert_eq!(preflight.header("retry-after").is_some(), socket.header("retry-after").is_some());
    assert_eq!(preflight.header("cache-control"), Some("no-store"), "{preflight:?}");
}

#[tokio::test]
async fn a_preflight_is_answered_like_the_handshake() {
    let edge = TestEdge::with(|config| {
        config.http.allowed_origins = vec![WebOrigin::parse(APP).unwrap()];
        config.limits.connections_per_user = 1;
    })
    .await;
    let good = bearer(&token("alice"));
    let expired = bearer(&token_with(&json!({ "exp": 1 })));
    for (path, headers, status, code) in [
        ("/ws", &*bearer("a.b.c"), 401, "invalid_token"),
        ("/ws", &expired, 401, "token_expired"),
        ("/ws", "Authorization: Basic x\r\n", 400, "bad_credential"),
        ("/ws", &format!("{good}Origin: https://evil.example\r\n"), 403, "origin_not_allowed"),
        ("/nothing", &good, 404, "not_found"),
    ] {
        let preflight = ask_about(&edge.address(), &format!("?path={path}"), headers).await;
        assert_eq!((preflight.status, &preflight.json()["code"]), (status, &code.into()), "{preflight:?}");
        if status != 404 {
            answers_like_a_handshake(&edge, path, headers, status, code).await;
        }
    }
    for query in ["?path=%2Fws", "?path=/ws&protocols=tidegate.v1.json", "?path=/ws%3Fa%3Db"] {
        let answer = ask_about(&edge.address(), query, &good).await;
        assert_eq!((answer.status, &*answer.body), (204, ""), "{query}: {answer:?}");
    }
    // It has taken no place: the user may have one connection.
    let client = Client::open(&edge.address(), "/ws", Some(&token("alice"))).await;
    answers_like_a_handshake(&edge, "/ws", &good, 429, "limit_exceeded").await;
    drop(client);
    let answer = ask_about(&edge.address(), "?path=/ws&protocols=other", &good).await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &"unknown_subprotocol".into()), "{answer:?}");
}

#[tokio::test]
async fn a_preflight_that_names_no_path_says_how_to_ask() {
    let edge = TestEdge::start().await;
    for query in ["", "?", "?path=", "?path=ws", "?path=http://x/ws", "?path=//x/ws%20", "?path=%0d%0a"] {
        let answer = ask_about(&edge.address(), query, "").await;
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert!(detail.contains("/v1/preflight?path=/ws"), "{query}: {detail}");
    }
    for protocols in ["%00", "%0d%0aX:1", "tidegate.v1.json,base64url.bearer.YQ"] {
        let answer = ask_about(&edge.address(), &format!("?path=/ws&protocols={protocols}"), "").await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &"bad_request".into()), "{answer:?}");
    }
    let put = "PUT /v1/preflight?path=/ws HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let answer = ask(&edge.address(), put).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST, OPTIONS")), "{answer:?}");
}

#[tokio::test]
async fn org_01_a_page_of_the_node_itself_asks_with_its_origin() {
    let edge = TestEdge::start().await;
    let own = format!("Origin: http://{}\r\nX-Request-Id: 1\r\n{}", edge.address(), bearer(&token("alice")));
    let socket = ask(&edge.address(), handshake("/ws", &own)).await;
    let post = format!("POST /v1/preflight?path=/ws HTTP/1.1\r\nHost: x\r\n{own}Content-Length: 0\r\n\r\n");
    let answer = ask(&edge.address(), post).await;
    assert_eq!((answer.status, answer.json()), (socket.status, socket.json()), "{answer:?}");
    assert_eq!(answer.json()["code"], "origin_not_allowed");
    // A browser leaves the origin out of a GET to the page's own server.
    let get = format!("Sec-Fetch-Site: same-origin\r\n{}", bearer(&token("alice")));
    let answer = ask_about(&edge.address(), "?path=/ws", &get).await;
    assert!(answer.status == 400 && answer.body.contains("use POST"), "{answer:?}");
}

#[tokio::test]
async fn a_refused_preflight_is_counted_and_logged_and_a_handshake_there_finds_its_own_endpoint() {
    let nats = NatsServer::start().await;
    let node =
        Process::serve(&nats.node_url(), "limits.address_calls_per_s = 1\nlimits.address_calls_burst = 1")
            .await;
    let expired = bearer(&token_with(&json!({ "exp": 1 })));
    ask_about(&node.address, "?path=/ws", &expired).await;
    let line = node.logged("preflight rejected", |line| line["status"] == 401).await;
    assert_eq!(line["reason"], "expired", "{line}");
    ask_about(&node.address, "?path=/ws", &expired).await;
    node.logged("preflight rejected", |line| line["status"] == 429).await;
    let answer = ask(&node.address, handshake("/v1/preflight?path=/ws", "Content-Length: 0\r\n")).await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &"not_found".into()), "{answer:?}");
}

#[tokio::test]
async fn tok_03_a_preflight_uses_up_no_ticket() {
    let edge = TestEdge::start().await;
    let post = format!(
        "POST /v1/ticket HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 0\r\n\r\n",
        bearer(&token("alice"))
    );
    let ticket = ask(&edge.address(), post).await.json()["ticket"].as_str().unwrap().to_owned();
    let answer = ask_about(&edge.address(), &format!("?path=/ws%3Fticket%3D{ticket}"), "").await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &"bad_request".into()), "{answer:?}");
    assert!(!answer.body.contains(&ticket), "{answer:?}");
    let mut client = Client::open(&edge.address(), &format!("/ws?ticket={ticket}"), None).await;
    assert_eq!(client.expect("connected").await["user"], "alice");
}

#[tokio::test]
async fn cors_01_only_allowed_pages_may_read_a_preflight() {
    let edge =
        TestEdge::with(|config| config.http.allowed_origins = vec![WebOrigin::parse(APP).unwrap()]).await;
    let from_app = format!("Origin: {APP}\r\n{}", bearer("a.b.c"));
    let answer = ask_about(&edge.address(), "?path=/ws", &from_app).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, Some(APP)), "{answer:?}");
    let answer = ask_about(&edge.address(), "?path=/nothing", &from_app).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (404, Some(APP)), "{answer:?}");
    let options = format!(
        "OPTIONS /v1/preflight?path=/ws HTTP/1.1\r\nHost: localhost\r\nOrigin: {APP}\r\n\
         Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"
    );
    let answer = ask(&edge.address(), options).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some(APP)), "{answer:?}");
    assert!(answer.header("access-control-allow-headers").unwrap().contains("authorization"), "{answer:?}");
}

#[tokio::test]
async fn a_preflight_says_that_the_node_drains() {
    let edge = TestEdge::start().await;
    edge.app.node.readiness.drain();
    let answer = ask_about(&edge.address(), "?path=/ws", &bearer(&token("alice"))).await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &"busy".into()), "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}
