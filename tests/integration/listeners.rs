//! Endpoints with their own listeners: their routes, the limits that all share, startup and shutdown.

use std::net::SocketAddrV4;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;
use tidegate::app::App;
use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::listen_address::ListenAddress;
use tidegate::config::load;
use tidegate::config::source::Sources;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::within;

const ONE: &str = "127.0.0.1:0";
const OTHER: &str = "127.0.0.2:0";

/// `/ws` at the common listener, `/` and `/ws` at a second one, `/live` at a third.
fn three_listeners(config: &mut Config) {
    let at = |listen: &str, path: &str| EndpointConfig {
        listen: listen.parse().ok(),
        path: path.to_owned(),
        ..EndpointConfig::default()
    };
    config.endpoints = vec![at("", "/ws"), at(ONE, "/"), at(OTHER, "/live"), at(ONE, "/ws")];
}

/// The address of the listener that is configured as `listen`.
fn address(app: &App, listen: &str) -> String {
    let listen: ListenAddress = listen.parse().unwrap();
    let (_, address) = app.endpoint_addresses.iter().find(|(configured, _)| *configured == listen).unwrap();
    assert_ne!(address.tcp().unwrap().port(), 0);
    address.to_string()
}

/// The configuration in a file with this text. `name` is the file's name, which each test has for itself.
fn loaded(name: &str, text: &str) -> Config {
    let path = std::env::temp_dir().join(format!("tidegate-{name}-{}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let loaded = load::load(&Sources { file: Some(path.clone()), ..Sources::default() });
    std::fs::remove_file(&path).unwrap();
    loaded.unwrap_or_else(|mistakes| panic!("{mistakes}")).config
}

fn bearer(user: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token(user))
}

#[tokio::test]
async fn each_listener_has_its_endpoints_and_all_have_the_health_routes() {
    let edge = TestEdge::with(|config| {
        three_listeners(config);
        config.http.console = true;
    })
    .await;
    let (main, one, other) = (edge.address(), address(&edge.app, ONE), address(&edge.app, OTHER));
    assert_eq!(edge.app.endpoint_addresses.len(), 2);
    for (address, there, elsewhere) in [
        (&main, &["/ws"][..], &["/", "/live"][..]),
        (&one, &["/", "/ws"], &["/live"]),
        (&other, &["/live"], &["/", "/ws"]),
    ] {
        for path in there {
            let mut client = Client::open(address, path, Some(&token("alice"))).await;
            client.expect("connected").await;
            client.subscribe("chat.general").await;
            // The same with hyper.
            let slow = handshake(path, &format!("Content-Length: 0\r\n{}", bearer("alice")));
            assert_eq!(ask(address, slow).await.status, 101, "{address}{path}");
        }
        for path in elsewhere {
            let answer = ask(address, handshake(path, &bearer("alice"))).await;
            // The page answers a GET at its path.
            let page = path == &"/" && address == &main;
            assert_eq!(answer.status, if page { 200 } else { 404 }, "{address}{path}");
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(within("an answer", raw::get(address, path)).await.0, 200, "{address}{path}");
        }
        let page = within("an answer", raw::get(address, "/console.js")).await.0;
        assert_eq!(page, if address == &main { 200 } else { 404 }, "the page is at http.listen only");
    }
    assert_eq!(within("an answer", raw::get(&one, "/")).await.0, 426, "a path for WebSocket");
}

#[tokio::test]
async fn ex_01_limits_apply_to_all_listeners_together() {
    let edge = TestEdge::with(|config| {
        three_listeners(config);
        config.limits.connections = 3;
        config.limits.connections_per_user = 2;
    })
    .await;
    let addresses = [edge.address(), address(&edge.app, ONE)];
    let mut clients = Vec::new();
    for address in &addresses {
        let mut client = Client::open(address, "/ws", Some(&token("alice"))).await;
        client.expect("connected").await;
        clients.push(client);
    }
    for address in &addresses {
        assert_eq!(ask(address, handshake("/ws", &bearer("alice"))).await.status, 429, "{address}");
    }
    let other = address(&edge.app, OTHER);
    let mut bob = Client::open(&other, "/live", Some(&token("bob"))).await;
    bob.expect("connected").await;
    for (address, path) in [(&addresses[0], "/ws"), (&addresses[1], "/"), (&other, "/live")] {
        eventually("the node is full", || async {
            ask(address, handshake(path, &bearer("carol"))).await.status == 503
        })
        .await;
    }
    edge.publish("chat.general", "1").await;
    bob.subscribe("chat.general").await;
}

#[tokio::test]
async fn draining_ends_all_sessions_and_closes_all_listeners() {
    let edge = TestEdge::with(three_listeners).await;
    let TestEdge { nats: _nats, app, .. } = edge;
    let ends = [(app.address.to_string(), "/ws"), (address(&app, ONE), "/"), (address(&app, OTHER), "/live")];
    let mut clients = Vec::new();
    for (address, path) in &ends {
        let mut client = Client::open(address, path, Some(&token("alice"))).await;
        client.expect("connected").await;
        clients.push(client);
    }
    let ended = async {
        for client in &mut clients {
            assert_eq!(client.until_closed().await.1, Some(4000));
        }
    };
    tokio::join!(within("the end", app.drain()), ended);
    for (address, _) in &ends {
        assert!(TcpStream::connect(address).await.is_err(), "{address}");
    }
}

/// Starts `tidegate serve` with this file, and returns its log up to a line with `until`, or to its end.
async fn log_of(file: &str, until: &str) -> Vec<Value> {
    let name = format!("tidegate-listeners-{}-{}.toml", std::process::id(), until);
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, file).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["serve", "--config"])
        .arg(&path)
        .env("TIDEGATE_HTTP__LISTEN", "127.0.0.1:0")
        .env("NATS_URL", "nats://127.0.0.1:1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    while let Some(line) = within("a line of the log", lines.next_line()).await.unwrap() {
        let found = line.contains(until);
        log.push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
        if found {
            break;
        }
    }
    std::fs::remove_file(&path).unwrap();
    log
}

