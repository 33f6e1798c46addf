//! Clients that cause much work with few bytes, or misuse headers.

use std::fmt::Write as _;

use serde_json::Value;
use serde_json::json;
use tokio::net::TcpStream;

use crate::regressions::names;
use crate::regressions::prices;
use crate::regressions::publish;
use crate::regressions::stock_agent;
use crate::support::client::Client;
use crate::support::dialect::Dialect;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::token;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw;
use crate::support::raw::RawClient;

/// A page of Stock Agent without a credential, connected.
async fn page(address: &str) -> RawClient {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut page = RawClient::upgrade(stream, "/ws/page", "").await;
    assert_eq!(page.message().await["type"], "connected");
    page
}

/// The number as three letters and digits.
fn short(number: usize) -> String {
    let digit = |place: usize| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[number / place % 36]);
    [1296, 36, 1].map(digit).iter().collect()
}

#[tokio::test]
async fn a_01_eighteen_lists_of_a_thousand_symbols_in_one_write_do_not_end_a_node() {
    let nats = NatsServer::start().await;
    let mut node = stock_agent(&nats.node_url()).await;
    let mut other = page(&node.address).await;
    other.send(&raw::text(&prices("subscribe", &["OTHER".to_owned()]))).await;
    // 110 KB, which the limits allow in one write.
    let mut all = Vec::new();
    for list in 0..18 {
        let symbols: Vec<_> = (list * 1000..list * 1000 + 1000).map(short).collect();
        all.extend(raw::text(&prices("subscribe", &symbols)));
        all.extend(raw::text(r#"{"type":"unsubscribe","channel":"prices"}"#));
    }
    let mut attacker = page(&node.address).await;
    attacker.send(&all).await;
    attacker.send(&raw::frame(0x89, b"alive?")).await;
    // Until the pong, or until the node closes the connection.
    while attacker.frame().await.is_some_and(|frame| !matches!(frame.opcode, 8 | 10)) {}
    assert_eq!(node.child.try_wait().unwrap(), None, "{:?}", node.logs().last());
    let client = nats.client().await;
    let task = tokio::spawn(async move {
        loop {
            client.publish("prices.OTHER", "1".into()).await.unwrap();
            client.flush().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    assert_eq!(other.message().await["symbol"], "OTHER", "other clients are served");
    task.abort();
}

#[tokio::test]
async fn a_02_long_lists_of_one_symbol_against_a_thousand_subscriptions_are_fast() {
    const LISTS: usize = 60;
    let edge = TestEdge::with(|config| {
        Dialect::StockAgent.configure(config);
        config.limits.inbound_burst_bytes = 10_000_000;
        config.server.shards = 1;
    })
    .await;
    let authorization = format!("Authorization: Bearer {}\r\n", token("alice"));
    let stream = TcpStream::connect(edge.address()).await.unwrap();
    let mut attacker = RawClient::upgrade(stream, "/ws/attacker", &authorization).await;
    attacker.send(&raw::text(&prices("subscribe", &names("S", 0..1000)))).await;
    let list = format!(r#"{{"type":"unsubscribe","channel":"prices","symbols":[7{}]}}"#, ",7".repeat(32_000));
    for _ in 0..LISTS {
        attacker.send(&raw::text(&list)).await;
    }
    // The node sends the pong after it has processed all lists. `within` limits the time.
    attacker.send(&raw::frame(0x89, b"done?")).await;
    while attacker.frame().await.expect("the connection stays open").opcode != 10 {}
}

/// This many patterns, all of which match `chat.a.a.a.a.a.a.a.a.a.a`.
fn overlapping(count: usize) -> Vec<String> {
    let token = |number: usize, bit: usize| if number >> bit & 1 == 1 { ".*" } else { ".a" };
    let pattern = |number| (0..10).fold("chat".to_owned(), |pattern, bit| pattern + token(number, bit));
    (0..count).map(pattern).collect()
}

#[tokio::test]
async fn a_03_a_thousand_overlapping_patterns_are_rejected_and_other_clients_lose_nothing() {
    const MESSAGES: u64 = 691;
    let edge = TestEdge::start().await;
    let (mut attacker, mut other) = edge.pair().await;
    other.subscribe("chat.other").await;
    attacker.send(&json!({ "type": "subscribe", "channels": overlapping(1000) })).await;
    let (mut subscribed, mut refused) = (0, Vec::new());
    // The channels above the limit get one error, or one each. The others wait for NATS.
    while refused.is_empty() || subscribed == 0 {
        let answer = attacker.next().await.unwrap();
        match answer["code"].as_str() {
            Some(code) => refused.push(code.to_owned()),
            None => subscribed += 1,
        }
    }
    for answer in attacker.so_far().await {
        subscribed += usize::from(answer["type"] == "subscribed");
    }
    assert!(refused.iter().all(|code| code == "limit_exceeded"), "{refused:?}");
    assert!(
        (1..=9).contains(&subscribed),
        "{subscribed}: at most eight with wildcards, and the subject itself"
    );
    let client = edge.nats.client().await;
    for number in 1..=MESSAGES {
        let filler = json!({ "n": number, "filler": "x".repeat(1000) }).to_string();
        client.publish("chat.a.a.a.a.a.a.a.a.a.a", filler.into()).await.unwrap();
        client.publish("chat.other", json!({ "n": number }).to_string().into()).await.unwrap();
    }
    client.flush().await.unwrap();
    for number in 1..=MESSAGES {
        assert_eq!(other.expect("message").await["data"]["n"], number);
    }
}

/// Resident memory, in MiB.
fn resident(node: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.child.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn a_05_a_max_rate_of_49_days_uses_no_more_memory_than_an_outbox() {
    let nats = NatsServer::start().await;
    let node =
        Process::serve(&nats.node_url(), "[[class]]\npattern = \"prices.>\"\nkind = \"latest\"\n").await;
    let mut held = Vec::new();
    let before = resident(&node);
    for ms in [4_233_600_000_u64, 60_000] {
        let mut client = Client::connect(&node.address, &token("alice")).await;
        client.send(&json!({ "type": "subscribe", "channel": "prices.*", "max_rate_ms": ms })).await;
        let answer = client.next().await.unwrap();
        assert!(ms == 60_000 || answer["type"] == "error", "max_rate_ms {ms} gets {answer}");
        held.push(client);
    }
    let publisher = nats.client().await;
    for round in 0..2 {
        for key in 0..1500 {
            let payload = json!({ "round": round, "filler": "x".repeat(40_000) }).to_string();
            publisher.publish(format!("prices.k{key}"), payload.into()).await.unwrap();
        }
        publisher.flush().await.unwrap();
    }
    let mut last = Client::connect(&node.address, &token("bob")).await;
    last.send(&json!({ "type": "subscribe", "id": 1, "channel": "prices.last" })).await;
    // On a slow machine there is an `unavailable` in front of it.
    last.until("subscribed").await;
    publisher.publish("prices.last", "1".into()).await.unwrap();
    publisher.flush().await.unwrap();
    last.expect("message").await;
    let grown = resident(&node).saturating_sub(before);
    assert!(grown < 48, "two clients that read nothing hold {grown} MiB");
}

/// `[[[…]]]`.
fn deep(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

#[tokio::test]
async fn a_08_json_20_000_levels_deep_is_rejected_from_clients_and_text_from_producers() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    client.subscribe("prices.deep").await;
    client.subscribe("chat.deep").await;
    let publish = format!(r#"{{"type":"publish","id":1,"channel":"chat.deep","data":{}}}"#, deep(20_000));
    client.send_text(&publish).await;
    assert_eq!(client.expect("error").await["id"], 1);
    edge.publish("prices.deep", deep(20_000)).await;
    assert_eq!(client.expect("message").await["data"], deep(20_000));
    let mut other = edge.client("bob").await;
    assert_eq!(other.subscribe("prices.deep").await["snapshot"][0]["data"], deep(20_000));
    edge.publish("prices.deep", deep(32)).await;
    assert!(client.expect("message").await["data"].is_array(), "shallow JSON is embedded");
}

#[tokio::test]
async fn a_10_five_hundred_denied_subscribes_cause_few_log_lines() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "limits.max_errors = 10000\n").await;
    let mut client = Client::connect(&node.address, &token("alice")).await;
    let before = node.logs().len();
    for number in 0..10 {
        let channels = names(&format!("no.{number}x"), 0..50);
        client.send(&json!({ "type": "subscribe", "channels": channels })).await;
    }
    let mut refused = 0;
    while refused < 10 {
        refused += usize::from(client.next().await.unwrap()["type"] == "error");
    }
    client.so_far().await;
    let pid = node.child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    node.logged("draining", |_| true).await;
    let lines = node.logs().len() - before;
    assert!(lines < 40, "{lines} lines: {:?}", node.logs());
}

#[tokio::test]
async fn b_01_a_key_that_equals_a_subject_erases_no_value_of_it() {
    let edge = TestEdge::with(|config| {
        config.classes.push(tidegate_protocol::class::Class {
            kind: tidegate_protocol::class::Kind::Latest,
            snapshot: true,
            ..class("chat.*")
        });
    })
    .await;
    let mut reader = edge.client("carol").await;
    reader.subscribe("chat.*").await;
    publish(&edge, "chat.a", &json!("of a")).await;
    reader.expect("message").await;
    let mut attacker = edge.client("mallory").await;
    let headers = json!({ "Tidegate-Key": "chat.a" });
    let message =
        json!({ "type": "publish", "id": 1, "channel": "chat.m", "data": "of m", "headers": headers });
    attacker.send(&message).await;
    attacker.expect("published").await;
    reader.expect("message").await;
    let mut late = edge.client("dave").await;
    let shown = late.subscribe("chat.*").await["snapshot"].clone();
    let values: Vec<&Value> = shown.as_array().unwrap().iter().map(|message| &message["data"]).collect();
    assert!(values.contains(&&json!("of a")), "{shown}");
}

/// PROTOCOL.md: "so JetStream never mistakes one user's message for a duplicate of another user's or of a backend's"
#[tokio::test]
async fn b_02_and_b_03_message_ids_are_per_user_and_headers_have_one_spelling() {
    use futures_util::StreamExt as _;
    let edge = TestEdge::start().await;
    let (_nats, mut spy) = edge.nats.subscribe("chat.>").await;
    let mut client = edge.client("alice").await;
    let publish = |id: u64, headers: Value| json!({ "type": "publish", "id": id, "channel": "chat.a", "data": 1, "headers": headers });
    for (id, name) in [(1, "Nats-Msg-Id"), (2, "nats-msg-id"), (3, "NATS-MSG-ID")] {
        client.send(&publish(id, json!({ name: "m-17" }))).await;
        assert_eq!(client.expect("published").await["id"], id);
        let mut text = String::new();
        let headers = spy.next().await.unwrap().headers.unwrap();
        headers.iter().for_each(|(name, values)| {
            let _ = write!(text, "{name}: {values:?}");
        });
        assert!(text.starts_with("Nats-Msg-Id: "), "{text}");
        let value = headers.get("Nats-Msg-Id").unwrap().as_str();
        assert!(value.contains("alice") && value.contains('|') && value.ends_with("m-17"), "{text}");
    }
    client.send(&publish(4, json!({ "Nats-Msg-Id": "a", "nats-msg-id": "b" }))).await;
    assert_eq!(client.expect("error").await["id"], 4);
}
