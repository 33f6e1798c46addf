//! `make demo`: all five pages in a real Chromium, and nothing keeps running afterwards.

use std::process::Stdio;

use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;

use crate::support::browser;
use crate::support::browser::text;
use crate::support::eventually;
use crate::support::nats_server;
use crate::support::within;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/run.sh");

/// A running demo, and what it has printed.
struct Demo {
    child: Child,
    page: String,
    /// The addresses that it listens on.
    addresses: Vec<String>,
}

fn script(seed: &str) -> Command {
    let mut command = Command::new(SCRIPT);
    command
        .arg(seed)
        .env("TIDEGATE", env!("CARGO_BIN_EXE_tidegate"))
        .env("TIDEGATE_NATS_SERVER", nats_server::program())
        .env("EVERY", "100")
        .env("ANY_PORT", "1")
        .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
        .env_remove("SEEDS")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn start(seed: &str) -> Demo {
    let mut child = script(seed).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut page, mut addresses) = (String::new(), Vec::new());
    // Without a timeout: the script may have to download what the producer needs, if `tests/setup.sh` has not run.
    while let Some(line) = lines.next_line().await.unwrap() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some(name @ ("page" | "socket" | "nats")), Some(url)) => {
                let address = url.split('/').nth(2).unwrap();
                addresses.push(address.to_owned());
                if name == "page" {
                    url.clone_into(&mut page);
                }
            }
            (Some("Ctrl-C"), _) => return Demo { child, page, addresses },
            _ => {}
        }
    }
    panic!("the demo of {seed} has ended");
}

#[tokio::test]
async fn every_page_works_and_ctrl_c_stops_everything() {
    let mut demos = Vec::new();
    for seed in ["sentio", "hoardrun", "stock-agent", "financegpt", "ara"] {
        demos.push(start(seed).await);
    }
    browser::check("demo.mjs", demos.iter().map(|demo| &demo.page)).await;
    for demo in &demos {
        let pid = demo.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    }
    for mut demo in demos {
        let status = within("the end", demo.child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0));
        for address in &demo.addresses {
            assert!(TcpStream::connect(address).await.is_err(), "{address} still listens");
        }
    }
}

#[tokio::test]
async fn no_process_of_a_demo_outlives_a_kill() {
    let mut demo = start("ara").await;
    demo.child.kill().await.unwrap();
    for address in &demo.addresses {
        eventually("it has ended too", || async { TcpStream::connect(address).await.is_err() }).await;
    }
}

#[tokio::test]
async fn an_unknown_demo_is_an_error_that_lists_the_demos() {
    for seed in ["", "prices"] {
        let output = script(seed).output().await.unwrap();
        assert_eq!(output.status.code(), Some(64));
        for name in ["sentio", "hoardrun", "stock-agent", "financegpt", "ara"] {
            assert!(text(&output).contains(name), "{}", text(&output));
        }
    }
}