#[tokio::test]
async fn the_log_has_the_address_of_each_listener() {
    let file = "[[endpoint]]\npath = \"/ws\"\n[[endpoint]]\nlisten = \"127.0.0.1:0\"\npath = \"/\"\n";
    let log = log_of(file, "endpoint_listen").await;
    let listening: Vec<_> = log.iter().filter(|line| line["message"] == "listening").collect();
    assert_eq!(listening.len(), 2, "{log:?}");
    let [main, own] = [listening[0], listening[1]].map(|line| line["address"].as_str().unwrap().to_owned());
    assert_ne!(main, own);
    assert!(!main.ends_with(":0") && !own.ends_with(":0"), "{main} {own}");
    assert_eq!(listening[1]["endpoint_listen"], json!("127.0.0.1:0"));
    assert!(listening.iter().all(|line| line["tls"] == false), "{listening:?}");
}

/// The sockets that wait until this listener accepts them, as the kernel's table says.
fn waiting(listener: &str) -> usize {
    let address: SocketAddrV4 = listener.parse().unwrap();
    let name = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    // The columns: a number, the local address, the remote one, the state (0A: it listens), and two queues.
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut lines = table.lines().skip(1).map(columns);
    let found = lines.find(|columns| columns[1] == name && columns[3] == "0A").unwrap();
    usize::from_str_radix(found[4].split_once(':').unwrap().1, 16).unwrap()
}

#[tokio::test]
async fn a_node_that_is_busy_loses_no_client_of_a_storm_at_any_listener() {
    // More than twice the usual length of a listener's queue. The kernel must permit it (net.core.somaxconn).
    const STORM: usize = 300;
    let nats = NatsServer::start().await;
    let node =
        Process::serve(&nats.node_url(), "[[endpoint]]\nlisten = \"127.0.0.1:0\"\npath = \"/\"\n").await;
    let own = node.logged("listening", |line| line["endpoint_listen"].is_string()).await;
    node.ready().await;
    node.pause();
    for listener in [&node.address[..], own["address"].as_str().unwrap()] {
        let mut storm = Vec::new();
        for _ in 0..STORM {
            storm.push(within("a connection", TcpStream::connect(listener)).await.unwrap());
        }
        assert_eq!(waiting(listener), STORM);
    }
    node.signal("CONT");
    node.ready().await;
}

