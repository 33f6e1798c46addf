//! Limits of client addresses, and where the address of a client comes from: the socket, headers of trusted proxies, or
//! the PROXY protocol.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::network::Network;
use tidegate::http::socket_gate::SocketGate;
use tidegate::net::peer::Peer;
use tidegate::node::refusals::Refused;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::raw::Answer;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::get;
use crate::support::raw::handshake;
use crate::support::within;
use crate::tls;

/// The clients of these tests are trusted proxies if they come from here.
const PROXY: &str = "127.0.0.2";

fn trusts(networks: &[&str], config: &mut Config) {
    config.http.trusted_proxies = networks.iter().map(|text| Network::parse(text).unwrap()).collect();
}

fn bearer(user: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token(user))
}

/// A connection of a client at this address, through a proxy.
async fn behind_proxy(edge: &TestEdge, address: &str) -> Client {
    let headers = [("x-forwarded-for", address), ("authorization", &*format!("Bearer {}", token("alice")))];
    let mut client = Client::open_with(&edge.address(), "/ws", &headers).await;
    client.expect("connected").await;
    client
}

/// The response to a handshake with these headers.
async fn shake(edge: &TestEdge, headers: &str) -> Answer {
    ask(&edge.address(), handshake("/ws", &(bearer("alice") + headers))).await
}

