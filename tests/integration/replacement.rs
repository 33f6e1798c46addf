//! `replace_connections`: of all connections of a user at an endpoint, on all nodes, the newest remains.

use std::time::Duration;

use futures_util::future::Either;
use futures_util::future::join;
use futures_util::future::select;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::endpoint::access::AccessConfig;
use tidegate::config::limits::UserLimitPolicy;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::within;
use crate::vocabularies::stage::Stage;

/// `/ws` and `/also` replace connections; clients of `/also` need no credential. `/many` does not replace any.
fn replacing(config: &mut Config) {
    let endpoint = |path: &str, replace_connections| EndpointConfig {
        path: path.to_owned(),
        replace_connections,
        ..EndpointConfig::default()
    };
    let access = AccessConfig { anonymous_role: Some("guest".to_owned()), ..AccessConfig::default() };
    config.roles.push(role("guest", &["prices.*"], &[], &[]));
    config.endpoints = vec![
        endpoint("/ws", true),
        EndpointConfig { access, ..endpoint("/also", true) },
        endpoint("/many", false),
    ];
}

async fn alice_at(address: &str, path: &str) -> Client {
    let mut client = Client::open(address, path, Some(&token("alice"))).await;
    client.expect("connected").await;
    client
}

/// The client is told that it was replaced, and closed with the code for that.
async fn assert_replaced(client: &mut Client) {
    let close = json!({ "type": "close", "code": 4510, "reason": "replaced" });
    assert_eq!(client.until_closed().await, (vec![close], Some(4510)));
}

async fn assert_open<'c>(clients: impl IntoIterator<Item = &'c mut Client>) {
    for client in clients {
        assert!(client.so_far().await.is_empty());
    }
}

#[tokio::test]
async fn a_new_connection_of_a_user_replaces_the_earlier_one_on_any_thread() {
    let edge = TestEdge::with(|config| {
        replacing(config);
        // The replaced connection needs no room in this limit.
        config.limits.connections_per_user = 1;
        config.limits.connections_per_user_policy = UserLimitPolicy::Reject;
    })
    .await;
    let mut others = [
        edge.client("bob").await,
        alice_at(&edge.address(), "/also").await,
        alice_at(&edge.address(), "/many").await,
    ];
    let mut latest = edge.client("alice").await;
    for _ in 0..5 {
        let next = edge.client("alice").await;
        assert_replaced(&mut latest).await;
        latest = next;
    }
    assert_open(others.iter_mut().chain([&mut latest])).await;
}

#[tokio::test]
async fn a_credential_in_a_message_replaces_when_it_arrives_and_anonymous_clients_never_do() {
    let edge = TestEdge::with(replacing).await;
    let mut guests = Vec::new();
    for _ in 0..3 {
        let mut guest = Client::open(&edge.address(), "/also", None).await;
        guest.expect("connected").await;
        guests.push(guest);
    }
    let mut early = alice_at(&edge.address(), "/also").await;
    assert_open(guests.iter_mut().chain([&mut early])).await;
    for _ in 0..2 {
        let mut late = guests.pop().unwrap();
        late.send(&json!({ "type": "auth", "token": token("alice") })).await;
        late.expect("connected").await;
        assert_replaced(&mut early).await;
        // A new token of the same user is no new connection.
        late.send(&json!({ "type": "auth", "token": token("alice") })).await;
        late.expect("connected").await;
        early = late;
    }
    assert_open(guests.iter_mut().chain([&mut early])).await;
}

#[tokio::test]
async fn a_user_has_one_connection_at_each_path_of_a_vocabulary() {
    let stage = Stage::changed("sentio", |config| config.endpoints[0].replace_connections = true).await;
    let claims = json!({ "sub": "alice", "role": "user" });
    let mut signals = stage.page("/ws/trade-signals", &claims, 0).await;
    let mut first = stage.page("/ws/notifications", &claims, 0).await;
    let mut second = stage.page("/ws/notifications", &claims, 0).await;
    first.received().await;
    second.received().await;
    signals.received().await;
    assert_eq!((signals.is_open, first.is_open, second.is_open), (true, false, true));
}

