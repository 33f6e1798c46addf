//! Recovery: what clients that come back to a stored channel have missed, out of memory or out of the stream.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;

use crate::stored::api;
use crate::stored::edge_with_stream;
use crate::stored::pairs;
use crate::stored::publish;
use crate::stored::stored_classes;
use crate::stored::stream;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;

/// Subscribes from where an earlier answer or message was.
pub(crate) async fn subscribe_since(client: &mut Client, channel: &str, epoch: &Value, seq: u64) -> Value {
    let since = json!({ "epoch": epoch, "seq": seq });
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": channel, "since": since })).await;
    confirmed(client).await
}

/// What a client that comes back is told: whether it recovers, its snapshot, and its position.
fn told(reply: &Value) -> (bool, Vec<(u64, u64)>, u64) {
    let snapshot = pairs(reply["snapshot"].as_array().unwrap());
    (reply["recovered"].as_bool().unwrap(), snapshot, reply["seq"].as_u64().unwrap())
}

/// The next messages, which the client has missed.
async fn recovered(client: &mut Client, count: usize) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    for _ in 0..count {
        let message = client.expect("message").await;
        assert_eq!(message["recovered"], true, "{message}");
        all.push(message);
    }
    pairs(&all)
}

/// How many messages have arrived, once no more come.
async fn count_of(messages: &mut async_nats::Subscriber) -> usize {
    let mut count = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(100), messages.next()).await {
        count += 1;
    }
    count
}

/// A client that has been on a channel, and is gone: what it was told.
pub(crate) async fn was_there(edge: &TestEdge, channel: &str) -> Value {
    let mut client = edge.client("alice").await;
    client.send(&json!({ "type": "subscribe", "id": 1, "channel": channel })).await;
    confirmed(&mut client).await
}

