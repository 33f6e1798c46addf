//! Recovery: what clients that come back to a stored channel have missed, out of memory or out of the stream.

use std::cell::Cell;
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
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::proxy::Fault;
use crate::support::proxy::Proxy;
use crate::support::proxy::Whose;

/// Subscribes from where an earlier answer or message was.
async fn subscribe_since(client: &mut Client, channel: &str, epoch: &Value, seq: u64) -> Value {
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

/// A client that has been on a channel, and is gone: what it was told.
async fn was_there(edge: &TestEdge, channel: &str) -> Value {
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
    assert_eq!((told(&reply), &reply["epoch"]), ((true, vec![], 6), &before["epoch"]));
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
        assert_eq!(told(&reply), (true, vec![], 300));
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
    assert_eq!(told(&reply), (false, vec![], 20));
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
        assert_eq!(told(&reply), (true, vec![], 700));
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

const VISITORS: usize = 8;
const MESSAGES: u64 = 2000;

/// Publishes a number once: until it is stored.
async fn publish_once(publisher: &async_nats::Client, number: u64) {
    loop {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", number.to_string());
        let answer = publisher.request_with_headers("chat.a", headers, number.to_string().into()).await;
        if answer.is_ok_and(|answer| answer.payload.starts_with(br#"{"stream":"#)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How often clients came, and how often they were told that messages are missing.
#[derive(Clone, Copy, Debug, Default)]
struct Visits {
    visits: usize,
    gaps: usize,
}

/// Messages are published, and clients come and go on these nodes, until each has seen each message once, in order, or was
/// told that it is missing.
async fn come_and_go(publisher: &async_nats::Client, addresses: &[String], epoch: &Value) -> Visits {
    let progress: [Cell<u64>; VISITORS] = Default::default();
    let publishing = async {
        for number in 1..=MESSAGES {
            // No one may be behind by more than a client recovers.
            while progress.iter().any(|seq| seq.get() + 400 < number) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            publish_once(publisher, number).await;
        }
    };
    let visits = progress.iter().enumerate().map(|(who, progress)| async move {
        let (mut seq, mut count) = (0, Visits::default());
        while seq < MESSAGES {
            count.visits += 1;
            let address = &addresses[(who + count.visits) % addresses.len()];
            let mut client = Client::connect(address, &token(&format!("user{who}"))).await;
            let reply = subscribe_since(&mut client, "chat.a", epoch, seq).await;
            assert_eq!(&reply["epoch"], epoch);
            if reply["recovered"] == false && reply["snapshot"] != json!([]) {
                seq = reply["seq"].as_u64().unwrap();
            }
            for _ in 0..20 + 13 * who {
                if seq == MESSAGES {
                    break;
                }
                let message = client.next().await.unwrap();
                if message["type"] == "gap" {
                    count.gaps += 1;
                    seq = seq.max(message["to"].as_u64().unwrap_or(0));
                    continue;
                }
                assert_eq!(message["type"], "message", "{message}");
                assert_eq!(pairs(&[message]), [(seq + 1, seq + 1)]);
                seq += 1;
                progress.set(seq);
            }
        }
        progress.set(MESSAGES);
        count
    });
    let ((), counts) = tokio::join!(publishing, join_all(visits));
    let sum =
        |sum: Visits, one: Visits| Visits { visits: sum.visits + one.visits, gaps: sum.gaps + one.gaps };
    counts.into_iter().fold(Visits::default(), sum)
}

#[tokio::test]
async fn clients_that_come_and_go_see_each_message_once() {
    let edge = edge_with_stream(json!({})).await;
    let before = was_there(&edge, "chat.a").await;
    let node = edge.another_node().await;
    let addresses = [edge.address(), node.address.to_string()];
    let publisher = edge.nats.client().await;
    let Visits { visits, gaps } = come_and_go(&publisher, &addresses, &before["epoch"]).await;
    assert!(visits > 100 && gaps == 0, "{visits} visits, {gaps} gaps");
    node.drain().await;
}

#[tokio::test]
async fn clients_that_come_and_go_see_each_message_once_although_nodes_lose_their_connections() {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(&nats).await;
    let url = proxy.url();
    stream(&nats, "ALL", &["prices.>", "chat.>"], json!({})).await;
    let change = |config: &mut Config| {
        config.nats.urls = vec![url];
        config.classes = stored_classes();
    };
    let edge = TestEdge::with_nats(nats, change, false).await;
    let before = was_there(&edge, "chat.a").await;
    let node = edge.another_node().await;
    let addresses = [edge.address(), node.address.to_string()];
    let publisher = edge.nats.client().await;
    let faults = async {
        loop {
            for (fault, millis) in [(Fault::None, 400), (Fault::Slice, 50), (Fault::Cut, 20)] {
                proxy.does_to(Whose::Feeds, fault);
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        }
    };
    tokio::select! {
        () = faults => {}
        Visits { visits, gaps } = come_and_go(&publisher, &addresses, &before["epoch"]) => {
            assert!(visits > 100 && gaps == 0, "{visits} visits, {gaps} gaps");
        }
    }
    node.drain().await;
}

/// Three servers with JetStream, as one cluster.
async fn cluster() -> Vec<NatsServer> {
    let ports: Vec<u16> = (0..3).map(|_| NatsServer::free_port()).collect();
    let routes: Vec<String> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let routes = routes.join(", ");
    let servers = ports.iter().enumerate().map(async |(number, port)| {
        let listen = format!("name: c, listen: \"127.0.0.1:{port}\", routes: [{routes}]");
        NatsServer::with(&format!("server_name: s{number}\ncluster {{ {listen} }}")).await
    });
    join_all(servers).await
}

/// The server that leads a stream.
async fn leader_of(client: &async_nats::Client, stream: &str) -> Option<usize> {
    let answer = client.request(format!("$JS.API.STREAM.INFO.{stream}"), "".into()).await.ok()?;
    let answer: Value = serde_json::from_slice(&answer.payload).ok()?;
    answer["cluster"]["leader"].as_str()?.strip_prefix('s')?.parse().ok()
}

#[tokio::test]
async fn with_three_replicas_clients_see_each_message_once_although_the_leader_is_killed() {
    let mut servers = cluster().await;
    let urls: Vec<async_nats::ServerAddr> =
        servers.iter().map(|server| server.url().parse().unwrap()).collect();
    let node_urls: Vec<String> = servers.iter().map(NatsServer::url).collect();
    let publisher = async_nats::ConnectOptions::new()
        .request_timeout(Some(Duration::from_secs(1)))
        .connect(urls)
        .await
        .unwrap();
    let config = json!({
        "name": "ALL", "subjects": ["chat.>"], "storage": "file", "num_replicas": 3, "allow_direct": true,
        "republish": { "src": ">", "dest": "_live.>" },
    });
    // The cluster needs some seconds to elect a leader.
    eventually("the stream has a leader", || {
        let (publisher, config) = (publisher.clone(), config.to_string());
        async move {
            let created = publisher.request("$JS.API.STREAM.CREATE.ALL", config.into()).await;
            created.is_ok() && leader_of(&publisher, "ALL").await.is_some()
        }
    })
    .await;
    let leader = leader_of(&publisher, "ALL").await.unwrap();
    let of_edge = servers.remove((leader + 1) % 3);
    let change = |config: &mut Config| {
        config.nats.urls = node_urls;
        config.classes = stored_classes();
    };
    let edge = TestEdge::with_nats(of_edge, change, false).await;
    let before = was_there(&edge, "chat.a").await;
    let node = edge.another_node().await;
    let addresses = [edge.address(), node.address.to_string()];
    let leader = if (leader + 1) % 3 < leader { leader - 1 } else { leader };
    let kill = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        servers[leader].kill();
    };
    let (Visits { visits, gaps }, ()) =
        tokio::join!(come_and_go(&publisher, &addresses, &before["epoch"]), kill);
    assert!(visits > 100 && gaps < visits / 10, "{visits} visits, {gaps} gaps");
    node.drain().await;
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
            assert_eq!(told(&reply), (true, vec![], 50));
            let missed = usize::try_from(50 - who % 50).unwrap();
            assert_eq!(recovered(&mut client, missed).await.last(), Some(&(50, 50)));
        }
    });
    join_all(visits).await;
    sniffer.flush().await.unwrap();
    let mut count = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(100), requests.next()).await {
        count += 1;
    }
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
    let mut count = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(100), requests.next()).await {
        count += 1;
    }
    assert!((1..60).contains(&count), "{count} requests");
    node.drain().await;
}
