//! Statistics and last values of a cluster: every node returns those of all nodes.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tokio::time::timeout;

use crate::support::edge::class;
use crate::support::eventually;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::stage::authorization;

/// A page with a small receive buffer in a room. Returns once publications of the room arrive.
async fn page(stage: &Stage, address: &str, user: &str, room: &str) -> RawClient {
    let claims = json!({ "sub": user, "role": "user" });
    let stream = RawClient::connect_small(address).await.stream;
    let mut page = RawClient::upgrade(stream, "/ws/notifications", &authorization(&claims)).await;
    assert_eq!(page.message().await["type"], "connection_established");
    page.send(&raw::text(&json!({ "type": "join_room", "room": room }).to_string())).await;
    // The last value of the room may arrive first.
    while page.message().await["type"] != "room_joined" {}
    let subject = format!("room.{room}");
    // One connection, so that the messages stay in order.
    let publish = async |what: &str| {
        stage.nats.publish(subject.clone(), json!(what).to_string().into()).await.unwrap();
    };
    while let Err(_not_yet) = timeout(Duration::from_millis(20), page.stream.readable()).await {
        publish("probe").await;
    }
    publish("live").await;
    while page.message().await["data"] != "live" {}
    page
}

/// The response of this node to a caller with this role.
async fn call(address: &str, target: &str, role: &str) -> Value {
    let headers = authorization(&json!({ "sub": "somebody", "role": role }));
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let answer = raw::ask(address, request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The statistics, without the time.
async fn stats(address: &str, path: &str) -> Value {
    let mut answer = call(address, path, "backend").await["data"].take();
    assert!(answer.as_object_mut().unwrap().remove("timestamp").is_some(), "{answer}");
    answer
}

#[tokio::test]
async fn stats_count_the_sockets_of_all_nodes() {
    let stage = Stage::changed("hoardrun", |config| config.server.shards = 2).await;
    let other = stage.edge.another_node().await;
    let addresses = [stage.edge.address(), other.address.to_string()];
    let counted = |connections: u64, users: u64, crypto: u64| {
        let rooms = if crypto == 0 { json!({}) } else { json!({ "crypto": crypto }) };
        let counts = json!({ "total_connections": connections, "unique_users": users, "rooms": rooms });
        let addresses = addresses.clone();
        async move {
            for address in addresses {
                let are_right = || async { stats(&address, "/ws/stats").await == counts };
                eventually(&format!("{address} counts {counts}"), are_right).await;
            }
        }
    };
    counted(0, 0, 0).await;
    let _one = page(&stage, &addresses[0], "u1", "crypto").await;
    let _two = page(&stage, &addresses[1], "u1", "crypto").await;
    let three = page(&stage, &addresses[1], "u2", "crypto").await;
    counted(3, 2, 3).await;
    eventually("many calls at once all get the counts", || async {
        let together = join_all((0..40).map(|call| stats(&addresses[call % 2], "/ws/stats"))).await;
        together.iter().all(|counts| counts["total_connections"] == 3)
    })
    .await;
    drop(three);
    counted(2, 1, 2).await;
    // A node that has ended is not waited for, and its sockets are not counted.
    other.drain().await;
    let alone = || async { stats(&addresses[0], "/ws/stats").await["total_connections"] == 1 };
    eventually("the other node is forgotten", alone).await;
}

#[tokio::test]
async fn every_publication_is_counted_as_delivered_or_dropped() {
    const FLOOD: u64 = 600;
    let stage = Stage::changed("hoardrun", |config| {
        config.limits.outbox_bytes = 64 * 1024;
        config.limits.send_buffer_bytes = 16 * 1024;
        // With class `latest`, replaced messages would count as neither.
        config.classes = vec![Class { kind: Kind::Buffer, ..class("room.*") }];
    })
    .await;
    let other = stage.edge.another_node().await;
    let address = other.address.to_string();
    let delivery = async |address: &str| {
        let counts = stats(address, "/ws/stats/delivery").await;
        (counts["delivered"].as_u64().unwrap(), counts["dropped"].as_u64().unwrap())
    };
    let slow = page(&stage, &address, "u1", "crypto").await;
    let mut other_page = page(&stage, &address, "u2", "crypto").await;
    let before = delivery(&stage.edge.address()).await;
    assert!(before.0 >= 1 && before.1 == 0, "{before:?}");
    let filler = "x".repeat(4000);
    for number in 0..FLOOD {
        let payload = json!({ "n": number, "filler": filler }).to_string();
        stage.nats.publish("room.crypto", payload.into()).await.unwrap();
    }
    // Once this page has received the last message, it is in the outbox of the slow one too, which still has a backlog.
    while other_page.message().await["data"]["n"] != FLOOD - 1 {}
    drop(slow);
    let all = || async {
        let (delivered, dropped) = delivery(&stage.edge.address()).await;
        delivered + dropped == before.0 + 2 * FLOOD && dropped > 0
    };
    eventually("all are counted", all).await;
    let same = || async { delivery(&stage.edge.address()).await == delivery(&address).await };
    eventually("both nodes have the same counts", same).await;
}

/// A vocabulary with HTTP calls for last values.
const LATEST: &str = r#"
    name = "latest"
    [[path]]
    name = "prices"
    path = "/ws"
    [[http]]
    method = "GET"
    path = "/last"
    do = "last"
    each = "{query.of|split}"
    channel = "prices.{item}"
    send = { list = "{list}", count = "{count}" }
    [[http]]
    method = "GET"
    path = "/all"
    do = "last"
    channel = "prices.*"
    send = { list = "{list}" }
"#;

#[tokio::test]
async fn last_values_are_unavailable_while_newer_ones_may_be_missed() {
    let mut stage = Stage::start("latest", LATEST, |config| {
        config.server.feed_linger = Duration::from_mins(1);
        config.classes = vec![Class { kind: Kind::Latest, snapshot: true, ..class("prices.*") }];
    })
    .await;
    let address = stage.edge.address();
    let user = json!({ "sub": "somebody", "role": "user" });
    let last = async |of: &str| {
        let headers = authorization(&user);
        let request = format!("GET /last?of={of} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        raw::ask(&address, request).await
    };
    assert_eq!(last("A").await.json()["list"], json!([]), "a new feed has no last value");
    eventually("the value is kept", || async {
        stage.edge.publish("prices.A", "100").await;
        last("A").await.json()["list"] == json!([100])
    })
    .await;
    stage.edge.nats.kill();
    eventually("the lane has noticed", || async { last("A").await.status == 503 }).await;
    stage.edge.readyz(503).await;
    for of in ["A", "B", "B,A"] {
        let answer = last(of).await;
        assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("unavailable")), "{of}: {answer:?}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    }
    stage.edge.nats.restart().await;
    eventually("the call succeeds again", || async { last("A").await.status == 200 }).await;
    assert_eq!(last("A").await.json()["list"], json!([]), "100 may not be the last value any more");
    eventually("a new value is kept", || async {
        stage.edge.publish("prices.A", "300").await;
        last("A").await.json()["list"] == json!([300])
    })
    .await;
}

#[tokio::test]
async fn last_values_are_the_newest_of_all_nodes() {
    let stage = Stage::start("latest", LATEST, |config| {
        // The node keeps polled channels for this time.
        config.server.feed_linger = Duration::from_mins(1);
        config.classes = vec![Class { kind: Kind::Latest, snapshot: true, ..class("prices.*") }];
    })
    .await;
    let other = stage.edge.another_node().await;
    let [here, there] = [stage.edge.address(), other.address.to_string()];
    let list = async |address: &str, target: &str| call(address, target, "user").await["list"].clone();
    // The first call gets nothing. The node keeps the channel from then on.
    assert_eq!(list(&here, "/last?of=AAPL,MSFT").await, json!([]));
    let (aapl, msft) = (json!({ "symbol": "AAPL", "n": 1 }), json!({ "symbol": "MSFT", "n": 1 }));
    let published = async |value: &Value| {
        let subject = format!("prices.{}", value["symbol"].as_str().unwrap());
        stage.nats.publish(subject, value.to_string().into()).await.unwrap();
    };
    eventually("the node has both values", || async {
        published(&aapl).await;
        published(&msft).await;
        list(&here, "/last?of=AAPL,MSFT").await == json!([aapl, msft])
    })
    .await;
    // The other node has not received them.
    let is = async |address: &str, target: &str, wanted: Value| {
        let is = || async { list(address, target).await == wanted };
        eventually(&format!("{target} of {address} is {wanted}"), is).await;
    };
    is(&there, "/last?of=MSFT,AAPL", json!([msft, aapl])).await;
    is(&there, "/last?of=MSFT,TSLA", json!([msft])).await;
    // For a wildcard, nodes may have different keys. Only one node is subscribed to all prices when TSLA is published.
    assert_eq!(list(&there, "/all").await, json!([]));
    let tsla = json!({ "symbol": "TSLA", "n": 1 });
    eventually("the node that is subscribed to all prices has one", || async {
        published(&tsla).await;
        list(&there, "/all").await == json!([tsla])
    })
    .await;
    is(&here, "/all", json!([tsla])).await;
    let newer = json!({ "symbol": "AAPL", "n": 2 });
    eventually("the newest value of each key is returned", || async {
        published(&newer).await;
        list(&here, "/all").await == json!([tsla, newer])
            && list(&there, "/all").await == json!([tsla, newer])
    })
    .await;
}
