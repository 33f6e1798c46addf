//! All clients reconnect at once and request more values than a lane's queue has room for: all get them, without errors.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::client::Client;
use crate::support::dialect::Dialect;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::recorder::Heard;
use crate::support::recorder::Recorder;

const SOCKETS: usize = 60;
const CHANNELS: usize = 200;
/// Smaller than the channels of one message, to have the effect of 500 sockets with the default in a short test.
const QUESTIONS: usize = 64;

fn channels(socket: usize, prefix: &str) -> Vec<String> {
    (0..CHANNELS).map(|number| format!("{prefix}.c{socket}x{number}")).collect()
}

async fn pages(edge: &TestEdge, dialect: Dialect) -> Vec<Recorder> {
    let authorization = format!("Bearer {}", token("alice"));
    let headers = [("authorization", authorization.as_str())];
    let address = edge.address();
    let clients = (0..SOCKETS).map(|_| Client::open_with(&address, dialect.path(), &headers));
    join_all(clients).await.into_iter().map(|client| Recorder::speaking(dialect, client)).collect()
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
async fn a_storm_of_native_pages_is_served_completely() {
    let edge = TestEdge::with(|config| config.limits.lane_requests = QUESTIONS).await;
    let mut pages = pages(&edge, Dialect::Native).await;
    for (socket, page) in pages.iter().enumerate() {
        page.send(json!({ "type": "subscribe", "channels": channels(socket, "chat") })).await;
    }
    for page in &mut pages {
        let answers = |heard: &&Heard| matches!(heard, Heard::Subscribed { .. } | Heard::Refused { .. });
        page.until("all answers", |log| log.heard.iter().filter(answers).count() >= CHANNELS).await;
        let refused: Vec<_> =
            page.so_far().heard.into_iter().filter(|heard| matches!(heard, Heard::Refused { .. })).collect();
        assert_eq!(refused, [], "no subscription is rejected");
    }
    all_receive(&edge, "chat", &pages).await;
}

#[tokio::test]
async fn a_storm_of_pages_with_channel_lists_is_served_completely() {
    let edge = TestEdge::with(|config| {
        Dialect::StockAgent.configure(config);
        config.limits.lane_requests = QUESTIONS;
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
        let errors: Vec<_> =
            page.stop().await.heard.into_iter().filter(|heard| matches!(heard, Heard::Other(_))).collect();
        // On a busy machine, NATS may confirm after more than five seconds. Then the page is told to wait, and is served.
        let is_rejection = |text: &str| text.contains("error") && !text.contains("the subscription waits");
        assert!(!errors.iter().any(|heard| is_rejection(&format!("{heard:?}"))), "{errors:?}");
    }
}
