//! Rows of `[[class]]` that pages of one subject for many things need: `key`, and `snapshot = "always"`; and last values
//! that do not fit into an outbox.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::endpoint::VocabularyFile;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::fields::PayloadFields;
use tidegate_protocol::class::fields::parse_key;
use tidegate_vocabulary::compile::compile_with;
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::edge::class;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::stage::authorization;
use crate::vocabularies::stage::shipped_config;
use crate::vocabularies::stage::shipped_text;

const SYMBOLS: usize = 50;
const PRICES: usize = 40_000;
/// As many as a client that reads can be behind.
const TURN: usize = 1000;

fn by_symbol(pattern: &str) -> Class {
    let fields = PayloadFields::new(parse_key("data.symbol"), None);
    Class { kind: Kind::Latest, snapshot: true, fields, ..class(pattern) }
}

/// A page in the room, which has received nothing yet.
async fn page(stage: &Stage, stream: TcpStream, user: &str) -> RawClient {
    let (claims, joined) = (json!({ "sub": user, "role": "user" }), stage.joined());
    let mut page = RawClient::upgrade(stream, "/ws/notifications", &authorization(&claims)).await;
    assert_eq!(page.message().await["type"], "connection_established");
    page.send(&raw::text(&json!({ "type": "join_room", "room": "market_data" }).to_string())).await;
    eventually("the page is in the room", || async { stage.joined() > joined }).await;
    page
}

/// The numbers of the last prices by symbol, as a page that reads from now on gets them. No older price may follow a
/// newer one. Also returns how many messages there were.
async fn newest(page: &mut RawClient) -> (BTreeMap<String, usize>, usize) {
    let (mut newest, mut messages) = (BTreeMap::new(), 0);
    while newest.len() < SYMBOLS || newest.values().any(|number| *number < PRICES - SYMBOLS) {
        let message = page.message().await;
        let Some(symbol) = message["data"]["symbol"].as_str() else { continue };
        let number = usize::try_from(message["data"]["n"].as_u64().unwrap()).unwrap();
        let older = newest.insert(symbol.to_owned(), number);
        assert!(older.is_none_or(|older| older < number), "{number} after {older:?} of {symbol}");
        messages += 1;
    }
    (newest, messages)
}

/// 40,000 prices of 50 symbols in one room, past a page that does not read.
async fn prices_pass_a_sleeping_page(max_rate: Option<Duration>) {
    let stage = Stage::changed("hoardrun", |config| {
        config.limits.outbox_bytes = 256 * 1024;
        config.limits.send_buffer_bytes = 16 * 1024;
        config.classes = vec![Class { max_rate, ..by_symbol("room.*") }];
    })
    .await;
    let address = stage.edge.address();
    let mut sleeper = page(&stage, RawClient::connect_small(&address).await.stream, "u1").await;
    let mut reader = page(&stage, TcpStream::connect(&address).await.unwrap(), "u2").await;
    for number in 0..PRICES {
        let payload =
            json!({ "symbol": format!("S{}", number % SYMBOLS), "n": number, "note": "x".repeat(100) });
        stage.nats.publish("room.market_data", payload.to_string().into()).await.unwrap();
        if number % TURN == TURN - 1 {
            while reader.message().await["data"]["n"] != json!(number) {}
        }
    }
    let (found, messages) = newest(&mut sleeper).await;
    let expected: BTreeMap<_, _> =
        (PRICES - SYMBOLS..PRICES).map(|number| (format!("S{}", number % SYMBOLS), number)).collect();
    assert_eq!(found, expected, "the newest of every symbol");
    assert!(messages < PRICES / 4, "most were replaced: {messages}");
    let mut late = page(&stage, TcpStream::connect(&address).await.unwrap(), "u3").await;
    assert_eq!(newest(&mut late).await, (expected, SYMBOLS), "a late page gets one message per symbol");
}

#[tokio::test]
async fn a_page_that_slept_has_the_newest_price_of_every_symbol_of_a_room() {
    prices_pass_a_sleeping_page(None).await;
}