/// The answer to a `subscribe`.
async fn confirmed(client: &mut Client) -> Value {
    loop {
        let answer = client.next().await.unwrap();
        // While NATS is away, the first one says that it takes long.
        if answer["pending"] != true {
            assert_eq!(answer["type"], "subscribed", "{answer}");
            return answer;
        }
    }
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_has_missed_and_then_what_is_new() {
    let edge = edge_with_stream(json!({})).await;
    publish(&edge.nats, "chat.a", 1..=2).await;
    let before = was_there(&edge, "chat.a").await;
    publish(&edge.nats, "chat.b", [0]).await;
    publish(&edge.nats, "chat.a", 3..=5).await;
    let mut client = edge.client("alice").await;
    let reply = subscribe_since(&mut client, "chat.a", &before["epoch"], 2).await;
    // The position is that before the messages: the client has not got them yet.
    assert_eq!((told(&reply), &reply["epoch"]), ((true, vec![], 2), &before["epoch"]));
    assert_eq!(recovered(&mut client, 3).await, [(3, 4), (4, 5), (5, 6)]);
    publish(&edge.nats, "chat.a", [6]).await;
    let message = client.expect("message").await;
    assert_eq!((pairs(std::slice::from_ref(&message)), message.get("recovered")), (vec![(6, 7)], None));
    // Nothing is new.
    let mut other = edge.client("bob").await;
    let reply = subscribe_since(&mut other, "chat.a", &before["epoch"], 7).await;
    assert_eq!(told(&reply), (true, vec![], 7));
    assert_eq!(other.so_far().await, [] as [Value; 0]);
}

#[tokio::test]
async fn another_node_reads_what_a_client_has_missed_from_the_stream() {
    let edge = edge_with_stream(json!({})).await;
    let before = was_there(&edge, "chat.a").await;
    publish(&edge.nats, "chat.a", 1..=300).await;
    let node = edge.another_node().await;
    for since in [0, 1, 150, 299, 300] {
        let mut client = Client::connect(&node.address.to_string(), &token("alice")).await;
        let reply = subscribe_since(&mut client, "chat.a", &before["epoch"], since).await;
        assert_eq!(told(&reply), (true, vec![], since));
        let missed: Vec<_> = (since + 1..=300).map(|number| (number, number)).collect();
        assert_eq!(recovered(&mut client, missed.len()).await, missed);
        assert_eq!(client.so_far().await, [] as [Value; 0]);
    }
    node.drain().await;
}

#[tokio::test]
async fn what_the_stream_no_longer_has_is_a_gap_and_the_rest_follows() {
    let edge = edge_with_stream(json!({ "max_msgs_per_subject": 5 })).await;
    publish(&edge.nats, "chat.a", [1]).await;
    let before = was_there(&edge, "chat.a").await;
    let node = edge.another_node().await;
    publish(&edge.nats, "chat.a", 2..=20).await;
    let mut client = Client::connect(&node.address.to_string(), &token("alice")).await;
    let reply = subscribe_since(&mut client, "chat.a", &before["epoch"], 1).await;
    assert_eq!(told(&reply), (false, vec![], 1));
    let gap = json!({ "type": "gap", "channel": "chat.a", "cause": "discarded", "from": 2, "to": 15 });
    assert_eq!(client.expect("gap").await, gap);
    let rest: Vec<_> = (16..=20).map(|number| (number, number)).collect();
    assert_eq!(recovered(&mut client, 5).await, rest);
    // A purge takes what the others have missed.
    api(&edge.nats, "STREAM.PURGE.ALL", &json!({})).await;
    let mut other = Client::connect(&node.address.to_string(), &token("bob")).await;
    let reply = subscribe_since(&mut other, "chat.a", &before["epoch"], 5).await;
    assert!(!told(&reply).0, "{reply}");
    assert_eq!(other.expect("gap").await["cause"], "discarded");
    node.drain().await;
}

/// PROTOCOL.md: "the stream has never had the position of a client that comes back"
#[tokio::test]
async fn a_position_of_another_stream_is_told_and_the_last_values_come() {
    let edge = edge_with_stream(json!({})).await;
    publish(&edge.nats, "chat.a", 1..=5).await;
    let before = was_there(&edge, "chat.a").await;
    api(&edge.nats, "STREAM.DELETE.ALL", &json!({})).await;
    stream(&edge.nats, "ALL", &["prices.>", "chat.>"], json!({})).await;
    publish(&edge.nats, "chat.a", [6]).await;
    let node = edge.another_node().await;
    let mut client = Client::connect(&node.address.to_string(), &token("alice")).await;
    let reply = subscribe_since(&mut client, "chat.a", &before["epoch"], 5).await;
    assert_eq!(told(&reply), (false, vec![(6, 1)], 1));
    assert_ne!(reply["epoch"], before["epoch"]);
    let gap = json!({ "type": "gap", "channel": "chat.a", "cause": "epoch" });
    assert_eq!(client.expect("gap").await, gap);
    // The same epoch, and a sequence that the stream has never had.
    let mut other = Client::connect(&node.address.to_string(), &token("bob")).await;
    let told_other = subscribe_since(&mut other, "chat.a", &reply["epoch"], 1000).await;
    assert_eq!((&told_other["recovered"], &other.expect("gap").await), (&json!(false), &gap));
    node.drain().await;
}

#[tokio::test]
async fn who_has_missed_too_much_gets_the_last_values() {
    let edge = edge_with_stream(json!({})).await;
    publish(&edge.nats, "chat.a", [1]).await;
    let before = was_there(&edge, "chat.a").await;
    publish(&edge.nats, "chat.a", 2..=700).await;
    let node = edge.another_node().await;
    for address in [edge.address(), node.address.to_string()] {
        let mut client = Client::connect(&address, &token("alice")).await;
        let reply = subscribe_since(&mut client, "chat.a", &before["epoch"], 1).await;
        assert_eq!(told(&reply), (false, vec![(700, 700)], 700));
        let gap = json!({ "type": "gap", "channel": "chat.a", "cause": "too_many" });
        assert_eq!(client.expect("gap").await, gap);
        let mut nearer = Client::connect(&address, &token("bob")).await;
        let reply = subscribe_since(&mut nearer, "chat.a", &before["epoch"], 400).await;
        assert_eq!(told(&reply), (true, vec![], 400));
        assert_eq!(recovered(&mut nearer, 300).await.last(), Some(&(700, 700)));
    }
    node.drain().await;
}

#[tokio::test]
async fn last_values_are_all_that_a_client_of_class_latest_has_missed() {
    let edge = edge_with_stream(json!({})).await;
    publish(&edge.nats, "prices.a", [1]).await;
    let before = was_there(&edge, "prices.*").await;
    publish(&edge.nats, "prices.a", 2..=9).await;
    publish(&edge.nats, "prices.b", [1]).await;
    let mut client = edge.client("alice").await;
    let reply = subscribe_since(&mut client, "prices.*", &before["epoch"], 1).await;
    assert_eq!(told(&reply), (true, vec![(9, 9), (1, 10)], 10));
    assert_eq!(client.so_far().await, [] as [Value; 0]);
}

#[tokio::test]
async fn where_nothing_can_be_recovered_a_client_is_told_so() {
    let edge = edge_with_stream(json!({})).await;
    let before = was_there(&edge, "chat.a").await;
    let mut client = edge.client("alice").await;
    // No stream stores it.
    let reply = subscribe_since(&mut client, "user.alice.notes", &before["epoch"], 1).await;
    assert_eq!((&reply["recovered"], reply.get("seq")), (&json!(false), None));
    let since = json!({ "epoch": before["epoch"], "seq": 1 });
    for (message, code) in [
        (json!({ "channel": "chat.*", "since": since }), "unsupported"),
        (json!({ "channels": ["chat.a", "chat.b"], "since": since }), "bad_request"),
        (json!({ "channel": "chat.a", "since": { "last": 5 } }), "bad_request"),
        (json!({ "channel": "chat.a", "since": { "epoch": "", "seq": 5 } }), "bad_request"),
    ] {
        let mut message = message;
        message["type"] = json!("subscribe");
        client.send(&message).await;
        assert_eq!(client.expect("error").await["code"], code, "{message}");
    }
}

#[tokio::test]
async fn clients_that_come_back_at_once_share_the_reads_of_a_stream() {
    let edge = edge_with_stream(json!({})).await;
    let before = was_there(&edge, "chat.a").await;
    publish(&edge.nats, "chat.a", 1..=50).await;
    let node = edge.another_node().await;
    let sniffer = edge.nats.client().await;
    let mut requests = sniffer.subscribe("$JS.API.DIRECT.GET.>").await.unwrap();
    sniffer.flush().await.unwrap();
    let address = node.address.to_string();
    let visits = (0..200).map(|who: u64| {
        let (address, epoch) = (&address, &before["epoch"]);
        async move {
            let mut client = Client::connect(address, &token(&format!("user{who}"))).await;
            let reply = subscribe_since(&mut client, "chat.a", epoch, who % 50).await;
            assert_eq!(told(&reply), (true, vec![], who % 50));
            let missed = usize::try_from(50 - who % 50).unwrap();
            assert_eq!(recovered(&mut client, missed).await.last(), Some(&(50, 50)));
        }
    });
    join_all(visits).await;
    sniffer.flush().await.unwrap();
    let count = count_of(&mut requests).await;
    assert!((2..20).contains(&count), "{count} requests");
    node.drain().await;
}

/// Subjects of many users are read together, when clients join them and after an outage.
#[tokio::test]
async fn subjects_of_many_clients_are_read_together() {
    const USERS: u64 = 400;
    let edge = edge_with_stream(json!({})).await;
    let publisher = edge.nats.client().await;
    for user in 0..USERS {
        let stored = publisher.request(format!("chat.user{user}"), user.to_string().into()).await.unwrap();
        assert!(stored.payload.starts_with(b"{"), "{stored:?}");
    }
    let node = edge.another_node().await;
    let sniffer = edge.nats.client().await;
    let mut requests = sniffer.subscribe("$JS.API.DIRECT.GET.>").await.unwrap();
    sniffer.flush().await.unwrap();
    let address = node.address.to_string();
    let visits = (0..4).map(|who: u64| {
        let address = &address;
        async move {
            let mut client = Client::connect(address, &token(&format!("user{who}"))).await;
            let users = (who * USERS / 4..(who + 1) * USERS / 4).collect::<Vec<_>>();
            let channels: Vec<_> = users.iter().map(|user| format!("chat.user{user}")).collect();
            client.send(&json!({ "type": "subscribe", "channels": channels })).await;
            let mut values = Vec::new();
            for _ in &users {
                values.extend(pairs(client.expect("subscribed").await["snapshot"].as_array().unwrap()));
            }
            values.sort_unstable();
            assert_eq!(values, users.iter().map(|user| (*user, user + 1)).collect::<Vec<_>>());
        }
    });
    join_all(visits).await;
    let count = count_of(&mut requests).await;
    assert!((1..60).contains(&count), "{count} requests");
    node.drain().await;
}

#[tokio::test]
async fn an_empty_channel_has_a_position_on_every_node() {
    let edge = edge_with_stream(json!({})).await;
    let mut stays = edge.client("carol").await;
    for channel in ["chat.a", "prices.*"] {
        stays.subscribe(channel).await;
    }
    publish(&edge.nats, "chat.b", 1..=5).await;
    let node = edge.another_node().await;
    let mut client = Client::connect(&node.address.to_string(), &token("alice")).await;
    for channel in ["chat.a", "prices.*"] {
        // Where the stream was when this node began to read the channel.
        let before = client.subscribe(channel).await;
        let mut back = edge.client("alice").await;
        let reply =
            subscribe_since(&mut back, channel, &before["epoch"], before["seq"].as_u64().unwrap()).await;
        assert_eq!(
            (&reply["recovered"], &reply["snapshot"]),
            (&json!(true), &json!([])),
            "{channel} {reply}"
        );
        assert_eq!(back.so_far().await, [] as [Value; 0]);
    }
    node.drain().await;
}

#[tokio::test]
async fn a_position_that_the_stream_never_had_is_not_confirmed() {
    let edge = edge_with_stream(json!({})).await;
    let before = was_there(&edge, "chat.a").await;
    publish(&edge.nats, "chat.a", [1]).await;
    let mut client = edge.client("alice").await;
    for seq in [400, u64::MAX] {
        let reply = subscribe_since(&mut client, "chat.a", &before["epoch"], seq).await;
        assert_eq!(told(&reply), (false, vec![(1, 1)], 1));
        assert_eq!(client.expect("gap").await["cause"], "epoch");
    }
    publish(&edge.nats, "chat.a", 2..=410).await;
    let mut back = edge.client("alice").await;
    let reply = subscribe_since(&mut back, "chat.a", &before["epoch"], 1).await;
    assert_eq!((told(&reply), recovered(&mut back, 409).await.len()), ((true, vec![], 1), 409));
}

/// A client ahead of the feed asks the stream, which does not disturb the others.
#[tokio::test]
async fn a_position_ahead_does_not_stop_the_channel() {
    let edge = edge_with_stream(json!({})).await;
    let mut alice = edge.client("alice").await;
    let before = alice.subscribe("chat.a").await;
    publish(&edge.nats, "chat.a", [1]).await;
    alice.expect("message").await;
    // From now on, no read of messages is answered.
    let config = json!({
        "name": "ALL", "subjects": ["prices.>", "chat.>"], "storage": "memory", "allow_direct": false,
        "republish": { "src": ">", "dest": "_live.>" },
    });
    api(&edge.nats, "STREAM.UPDATE.ALL", &config).await;
    let mut bob = edge.client("bob").await;
    let reply = subscribe_since(&mut bob, "chat.a", &before["epoch"], 1000).await;
    assert!(!told(&reply).0, "{reply}");
    publish(&edge.nats, "chat.a", [2]).await;
    assert_eq!(pairs(&[alice.expect("message").await]), [(2, 2)]);
    assert_eq!(alice.so_far().await, [] as [Value; 0]);
}

#[tokio::test]
async fn the_order_of_a_stored_channel_does_not_depend_on_priorities() {
    let edge = edge_with_stream(json!({})).await;
    let mut live = edge.client("bob").await;
    let before = live.subscribe("chat.a").await;
    let publisher = edge.nats.client().await;
    for (number, priority) in [(1, "low"), (2, "normal"), (3, "low"), (4, "high")] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Tidegate-Priority", priority);
        publisher.request_with_headers("chat.a", headers, number.to_string().into()).await.unwrap();
    }
    let in_order = [(1, 1), (2, 2), (3, 3), (4, 4)];
    let mut client = edge.client("alice").await;
    subscribe_since(&mut client, "chat.a", &before["epoch"], 0).await;
    assert_eq!(recovered(&mut client, 4).await, in_order);
    for pair in in_order {
        assert_eq!(pairs(&[live.expect("message").await]), [pair]);
    }
}

