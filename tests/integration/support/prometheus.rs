//! The real Prometheus, with the alert rules of `docs/operations/alerts.yml` and short intervals.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Child;
use tokio::process::Command;

use crate::support::PATIENCE;
use crate::support::nats_server::NatsServer;
use crate::support::raw::get;

/// The alert rules that users load.
pub(crate) const RULES: &str = include_str!("../../../docs/operations/alerts.yml");

/// A running Prometheus. It ends, and its data are removed, when this is dropped.
pub(crate) struct Prometheus {
    address: String,
    folder: PathBuf,
    _server: Child,
}

impl Prometheus {
    /// Scrapes these addresses twice a second. The rules are the shipped ones, except that an alert fires at once
    /// (`for: 0s`): `docs/operations/alerts-test.yml` tests the times.
    pub(crate) fn start(targets: &[String]) -> Self {
        let port = NatsServer::free_port();
        let folder = std::env::temp_dir().join(format!("tidegate-prometheus-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let at_once = RULES.lines().map(|line| match line.split_once("for: ") {
            Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 0s\n"),
            _ => format!("{line}\n"),
        });
        std::fs::write(folder.join("alerts.yml"), at_once.collect::<String>()).unwrap();
        let configuration = serde_json::json!({
            "global": { "scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms" },
            "rule_files": ["alerts.yml"],
            "scrape_configs": [{ "job_name": "tidegate", "static_configs": [{ "targets": targets }] }],
        });
        // JSON is YAML.
        std::fs::write(folder.join("prometheus.yml"), configuration.to_string()).unwrap();
        let address = format!("127.0.0.1:{port}");
        let server = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Prometheus is not installed: run tests/setup.sh, or apt-get install prometheus");
        Self { address, folder, _server: server }
    }

    /// Waits until a query has a result.
    pub(crate) async fn until(&self, query: &str) {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query?query={query}");
        self.wait(&path, |answer| !answer["data"]["result"].as_array().is_none_or(Vec::is_empty)).await;
    }

    /// Causes something again and again, until this alert fires for the node at this address.
    pub(crate) async fn fires(&self, alert: &str, instance: &str, mut cause: impl AsyncFnMut()) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while !self.firing().await.contains(&(alert.to_owned(), instance.to_owned())) {
            assert!(tokio::time::Instant::now() < until, "{alert} does not fire for {instance}");
            cause().await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// The alerts that fire, with the addresses of their nodes.
    pub(crate) async fn firing(&self) -> Vec<(String, String)> {
        let (_, body) = get(&self.address, "/api/v1/alerts").await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        let alerts = answer["data"]["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        firing.map(|alert| (label(alert, "alertname"), label(alert, "instance"))).collect()
    }

    async fn wait(&self, path: &str, fits: impl Fn(&Value) -> bool) {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            // It refuses connections until it listens.
            if tokio::net::TcpStream::connect(&self.address).await.is_ok() {
                let (status, body) = get(&self.address, path).await;
                if status == 200 && serde_json::from_str(&body).is_ok_and(|answer| fits(&answer)) {
                    return;
                }
            }
            assert!(tokio::time::Instant::now() < until, "timed out: {path}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
