//! One-time tickets: `POST /v1/ticket`, and one connect with `?ticket=`, on one node and on two.

use std::time::Duration;
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::future::join;
use serde_json::json;
use tidegate::auth::Authenticator;
use tidegate::auth::ticket::Ticket;
use tidegate::config::Config;
use tidegate::config::auth::AuthConfig;
use tidegate::config::origin::WebOrigin;
use tidegate::nats::buckets;
use tidegate::node::tickets::TicketError;

use crate::support::client::Client;
use crate::support::command::create_buckets;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::Answer;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::secrets::registered;

const APP: &str = "https://app.example.com";
const OTHER: &str = "https://other.example.com";

fn two_pages(config: &mut Config) {
    config.http.allowed_origins = [APP, OTHER].map(|text| WebOrigin::parse(text).unwrap()).to_vec();
}

async fn post(address: &str, headers: &str) -> Answer {
    ask(address, format!("POST /v1/ticket HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 0\r\n\r\n"))
        .await
}

fn bearer(user: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token(user))
}

async fn ticket_with(address: &str, headers: &str) -> String {
    let answer = post(address, headers).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{answer:?}");
    assert_eq!(answer.json()["expires_in_s"], 30);
    registered(answer.json()["ticket"].as_str().unwrap().to_owned())
}

async fn ticket(address: &str, user: &str) -> String {
    ticket_with(address, &bearer(user)).await
}

async fn connect(address: &str, ticket: &str, headers: &str) -> Answer {
    ask(address, handshake(&format!("/ws?ticket={ticket}"), headers)).await
}

fn is_refused(answer: &Answer) {
    assert_eq!((answer.status, &answer.json()["code"]), (401, &"invalid_ticket".into()), "{answer:?}");
}

#[tokio::test]
async fn tok_03_a_ticket_connects_its_user_once() {
    let edge = TestEdge::start().await;
    let address = edge.address();
    let one = ticket(&address, "alice").await;
    let mut client = Client::open(&address, &format!("/ws?ticket={one}"), None).await;
    assert_eq!(client.expect("connected").await["user"], "alice");
    client.subscribe("user.alice.notifications").await;
    is_refused(&connect(&address, &one, "").await);
    // Texts that are no tickets, and one that was never issued.
    let unknown = Ticket::random().unwrap().text();
    for text in [&*unknown, "x", &format!("{unknown}A"), &token("alice")] {
        is_refused(&connect(&address, text, "").await);
    }
    // The event stream takes one too, and calls take none.
    let one = ticket(&address, "bob").await;
    let events =
        |ticket: &str| format!("GET /sse?channel=chat.a&ticket={ticket} HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = ask(&address, events(&one)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    is_refused(&ask(&address, events(&one)).await);
}

#[tokio::test]
async fn tok_03_a_ticket_needs_an_accepted_credential() {
    let edge = TestEdge::start().await;
    for (headers, code) in [
        ("", "unauthorized"),
        ("Authorization: Bearer a.b.c\r\n", "invalid_token"),
        (&*format!("Authorization: Bearer {}\r\n", token_with(&json!({ "exp": 1 }))), "token_expired"),
        (
            &*format!("Authorization: Bearer {}\r\n", token_with(&json!({ "role": "nobody" }))),
            "invalid_token",
        ),
    ] {
        let answer = post(&edge.address(), headers).await;
        assert_eq!((answer.status, &answer.json()["code"]), (401, &code.into()), "{headers}");
    }
    let get = ask(&edge.address(), "GET /v1/ticket HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST, OPTIONS")));
    let off = TestEdge::with(|config| config.auth.ticket = Duration::ZERO).await;
    assert_eq!(post(&off.address(), &bearer("alice")).await.status, 404);
    assert_eq!(connect(&off.address(), &Ticket::random().unwrap().text(), "").await.status, 404);
}

#[tokio::test]
async fn tok_03_a_ticket_belongs_to_the_page_that_asked_for_it() {
    let edge = TestEdge::with(two_pages).await;
    let address = edge.address();
    let page = |origin: &str| format!("Origin: {origin}\r\n");
    let of_app = || async { ticket_with(&address, &format!("{}{}", page(APP), bearer("alice"))).await };
    let stolen = of_app().await;
    is_refused(&connect(&address, &stolen, &page(OTHER)).await);
    is_refused(&connect(&address, &stolen, &page(APP)).await);
    is_refused(&connect(&address, &of_app().await, "").await);
    assert_eq!(connect(&address, &of_app().await, &page("https://evil.example")).await.status, 403);
    assert_eq!(connect(&address, &of_app().await, &page(APP)).await.status, 101);
    assert_eq!(connect(&address, &of_app().await, "Sec-Fetch-Site: same-origin\r\n").await.status, 101);
    // A program that asks for a page does not know which one.
    assert_eq!(connect(&address, &ticket(&address, "alice").await, &page(OTHER)).await.status, 101);
}

#[tokio::test]
async fn tok_03_a_ticket_ends_after_its_time_and_is_gone_then() {
    let edge = TestEdge::start().await;
    let (tickets, now) = (&edge.app.node.tickets, SystemTime::now());
    let late = Ticket::parse(&ticket(&edge.address(), "alice").await).unwrap();
    assert_eq!(tickets.take(&late, now + Duration::from_secs(60)).await, Err(TicketError::Unknown));
    assert_eq!(tickets.take(&late, now).await, Err(TicketError::Unknown));
    let early = Ticket::parse(&ticket(&edge.address(), "alice").await).unwrap();
    assert!(tickets.take(&early, now + Duration::from_secs(29)).await.is_ok());
}