#[tokio::test]
async fn last_values_that_lack_something_do_not_recover_a_client() {
    let edge = TestEdge::with(|config: &mut Config| {
        config.classes = stored_classes();
        config.limits.feed_values = 2;
        config.limits.delivery_max_bytes = 2000;
    })
    .await;
    stream(&edge.nats, "ALL", &["prices.>", "chat.>"], json!({})).await;
    let mut stays = edge.client("carol").await;
    let before = stays.subscribe("prices.*").await;
    stays.subscribe("prices.z").await;
    let large = format!("\"{}\"", "x".repeat(3000));
    let publisher = edge.nats.client().await;
    publisher.request("prices.z", large.into()).await.unwrap();
    for subject in ["prices.a", "prices.b", "prices.c"] {
        publish(&edge.nats, subject, [1]).await;
    }
    let mut client = edge.client("bob").await;
    for (channel, seq, cause, values) in
        [("prices.*", 0, "too_large", vec![(1, 3), (1, 4)]), ("prices.z", 0, "too_large", vec![])]
    {
        let reply = subscribe_since(&mut client, channel, &before["epoch"], seq).await;
        assert_eq!((told(&reply).0, told(&reply).1), (false, values), "{channel}");
        assert_eq!(client.expect("gap").await["cause"], cause, "{channel} {seq}");
    }
    // The large one is older than its position, and one value was evicted since.
    let reply = subscribe_since(&mut client, "prices.*", &before["epoch"], 1).await;
    assert_eq!((told(&reply).0, &client.expect("gap").await["cause"]), (false, &json!("too_many")));
    let reply = subscribe_since(&mut client, "prices.*", &before["epoch"], 2).await;
    assert_eq!(told(&reply), (true, vec![(1, 3), (1, 4)], 4));
}

