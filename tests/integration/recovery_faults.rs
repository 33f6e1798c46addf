//! Clients that come and go while nodes lose their connections, and while a server of the cluster is killed: each has each
//! message once, or is told that it is missing.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;

use crate::recovery::subscribe_since;
use crate::recovery::was_there;
use crate::stored::edge_with_stream;
use crate::stored::pairs;
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
