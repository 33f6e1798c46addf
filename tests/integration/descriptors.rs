//! A node with few file descriptors: it rejects clients with 503, and keeps the descriptors that it needs.

use crate::support::client::Client;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::get;
use crate::support::raw::handshake;

const FILES: u32 = 160;

#[tokio::test]
async fn at_the_descriptor_limit_clients_get_503_and_health_checks_and_nats_still_work() {
    let mut nats = NatsServer::start().await;
    let node = Process::serve_with_files(FILES, &nats.node_url(), "limits.handshake_timeout_s = 300").await;
    node.ready().await;
    // Far more idle sockets than there are descriptors.
    let mut silent = Vec::new();
    for _ in 0..FILES * 2 {
        silent.push(RawClient::connect(&node.address).await);
    }
    let refused = ask(&node.address, handshake("/ws", "")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    for _ in 0..10 {
        let (status, body) = get(&node.address, "/healthz").await;
        assert_eq!((status, body.as_str()), (200, r#"{"status":"ok"}"#));
    }
    // The NATS connections get descriptors again.
    let links = nats.connections("tidegate/").await;
    nats.kill();
    nats.restart().await;
    eventually("all links are back", || async { nats.connections("tidegate/").await == links }).await;
    node.logged_once("no …", |line| line["message"].as_str().unwrap().starts_with("no ")).await;
    drop(silent);
    eventually("there is room again", || async {
        ask(&node.address, handshake("/ws", "")).await.status == 101
    })
    .await;
}

#[tokio::test]
async fn at_the_connection_limit_health_checks_work_and_clients_get_a_complete_503() {
    let nats = NatsServer::start().await;
    let node = Process::serve_with_files(FILES, &nats.node_url(), "").await;
    let listening = node.logged("listening", |_| true).await;
    let room = listening["connections"].as_u64().unwrap();
    assert!((20..u64::from(FILES)).contains(&room), "{room}");
    let mut clients = Vec::new();
    for _ in 0..room {
        clients.push(Client::connect(&node.address, &token("alice")).await);
    }
    let refused = ask(&node.address, handshake("/ws", "")).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("busy")));
    assert_eq!(get(&node.address, "/healthz").await.0, 200);
    assert_eq!(get(&node.address, "/readyz").await.0, 200);
    clients.pop();
    eventually("there is room again", || async {
        ask(&node.address, handshake("/ws", "")).await.status == 101
    })
    .await;
}

#[tokio::test]
async fn with_a_lowered_descriptor_limit_a_node_answers_with_its_spare_descriptor() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    node.ready().await;
    let id = node.child.id().unwrap().to_string();
    let open = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    let limit = format!("--nofile={}", open + 3);
    let lowered = std::process::Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap();
    assert!(lowered.success());
    let mut kept = Vec::new();
    for _ in 0..8 {
        kept.push(RawClient::connect(&node.address).await);
    }
    for _ in 0..5 {
        let refused = ask(&node.address, handshake("/ws", "")).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
        assert_eq!(get(&node.address, "/healthz").await.0, 200);
    }
    let line = node.logged_once("ERROR", |line| line["level"] == "ERROR").await;
    assert!(line["message"].as_str().unwrap().contains("file descriptor"), "{line}");
    drop(kept);
    eventually("there is room again", || async {
        ask(&node.address, handshake("/ws", "")).await.status == 101
    })
    .await;
}