#[tokio::test]
async fn a_connection_replaces_that_of_another_node() {
    let edge = TestEdge::with(replacing).await;
    let second = edge.another_node().await;
    let addresses = [edge.address(), second.address.to_string()];
    let mut others = [edge.client("bob").await, alice_at(&addresses[1], "/also").await];
    let mut latest = alice_at(&addresses[0], "/ws").await;
    for address in [1, 0, 0, 1] {
        let next = alice_at(&addresses[address], "/ws").await;
        assert_replaced(&mut latest).await;
        latest = next;
    }
    assert_open(others.iter_mut().chain([&mut latest])).await;
}

#[tokio::test]
async fn of_connections_to_two_nodes_at_the_same_time_one_remains() {
    let edge = TestEdge::with(replacing).await;
    let second = edge.another_node().await;
    let addresses = [edge.address(), second.address.to_string()];
    for _ in 0..20 {
        let (mut one, mut two) = join(alice_at(&addresses[0], "/ws"), alice_at(&addresses[1], "/ws")).await;
        let is_first = {
            let ends = (Box::pin(one.until_closed()), Box::pin(two.until_closed()));
            let (end, is_first) = match within("the end of one", select(ends.0, ends.1)).await {
                Either::Left((end, _)) => (end, true),
                Either::Right((end, _)) => (end, false),
            };
            assert_eq!(end.1, Some(4510));
            is_first
        };
        assert_open([if is_first { &mut two } else { &mut one }]).await;
    }
}

#[tokio::test]
async fn what_nodes_miss_without_nats_is_made_up_for() {
    let mut edge = TestEdge::with(replacing).await;
    let second = edge.another_node().await;
    let mut old = alice_at(&edge.address(), "/ws").await;
    edge.lose_nats().await;
    let mut new = alice_at(&second.address.to_string(), "/ws").await;
    assert_open([&mut old]).await;
    edge.nats.restart().await;
    assert_replaced(&mut old).await;
    assert_open([&mut new]).await;
}

#[tokio::test]
async fn sub_05_a_client_cannot_announce_a_connection() {
    let edge = TestEdge::with(|config| {
        replacing(config);
        config.roles.push(role("all", &[">"], &[">"], &[">"]));
    })
    .await;
    let mut victim = edge.client("alice").await;
    let claims = json!({ "sub": "mallory", "role": "all" });
    let mut mallory = Client::connect(&edge.address(), &crate::support::edge::token_with(&claims)).await;
    let connection = json!({ "endpoint": "/ws", "issuer": null, "user": "alice", "started": u64::MAX });
    let forged = json!({ "from": "x", "what": { "replaced": [connection] } });
    for (kind, data) in [("publish", &forged), ("request", &forged)] {
        mallory.send(&json!({ "type": kind, "id": 1, "channel": "tidegate.nodes", "data": data })).await;
        assert_eq!(mallory.expect("error").await["code"], "forbidden");
    }
    assert_open([&mut victim]).await;
    // A producer on NATS cannot either.
    let producer = edge.nats.producer().await;
    producer.publish("tidegate.nodes", forged.to_string().into()).await.unwrap();
    producer.flush().await.unwrap();
    assert_open([&mut victim]).await;
    // The same message of a node replaces: so it is the permissions that protect the user.
    let nats = edge.nats.operator().await;
    nats.publish("tidegate.nodes", forged.to_string().into()).await.unwrap();
    nats.flush().await.unwrap();
    assert_replaced(&mut victim).await;
}

/// A node of an older version drops the messages that it does not know, and answers the others as before.
#[tokio::test]
async fn a_node_without_such_an_endpoint_is_not_disturbed() {
    let stage = Stage::changed("hoardrun", |config| config.server.shards = 2).await;
    let nats = &stage.nats;
    let message =
        json!({ "from": "x", "what": { "replaced": [{ "endpoint": "/ws", "user": "a", "started": 1 }] } });
    nats.publish("tidegate.nodes", message.to_string().into()).await.unwrap();
    nats.publish("tidegate.nodes", json!({ "from": "x", "what": "newer" }).to_string().into()).await.unwrap();
    nats.flush().await.unwrap();
    let query = json!({ "from": "x", "what": { "values": { "channels": ["x.y"] } } });
    let answer = nats.request("tidegate.nodes", query.to_string().into());
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.unwrap().unwrap();
    assert!(answer.headers.unwrap().get("Tidegate-Node").is_some());
}