fn assert_too_many(answer: &Answer) {
    assert_eq!((answer.status, &answer.json()["code"]), (429, &json!("limit_exceeded")), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("30"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("this address"), "{answer:?}");
}

fn refused(edge: &TestEdge, refused: Refused) -> u64 {
    edge.app.node.refusals.of(refused)
}

/// A socket from the address of a proxy.
async fn proxy_socket(edge: &TestEdge) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{PROXY}:0").parse().unwrap()).unwrap();
    let stream = socket.connect(edge.app.address.tcp().unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The response to a handshake from a proxy that sends this first.
async fn shake_after(edge: &TestEdge, header: &[u8], headers: &str) -> (Answer, RawClient) {
    let mut client = RawClient::over(proxy_socket(edge).await);
    client.send(&[header, &handshake("/ws", &(bearer("alice") + headers))].concat()).await;
    (within("a response", client.answer()).await, client)
}

fn v1(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 10.0.0.1 12345 443\r\n").into_bytes()
}

fn v2(address: [u8; 4]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &address, &[10, 0, 0, 1, 0x30, 0x39, 1, 0xbb]].concat()
}

const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[tokio::test]
async fn ex_01_connections_of_an_address_are_limited_across_shards_and_others_connect() {
    let edge = TestEdge::with(|config| {
        trusts(&["127.0.0.0/8"], config);
        config.limits.connections_per_address = 4;
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(behind_proxy(&edge, "203.0.113.1").await);
    }
    let shards: Vec<_> = edge.app.shards.iter().map(|shard| shard.sockets()).collect();
    assert_eq!(shards, [2, 2]);
    let of_one = "X-Forwarded-For: 198.51.100.1, 203.0.113.1\r\n";
    assert_too_many(&shake(&edge, of_one).await);
    // The same when hyper parses the handshake, and before the credential is verified.
    assert_too_many(&shake(&edge, &format!("{of_one}Content-Length: 0\r\n")).await);
    let invalid = format!("{of_one}Authorization: Bearer x\r\n");
    assert_too_many(&ask(&edge.address(), handshake("/ws", &invalid)).await);
    assert_eq!(refused(&edge, Refused::AddressConnections), 3);
    let mut others = [behind_proxy(&edge, "203.0.113.2").await, behind_proxy(&edge, "2001:db8::1").await];
    for client in clients.iter_mut().chain(&mut others) {
        client.subscribe("chat.general").await;
    }
    edge.publish("chat.general", "1").await;
    for client in clients.iter_mut().chain(&mut others) {
        assert_eq!(client.expect("message").await["data"], 1);
    }
    drop(clients.pop());
    eventually("a place is free", || async { shake(&edge, of_one).await.status == 101 }).await;
}

#[tokio::test]
async fn ex_01_clients_that_contradict_their_proxy_share_its_address() {
    let edge = TestEdge::with(|config| {
        trusts(&["127.0.0.0/8"], config);
        config.limits.connections_per_address = 1;
    })
    .await;
    let contradiction =
        |client: u8| format!("X-Forwarded-For: 203.0.113.{client}\r\nX-Real-IP: 198.51.100.1\r\n");
    let headers = bearer("alice") + &contradiction(1);
    let stream = TcpStream::connect(edge.address()).await.unwrap();
    let _one = RawClient::upgrade(stream, "/ws", &headers).await;
    assert_too_many(&shake(&edge, &contradiction(2)).await);
    // The proxy itself is no client, so connections for which it names none are not counted.
    let _clients = [edge.raw("alice").await, edge.raw("alice").await];
    behind_proxy(&edge, "203.0.113.3").await;
}

#[tokio::test]
async fn ex_01_a_socket_is_counted_for_its_peer_unless_that_is_a_proxy_or_this_machine() {
    let edge = TestEdge::with(|config| {
        trusts(&["10.0.0.0/8"], config);
        config.limits.connections_per_address = 2;
        config.limits.address_handshakes_per_s = 0;
    })
    .await;
    let gate = SocketGate::new(&edge.app.node);
    let at = |peer: &str| gate.admit_peer(peer.parse::<SocketAddr>().unwrap().into());
    let held = [at("203.0.113.1:1").unwrap(), at("[::ffff:203.0.113.1]:2").unwrap()];
    assert!(held.iter().all(Option::is_some));
    let problem = at("203.0.113.1:3").unwrap_err();
    assert_eq!((problem.status.as_u16(), problem.reason), (429, "address_connections"));
    assert_eq!(edge.app.node.address_limiter.addresses(), 1);
    for uncounted in ["10.1.2.3:1", "127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!((0..3).all(|_| at(uncounted).unwrap().is_none()), "{uncounted}");
    }
    assert!((0..3).all(|_| gate.admit_peer(Peer::Unix).unwrap().is_none()));
    drop(held);
    assert!(at("203.0.113.1:3").unwrap().is_some());
}

#[tokio::test]
async fn ex_05_one_address_cannot_use_up_the_handshakes_of_the_node() {
    let edge = TestEdge::with(|config| {
        trusts(&["127.0.0.0/8"], config);
        config.limits.address_handshakes_per_s = 1;
        config.limits.address_handshakes_burst = 3;
        config.limits.handshakes_per_s = 1;
        config.limits.handshakes_burst = 30;
        config.limits.handshake_wait = Duration::ZERO;
    })
    .await;
    let invalid = "X-Forwarded-For: 203.0.113.1\r\nAuthorization: Bearer x\r\n";
    let flood = (0..40).map(|_| async { ask(&edge.address(), handshake("/ws", invalid)).await });
    let answers = join_all(flood).await;
    let of_address: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(of_address.len() >= 20, "{} of 40", of_address.len());
    for answer in &of_address {
        assert_eq!(answer.json()["code"], "rate_limited", "{answer:?}");
        assert!((1..=60).contains(&answer.header("retry-after").unwrap().parse::<u64>().unwrap()));
    }
    assert_eq!(refused(&edge, Refused::AddressHandshakes), of_address.len() as u64);
    assert_eq!(refused(&edge, Refused::Handshakes), 0, "the node has handshakes left");
    behind_proxy(&edge, "203.0.113.2").await;
    // Nor can it with many handshakes on one socket.
    let mut client = RawClient::connect(&edge.address()).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let request = handshake(
            "/ws",
            "X-Forwarded-For: 203.0.113.3\r\nAuthorization: Bearer x\r\nContent-Length: 0\r\n",
        );
        client.send(&request).await;
        statuses.push(client.answer().await.status);
    }
    assert!(statuses.iter().filter(|status| **status == 429).count() >= 5, "{statuses:?}");
    assert_eq!(refused(&edge, Refused::Handshakes), 0);
}

#[tokio::test]
async fn xff_01_a_proxy_header_is_required_from_proxies_and_refused_from_others() {
    let edge = TestEdge::with(|config| {
        trusts(&[PROXY, "192.0.2.0/24"], config);
        config.http.proxy_protocol = true;
        config.limits.connections_per_address = 2;
    })
    .await;
    let (one, _one) = shake_after(&edge, &v1("203.0.113.1"), "").await;
    // An HTTP proxy behind a TCP proxy: the client is in its header.
    let (two, _two) = shake_after(&edge, &v2([192, 0, 2, 1]), "X-Forwarded-For: 203.0.113.1\r\n").await;
    assert_eq!((one.status, two.status), (101, 101), "{one:?} {two:?}");
    // The limit holds however the address is known, and a header of the client itself changes nothing.
    for header in [v1("203.0.113.1"), v2([203, 0, 113, 1])] {
        assert_too_many(&shake_after(&edge, &header, "X-Forwarded-For: 203.0.113.9\r\n").await.0);
    }
    assert_eq!(refused(&edge, Refused::AddressConnections), 2);
    assert_eq!(shake_after(&edge, &v2([203, 0, 113, 2]), "").await.0.status, 101);
    // Connections of the proxy itself, and of clients whose address it does not know.
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        assert_eq!(shake_after(&edge, header, "").await.0.status, 101);
    }
    for wrong in [&b""[..], b"PROXY TCP4 1.2.3.4\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"] {
        let (answer, _) = shake_after(&edge, wrong, "").await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad_request")), "{answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("http.proxy_protocol"), "{answer:?}");
    }
    assert_eq!(refused(&edge, Refused::ProxyHeader), 3);
    // Others connect without one, and their PROXY header is no request.
    assert_eq!(shake(&edge, "").await.status, 101);
    for header in [v1("203.0.113.5"), v2([203, 0, 113, 5]), LOCAL.to_vec()] {
        let request = [header, handshake("/ws", &bearer("alice"))].concat();
        assert_eq!(ask(&edge.address(), request).await.status, 400);
    }
    assert_eq!(get(&edge.address(), "/healthz").await.0, 200);
}

