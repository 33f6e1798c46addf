//! More publications than a client takes that does not read, and what it hears of them afterwards.

use serde_json::Value;
use serde_json::json;

use crate::support::client::Client;
use crate::support::edge::TestEdge;

/// Bytes of filler in each publication.
const PAYLOAD: usize = 4000;

/// Publishes so many numbered messages, as fast as a client that reads gets them: it gets all.
pub(crate) async fn flood(edge: &TestEdge, subject: &'static str, count: u64, healthy: &mut Client) {
    let nats = edge.nats.client().await;
    let filler = "x".repeat(PAYLOAD);
    for number in 0..count {
        let payload = json!({ "n": number, "filler": filler }).to_string();
        nats.publish(subject, payload.into()).await.unwrap();
        assert_eq!(healthy.expect("message").await["data"]["n"], number);
    }
}

/// Reads them: in order, nothing twice, and what is missing announced where it is missing. Returns how many that are.
pub(crate) async fn read_flood(count: u64, mut next: impl AsyncFnMut() -> Value) -> u64 {
    let (mut expected, mut missed) = (0, 0);
    while expected < count {
        let message = next().await;
        if message["type"] == "gap" {
            assert_eq!(message["cause"], "slow", "{message}");
            let dropped = message["dropped"].as_u64().unwrap();
            missed += dropped;
            expected += dropped;
        } else {
            assert_eq!(message["data"]["n"], expected, "in order, and nothing twice");
            expected += 1;
        }
    }
    missed
}
