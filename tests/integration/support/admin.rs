//! The admin listener of a node under test.

use serde_json::Value;
use tidegate::config::Config;

use crate::support::edge::TestEdge;
use crate::support::raw::Answer;
use crate::support::raw::ask;

/// Lets the node have an admin listener on loopback.
pub(crate) fn on_loopback(config: &mut Config) {
    config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
}

/// The address of the admin listener.
pub(crate) fn address(edge: &TestEdge) -> String {
    edge.app.admin_address.as_ref().unwrap().to_string()
}

/// The answer to `GET path` with these headers. Each of them ends with CR LF.
pub(crate) async fn get(address: &str, path: &str, headers: &str) -> Answer {
    ask(address, format!("GET {path} HTTP/1.1\r\n{headers}\r\n")).await
}

/// The JSON of a page of the admin listener.
pub(crate) async fn json_of(edge: &TestEdge, path: &str) -> Value {
    json_with(edge, path, "").await
}

/// The same with more headers.
pub(crate) async fn json_with(edge: &TestEdge, path: &str, headers: &str) -> Value {
    let answer = get(&address(edge), path, &format!("Host: localhost\r\n{headers}")).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{answer:?}");
    answer.json()
}
