//! `max_listeners` of a class: a node refuses further listeners of a channel that has this many.

use serde_json::json;
use tidegate::node::refusals::Refused;
use tidegate_protocol::class::Class;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::eventually;
use crate::vocabularies::stage::MARK;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::table::Effect;
use crate::vocabularies::table::VALUE_COMMANDS;

fn limited(pattern: &str, max_listeners: u32) -> Class {
    Class { max_listeners, ..class(pattern) }
}

/// The answer to a subscription to this channel.
async fn ask(client: &mut Client, channel: &str) -> serde_json::Value {
    client.send(&json!({ "type": "subscribe", "channel": channel })).await;
    client.next().await.unwrap()
}

#[tokio::test]
async fn ex_02_a_channel_has_as_many_listeners_as_its_class_allows_on_all_shards() {
    let edge = TestEdge::with(|config| config.classes.push(limited("chat.>", 3))).await;
    let mut listeners = [edge.client_on(0).await, edge.client_on(1).await, edge.client_on(0).await];
    for listener in &mut listeners {
        listener.subscribe("chat.full").await;
    }
    let mut surplus = [edge.client_on(0).await, edge.client_on(1).await];
    for client in &mut surplus {
        let error = ask(client, "chat.full").await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("limit_exceeded")), "{error}");
        assert_eq!(error["channel"], "chat.full");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("as many listeners on this node as allowed (3)"), "{message}");
        client.subscribe("chat.other").await;
        client.subscribe("prices.AAPL").await;
    }
    assert_eq!(edge.app.node.refusals.of(Refused::Listeners), 2);
    // A wildcard is a channel of its own.
    surplus[0].subscribe("chat.*").await;
    edge.publish("chat.full", "1").await;
    for client in listeners.iter_mut().chain(&mut surplus[..1]) {
        assert_eq!(client.expect("message").await["data"], 1);
    }
    // Who listens may ask again, and who leaves makes room.
    listeners[0].subscribe("chat.full").await;
    listeners[0].send(&json!({ "type": "unsubscribe", "channel": "chat.full" })).await;
    listeners[0].expect("unsubscribed").await;
    surplus[1].subscribe("chat.full").await;
    assert_eq!(ask(&mut surplus[0], "chat.full").await["code"], "limit_exceeded");
    let [_, gone, _] = listeners;
    drop(gone);
    eventually("a socket that has ended makes room", || async {
        let mut late = edge.client("alice").await;
        ask(&mut late, "chat.full").await["type"] == "subscribed"
    })
    .await;
    drop(surplus);
    eventually("nothing is counted any more", || async { edge.app.node.listeners.channels() <= 1 }).await;
}

#[tokio::test]
async fn ex_02_a_full_channel_is_an_error_in_vocabularies_too() {
    for command in VALUE_COMMANDS.iter().filter(|command| matches!(command.effect, Effect::Subscribes(_))) {
        let channel = command.effect.subjects().last().unwrap();
        let mut stage =
            Stage::changed(command.vocabulary, |config| config.classes.push(limited(channel, 1))).await;
        let mut first = stage.page_for(command).await;
        stage.assert_works(&mut first, command).await;
        let mut second = stage.page_for(command).await;
        second.assert_rejected(&command.good()).await;
        assert_eq!(stage.edge.app.node.refusals.of(Refused::Listeners), 1, "{command:?}");
        stage.publish_mark(command).await;
        first.until(MARK).await;
    }
}
