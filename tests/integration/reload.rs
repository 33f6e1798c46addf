//! SIGHUP: a node that runs takes over a changed configuration, all of it or nothing.

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::support::client::Client;
use crate::support::edge::SECRET;
use crate::support::edge::signed;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::RawClient;
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
async fn ex_01_changed_limits_of_the_node_and_of_connections_hold_for_new_connections() {
    let nats = NatsServer::start().await;
    let limits = |connections: usize, subscriptions: usize, message_bytes: usize| {
        format!(
            "limits.connections = {connections}\nlimits.subscriptions = {subscriptions}\n\
             limits.max_message_bytes = {message_bytes}"
        )
    };
    let node = Process::serve(&nats.node_url(), &limits(1, 1, 2000)).await;
    let mut first = Client::connect(&node.address, &token("alice")).await;
    assert_eq!(status(&node, &token("bob"), None).await, 503);
    node.reload(&Process::config(&nats.node_url(), &limits(2, 2, 1024), SECRET, "chat.>"));
    node.logged(IN_USE, |_| true).await;
    let mut second = Client::connect(&node.address, &token("bob")).await;
    assert_eq!(status(&node, &token("carol"), None).await, 503);
    // What the first client was told when it connected still holds for it.
    let long = json!({ "type": "subscribe", "channel": "chat.a", "id": "x".repeat(1500) });
    first.subscribe("chat.a").await;
    assert_eq!(error_of(&mut first, "chat.b").await, "limit_exceeded");
    first.send(&long).await;
    assert_eq!(first.expect("error").await["code"], "bad_request");
    for channel in ["chat.a", "chat.b"] {
        second.subscribe(channel).await;
    }
    assert_eq!(error_of(&mut second, "chat.c").await, "limit_exceeded");
    second.send(&long).await;
    assert_eq!(second.until_closed().await.1, Some(1009));
}

/// A vocabulary that sends prices in this member.
fn quotes(member: &str) -> String {
    format!(
        "name = \"quotes\"\n[[path]]\nname = \"main\"\npath = \"/quotes\"\n[[receive]]\nwhen = {{ do = \"watch\" }}\n\
         do = \"subscribe\"\nchannel = \"prices.*\"\nconfirm = {{ type = \"watching\" }}\n[[deliver]]\n\
         pattern = \"prices.*\"\nsend = {{ type = \"quote\", {member} = \"{{data}}\" }}\n[[http]]\nmethod = \"GET\"\n\
         path = \"/quotes/count\"\ndo = \"stats\"\nsend = \"{{stats.connections}}\"\n"
    )
}

async fn watching(node: &Process, path: &str, user: &str) -> Client {
    let mut client = Client::open(&node.address, path, Some(&token(user))).await;
    client.send(&json!({ "do": "watch" })).await;
    client.expect("watching").await;
    client
}

#[tokio::test]
async fn a_changed_vocabulary_is_for_new_clients_and_connected_ones_keep_theirs() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    let file = node.folder.join("quotes.toml");
    let config = |rest: &str| {
        let more = format!("[[endpoint]]\nvocabulary = {file:?}\n{rest}\n");
        // The role is the last table.
        Process::config(&nats.node_url(), &more, SECRET, "chat.>") + "stats = \"counts\"\n"
    };
    let reload = async |member: &str, rest: &str| {
        let times = node.lines(IN_USE).len();
        std::fs::write(&file, quotes(member)).unwrap();
        node.reload(&config(rest));
        eventually("the new configuration", async || node.lines(IN_USE).len() > times).await;
    };
    // There was no vocabulary before.
    reload("first", "").await;
    let mut first = watching(&node, "/quotes", "alice").await;
    let native = "[[endpoint]]\npath = \"/also\"\nvocabulary = \"native\"";
    reload("second", native).await;
    let mut second = watching(&node, "/quotes", "bob").await;
    reload("third", "").await;
    let mut third = watching(&node, "/quotes", "carol").await;
    let producer = nats.client().await;
    for data in 1..=2 {
        producer.publish("prices.A", data.to_string().into()).await.unwrap();
        producer.flush().await.unwrap();
        for (client, member) in [(&mut first, "first"), (&mut second, "second"), (&mut third, "third")] {
            assert_eq!(client.expect("quote").await, json!({ "type": "quote", (member): data }));
        }
    }
    let count = async || {
        let headers = format!("Authorization: Bearer {}\r\n", token("alice"));
        let request = format!("GET /quotes/count HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        ask(&node.address, request).await.json()
    };
    assert_eq!(count().await, 3, "clients of all versions");
    drop((first, second));
    eventually("the others have gone", async || count().await == 1).await;
    // A file that cannot be used changes nothing.
    std::fs::write(&file, "name = 1").unwrap();
    node.reload(&config(""));
    node.logged("SIGHUP: the configuration has mistakes, so nothing has changed", |_| true).await;
    watching(&node, "/quotes", "dave").await;
    assert_eq!(ask(&node.address, handshake("/also", "")).await.status, 404, "the endpoint was removed");
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
    let more = "limits.inbox_bytes = 2000000\nlog.filter = \"debug\"\n[[class]]\npattern = \"chat.>\"";
    node.reload(&Process::config(&nats.node_url(), more, NEXT_SECRET, "chat.>"));
    let message = "SIGHUP: the configuration is in use, except for what needs a restart";
    let line = node.logged(message, |_| true).await;
    assert_eq!(line["needs_restart"], "[[class]], limits.inbox_bytes");
    assert_eq!(line["changed"], "[auth], log.filter");
    let mut client = Client::connect(&node.address, &next_token("alice")).await;
    client.subscribe("chat.a").await;
    eventually("lines of the new log filter", async || {
        node.logs().iter().any(|line| line["level"] == "DEBUG")
    })
    .await;
}

#[tokio::test]
async fn what_is_withdrawn_ends_connections_that_would_serve_further_requests() {
    let nats = NatsServer::start().await;
    let (open, closed) = ("auth.anonymous_role = \"user\"", "");
    let node = Process::serve(&nats.node_url(), open).await;
    let health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut kept = RawClient::connect(&node.address).await;
    kept.send(health.as_bytes()).await;
    assert_eq!(kept.answer().await.status, 200);
    // It has sent nothing yet.
    let mut silent = RawClient::connect(&node.address).await;
    assert_eq!(ask(&node.address, handshake("/ws", "")).await.status, 101);
    node.reload(&Process::config(&nats.node_url(), closed, SECRET, "chat.>"));
    node.logged(IN_USE, |_| true).await;
    // The socket may be closed already.
    let _ = kept.stream.write_all(&handshake("/ws", "")).await;
    assert_eq!(String::from_utf8_lossy(&kept.rest().await), "");
    silent.send(&handshake("/ws", "Content-Length: 0\r\n")).await;
    // Without an anonymous role, the client must send a credential.
    let answer = silent.answer().await;
    assert_eq!(answer.status, 101);
    assert_eq!(silent.close_code().await, Some(4504));
}

#[tokio::test]
async fn a_reload_says_which_sections_have_changed_or_that_nothing_has() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "").await;
    node.signal("HUP");
    let line = node.logged("SIGHUP: nothing has changed in the configuration", |_| true).await;
    assert_eq!(line["changed"], Value::Null, "{line}");
    node.reload(&Process::config(&nats.node_url(), "limits.max_errors = 9", SECRET, "news.>"));
    assert_eq!(node.logged(IN_USE, |_| true).await["changed"], "[[role]], [limits]");
}
