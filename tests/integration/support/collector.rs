//! A collector of traces: it reads what nodes export over OTLP/HTTP, and answers as a test says.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// A span, as the collector understands it.
#[derive(Clone, Debug)]
pub(crate) struct CollectedSpan {
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The whole span.
    pub(crate) json: Value,
}

impl CollectedSpan {
    pub(crate) fn text(&self, member: &str) -> &str {
        self.json[member].as_str().unwrap_or_default()
    }
}

/// A collector on a free port of this machine.
pub(crate) struct Collector {
    port: u16,
    status: watch::Sender<u16>,
    silent: watch::Sender<bool>,
    exports: watch::Receiver<Vec<Export>>,
    task: AbortHandle,
}

impl Collector {
    /// A collector that accepts everything.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (status, statuses) = watch::channel(200);
        let (silent, mut silence) = watch::channel(false);
        let (received, exports) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let export = read(&mut socket).await;
                let status = *statuses.borrow();
                received.send_modify(|exports| exports.push(export));
                let _ = silence.wait_for(|silent| !silent).await;
                let answer = format!(
                    "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
                );
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, status, silent, exports, task: task.abort_handle() }
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers with this status from now on. What it refuses is among `exports` too.
    pub(crate) fn answer(&self, status: u16) {
        self.status.send_replace(status);
    }

    /// Gives no answer while `silent`.
    pub(crate) fn be_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    /// The requests so far, once there are this many.
    pub(crate) async fn exports(&self, at_least: usize) -> Vec<Export> {
        let mut exports = self.exports.clone();
        exports.wait_for(|exports| exports.len() >= at_least).await.unwrap().clone()
    }

    /// The spans so far, once there are this many.
    pub(crate) async fn spans(&self, at_least: usize) -> Vec<CollectedSpan> {
        let mut exports = self.exports.clone();
        spans(&exports.wait_for(|exports| spans(exports).len() >= at_least).await.unwrap())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn spans(exports: &[Export]) -> Vec<CollectedSpan> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for of_resource in exports.iter().flat_map(|export| list(&export.body["resourceSpans"])) {
        let resource = attributes(&of_resource["resource"]["attributes"]);
        for scope in list(&of_resource["scopeSpans"]) {
            found.extend(list(&scope["spans"]).into_iter().map(|json| CollectedSpan {
                resource: resource.clone(),
                attributes: attributes(&json["attributes"]),
                json,
            }));
        }
    }
    found
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let pair = |attribute: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&attribute["key"]), text(&attribute["value"]["stringValue"]))
    };
    list.as_array().unwrap().iter().map(pair).collect()
}

async fn read(socket: &mut TcpStream) -> Export {
    let mut bytes = Vec::new();
    loop {
        assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0, "the request is incomplete");
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        if bytes.len() >= end + 4 + length.unwrap() {
            return Export { head, body: serde_json::from_slice(&bytes[end + 4..]).unwrap() };
        }
    }
}