#[tokio::test]
async fn a_node_does_not_start_if_an_endpoint_cannot_listen_and_logs_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let log = log_of(&format!("[[endpoint]]\nlisten = \"{listen}\"\npath = \"/\"\n"), "nothing").await;
    let error = format!("cannot listen on {listen} (endpoint.listen)");
    assert!(log.iter().any(|line| line.to_string().contains(&error)), "{log:?}");
}

#[tokio::test]
async fn two_frontends_have_a_listener_each_and_a_trusted_user_is_counted() {
    let edge = TestEdge::with(|config| {
        let at = |listen: &str, vocabulary: &str| {
            let listen = if listen.is_empty() { String::new() } else { format!("listen = \"{listen}\"\n") };
            format!("[[endpoint]]\n{listen}vocabulary = \"vocabularies/{vocabulary}.toml\"\n")
        };
        let trust = "trust_client_identity = { user = \"path.user_id\", role = \"unverified\" }\n";
        let role = "[[role]]\nname = \"unverified\"\nsubscribe = { allow = [\"user.{sub}.*\"] }\n";
        let file = [&at("", "financegpt"), trust, &at(ONE, "financegpt-mcp"), role].concat();
        let loaded = loaded("frontends", &file);
        config.endpoints = loaded.endpoints;
        config.roles.extend(loaded.roles);
        config.limits.connections_per_user = 1;
    })
    .await;
    let (main, mcp) = (edge.address(), address(&edge.app, ONE));
    let trusted = Client::open(&main, "/ws/USR001", None).await;
    assert_eq!(ask(&main, handshake("/ws/USR001", "")).await.status, 429, "one of them is enough");
    let _other = Client::open(&main, "/ws/USR002", None).await;
    assert_eq!(ask(&main, handshake("/ws/a%2Eb", "")).await.status, 400);
    assert_eq!(ask(&main, handshake("/ws/USR003", &bearer("USR004"))).await.status, 403);
    assert_eq!(ask(&mcp, handshake("/ws/USR003", "")).await.status, 404, "that is the other frontend");
    let to_mcp_as = |user: &str| format!("Sec-WebSocket-Protocol: mcp\r\n{}", bearer(user));
    let to_mcp = to_mcp_as("USR001");
    assert_eq!(
        ask(&mcp, handshake("/", &to_mcp)).await.status,
        429,
        "the same user, by a token and elsewhere"
    );
    assert_eq!(ask(&mcp, handshake("/", &to_mcp_as("USR005"))).await.status, 101);
    drop(trusted);
    eventually("the user has room again", || async {
        ask(&mcp, handshake("/", &to_mcp)).await.status == 101
    })
    .await;
}

/// A client that offers a subprotocol of the second endpoint gets that one, and every other client the first.
#[tokio::test]
async fn endpoints_with_the_same_path_are_chosen_by_subprotocol() {
    let edge = TestEdge::with(|config| {
        let at = |what: &str| format!("[[endpoint]]\nlisten = \"{ONE}\"\n{what}\n");
        let file = [at("path = \"/\""), at("vocabulary = \"vocabularies/financegpt-mcp.toml\"")].concat();
        config.endpoints = loaded("one-path", &file).endpoints;
    })
    .await;
    let one = address(&edge.app, ONE);
    for (offered, selected) in [
        ("", None),
        ("Sec-WebSocket-Protocol: mcp\r\n", Some("mcp")),
        ("Sec-WebSocket-Protocol: tidegate.v1.json\r\n", Some("tidegate.v1.json")),
        ("Sec-WebSocket-Protocol: chat, mcp\r\n", Some("mcp")),
        (
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: financegpt-mcp\r\n",
            Some("financegpt-mcp"),
        ),
        ("Sec-WebSocket-Protocol: mcp, tidegate.v1.json\r\n", Some("tidegate.v1.json")),
    ] {
        // Both without hyper and with it.
        for body in ["", "Content-Length: 0\r\n"] {
            let answer = ask(&one, handshake("/", &format!("{offered}{body}{}", bearer("alice")))).await;
            assert_eq!(
                (answer.status, answer.header("sec-websocket-protocol")),
                (101, selected),
                "{offered}{body}"
            );
        }
    }
    // The first endpoint says which subprotocols it has.
    let unknown =
        ask(&one, handshake("/", &format!("Sec-WebSocket-Protocol: chat\r\n{}", bearer("alice")))).await;
    assert_eq!(unknown.status, 400);
}
