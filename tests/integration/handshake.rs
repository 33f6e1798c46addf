//! Handshakes: valid, invalid, ambiguous and slow ones. Also request targets, and the routes for health checks.

use std::time::Duration;

use serde_json::json;
use tidegate::config::endpoint::EndpointConfig;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::raw;
use crate::support::raw::Answer;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::within;

/// The header lines of a valid handshake.
const LINES: [&str; 5] = [
    "Host: localhost",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// A handshake in which these lines replace those with the same name. A change without a value removes the line.
fn changed(changes: &[&str]) -> String {
    let name = |line: &str| line.split(':').next().unwrap().to_owned();
    let kept = LINES.iter().filter(|line| !changes.iter().any(|change| name(change) == name(line)));
    let added = changes.iter().filter(|change| change.contains(": "));
    let lines: String = kept.chain(added).map(|line| format!("{line}\r\n")).collect();
    format!("GET /ws HTTP/1.1\r\n{lines}\r\n")
}

fn code(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status);
    assert!(
        !problem["detail"].as_str().unwrap().is_empty() && !problem["title"].as_str().unwrap().is_empty()
    );
    let code = problem["code"].as_str().unwrap().to_owned();
    let page = format!("{}/blob/main/docs/errors/{code}.md", env!("CARGO_PKG_REPOSITORY"));
    assert_eq!(problem["type"], page, "RFC 9457 §3.1.1");
    code
}

/// RFC 6455 §4.2.1, items 3 and 4: `Upgrade` and `Connection` are case-insensitive, and `Connection` may have other
/// tokens. §4.2.2, item 5: the response has `Sec-WebSocket-Accept`.
#[tokio::test]
async fn hs_01_a_handshake_is_accepted_in_every_form_that_rfc_6455_allows() {
    let edge = TestEdge::start().await;
    let spellings: [&[&str]; 7] = [
        &[],
        &["Connection: keep-alive, Upgrade"],
        &["Connection: UPGRADE"],
        &["Connection: keep-alive,upgrade , foo"],
        &["Connection: keep-alive", "Connection: Upgrade"],
        &["Upgrade: WebSocket"],
        &["sec-websocket-version: 13", "Sec-WebSocket-Version"],
    ];
    for changes in spellings {
        let answer = ask(&edge.address(), changed(changes)).await;
        assert_eq!(answer.status, 101, "{changes:?}: {answer:?}");
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(answer.header("upgrade").unwrap().eq_ignore_ascii_case("websocket"));
        assert!(answer.header("connection").unwrap().eq_ignore_ascii_case("upgrade"));
        assert_eq!(answer.header("sec-websocket-extensions"), None);
    }
}

