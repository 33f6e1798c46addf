//! Confirmations: after the confirmation of a list, all its channels are live.

use std::collections::BTreeSet;

use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;

use crate::regressions::names;
use crate::support::edge::class;
use crate::vocabularies::stage::Stage;

const LISTS: &str = r#"
name = "lists"
[[path]]
name = "all"
path = "/ws"
[[receive]]
when = { op = "watch" }
do = "subscribe"
group = "watched"
each = "{msg.of}"
channel = "prices.{item}"
confirm = { watching = "{msg.round}" }
[[receive]]
when = { op = "only" }
do = "replace"
group = "watched"
each = "{msg.of}"
channel = "prices.{item}"
confirm = { watching = "{msg.round}" }
[[deliver]]
pattern = "prices.*"
send = { of = "{subject.1}", data = "{data}" }
"#;

#[tokio::test]
async fn b_04_messages_published_after_a_confirmation_of_many_channels_are_delivered() {
    let mut stage = Stage::start("lists", LISTS, |config| {
        config.server.shards = 2;
        config.classes = vec![Class { kind: Kind::Buffer, ..class("prices.*") }];
    })
    .await;
    let claims = json!({ "sub": "alice", "role": "user" });
    for round in 0..20 {
        for op in ["watch", "only"] {
            let mut page = stage.page("/ws", &claims, 0).await;
            let of = names(&format!("{op}{round}x"), 0..200);
            page.send(&json!({ "op": op, "of": of, "round": format!("{op}{round}") }).to_string()).await;
            page.until("watching").await;
            for name in &of {
                stage.nats.publish(format!("prices.{name}"), "1".into()).await.unwrap();
            }
            stage.nats.flush().await.unwrap();
            let mut missing: BTreeSet<_> = of.into_iter().collect();
            while !missing.is_empty() {
                let message = page.until("\"of\"").await;
                missing.remove(message["of"].as_str().unwrap());
            }
        }
    }
    stage.published().await;
}
