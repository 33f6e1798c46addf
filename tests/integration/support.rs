//! Shared by all integration tests: a node with its NATS server on free ports, clients and tokens.

pub(crate) mod admin;
pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod command;
pub(crate) mod decider;
pub(crate) mod dialect;
pub(crate) mod edge;
pub(crate) mod flood;
pub(crate) mod key_server;
pub(crate) mod ledger;
pub(crate) mod nats_server;
pub(crate) mod pebble;
pub(crate) mod process;
pub(crate) mod producer;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod recorder;
pub(crate) mod secrets;
pub(crate) mod tls;

use std::future::Future;
use std::time::Duration;

/// How long to wait for a condition before the test fails. Tests must not measure speed with it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition. Panics with its name if it does not become true.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < until, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for a future that must complete.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("timed out: {what}"))
}

/// Waits until all threads of a process that got SIGSTOP have stopped.
pub(crate) fn until_stopped(id: u32) {
    let threads = format!("/proc/{id}/task");
    let stopped = |entry: std::io::Result<std::fs::DirEntry>| {
        // The state follows the name, which is in brackets.
        let stat = std::fs::read_to_string(entry.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    };
    let until = std::time::Instant::now() + PATIENCE;
    while !std::fs::read_dir(&threads).unwrap().all(stopped) {
        assert!(std::time::Instant::now() < until, "timed out: process {id} stops");
        std::thread::yield_now();
    }
}
