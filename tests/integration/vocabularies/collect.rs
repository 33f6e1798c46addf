//! Publications that are taken apart, on two nodes with two shards each.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;

use crate::support::edge::class;
use crate::support::edge::role;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::stage::authorization;

const FILE: &str = include_str!("../../transcripts/collect/vocabulary.toml");
const SYMBOLS: usize = 50;
/// Each publishes all symbols: one half in a list, the others alone.
const ROUNDS: usize = 800;

async fn stage() -> Stage {
    Stage::start("collect", FILE, |config| {
        config.server.shards = 2;
        config.limits.outbox_bytes = 64 * 1024;
        config.limits.send_buffer_bytes = 16 * 1024;
        let classes = ["signals", "signals.*", "alerts.*"];
        config.classes = classes
            .map(|pattern| Class { kind: Kind::Latest, snapshot: true, ..class(pattern) })
            .into_iter()
            .collect();
        let all = ["signals", "signals.*", "alerts.*"];
        let some = ["signals", "signals.S1", "alerts.all", "alerts.a"];
        config.roles = vec![role("user", &all, &[], &[]), role("guest", &some, &[], &[])];
    })
    .await
}

/// A client with a small receive buffer that has sent this message and was confirmed.
async fn client(address: &str, role: &str, message: &Value) -> RawClient {
    let headers = authorization(&json!({ "sub": "ann", "role": role }));
    let stream = RawClient::connect_small(address).await.stream;
    let mut client = RawClient::upgrade(stream, "/test", &headers).await;
    client.send(&raw::text(&message.to_string())).await;
    client
}

async fn watching(address: &str, symbols: &[String]) -> RawClient {
    let mut client = client(address, "user", &json!({ "do": "watch", "symbols": symbols })).await;
    assert_eq!(client.message().await["watching"], json!(symbols));
    client
}

fn names() -> Vec<String> {
    (0..SYMBOLS).map(|number| format!("S{number}")).collect()
}

fn signal(symbol: &str, number: usize) -> Value {
    json!({ "symbol": symbol, "n": number, "filler": "x".repeat(100) })
}

/// The numbers in a message, by symbol.
fn numbers(message: &Value) -> BTreeMap<String, u64> {
    let signals = message["signals"].as_array().unwrap_or_else(|| panic!("{message}"));
    let number =
        |signal: &Value| (signal["symbol"].as_str().unwrap().to_owned(), signal["n"].as_u64().unwrap());
    signals.iter().map(number).collect()
}

/// Reads until a message has these numbers. Returns how many messages came.
async fn read_until(client: &mut RawClient, expected: &BTreeMap<String, u64>) -> usize {
    for count in 1.. {
        if numbers(&client.message().await) == *expected {
            return count;
        }
    }
    0
}

#[tokio::test]
async fn ex_03_after_any_flood_a_slow_client_gets_one_message_with_the_newest_of_all_its_symbols() {
    let stage = stage().await;
    let other = stage.edge.another_node().await;
    let (symbols, addresses) = (names(), [stage.edge.address(), other.address.to_string()]);
    let (mut slow, mut healthy) = (Vec::new(), Vec::new());
    for address in addresses.iter().cycle().take(4) {
        slow.push(watching(address, &symbols).await);
        healthy.push(watching(address, &symbols).await);
    }
    let mut expected = BTreeMap::new();
    for round in 0..ROUNDS {
        // Subjects have no order among them, so each symbol is published in one way.
        let list = symbols.iter().step_by(2).map(|symbol| signal(symbol, round));
        let list: Vec<Value> = list.collect();
        stage.nats.publish("signals", json!(list).to_string().into()).await.unwrap();
        for symbol in symbols.iter().skip(1).step_by(2) {
            let data = signal(symbol, round).to_string();
            stage.nats.publish(format!("signals.{symbol}"), data.into()).await.unwrap();
        }
        expected.extend(symbols.iter().map(|symbol| (symbol.clone(), round as u64)));
        stage.nats.flush().await.unwrap();
        // The healthy clients set the pace.
        if round % 20 == 19 {
            for client in &mut healthy {
                read_until(client, &expected).await;
            }
        }
    }
    for client in &mut slow {
        let count = read_until(client, &expected).await;
        assert!(count < 40, "{count} messages, which is more than the buffers of the kernel hold");
    }
    // Nothing older was left in an outbox.
    stage.nats.publish("signals.S7", signal("S7", 1_000_000).to_string().into()).await.unwrap();
    expected.insert("S7".to_owned(), 1_000_000);
    for client in slow.iter_mut().chain(&mut healthy) {
        assert_eq!(read_until(client, &expected).await, 1);
    }
    // Who comes later is shown the same at once.
    for address in &addresses {
        let mut late = watching(address, &symbols).await;
        let shown = numbers(&late.message().await);
        assert_eq!((shown.len(), shown["S7"]), (SYMBOLS, 1_000_000));
    }
}

