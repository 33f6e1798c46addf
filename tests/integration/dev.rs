//! `tidegate dev`: the page in a real Chromium, the printed commands, and a shutdown that leaves nothing behind.

use std::process::Stdio;

use futures_util::StreamExt as _;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;

use crate::support::browser;
use crate::support::eventually;
use crate::support::nats_server;
use crate::support::within;

/// A running `tidegate dev`, and the links and commands that it has printed.
struct Dev {
    child: Child,
    page: String,
    nats: String,
    publish: Vec<String>,
}

async fn start() -> Dev {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("dev")
        .env("TIDEGATE_HTTP__LISTEN", "127.0.0.1:0")
        .env("TIDEGATE_NATS_SERVER", nats_server::program())
        .current_dir(std::env::temp_dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut page, mut nats, mut publish) = (String::new(), String::new(), Vec::new());
    loop {
        let line =
            within("a line of the banner", lines.next_line()).await.unwrap().expect("the banner has an end");
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("page"), Some(url)) => page = url.to_owned(),
            (Some("nats"), Some("pub")) => publish.push(line.trim().to_owned()),
            (Some("nats"), Some(url)) => nats = url.to_owned(),
            (Some("Ctrl-C"), _) => break,
            _ => {}
        }
    }
    // Read on, or the process would block on a full pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Dev { child, page, nats, publish }
}

#[tokio::test]
async fn the_page_shows_publications_and_ctrl_c_stops_everything() {
    let mut dev = start().await;
    browser::check("dev-page.mjs", [&dev.page, &dev.nats]).await;
    let pid = dev.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let status = within("the end", dev.child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    let server = dev.nats.trim_start_matches("nats://").to_owned();
    eventually("nats-server has stopped as well", || async {
        tokio::net::TcpStream::connect(&server).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn the_page_explains_errors_and_their_fix() {
    browser::check("dev-page-errors.mjs", [env!("CARGO_BIN_EXE_tidegate")]).await;
}

#[tokio::test]
async fn the_printed_commands_work_and_no_process_outlives_a_kill() {
    let mut dev = start().await;
    let server =
        if dev.nats == "nats://127.0.0.1:4222" { String::new() } else { format!("-s {} ", dev.nats) };
    let subjects = ["prices.AAPL", "user.demo.notifications", "admin.users"];
    assert_eq!(dev.publish.len(), subjects.len(), "{:?}", dev.publish);
    for (line, subject) in dev.publish.iter().zip(subjects) {
        assert!(line.starts_with(&format!("nats pub {server}{subject} '{{")), "{line}");
    }
    // Any NATS client receives the demo's prices.
    let subscriber = async_nats::connect(&dev.nats).await.unwrap();
    let mut prices = subscriber.subscribe("prices.*").await.unwrap();
    let price = within("a price", prices.next()).await.unwrap();
    let price: serde_json::Value = serde_json::from_slice(&price.payload).unwrap();
    for member in ["price", "change", "change_pct", "volume", "bid", "ask"] {
        assert!(price[member].is_number(), "{price}");
    }
    assert!(price["symbol"].is_string(), "{price}");
    let pid = dev.child.id().unwrap();
    dev.child.kill().await.unwrap();
    let server = dev.nats.trim_start_matches("nats://").to_owned();
    eventually("nats-server has ended too", || async {
        tokio::net::TcpStream::connect(&server).await.is_err()
    })
    .await;
    // A killed process cannot remove its directory.
    std::fs::remove_dir_all(std::env::temp_dir().join(format!("tidegate-dev-{pid}"))).unwrap();
}