#[tokio::test]
async fn tok_03_a_ticket_keeps_the_expiry_and_the_revocation_of_its_token() {
    let edge = TestEdge::start().await;
    let address = edge.address();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let short = format!("Authorization: Bearer {}\r\n", token_with(&json!({ "exp": now + 3 })));
    let one = ticket_with(&address, &short).await;
    let mut client = Client::open(&address, &format!("/ws?ticket={one}"), None).await;
    assert_eq!(client.until_closed().await.1, Some(4001));
    // The token is verified when the ticket is used: its key has gone since.
    let one = ticket(&address, "alice").await;
    let without_keys = Authenticator::new(AuthConfig::default(), Vec::new()).unwrap();
    edge.app.node.current_authenticator.replace(without_keys);
    let answer = connect(&address, &one, "").await;
    assert_eq!((answer.status, &answer.json()["code"]), (401, &"invalid_token".into()));
}

#[tokio::test]
async fn tok_03_every_node_accepts_a_ticket_and_exactly_one_of_two_that_race() {
    let edge = TestEdge::start().await;
    create_buckets(&edge.nats).await;
    let other = edge.another_node().await;
    let (here, there) = (edge.address(), other.address.to_string());
    let one = ticket(&here, "alice").await;
    assert_eq!(connect(&there, &one, "").await.status, 101);
    is_refused(&connect(&here, &one, "").await);
    for _ in 0..25 {
        let one = ticket(&there, "alice").await;
        let (left, right) = join(connect(&here, &one, ""), connect(&there, &one, "")).await;
        let mut statuses = [left.status, right.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [101, 401]);
    }
}

#[tokio::test]
async fn tok_03_a_node_that_may_creates_the_bucket_itself() {
    let edge = TestEdge::with_nats(NatsServer::open().await, |_| {}, false).await;
    let other = edge.another_node().await;
    let one = ticket(&edge.address(), "alice").await;
    assert_eq!(connect(&other.address.to_string(), &one, "").await.status, 101);
}

#[tokio::test]
async fn tok_03_nats_never_has_a_token_or_a_ticket() {
    let edge = TestEdge::start().await;
    create_buckets(&edge.nats).await;
    let nats = edge.nats.operator().await;
    let mut spy = nats.subscribe(format!("$KV.{}.>", buckets::TICKETS.name)).await.unwrap();
    nats.flush().await.unwrap();
    let one = ticket(&edge.address(), "alice").await;
    let entry = crate::support::within("the entry", spy.next()).await.unwrap();
    let text = format!("{} {}", entry.subject, String::from_utf8_lossy(&entry.payload));
    let signature = token("alice").rsplit('.').next().unwrap().to_owned();
    for secret in [&*one, "eyJ", &signature, "alice"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn tok_03_without_nats_tickets_are_refused_for_now() {
    let mut edge = TestEdge::start().await;
    create_buckets(&edge.nats).await;
    let address = edge.address();
    let one = ticket(&address, "alice").await;
    edge.lose_nats().await;
    for answer in [post(&address, &bearer("alice")).await, connect(&address, &one, "").await] {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")), "{answer:?}");
    }
    assert_eq!(connect(&address, "x", "").await.status, 401, "this is no ticket");
}

#[tokio::test]
async fn tok_03_without_jetstream_tickets_are_valid_on_their_node_only() {
    let nats = NatsServer::with("jetstream: disabled").await;
    let edge = TestEdge::with_nats(nats, |_| {}, false).await;
    let other = edge.another_node().await;
    let (here, there) = (edge.address(), other.address.to_string());
    let [one, two] = [ticket(&here, "alice").await, ticket(&here, "alice").await];
    is_refused(&connect(&there, &one, "").await);
    assert_eq!(connect(&here, &one, "").await.status, 101);
    is_refused(&connect(&here, &one, "").await);
    assert_eq!(connect(&here, &two, "").await.status, 101);
}

#[tokio::test]
async fn tok_01_no_line_shows_a_ticket_or_a_cookie() {
    let nats = NatsServer::start().await;
    let config = "log.filter = \"trace\"\nhttp.allowed_origins = [\"https://app.example.com\"]\nauth.cookie = \"session\"";
    let node = Process::serve(&nats.node_url(), config).await;
    let one = ticket(&node.address, "alice").await;
    let mut client = Client::open(&node.address, &format!("/ws?ticket={one}"), None).await;
    client.expect("connected").await;
    is_refused(&connect(&node.address, &one, "").await);
    let line = node.logged("handshake rejected", |line| line["reason"] == "bad_ticket").await;
    assert_eq!(line["status"], 401);
    let foreign = format!("Origin: https://app.example.com\r\nCookie: session={}x\r\n", token("alice"));
    assert_eq!(ask(&node.address, handshake("/ws", &foreign)).await.status, 401);
    node.logged("handshake rejected", |line| line["reason"] == "bad_signature").await;
    let signature = token("alice").rsplit('.').next().unwrap().to_owned();
    let shown: Vec<_> = node.logs().iter().map(ToString::to_string).collect();
    for secret in [&one, &signature] {
        assert!(!shown.iter().any(|line| line.contains(&**secret)), "{secret} in {shown:#?}");
    }
}