#[tokio::test]
async fn a_message_that_cannot_be_delivered_is_a_gap_besides_those_that_are_gone() {
    let edge = TestEdge::with(|config: &mut Config| {
        config.classes = stored_classes();
        config.limits.delivery_max_bytes = 2000;
    })
    .await;
    stream(&edge.nats, "ALL", &["prices.>", "chat.>"], json!({ "max_msgs_per_subject": 3 })).await;
    let before = was_there(&edge, "chat.a").await;
    publish(&edge.nats, "chat.a", 1..=3).await;
    let publisher = edge.nats.client().await;
    publisher.request("chat.a", format!("\"{}\"", "x".repeat(3000)).into()).await.unwrap();
    publish(&edge.nats, "chat.a", [5]).await;
    let node = edge.another_node().await;
    let mut client = Client::connect(&node.address.to_string(), &token("bob")).await;
    let reply = subscribe_since(&mut client, "chat.a", &before["epoch"], 1).await;
    assert_eq!(told(&reply), (false, vec![], 1));
    for (cause, from, to) in [("discarded", 2, 2), ("too_large", 4, 4)] {
        let gap = json!({ "type": "gap", "channel": "chat.a", "cause": cause, "from": from, "to": to });
        assert_eq!(client.expect("gap").await, gap);
    }
    assert_eq!(recovered(&mut client, 2).await, [(3, 3), (5, 5)]);
    node.drain().await;
}

#[tokio::test]
async fn who_has_missed_too_much_costs_nats_one_read() {
    let edge = edge_with_stream(json!({})).await;
    let before = was_there(&edge, "chat.a").await;
    publish(&edge.nats, "chat.a", 1..=700).await;
    let sniffer = edge.nats.client().await;
    let mut requests = sniffer.subscribe("$JS.API.DIRECT.GET.>").await.unwrap();
    sniffer.flush().await.unwrap();
    let mut client = edge.client("bob").await;
    for number in 0..100 {
        let reply = subscribe_since(&mut client, "chat.a", &before["epoch"], 100 - number).await;
        assert_eq!((told(&reply).0, &client.expect("gap").await["cause"]), (false, &json!("too_many")));
    }
    let count = count_of(&mut requests).await;
    assert!(count <= 3, "{count} requests");
}
