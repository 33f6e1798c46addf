//! What a service refuses takes nothing away from a client that has changed its channels.

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::subject::Subject;

use crate::support::client::Client;
use crate::support::decider::Decider;
use crate::support::edge::class;
use crate::support::edge::token;
use crate::support::eventually;
use crate::vocabularies::stage::Stage;

/// A node whose channels below `pattern` are decided by a service, which allows only this one.
async fn only(vocabulary: &str, pattern: &str, allowed: &'static str) -> (Stage, Decider) {
    let stage = Stage::changed(vocabulary, |config| {
        let authorize = Some(Subject::parse("authz.symbols").unwrap());
        config.classes = vec![Class { authorize, ..class(pattern) }];
    })
    .await;
    let answer = move |question: &Value| Some(json!({ "allow": question["channel"] == allowed }));
    let decider = Decider::start(&stage.edge.nats, "authz.symbols", answer).await;
    (stage, decider)
}

async fn publish(stage: &Stage, subject: &'static str) {
    stage.nats.publish(subject, r#"{"price":1}"#.into()).await.unwrap();
    stage.nats.flush().await.unwrap();
}

#[tokio::test]
async fn svc_02_a_replacement_that_a_service_refuses_changes_nothing() {
    let (stage, decider) = only("ara", "predictions.>", "predictions.AAPL").await;
    let mut page = Client::open(&stage.edge.address(), "/ws/predictions/AAPL", Some(&token("alice"))).await;
    page.expect("connected").await;
    eventually("its channel to be live", async || stage.joined() == 1).await;
    page.send(&json!({ "type": "subscribe", "symbol": "TSLA" })).await;
    page.expect("error").await;
    assert_eq!(decider.questions().len(), 2);
    publish(&stage, "predictions.AAPL").await;
    assert_eq!(page.expect("prediction_update").await["symbol"], "AAPL");
}

#[tokio::test]
async fn svc_02_a_wildcard_that_a_service_refuses_takes_away_no_channel_that_it_covers() {
    let (stage, _decider) = only("stock-agent", "prices.>", "prices.AAPL").await;
    let mut page = Client::open(&stage.edge.address(), "/ws/client-1", Some(&token("alice"))).await;
    page.expect("connected").await;
    page.send(&json!({ "type": "subscribe", "channel": "prices", "symbols": ["AAPL"] })).await;
    page.expect("subscribed").await;
    page.send(&json!({ "type": "subscribe", "channel": "prices" })).await;
    // One for each of the patterns that are all symbols.
    page.expect("error").await;
    page.expect("error").await;
    publish(&stage, "prices.AAPL").await;
    assert_eq!(page.expect("price_update").await["symbol"], "AAPL");
}