#[tokio::test]
async fn it_has_them_with_a_maximum_rate_too() {
    prices_pass_a_sleeping_page(Some(Duration::from_millis(20))).await;
}

/// The channels whose last values can be asked for.
const CHANNELS: [&str; 8] =
    ["room.market", "room.empty", "room.end", "room.a.b", "room.*", "room.news.*", "room.*.b", "room.>"];

/// A vocabulary with a call for each of them.
fn last_values() -> String {
    let call = |(at, channel): (usize, &str)| {
        format!(
            "[[http]]\nmethod = \"GET\"\npath = \"/last/{at}\"\ndo = \"last\"\nchannel = \"{channel}\"\n\
             send = {{ list = \"{{list}}\" }}\n"
        )
    };
    let calls: String = CHANNELS.into_iter().enumerate().map(call).collect();
    format!("name = \"last\"\n[[path]]\nname = \"rooms\"\npath = \"/rooms\"\n{calls}")
}

/// A class that keeps its values from the start, for a vocabulary with a call for them.
fn always(config: &mut Config) {
    config.roles = vec![role("user", &["room.>"], &[], &[])];
    config.classes = vec![Class { feed: FeedBy::Always, ..by_symbol("room.>") }];
}

async fn last(address: &str, of: &str) -> (u16, Value) {
    let headers = authorization(&json!({ "sub": "somebody", "role": "user" }));
    let at = CHANNELS.iter().position(|channel| *channel == of).unwrap();
    let request = format!("GET /last/{at} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let answer = raw::ask(address, request).await;
    (answer.status, answer.json()["list"].clone())
}

async fn is(address: &str, of: &str, expected: &Value) {
    eventually(&format!("the last values of {of} at {address}"), || async {
        last(address, of).await == (200, expected.clone())
    })
    .await;
}

#[tokio::test]
async fn the_first_call_of_any_node_finds_what_was_published_before() {
    let mut stage = Stage::start("last", &last_values(), always).await;
    let other = stage.edge.another_node().await;
    let [here, there] = [stage.edge.address(), other.address.to_string()];
    eventually("both nodes have the pattern", || async { stage.edge.nats.subscriptions("room.").await == 2 })
        .await;
    let prices = ["A", "B", "A"].iter().enumerate().map(|(n, symbol)| json!({ "symbol": symbol, "n": n }));
    let prices: Vec<Value> = prices.collect();
    for price in &prices {
        stage.nats.publish("room.market", price.to_string().into()).await.unwrap();
    }
    stage.nats.publish("room.news.eu", "\"hello\"".into()).await.unwrap();
    let market = json!([prices[1], prices[2]]);
    for address in [&here, &there] {
        is(address, "room.market", &market).await;
        is(address, "room.*", &market).await;
        is(address, "room.news.*", &json!(["hello"])).await;
        is(address, "room.>", &json!([prices[1], prices[2], "hello"])).await;
        is(address, "room.empty", &json!([])).await;
    }
    assert_eq!(stage.edge.nats.subscriptions("room.").await, 2, "calls need no further subscription");
    stage.edge.nats.kill();
    // Newer ones may be missed.
    eventually("the lane has noticed", || async { last(&here, "room.market").await.0 == 503 }).await;
    stage.edge.nats.restart().await;
    is(&here, "room.market", &json!([])).await;
    drop(other);
    let nats = stage.edge.nats.client().await;
    eventually("values are kept again", || async {
        nats.publish("room.market", "7".into()).await.unwrap();
        last(&here, "room.market").await == (200, json!([7]))
    })
    .await;
}

/// PROTOCOL.md: "this never depends on clients: the node keeps the values of all subjects of the class from its start."
#[tokio::test]
async fn the_first_subscriber_has_what_was_published_before() {
    let stage = Stage::start("last", &last_values(), |config| {
        always(config);
        config.endpoints.push(tidegate::config::endpoint::EndpointConfig::default());
    })
    .await;
    for number in 0..60 {
        let price = json!({ "symbol": format!("S{}", number % 20), "n": number }).to_string();
        stage.nats.publish("room.market", price.into()).await.unwrap();
    }
    stage.nats.publish("room.a.b", "1".into()).await.unwrap();
    is(&stage.edge.address(), "room.a.b", &json!([1])).await;
    assert_eq!(stage.joined(), 0);
    for (channel, expected) in
        [("room.market", 20), ("room.*", 20), ("room.*.b", 1), ("room.>", 21), ("room.x", 0)]
    {
        let mut client = Client::connect(&stage.edge.address(), &token("alice")).await;
        let subscribed = client.subscribe(channel).await;
        assert_eq!(subscribed["snapshot"].as_array().unwrap().len(), expected, "{channel}");
    }
}

/// Rules of a page that joins all rooms.
const ROOMS: &str = r#"
[[receive]]
when = { op = "join" }
do = "subscribe"
channel = "room.*"
confirm = { joined = true }

[[deliver]]
pattern = "room.*"
send = { value = "{data}" }

[gap]
send = { gap = "{dropped}", cause = "{cause}" }
"#;

#[tokio::test]
async fn a_page_gets_the_newest_last_values_that_fit_and_a_gap_for_the_others() {
    const VALUES: u64 = 8000;
    let stage = Stage::start("last", &format!("{}{ROOMS}", last_values()), |config| {
        always(config);
        config.limits.feed_values = 10_000;
        config.limits.feed_value_bytes = 1 << 20;
        config.limits.outbox_frames = 64;
    })
    .await;
    for number in 0..VALUES - 1 {
        let price = json!({ "symbol": number, "n": number }).to_string();
        stage.nats.publish("room.market", price.into()).await.unwrap();
    }
    stage.nats.publish("room.end", "1".into()).await.unwrap();
    let address = stage.edge.address();
    is(&address, "room.end", &json!([1])).await;
    let stream = TcpStream::connect(&address).await.unwrap();
    let headers = authorization(&json!({ "sub": "alice", "role": "user" }));
    let mut page = RawClient::upgrade(stream, "/rooms", &headers).await;
    page.send(&raw::text(r#"{"op":"join"}"#)).await;
    assert_eq!(page.message().await, json!({ "joined": true }));
    let gap = page.message().await;
    let missing = gap["gap"].as_u64().unwrap();
    assert_eq!(gap, json!({ "gap": missing, "cause": "slow" }));
    for number in missing..VALUES - 1 {
        assert_eq!(page.message().await["value"]["n"], number, "the newest, in order");
    }
    assert_eq!(page.message().await, json!({ "value": 1 }), "{missing} and those that came are all");
    assert!((VALUES - 64..VALUES).contains(&missing), "the outbox was used: {missing}");
    stage.nats.publish("room.market", "\"live\"".into()).await.unwrap();
    assert_eq!(page.message().await, json!({ "value": "live" }), "it is connected");
}

#[tokio::test]
async fn keys_of_a_hostile_producer_cost_a_bounded_memory() {
    let stage = Stage::start("last", &last_values(), |config| {
        always(config);
        config.limits.feed_value_bytes = 16 * 1024;
    })
    .await;
    let long = json!({ "symbol": "k".repeat(900_000) }).to_string();
    stage.nats.publish("room.long", long.into()).await.unwrap();
    for number in 0..100_000 {
        let payload = json!({ "symbol": format!("{number}") }).to_string();
        stage.nats.publish("room.market", payload.into()).await.unwrap();
    }
    let deep = format!("{}1{}", "{\"symbol\":[".repeat(100), "]}".repeat(100));
    stage.nats.publish("room.deep", deep.clone().into()).await.unwrap();
    stage.nats.publish("room.end", "1".into()).await.unwrap();
    let address = stage.edge.address();
    is(&address, "room.end", &json!([1])).await;
    let (_, kept) = last(&address, "room.>").await;
    let (bytes, kept) = (kept.to_string().len(), kept.as_array().unwrap());
    assert!(bytes <= 16 * 1024 && kept.len() > 100, "{bytes} bytes of {} values", kept.len());
    assert!(kept.contains(&json!(deep)), "it is a text, with its subject as the key");
}

/// As many symbols as a large exchange has.
const EXCHANGE: usize = 3000;

/// The prices and gaps that a page gets which sends `join` after all of `subjects` had a price.
async fn late_page(
    stage: &Stage,
    subjects: impl Fn(usize) -> String,
    target: &str,
    join: Value,
) -> Vec<Value> {
    let claims = json!({ "sub": "alice", "role": "user" });
    let open = || async {
        let stream = TcpStream::connect(stage.edge.address()).await.unwrap();
        let mut page = RawClient::upgrade(stream, target, &authorization(&claims)).await;
        page.send(&raw::text(&join.to_string())).await;
        page
    };
    let mut first = open().await;
    let subscribed = subjects(0);
    let prefix = subscribed.split('.').next().unwrap();
    eventually("the channel is live", || async {
        stage.subscribed().await.iter().any(|subject| subject.starts_with(prefix))
    })
    .await;
    for number in 0..EXCHANGE {
        let price = json!({ "symbol": format!("S{number}"), "price": 190.1, "change": 2.3, "change_pct": 1.26,
            "volume": 45_000_000, "bid": 185.45, "ask": 185.55, "note": "as long as a quote" });
        stage.nats.publish(subjects(number), price.to_string().into()).await.unwrap();
        if number % 500 == 499 {
            let last = format!("S{number}\"");
            while !first.message().await.to_string().contains(&last) {}
        }
    }
    let mut late = open().await;
    let mut received = Vec::new();
    while received.len() < EXCHANGE {
        let message = late.message().await;
        let kind = message["type"].as_str().unwrap().to_lowercase();
        if kind == "market_update" || kind == "gap" {
            received.push(message);
        }
        if received.len() == 1 {
            // A new key, so it comes after all last values.
            stage
                .nats
                .publish(subjects(EXCHANGE), json!({ "symbol": "the end" }).to_string().into())
                .await
                .unwrap();
        }
        if received.last().is_some_and(|message| message.to_string().contains("the end")) {
            break;
        }
    }
    received
}

/// The shipped limits keep the price of every symbol for pages that join later.
#[tokio::test]
async fn a_page_that_joins_a_market_late_gets_the_price_of_every_symbol() {
    let limits = |config: &mut Config, of: &str| {
        let theirs = shipped_config(of).limits;
        config.limits.feed_values = theirs.feed_values;
        config.limits.feed_value_bytes = theirs.feed_value_bytes;
        config.limits.outbox_bytes = theirs.outbox_bytes;
        config.limits.outbox_frames = theirs.outbox_frames;
    };
    let hoardrun = Stage::changed("hoardrun", |config| limits(config, "hoardrun")).await;
    let financegpt = Stage::changed("financegpt", |config| {
        limits(config, "financegpt");
        let with_switch = compile_with(&shipped_text("financegpt"), &["market_to_all"]).unwrap();
        config.endpoints[0].file = Some(VocabularyFile(Arc::new(with_switch.vocabulary)));
    })
    .await;
    let room = |name: &str| json!({ "type": "join_room", "room": name });
    let nothing = json!({ "type": "ping" });
    let by_subject = |number| format!("prices.S{number}");
    for received in [
        late_page(&hoardrun, |_| "room.crypto".to_owned(), "/ws/notifications", room("crypto")).await,
        late_page(&hoardrun, by_subject, "/ws/notifications", room("market_data")).await,
        late_page(&financegpt, by_subject, "/ws/alice", nothing).await,
    ] {
        let gap = received.iter().find(|message| message["type"] == "gap");
        assert_eq!((received.len(), gap), (EXCHANGE, None));
    }
}
