//! All clients reconnect at once and request more values than a lane's queue has room for: all get them, without errors.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::client::Client;
use crate::support::dialect::Dialect;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::recorder::Received;
use crate::support::recorder::Recorder;

const SOCKETS: usize = 60;
const CHANNELS: usize = 200;
/// Smaller than the channels of one message, to have the effect of 500 sockets with the default in a short test.
const LANE_REQUESTS: usize = 64;

fn channels(socket: usize, prefix: &str) -> Vec<String> {
    (0..CHANNELS).map(|number| format!("{prefix}.c{socket}x{number}")).collect()
}

async fn pages(edge: &TestEdge, dialect: Dialect) -> Vec<Recorder> {
    let authorization = format!("Bearer {}", token("alice"));
    let headers = [("authorization", authorization.as_str())];
    let address = edge.address();
    let clients = (0..SOCKETS).map(|_| Client::open_with(&address, dialect.path(), &headers));
    join_all(clients).await.into_iter().map(|client| Recorder::with_dialect(dialect, client)).collect()
}

/// Each page receives the publications on each of its channels.
async fn all_receive(edge: &TestEdge, prefix: &str, pages: &[Recorder]) {
    let nats = edge.nats.client().await;
    for socket in 0..SOCKETS {
        for channel in channels(socket, prefix) {
            let payload = json!({ "n": 1, "of": channel }).to_string();
            nats.publish(channel, payload.into()).await.unwrap();
        }
    }
    nats.flush().await.unwrap();
    for (socket, page) in pages.iter().enumerate() {
        let channels = channels(socket, prefix);
        eventually(&format!("socket {socket} receives all"), || async {
            let log = page.so_far();
            channels.iter().all(|channel| log.newest(channel, channel) == 1)
        })
        .await;
    }
}

#[tokio::test]
async fn a_storm_of_native_clients_gets_all_subscriptions() {
    let edge = TestEdge::with(|config| config.limits.lane_requests = LANE_REQUESTS).await;
    let mut pages = pages(&edge, Dialect::Native).await;
    for (socket, page) in pages.iter().enumerate() {
        page.send(json!({ "type": "subscribe", "channels": channels(socket, "chat") })).await;
    }
    for page in &mut pages {
        let answers =
            |received: &&Received| matches!(received, Received::Subscribed { .. } | Received::Refused { .. });
        page.until("all answers", |log| log.received.iter().filter(answers).count() >= CHANNELS).await;
        let refused: Vec<_> = page
            .so_far()
            .received
            .into_iter()
            .filter(|received| matches!(received, Received::Refused { .. }))
            .collect();
        assert_eq!(refused, [], "no subscription is rejected");
    }
    all_receive(&edge, "chat", &pages).await;
}

#[tokio::test]
async fn a_storm_of_clients_with_channel_lists_gets_all_subscriptions() {
    let edge = TestEdge::with(|config| {
        Dialect::StockAgent.configure(config);
        config.limits.lane_requests = LANE_REQUESTS;
    })
    .await;
    let pages = pages(&edge, Dialect::StockAgent).await;
    for (socket, page) in pages.iter().enumerate() {
        let symbols: Vec<_> = channels(socket, "prices").iter().map(|name| name[7..].to_owned()).collect();
        page.send(json!({ "type": "subscribe", "channel": "prices", "symbols": symbols })).await;
    }
    let all = (SOCKETS * CHANNELS) as u64;
    eventually("all have joined", || async { edge.hooks.joined.load(Ordering::SeqCst) >= all }).await;
    all_receive(&edge, "prices", &pages).await;
    for page in pages {
        let errors: Vec<_> = page
            .stop()
            .await
            .received
            .into_iter()
            .filter(|received| matches!(received, Received::Other(_)))
            .collect();
        // On a busy machine, NATS may confirm after more than five seconds. Then the page is told to wait, and is served.
        let is_rejection = |text: &str| text.contains("error") && !text.contains("the subscription waits");
        assert!(!errors.iter().any(|received| is_rejection(&format!("{received:?}"))), "{errors:?}");
    }
}