#[tokio::test]
async fn xff_01_a_proxy_that_does_not_know_its_client_vouches_for_no_header() {
    let edge = TestEdge::with(|config| {
        trusts(&[PROXY], config);
        config.http.proxy_protocol = true;
        config.limits.connections_per_address = 1;
    })
    .await;
    // If the header of the client counted, the second one would be refused.
    let forged = "X-Forwarded-For: 203.0.113.1\r\n";
    let (one, _one) = shake_after(&edge, b"PROXY UNKNOWN\r\n", forged).await;
    let (two, _two) = shake_after(&edge, b"PROXY UNKNOWN\r\n", forged).await;
    assert_eq!((one.status, two.status), (101, 101));
}

#[tokio::test]
async fn xff_01_a_proxy_header_has_the_deadline_of_the_handshake() {
    let edge = TestEdge::with(|config| {
        trusts(&[PROXY], config);
        config.http.proxy_protocol = true;
        config.limits.handshake_timeout = Duration::from_secs(1);
        config.limits.handshake_wait = Duration::ZERO;
    })
    .await;
    let mut silent = RawClient::over(proxy_socket(&edge).await);
    let mut slow = proxy_socket(&edge).await;
    let dripping = async {
        let mut bytes = b"PROXY TCP6 2001:db8:1:2:3:4:5:6 ".iter().cycle();
        while slow.write_all(&[*bytes.next().unwrap()]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (rest, ()) =
        tokio::join!(within("the silent socket ends", silent.rest()), within("the slow one ends", dripping));
    assert!(rest.is_empty(), "{rest:?}");
    eventually("both are forgotten", || async { edge.app.shards.sockets() == 0 }).await;
}

#[tokio::test]
async fn xff_01_a_proxy_header_comes_before_tls() {
    let edge = TestEdge::with_tls(|config| {
        trusts(&[PROXY], config);
        config.http.proxy_protocol = true;
        config.limits.connections_per_address = 1;
    })
    .await;
    let mut stream = proxy_socket(&edge).await;
    stream.write_all(&v2([203, 0, 113, 1])).await.unwrap();
    let mut client = Client::connect_over(tls::over(stream).await, &token("alice")).await;
    client.subscribe("chat.general").await;
    // A surplus socket gets no TLS handshake, only a fatal alert (RFC 8446 §6.2): internal_error.
    const ALERT: &[u8] = b"\x15\x03\x03\0\x02\x02\x50";
    for header in [v1("203.0.113.1"), b"\x16\x03\x01\x02\x00\x01".to_vec()] {
        let mut surplus = RawClient::over(proxy_socket(&edge).await);
        surplus.send(&header).await;
        assert_eq!(within("it is closed", surplus.rest()).await, ALERT);
    }
    let counted = [Refused::AddressConnections, Refused::ProxyHeader].map(|limit| refused(&edge, limit));
    assert_eq!(counted, [1, 1]);
    edge.publish("chat.general", "1").await;
    assert_eq!(client.expect("message").await["data"], 1);
}

#[tokio::test]
async fn ex_01_the_limits_of_addresses_hold_over_tls() {
    let edge = TestEdge::with_tls(|config| {
        trusts(&["127.0.0.0/8"], config);
        config.tls.hsts = Some(Duration::from_hours(1));
        config.limits.connections_per_address = 1;
    })
    .await;
    let mut clients = Vec::new();
    for (address, status) in [("203.0.113.1", 101), ("203.0.113.1", 429), ("203.0.113.2", 101)] {
        let stream = TcpStream::connect(edge.address()).await.unwrap();
        let mut client = RawClient::over(tls::over(stream).await);
        let headers = format!("X-Forwarded-For: {address}\r\n");
        client.send(&handshake("/ws", &(bearer("alice") + &headers))).await;
        let answer = within("a response", client.answer()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=3600"));
        clients.push(client);
    }
    assert_eq!(refused(&edge, Refused::AddressConnections), 1);
}
