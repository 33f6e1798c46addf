//! Floods a client that does not read, and checks what it receives afterwards.

use serde_json::Value;
use serde_json::json;

use crate::support::client::Client;
use crate::support::edge::TestEdge;

/// Bytes of filler in each publication.
const PAYLOAD: usize = 4000;

/// Publishes numbered messages as fast as a client that reads them receives them.
pub(crate) async fn flood(edge: &TestEdge, subject: &'static str, count: u64, healthy: &mut Client) {
    let nats = edge.nats.client().await;
    let filler = "x".repeat(PAYLOAD);
    for number in 0..count {
        let payload = json!({ "n": number, "filler": filler }).to_string();
        nats.publish(subject, payload.into()).await.unwrap();
        assert_eq!(healthy.expect("message").await["data"]["n"], number);
    }
}

/// Reads the messages and checks them: in order, no duplicates, and a gap where messages are missing. Returns how many
/// are missing.
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