/// RFC 6455 §4.2.1: GET in HTTP/1.1 (item 1), `Upgrade` (3), `Connection` (4), a key of 16 bytes in base64 (5), version
/// 13 (6). §11.3.1: the key occurs once. §4.2.2, item 4: another version gets 426 and `Sec-WebSocket-Version`.
#[tokio::test]
async fn hs_01_an_invalid_handshake_is_rejected_with_the_fix() {
    let edge = TestEdge::start().await;
    let refused: [(&[&str], u16); 19] = [
        (&["Sec-WebSocket-Key"], 400),
        (&["Sec-WebSocket-Key: c2hvcnQ="], 400),
        (&["Sec-WebSocket-Key: c2l4dGVlbiBieXRlcyBhbmQgb25l"], 400),
        (&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"], 400),
        (&["Sec-WebSocket-Key: not base64 at all!!!"], 400),
        (
            &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
            400,
        ),
        (&["Sec-WebSocket-Version: 8"], 426),
        (&["Sec-WebSocket-Version: 12"], 426),
        (&["Sec-WebSocket-Version: 13, 8"], 426),
        (&["Sec-WebSocket-Version"], 426),
        (&["Connection"], 426),
        (&["Connection: keep-alive"], 426),
        (&["Connection: upgraded"], 426),
        (&["Upgrade"], 426),
        (&["Upgrade: h2c"], 426),
        (&["Upgrade: websocket, h2c"], 426),
        (&["Upgrade: websocket", "Upgrade: h2c"], 426),
        (&["Content-Length: 5"], 400),
        (&["Transfer-Encoding: chunked"], 400),
    ];
    for (changes, status) in refused {
        let answer = ask(&edge.address(), changed(changes)).await;
        assert_eq!(answer.status, status, "{changes:?}: {answer:?}");
        if status == 426 {
            assert_eq!(code(&answer), "upgrade_required");
            assert_eq!(answer.header("sec-websocket-version"), Some("13"), "{changes:?}");
        } else {
            assert_eq!(code(&answer), "bad_upgrade");
        }
    }
    for line in ["POST /ws HTTP/1.1", "HEAD /ws HTTP/1.1", "OPTIONS /ws HTTP/1.1", "GET /ws HTTP/1.0"] {
        let request = changed(&[]).replacen("GET /ws HTTP/1.1", line, 1);
        let head = {
            let mut client = RawClient::connect(&edge.address()).await;
            client.send(request.as_bytes()).await;
            client.head().await
        };
        assert!(head[9..].starts_with("400"), "{line}: {head}");
    }
    let mut http2 = RawClient::connect(&edge.address()).await;
    http2.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let answer = String::from_utf8(http2.rest().await).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    eventually("all sockets closed", || async { edge.app.shards.sockets() == 0 }).await;
}

#[tokio::test]
async fn hs_02_incomplete_requests_are_closed_and_affect_no_other_client() {
    const SOCKETS: usize = 2000;
    let edge = TestEdge::with(|config| config.limits.handshake_timeout = Duration::from_secs(1)).await;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(RawClient::connect(&edge.address()).await);
    }
    // One byte at a time, without end: no request is ever complete.
    let request = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'a'));
    let drip = async {
        for byte in request {
            for socket in &sockets {
                let _ = socket.stream.try_write(&[*byte]);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let good = async {
        let mut client = edge.client("alice").await;
        client.subscribe("chat.general").await;
        eventually("only the good client left", || async { edge.app.shards.sockets() == 1 }).await;
        assert!(client.so_far().await.is_empty());
    };
    tokio::select! {
        () = drip => {}
        () = good => {}
    }
    for mut socket in sockets {
        assert_eq!(socket.rest().await, b"", "closed without a response");
    }
}

#[tokio::test]
async fn hs_03_a_silent_socket_is_closed_early_and_an_idle_one_after_a_response_later() {
    let edge = TestEdge::with(|config| {
        config.limits.handshake_timeout = Duration::from_secs(1);
        config.http.keep_alive = Duration::from_secs(4);
    })
    .await;
    let ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut idle = RawClient::connect(&edge.address()).await;
    idle.send(ask).await;
    assert_eq!(idle.answer().await.status, 200);
    // The deadlines of two later sockets pass, one after the other.
    for request in [&b""[..], b"GET /healthz HTTP/1.1\r\nHost:"] {
        let mut silent = RawClient::connect(&edge.address()).await;
        silent.send(request).await;
        assert_eq!(silent.rest().await, b"");
    }
    idle.send(ask).await;
    assert_eq!(idle.answer().await.status, 200, "it is still open");
    assert_eq!(idle.rest().await, b"", "an idle connection is closed as well");
    eventually("no socket left", || async { edge.app.shards.sockets() == 0 }).await;
}

#[tokio::test]
async fn hs_03_one_deadline_covers_the_time_from_the_accept_to_the_upgrade() {
    let edge = TestEdge::with(|config| config.limits.handshake_timeout = Duration::from_secs(2)).await;
    let mut late = RawClient::connect(&edge.address()).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let mut silent = RawClient::connect(&edge.address()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    late.send(b"GET /ws HTTP/1.1\r\n").await;
    tokio::select! {
        biased;
        rest = late.rest() => assert_eq!(rest, b""),
        _ = silent.rest() => panic!("the first byte has extended the deadline"),
    }
}

#[tokio::test]
async fn hs_05_the_limits_of_headers_are_exact() {
    let edge = TestEdge::start().await;
    let authorization = format!("Authorization: Bearer {}\r\n", token("alice"));
    let plain = handshake("/ws", &authorization);
    let own = String::from_utf8_lossy(&plain).matches("\r\n").count() - 2;
    let headers = |count: usize| {
        let more: String = (own..count).map(|number| format!("X-{number}: 1\r\n")).collect();
        handshake("/ws", &(authorization.clone() + &more))
    };
    let bytes = |count: usize| {
        let filler = "a".repeat(count - plain.len() - "X: \r\n".len());
        handshake("/ws", &format!("{authorization}X: {filler}\r\n"))
    };
    for (what, request, status) in [
        ("64 headers", headers(64), 101),
        ("65 headers", headers(65), 431),
        ("a head of 16 KiB", bytes(16_384), 101),
        ("one byte more", bytes(16_385), 431),
    ] {
        assert_eq!(ask(&edge.address(), request).await.status, status, "{what}");
    }
}

#[tokio::test]
async fn hs_05_floods_of_headers_are_rejected_and_the_node_keeps_working() {
    let edge = TestEdge::start().await;
    let many: String = (0..101).map(|number| format!("X-{number}: 1\r\n")).collect();
    for (what, request, status) in [
        ("101 headers", handshake("/ws", &many), 431),
        ("a line of 64 KiB", handshake("/ws", &format!("X-Long: {}\r\n", "a".repeat(64 * 1024))), 431),
        ("a cookie of 16 KiB", handshake("/ws", &format!("Cookie: {}\r\n", "c".repeat(16 * 1024))), 431),
        ("a URL of 1 MB", handshake(&format!("/ws?{}", "u".repeat(1024 * 1024)), ""), 431),
    ] {
        let mut client = RawClient::connect(&edge.address()).await;
        // The server responds before it has received everything.
        client.send(&request).await;
        let head = client.head().await;
        assert!(head[9..].starts_with(&status.to_string()), "{what}: {head}");
        client.rest().await;
    }
    eventually("all sockets closed", || async { edge.app.shards.sockets() == 0 }).await;
    edge.client("alice").await;
}

/// RFC 9112 §2.2: bare CR and LF. §5.1: a space before the colon gets 400. §5.2: folded lines. §6.1 and §6.3:
/// `Content-Length` with `Transfer-Encoding`, and several lengths.
#[tokio::test]
async fn hs_06_ambiguous_requests_are_rejected() {
    let edge = TestEdge::start().await;
    for (what, request) in [
        ("both lengths", changed(&["Content-Length: 0", "Transfer-Encoding: chunked"])),
        ("both lengths, the other way round", changed(&["Transfer-Encoding: chunked", "Content-Length: 4"])),
        ("two lengths", changed(&["Content-Length: 4", "Content-Length: 5"])),
        ("a folded header", changed(&["X-Folded: a\r\n b"])),
        ("a header that begins folded", changed(&["X-Folded: \r\n\tb"])),
        ("a NUL in a value", changed(&["X-Nul: a\0b"])),
        ("a NUL in the path", changed(&[]).replacen("/ws", "/ws\0", 1)),
        ("a space before the colon", changed(&["X-Space : a"])),
        ("a bare CR", changed(&["X-Cr: a\rb"])),
        ("a bare LF in a header", changed(&["X-Lf: a\nX-Hidden: b"])),
        ("bare LFs alone", changed(&[]).replace("\r\n", "\n")),
        ("a bare LF at the end", changed(&[]).replace("\r\n\r\n", "\r\n\n")),
    ] {
        let answer = ask(&edge.address(), &request).await;
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
    }
    // One byte at a time, so that each read ends inside a line ending.
    let mut client = RawClient::connect(&edge.address()).await;
    client.stream.set_nodelay(true).unwrap();
    for byte in changed(&["X-Lf: a\nX-Hidden: b"]).bytes() {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.status, 400);
}

/// RFC 9112 §3.2: the four forms of request targets; and each HTTP/1.1 request has exactly one valid `Host`, else it gets
/// 400.
#[tokio::test]
async fn invalid_request_targets_and_hosts_are_rejected_before_the_routes() {
    let edge = TestEdge::start().await;
    let line = |line: &str| format!("{line}\r\nHost: localhost\r\n\r\n");
    for (target, status) in [
        // Origin form (RFC 9112 §3.2.1).
        ("GET /healthz HTTP/1.1", 200),
        ("GET /healthz?a=b HTTP/1.1", 200),
        ("GET / HTTP/1.1", 404),
        ("GET //healthz HTTP/1.1", 404),
        ("GET /healthz#part HTTP/1.1", 200),
        // Absolute form (§3.2.2).
        ("GET http://localhost/healthz HTTP/1.1", 200),
        ("GET HTTPS://localhost/healthz HTTP/1.1", 200),
        ("GET http://localhost HTTP/1.1", 404),
        ("GET http://localhost?a=b HTTP/1.1", 404),
        ("GET ftp://localhost/healthz HTTP/1.1", 400),
        ("GET http:///healthz HTTP/1.1", 400),
        ("GET http: HTTP/1.1", 400),
        ("GET mailto:x HTTP/1.1", 400),
        // Authority form (§3.2.3).
        ("CONNECT x:1 HTTP/1.1", 400),
        ("CONNECT localhost HTTP/1.1", 400),
        ("CONNECT /healthz HTTP/1.1", 400),
        ("CONNECT http://localhost/healthz HTTP/1.1", 400),
        ("GET x:1 HTTP/1.1", 400),
        ("GET localhost HTTP/1.1", 400),
        ("POST x:1 HTTP/1.1", 400),
        ("OPTIONS x:1 HTTP/1.1", 400),
        ("BREW x:1 HTTP/1.1", 400),
        // Asterisk form (§3.2.4).
        ("OPTIONS * HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        // None of the forms.
        ("GET  HTTP/1.1", 400),
        ("GET HTTP/1.1", 400),
        ("GET ?a=b HTTP/1.1", 400),
        ("GET #part HTTP/1.1", 400),
        ("GET healthz/x HTTP/1.1", 400),
        ("GET \\healthz HTTP/1.1", 400),
    ] {
        let answer = ask(&edge.address(), line(target)).await;
        assert_eq!(answer.status, status, "{target}: {answer:?}");
    }
    for (host, status) in [
        ("Host: localhost", 200),
        ("Host: [::1]:8080", 200),
        ("Host:", 200),
        ("X-Host: localhost", 400),
        ("Host: a\r\nHost: a", 400),
        ("Host: a\r\nX-Other: 1\r\nhost: b", 400),
        ("Host: a b", 400),
        ("Host: a/b", 400),
        ("Host: user@a", 400),
    ] {
        let answer = ask(&edge.address(), format!("GET /healthz HTTP/1.1\r\n{host}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{host}: {answer:?}");
        let upgrade = changed(&["Host"]).replacen("\r\n", &format!("\r\n{host}\r\n"), 1);
        let answer = ask(&edge.address(), upgrade).await;
        assert_eq!(answer.status == 400, status == 400, "a handshake with {host}: {answer:?}");
    }
    let answer = ask(&edge.address(), "GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.status, 200, "HTTP/1.0 has no `Host`");
    edge.client("alice").await;
}

#[tokio::test]
async fn hs_06_a_request_cannot_be_smuggled_behind_another() {
    let edge = TestEdge::start().await;
    let second = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // After a handshake, a request is an invalid frame.
    let mut client = RawClient::connect(&edge.address()).await;
    client.send((changed(&[]) + second).as_bytes()).await;
    assert_eq!(client.answer().await.status, 101);
    assert_eq!(client.close_code().await, Some(1002));
    // After an ambiguous length, the connection is closed.
    let mut client = RawClient::connect(&edge.address()).await;
    let first =
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{first}0\r\n\r\n{second}").as_bytes()).await;
    assert!(client.answer().await.status < 500);
    assert_eq!(String::from_utf8(client.rest().await).unwrap(), "");
    // After valid requests, the next one is checked as strictly as the first.
    let mut client = RawClient::connect(&edge.address()).await;
    let bare = second.replacen("\r\n", "\n", 1);
    client.send(format!("{second}{second}{bare}").as_bytes()).await;
    for status in [200, 200, 400] {
        assert_eq!(client.answer().await.status, status);
    }
    client.rest().await;
    // Also after a body, which may have any bytes.
    let body = "{\n\n}\n";
    let post =
        format!("POST /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut client = RawClient::connect(&edge.address()).await;
    client.send(format!("{post}{post}{second}{bare}").as_bytes()).await;
    for status in [404, 404, 200, 400] {
        assert_eq!(client.answer().await.status, status);
    }
    client.rest().await;
    // The end of a chunked body is unknown here, so nothing may follow.
    let chunked =
        "POST /none HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n";
    let mut client = RawClient::connect(&edge.address()).await;
    client.send(format!("{chunked}{second}").as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (404, Some("close")), "{answer:?}");
    assert_eq!(String::from_utf8(client.rest().await).unwrap(), "");
}

#[tokio::test]
async fn hs_05_few_empty_lines_may_come_before_a_request_and_a_flood_of_them_ends_the_socket() {
    let edge = TestEdge::start().await;
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = RawClient::connect(&edge.address()).await;
    client.send(format!("\r\n{request}\r\n\r\n{request}").as_bytes()).await;
    for _ in 0..2 {
        assert_eq!(client.answer().await.status, 200);
    }
    client.send(("\r\n".repeat(8000) + request).as_bytes()).await;
    assert_eq!(String::from_utf8(client.rest().await).unwrap(), "");
}

#[tokio::test]
async fn hs_06_frames_in_the_segment_of_the_handshake_are_not_lost() {
    let edge = TestEdge::start().await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    let ping = |id: u32| raw::text(&json!({ "type": "ping", "id": id }).to_string());
    let subscribe = raw::text(r#"{"type":"subscribe","id":0,"channel":"chat.general"}"#);
    // Line feeds in frames must not be taken for the end of a head. The mask is zero, so that they are line feeds on
    // the wire too. The frames are cut at different places.
    let line_feeds = [&[0x89, 0x80 | 8, 0, 0, 0, 0][..], b"\r\n\r\n\n\n\r\n"].concat();
    let frames = [subscribe, ping(1), line_feeds.repeat(3), ping(10), line_feeds, ping(3)].concat();
    for cut in (0..=frames.len()).step_by(7).chain([frames.len()]) {
        let mut client = RawClient::connect(&edge.address()).await;
        client.send(&[&handshake("/ws", &bearer)[..], &frames[..cut]].concat()).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101"));
        client.send(&frames[cut..]).await;
        let mut pongs = Vec::new();
        let mut others = Vec::new();
        while pongs.len() < 3 || others.len() < 6 {
            let frame = client.frame().await.unwrap();
            if frame.opcode == 10 {
                others.push(String::from_utf8(frame.payload).unwrap());
                continue;
            }
            let message: serde_json::Value = serde_json::from_slice(&frame.payload).unwrap();
            match message["type"].as_str().unwrap() {
                "pong" => pongs.push(message["id"].as_u64().unwrap()),
                kind => others.push(kind.to_owned()),
            }
        }
        assert_eq!(pongs, [1, 10, 3], "cut at {cut}");
        others.sort();
        assert_eq!(others[4..], ["connected", "subscribed"], "cut at {cut}");
        assert!(others[..4].iter().all(|pong| pong == "\r\n\r\n\n\n\r\n"), "cut at {cut}: {others:?}");
    }
}

#[tokio::test]
async fn hs_06_more_bytes_than_hyper_reads_at_once_may_follow_the_handshake() {
    let edge = TestEdge::start().await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    let padding = "x".repeat(20_000);
    let pings: Vec<u8> = (0..5)
        .flat_map(|id| raw::text(&json!({ "type": "ping", "id": id, "padding": padding }).to_string()))
        .collect();
    let mut client = RawClient::connect(&edge.address()).await;
    client.send(&[handshake("/ws", &bearer), pings].concat()).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    let connected = client.frame().await.unwrap();
    assert!(String::from_utf8(connected.payload).unwrap().contains("connected"));
    for id in 0..5 {
        let pong = client.frame().await.unwrap();
        assert_eq!(String::from_utf8(pong.payload).unwrap(), format!("{{\"type\":\"pong\",\"id\":{id}}}"));
    }
}

/// RFC 6455 §4.2.2, item 4: the response has one of the offered subprotocols, or none. §11.3.4: several headers are one
/// list.
#[tokio::test]
async fn the_response_has_a_subprotocol_only_if_it_was_offered_and_is_known() {
    let edge = TestEdge::start().await;
    let known: [(&[&str], Option<&str>); 4] = [
        (&[], None),
        (&["tidegate.v1.json"], Some("tidegate.v1.json")),
        (&["chat, tidegate.v1.json"], Some("tidegate.v1.json")),
        (&["chat", "tidegate.v1.json"], Some("tidegate.v1.json")),
    ];
    let offer = |protocols: &[&str]| {
        let lines: Vec<_> = protocols.iter().map(|line| format!("Sec-WebSocket-Protocol: {line}")).collect();
        changed(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for (protocols, named) in known {
        let answer = ask(&edge.address(), offer(protocols)).await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, named), "{protocols:?}");
    }
    for unknown in ["chat", "TIDEGATE.V1.JSON", "tidegate.v1.jsonx, tidegate"] {
        let answer = ask(&edge.address(), offer(&[unknown])).await;
        assert_eq!((answer.status, code(&answer).as_str()), (400, "unknown_subprotocol"), "{unknown}");
    }
}

#[tokio::test]
async fn each_endpoint_serves_exactly_its_path() {
    let named = |path: &str| EndpointConfig { path: path.to_owned(), ..EndpointConfig::default() };
    let edge = TestEdge::with(|config| config.endpoints = vec![named("/ws"), named("/live/v1")]).await;
    for path in ["/ws", "/live/v1"] {
        Client::open(&edge.address(), path, Some(&token("alice"))).await.expect("connected").await;
    }
    Client::open(&edge.address(), "/ws?a=b", Some(&token("alice"))).await.expect("connected").await;
    for path in ["/", "/ws/", "//ws", "/WS", "/w", "/wss", "/live", "/live/v1/x", "/%77s", "/ws/../ws"] {
        let answer = ask(&edge.address(), handshake(path, "")).await;
        assert_eq!((answer.status, code(&answer).as_str()), (404, "not_found"), "{path}");
    }
}

/// RFC 9110 §15.5.6: 405 has the header `Allow`. RFC 9457 §3: the body is a problem document.
#[tokio::test]
async fn unknown_paths_and_methods_get_problem_documents() {
    let edge = TestEdge::start().await;
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for line in ["GET /nothing", "POST /nothing", "GET /healthz/x", "DELETE /"] {
        let answer = ask(&edge.address(), request(line)).await;
        assert_eq!((answer.status, code(&answer).as_str()), (404, "not_found"), "{line}");
    }
    for line in ["POST /healthz", "DELETE /readyz"] {
        let answer = ask(&edge.address(), request(line)).await;
        assert_eq!((answer.status, code(&answer).as_str()), (405, "method_not_allowed"), "{line}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{line}");
    }
}

#[tokio::test]
async fn health_and_readiness_answer_on_one_connection_without_any_version() {
    let edge = TestEdge::start().await;
    let server = edge.nats.client().await.server_info().version;
    let mut client = RawClient::connect(&edge.address()).await;
    for _ in 0..2 {
        let mut answers = Vec::new();
        for path in ["/healthz", "/readyz"] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{path}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
            for version in [&server, env!("CARGO_PKG_VERSION")] {
                assert!(!answer.head.contains(version) && !answer.body.contains(version), "{answer:?}");
            }
            answers.push(answer.json());
        }
        assert_eq!(answers[0], json!({ "status": "ok" }));
        let lane = |lane: usize| json!({ "check": "nats", "lane": lane, "ok": true });
        let staying = json!({ "check": "staying", "ok": true });
        assert_eq!(answers[1], json!({ "ready": true, "checks": [lane(0), lane(1), staying] }));
    }
    client.send(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_connection_above_the_limit_gets_retry_after_and_the_others_stay() {
    let edge = TestEdge::with(|config| config.limits.connections = 2).await;
    let (mut one, mut other) = edge.pair().await;
    let answer = ask(&edge.address(), handshake("/ws", "")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    for client in [&mut one, &mut other] {
        client.subscribe("chat.general").await;
    }
    drop(one);
    eventually("there is room again", || async { edge.app.shards.sockets() == 1 }).await;
    let mut third = within("the third", edge.client("carol")).await;
    edge.publish("chat.general", "1").await;
    assert_eq!(other.expect("message").await["data"], 1);
    assert!(third.so_far().await.is_empty());
}
