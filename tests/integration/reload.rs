//! SIGHUP: a node that runs takes over a changed configuration, all of it or nothing.

use serde_json::Value;
use serde_json::json;

use crate::support::client::Client;
use crate::support::edge::SECRET;
use crate::support::edge::signed;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::ask;
use crate::support::raw::handshake;

const NEXT_SECRET: &str = "the secret that follows it in these tests, as long as it must be";
const IN_USE: &str = "SIGHUP: the configuration is in use";

/// A token that is signed with the next secret.
fn next_token(user: &str) -> String {
    let claims = json!({ "sub": user, "role": "user", "exp": 4_000_000_000_u64 });
    signed(NEXT_SECRET, Some("test"), &claims)
}

/// The status of a handshake with this token, from a page of this origin.
async fn status(node: &Process, token: &str, origin: Option<&str>) -> u16 {
    let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
    let headers = format!("Authorization: Bearer {token}\r\n{origin}");
    ask(&node.address, handshake("/ws", &headers)).await.status
}

async fn error_of(client: &mut Client, channel: &str) -> Value {
    client.send(&json!({ "type": "subscribe", "channel": channel })).await;
    client.expect("error").await["code"].clone()
}

#[tokio::test]
async fn jwt_10_a_new_key_and_new_roles_are_used_at_once_and_open_sockets_stay() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    node.ready().await;
    let mut open = Client::connect(&node.address, &token("alice")).await;
    open.subscribe("chat.a").await;
    assert_eq!(status(&node, &next_token("alice"), None).await, 401);
    node.reload(&Process::config(&nats.node_url(), "", NEXT_SECRET, "news.>"));
    node.logged(IN_USE, |_| true).await;
    assert_eq!(status(&node, &token("alice"), None).await, 401);
    let mut next = Client::connect(&node.address, &next_token("alice")).await;
    assert_eq!(error_of(&mut next, "chat.a").await, "forbidden");
    next.subscribe("news.a").await;
    // The socket that was open has lost nothing, until it sends another token.
    let producer = nats.client().await;
    producer.publish("chat.a", "1".into()).await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(open.expect("message").await["data"], 1);
    open.send(&json!({ "type": "auth", "token": next_token("alice") })).await;
    open.expect("connected").await;
    assert_eq!(open.expect("unsubscribed").await["channel"], "chat.a");
}

#[tokio::test]
async fn org_01_changed_origins_hold_for_the_next_handshake() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    let page = Some("https://app.example.com");
    assert_eq!(status(&node, &token("alice"), page).await, 403);
    let allowed = "http.allowed_origins = [\"https://app.example.com\"]";
    node.reload(&Process::config(&nats.node_url(), allowed, SECRET, "chat.>"));
    node.logged(IN_USE, |_| true).await;
    assert_eq!(status(&node, &token("alice"), page).await, 101);
    node.reload(&Process::config(&nats.node_url(), "", SECRET, "chat.>"));
    eventually("the origin to be refused again", async || status(&node, &token("alice"), page).await == 403)
        .await;
}

#[tokio::test]
async fn ex_01_changed_limits_of_users_hold_for_the_next_connection() {
    let nats = NatsServer::start().await;
    let limit = |connections: usize| {
        let more = format!("limits.connections_per_user = {connections}");
        Process::config(&nats.node_url(), &more, SECRET, "chat.>")
    };
    let node = Process::serve(&nats.node_url(), "limits.connections_per_user = 1").await;
    let _first = Client::connect(&node.address, &token("alice")).await;
    assert_eq!(status(&node, &token("alice"), None).await, 429);
    node.reload(&limit(2));
    node.logged(IN_USE, |_| true).await;
    let _second = Client::connect(&node.address, &token("alice")).await;
    assert_eq!(status(&node, &token("alice"), None).await, 429);
}

#[tokio::test]
async fn an_endpoint_with_a_vocabulary_gets_its_new_access_while_its_file_is_the_same() {
    let nats = NatsServer::start().await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/vocabularies/sentio.toml");
    let endpoint = |access: &str| format!("[[endpoint]]\nvocabulary = {file:?}\n{access}\n");
    let node = Process::serve(&nats.node_url(), &endpoint("")).await;
    let headers = format!("Authorization: Bearer {}\r\nOrigin: https://app.example.com\r\n", token("alice"));
    let connect = async || ask(&node.address, handshake("/ws/trade-signals", &headers)).await.status;
    assert_eq!(connect().await, 403);
    let allowed = endpoint("allowed_origins = [\"https://app.example.com\"]");
    node.reload(&Process::config(&nats.node_url(), &allowed, SECRET, "chat.>"));
    node.logged(IN_USE, |_| true).await;
    assert_eq!(connect().await, 101);
}

#[tokio::test]
async fn a_configuration_with_a_mistake_changes_nothing_and_says_so() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    for (wrong, mistake) in [
        // A mistake of the text, and one that shows only when roles and endpoints are combined.
        ("limits.conections = 3", "limits.connections"),
        ("auth.anonymous_role = \"unknown-role\"", "unknown-role"),
    ] {
        node.reload(&Process::config(&nats.node_url(), wrong, NEXT_SECRET, "news.>"));
        let refused = |line: &Value| line["level"] == "ERROR" && line.to_string().contains(mistake);
        eventually("the mistake to be logged", async || node.logs().iter().any(refused)).await;
        assert_eq!(status(&node, &token("alice"), None).await, 101);
        assert_eq!(status(&node, &next_token("alice"), None).await, 401);
    }
    assert!(node.lines(IN_USE).is_empty());
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_used() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    let more = "limits.connections = 3\nlog.filter = \"debug\"";
    node.reload(&Process::config(&nats.node_url(), more, NEXT_SECRET, "chat.>"));
    let message = "SIGHUP: the configuration is in use, except for what needs a restart";
    assert_eq!(node.logged(message, |_| true).await["needs_restart"], "[limits]");
    let mut client = Client::connect(&node.address, &next_token("alice")).await;
    client.subscribe("chat.a").await;
    eventually("lines of the new log filter", async || {
        node.logs().iter().any(|line| line["level"] == "DEBUG")
    })
    .await;
}