#[tokio::test]
async fn sub_11_an_element_is_never_shown_to_a_client_that_may_not_join_its_channel() {
    let stage = stage().await;
    let other = stage.edge.another_node().await;
    for address in [stage.edge.address(), other.address.to_string()] {
        let watch = json!({ "do": "watch", "symbols": ["S1", "S2"] });
        let mut guest = client(&address, "guest", &watch).await;
        assert_eq!(guest.message().await, json!({ "error": "forbidden", "of": "signals.S2" }));
        assert_eq!(guest.message().await["watching"], json!(["S1", "S2"]));
        guest.send(&raw::text(&json!({ "do": "alerts", "rooms": ["a", "b"] }).to_string())).await;
        assert_eq!(guest.message().await, json!({ "error": "forbidden", "of": "alerts.b" }));
        let mut user = watching(&address, &["S1".to_owned(), "S2".to_owned()]).await;
        for number in 0..2 {
            let list = json!([signal("S2", number), signal("S1", number)]);
            stage.nats.publish("signals", list.to_string().into()).await.unwrap();
            let shown = |both: bool| {
                let pairs = [("S1".to_owned(), number as u64), ("S2".to_owned(), number as u64)];
                pairs.into_iter().take(1 + usize::from(both)).collect::<BTreeMap<_, _>>()
            };
            read_until(&mut user, &shown(true)).await;
            while let message = guest.message().await
                && numbers(&message) != shown(false)
            {
                assert!(!numbers(&message).contains_key("S2"), "{message}");
            }
            let secret = signal("S2", 9).to_string();
            stage.nats.publish("signals.S1", secret.into()).await.unwrap();
            read_until(&mut user, &[("S1".to_owned(), number as u64), ("S2".to_owned(), 9)].into()).await;
        }
        let alerts = json!({ "alerts": [{ "room": "b", "text": "no" }, { "room": "a", "text": "yes" }] });
        stage.nats.publish("alerts.all", alerts.to_string().into()).await.unwrap();
        assert_eq!(guest.message().await, json!({ "for": "ann", "alert": "yes" }));
        // A last value is taken apart too.
        let late = json!({ "do": "alerts", "rooms": ["a", "b"] });
        let mut late = client(&address, "guest", &late).await;
        assert_eq!(late.message().await, json!({ "error": "forbidden", "of": "alerts.b" }));
        assert_eq!(late.message().await, json!({ "for": "ann", "alert": "yes" }));
        // All elements of it are shown, in whichever order the channels of one message join.
        let mut both = client(&address, "user", &json!({ "do": "alerts", "rooms": ["a", "b"] })).await;
        let mut shown =
            [both.message().await, both.message().await].map(|message| message["alert"].to_string());
        shown.sort_unstable();
        assert_eq!(shown, ["\"no\"", "\"yes\""]);
    }
}
