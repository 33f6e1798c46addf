//! Limits on what a client may do, and how few subscriptions many clients cause on NATS.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;

use crate::support::edge::TestEdge;
use crate::support::eventually;
use crate::support::raw;

/// Waits until NATS has no subscription on `chat.…`.
async fn assert_no_subscription(edge: &TestEdge) {
    eventually("NATS has no subscription of clients", || async {
        edge.nats.subscriptions("chat.").await == 0
    })
    .await;
}

#[tokio::test]
async fn ex_02_each_subscription_above_the_limit_is_rejected() {
    const ASKED: usize = 20_000;
    let edge = TestEdge::with(|config| {
        config.limits.subscriptions = 100;
        config.limits.max_errors = ASKED;
        config.limits.commands_burst = ASKED + 1;
        config.limits.inbound_burst_bytes = 16 << 20;
    })
    .await;
    let mut client = edge.raw("alice").await;
    let subscribe = |number: usize| {
        json!({ "type": "subscribe", "id": number, "channel": format!("chat.{number}") }).to_string()
    };
    let mut refused = 0;
    for block in 0..ASKED / 1000 {
        let messages = (block * 1000..(block + 1) * 1000).map(|number| raw::text(&subscribe(number)));
        client.send(&messages.collect::<Vec<_>>().concat()).await;
        let mut answers = 0;
        while answers < 1000 {
            let answer = client.message().await;
            answers += 1;
            match answer["type"].as_str().unwrap() {
                "subscribed" => assert!(answer["id"].as_u64().unwrap() < 100, "{answer}"),
                _ => {
                    assert_eq!(answer["code"], "limit_exceeded", "{answer}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!(refused, ASKED - 100);
    assert_eq!(edge.nats.subscriptions("chat.").await, 100);
    // Unsubscribing makes room for another subscription.
    client.send(&raw::text(r#"{"type":"unsubscribe","channel":"chat.7"}"#)).await;
    assert_eq!(client.message().await["type"], "unsubscribed");
    client.send(&raw::text(r#"{"type":"subscribe","channel":"chat.again"}"#)).await;
    assert_eq!(client.message().await["type"], "subscribed");
    drop(client);
    assert_no_subscription(&edge).await;
}

#[tokio::test]
async fn ex_02_one_message_with_too_many_channels_gets_the_limit_and_one_error() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    let channels: Vec<_> = (0..5000).map(|number| format!("chat.{number}")).collect();
    client.send(&json!({ "type": "subscribe", "id": 1, "channels": channels })).await;
    assert_eq!(client.expect("error").await["code"], "limit_exceeded");
    for _ in 0..1000 {
        client.expect("subscribed").await;
    }
    assert_eq!(edge.nats.subscriptions("chat.").await, 1000);
    drop(client);
    assert_no_subscription(&edge).await;
}

#[tokio::test]
async fn ex_02_subjects_are_limited_in_length_and_tokens() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    let long = |bytes: usize| format!("chat.{}", "a".repeat(bytes - 5));
    let deep = |tokens: usize| format!("chat{}", ".a".repeat(tokens - 1));
    for channel in [long(256), deep(16), format!("{}.>", deep(15))] {
        client.subscribe(&channel).await;
    }
    for channel in [long(257), long(5000), deep(17), format!("{}.>", deep(16)), deep(1000)] {
        for kind in ["subscribe", "publish"] {
            client.send(&json!({ "type": kind, "id": 1, "channel": channel, "data": 1 })).await;
            let error = client.expect("error").await;
            assert_eq!(error["code"], "bad_channel", "{kind} {channel:.40}: {error:.300}");
        }
    }
    assert_eq!(edge.nats.subscriptions("chat.").await, 3);
}

#[tokio::test]
async fn ex_02_any_number_of_clients_share_one_nats_subscription() {
    const CLIENTS: usize = 2000;
    let edge = TestEdge::start().await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(edge.client(&format!("user-{number}")).await);
    }
    let per_shard: Vec<_> =
        edge.app.shards.iter().map(tidegate::shard::handle::ShardHandle::sockets).collect();
    assert_eq!(per_shard, [CLIENTS / 2, CLIENTS / 2]);
    for client in &mut clients {
        client.send(&json!({ "type": "subscribe", "channel": "chat.general" })).await;
    }
    for client in &mut clients {
        client.expect("subscribed").await;
    }
    assert_eq!(edge.nats.subscriptions("chat.").await, 1);
    edge.publish("chat.general", "1").await;
    edge.publish("chat.general", "2").await;
    for client in &mut clients {
        for data in [1, 2] {
            assert_eq!(client.expect("message").await["data"], data);
        }
    }
    drop(clients);
    assert_no_subscription(&edge).await;
}

#[tokio::test]
async fn ex_02_unsubscribing_during_a_subscribe_leaves_no_subscription_behind() {
    let edge = TestEdge::with(|config| {
        config.limits.commands_burst = 100_000;
        config.limits.inbound_burst_bytes = 16 << 20;
    })
    .await;
    let mut stays = edge.client("alice").await;
    stays.subscribe("chat.stays").await;
    for round in 0..5 {
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(edge.raw("alice").await);
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let messages = (0..100).flat_map(|number| {
                let channel = format!("chat.{}", (number + at * 50) % 200);
                let subscribe = json!({ "type": "subscribe", "channel": channel });
                let unsubscribe = json!({ "type": "unsubscribe", "channel": channel });
                // Leave during the join, and join again; later some clients unsubscribe, and some disconnect.
                let commands = [subscribe.clone(), unsubscribe.clone(), subscribe, unsubscribe];
                let count = if number % 3 == 0 { 3 } else { 4 };
                commands.into_iter().take(count).map(|command| raw::text(&command.to_string()))
            });
            client.send(&messages.collect::<Vec<_>>().concat()).await;
        }
        for client in &mut clients {
            let mut joined = 34;
            client.send(&raw::text(r#"{"type":"ping","id":"end"}"#)).await;
            let mut ended = false;
            while joined > 0 || !ended {
                let message = client.message().await;
                match message["type"].as_str().unwrap() {
                    "subscribed" => joined -= 1,
                    "unsubscribed" => {}
                    // The reply to a subscribe whose channel was left before it went live.
                    "error" if message["code"] == "not_subscribed" => {}
                    "pong" => ended = true,
                    _ => panic!("round {round}: {message}"),
                }
            }
        }
    }
    eventually("one subscription is left", || async { edge.nats.subscriptions("chat.").await == 1 }).await;
    edge.publish("chat.stays", "1").await;
    assert_eq!(stays.expect("message").await["data"], 1);
}

#[tokio::test]
async fn ex_02_a_nats_subscription_lingers_for_clients_that_reconnect() {
    let edge = TestEdge::with(|config| config.server.feed_linger = Duration::from_secs(3600)).await;
    let mut client = edge.client("alice").await;
    client.subscribe("prices.AAPL").await;
    edge.publish("prices.AAPL", "1").await;
    client.expect("message").await;
    drop(client);
    eventually("the socket is closed", || async { edge.app.shards.sockets() == 0 }).await;
    let (mut one, mut other) = edge.pair().await;
    for client in [&mut one, &mut other] {
        let subscribed = client.subscribe("prices.AAPL").await;
        assert_eq!(subscribed["snapshot"][0]["data"], 1, "the node still has the last value");
    }
    assert_eq!(edge.nats.subscriptions("prices.").await, 1);
}

#[tokio::test]
async fn subscribe_unsubscribe_subscribe_at_once_delivers_each_message_once() {
    let edge = TestEdge::start().await;
    let (mut one, mut other) = edge.pair().await;
    for client in [&mut one, &mut other] {
        for kind in ["subscribe", "unsubscribe", "subscribe"] {
            client.send(&json!({ "type": kind, "id": kind, "channel": "chat.general" })).await;
        }
    }
    for client in [&mut one, &mut other] {
        let mut kinds: Vec<Value> = Vec::new();
        while kinds.last().is_none_or(|kind| kind != "subscribed") || !kinds.contains(&json!("unsubscribed"))
        {
            kinds.push(client.next().await.unwrap()["type"].clone());
        }
    }
    for number in 0..10 {
        edge.publish("chat.general", number.to_string()).await;
    }
    for client in [&mut one, &mut other] {
        for number in 0..10 {
            assert_eq!(client.expect("message").await["data"], number);
        }
        assert!(client.so_far().await.is_empty());
    }
}

#[tokio::test]
async fn hundreds_of_messages_in_one_write_are_all_answered() {
    let edge = TestEdge::with(|config| config.limits.commands_per_s = 500).await;
    let (service, mut requested) = edge.nats.subscribe("svc.quotes").await;
    tokio::spawn(async move {
        while let Some(message) = requested.next().await {
            service.publish(message.reply.unwrap(), message.payload).await.unwrap();
        }
    });
    let subscribes =
        (0..300).map(|id| json!({"type": "subscribe", "id": id, "channel": format!("chat.{id}")}));
    let requests =
        (0..40).map(|id| json!({"type": "request", "id": id, "channel": "svc.quotes", "data": id}));
    let publishes =
        (0..37).map(|id| json!({"type": "publish", "id": id, "channel": "chat.general", "data": id}));
    let pings = (0..100).map(|id| json!({"type": "ping", "id": id}));
    let writes = [
        (subscribes.collect::<Vec<_>>(), "subscribed"),
        (requests.collect(), "reply"),
        (publishes.collect(), "published"),
        (pings.collect(), "pong"),
    ];
    for (messages, answer) in writes {
        let mut client = edge.raw("alice").await;
        let bytes: Vec<_> = messages.iter().map(|message| raw::text(&message.to_string())).collect();
        client.send(&bytes.concat()).await;
        let mut ids: Vec<_> = Vec::new();
        for _ in &messages {
            let message = client.message().await;
            assert_eq!(message["type"], answer, "{message}");
            ids.push(message["id"].as_u64().unwrap());
        }
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(0..messages.len() as u64), "{answer}: each gets one reply");
    }
}

#[tokio::test]
async fn commands_above_the_rate_are_delayed_and_delivery_continues() {
    let edge = TestEdge::with(|config| {
        config.limits.commands_per_s = 1;
        config.limits.commands_burst = 3;
    })
    .await;
    let mut client = edge.raw("alice").await;
    let ping = |id: u32| raw::text(&json!({"type": "ping", "id": id}).to_string());
    let subscribe = raw::text(r#"{"type":"subscribe","channel":"chat.general"}"#);
    client.send(&[subscribe, ping(1), ping(2), ping(3), ping(4)].concat()).await;
    let mut kinds: Vec<_> = Vec::new();
    for _ in 0..3 {
        kinds.push(client.message().await["type"].as_str().unwrap().to_owned());
    }
    kinds.sort_unstable();
    assert_eq!(kinds, ["pong", "pong", "subscribed"]);
    edge.publish("chat.general", "1").await;
    assert_eq!(client.message().await["data"], 1, "the third ping is not read yet");
    for id in [3, 4] {
        assert_eq!(client.message().await["id"], id);
    }
    // A control frame is answered after the messages before it, and the session continues.
    client.send(&[ping(5), raw::frame(0x89, b"there?")].concat()).await;
    assert_eq!(client.message().await["id"], 5);
}

#[tokio::test]
async fn too_many_bytes_end_the_session_with_a_hint_when_to_reconnect() {
    let edge = TestEdge::with(|config| {
        config.limits.inbound_bytes_per_s = 1024;
        config.limits.inbound_burst_bytes = 65_536;
    })
    .await;
    let mut client = edge.raw("alice").await;
    let long = json!({"type": "ping", "id": 1, "padding": "x".repeat(60_000)}).to_string();
    client.send(&[raw::text(&long), raw::text(&long)].concat()).await;
    let close = loop {
        let message = client.message().await;
        if message["type"] == "close" {
            break message;
        }
    };
    assert_eq!((&close["code"], &close["retry_after_ms"]), (&json!(4029), &json!(5000)));
}

/// A node on threads with small stacks, whose lanes have the smallest request queue (64).
#[tokio::test]
async fn ex_03_thousands_of_subscriptions_at_once_overflow_no_stack_or_queue() {
    const CHANNELS: usize = 8193;
    let edge = TestEdge::with_small_stacks(|config| {
        config.limits.lane_requests = 64;
        config.limits.subscriptions = 10_000;
        config.limits.commands_per_s = 100_000;
        config.limits.commands_burst = 1_000_000;
        config.limits.max_message_bytes = 1 << 20;
        config.limits.inbound_burst_bytes = 16 << 20;
        config.limits.outbox_frames = 1_000_000;
        config.limits.outbox_bytes = 256 << 20;
        // The node needs longer for these messages. That is not the client's fault.
        config.limits.fragment_timeout = Duration::from_secs(1);
    })
    .await;
    let channels: Vec<_> = (0..CHANNELS).map(|number| format!("chat.{number}")).collect();
    let subscribe = json!({ "type": "subscribe", "channels": channels }).to_string();
    let mut client = edge.raw("alice").await;
    client.send(&raw::text(&subscribe)).await;
    for _ in 0..CHANNELS {
        assert_eq!(client.message().await["type"], "subscribed");
    }
    // Repeatedly: each client leaves before most of its joins are done.
    let unsubscribe = json!({ "type": "unsubscribe", "channels": channels }).to_string();
    let mut other = edge.raw("bob").await;
    let storm: Vec<_> = (0..18).flat_map(|_| [raw::text(&subscribe), raw::text(&unsubscribe)]).collect();
    other.send(&storm.concat()).await;
    other.send(&raw::text(r#"{"type":"ping","id":"end"}"#)).await;
    while other.message().await["id"] != "end" {}
    edge.publish("chat.8192", "1").await;
    // On a slow machine there is a ping in front of it.
    let next = match client.message().await {
        message if message["type"] == "ping" => client.message().await,
        message => message,
    };
    assert_eq!(next["data"], 1);
}

#[tokio::test]
async fn subscribing_again_loses_no_message_held_back_by_max_rate() {
    let edge =
        TestEdge::with(|config| config.classes.iter_mut().for_each(|class| class.snapshot = false)).await;
    let subject = |class| edge.subjects_of(0, class).next().unwrap();
    let (price, chat) = (subject("prices"), subject("chat"));
    let mut client = edge.client("alice").await;
    client.subscribe(&chat).await;
    let subscribe = json!({ "type": "subscribe", "id": 1, "channel": price, "max_rate_ms": 60_000 });
    client.send(&subscribe).await;
    client.expect("subscribed").await;
    for number in 1..=4 {
        edge.publish(&price, number.to_string()).await;
    }
    assert_eq!(client.expect("message").await["data"], 1, "the others are held back for a minute");
    // Messages on the same connection arrive in order.
    edge.publish(&chat, "\"behind\"").await;
    assert_eq!(client.expect("message").await["data"], "behind");
    client.send(&subscribe).await;
    assert_eq!(
        client.expect("message").await["data"],
        4,
        "the newest comes before the new subscription is live"
    );
    client.expect("subscribed").await;
}

#[tokio::test]
async fn a_dead_socket_with_pending_requests_is_released() {
    let edge = TestEdge::with(|config| config.limits.connections_per_user = 1).await;
    let (_nats, _silent) = edge.nats.subscribe("svc.silent").await;
    for _ in 0..5 {
        let mut client = edge.raw("alice").await;
        let ask = json!({ "type": "request", "channel": "svc.silent", "data": 1, "timeout_ms": 30_000 });
        client.send(&[raw::text(&ask.to_string()), raw::text(r#"{"type":"ping"}"#)].concat()).await;
        assert_eq!(client.message().await["type"], "pong");
        drop(client);
        eventually("its place is free", || async { edge.app.shards.sockets() == 0 }).await;
    }
}

const STILL_OPEN: &str = r#"{"type":"subscribe","channel":"chat.still-open"}"#;

/// Each limit of a socket: what it permits, what is one more, and the code that ends the session then.
fn pairs() -> [(&'static str, Vec<u8>, Vec<u8>, u16); 5] {
    let message = |bytes: usize| {
        let text = json!({ "type": "ping", "x": "" }).to_string();
        raw::text(&text.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - text.len()))))
    };
    let fragments = |frames: usize| {
        let text = r#"{"type":"ping"}"#;
        let more = [raw::frame(0x00, b"").repeat(frames - 2), raw::frame(0x80, b"")].concat();
        [raw::frame(0x01, text.as_bytes()), more].concat()
    };
    let pings = |count: usize| raw::frame(0x89, b"").repeat(count);
    let errors = |count: usize| raw::text("[]").repeat(count);
    // A message and the rest of the burst, with 14 bytes for the header of each frame.
    let bytes = |bytes: usize| [message(50_000), raw::text(&" ".repeat(bytes - 50_000 - 2 * 14))].concat();
    [
        ("limits.max_message_bytes", message(65_536), message(65_537), 1009),
        ("limits.max_fragments", fragments(256), fragments(257), 1008),
        ("limits.control_frames_burst", pings(50), pings(51), 1008),
        ("limits.max_errors", errors(20), errors(21), 4509),
        // The surplus is more than the rate permits in ten seconds.
        ("limits.inbound_burst_bytes", bytes(80_000 - STILL_OPEN.len() - 6), bytes(80_000 + 10 * 1024), 4029),
    ]
}

#[tokio::test]
async fn ex_02_a_limit_of_a_socket_permits_its_value_and_not_one_more() {
    let edge = TestEdge::with(|config| {
        config.limits.control_frames_per_s = 1;
        config.limits.inbound_bytes_per_s = 1024;
        config.limits.inbound_burst_bytes = 80_000;
    })
    .await;
    let mut healthy = edge.client("bob").await;
    for (limit, permitted, surplus, expected) in pairs() {
        let mut client = edge.raw("alice").await;
        client.send(&[permitted, raw::text(STILL_OPEN)].concat()).await;
        let is_open = async |client: &mut raw::RawClient| loop {
            let frame = client.frame().await.unwrap_or_else(|| panic!("{limit}: closed"));
            assert_eq!(frame.close_code(), None, "{limit}");
            if frame.opcode == 1 && frame.message().starts_with(br#"{"type":"subscribed""#) {
                return;
            }
        };
        is_open(&mut client).await;
        let mut client = edge.raw("alice").await;
        client.send(&surplus).await;
        let code = loop {
            let frame = client.frame().await.unwrap_or_else(|| panic!("{limit}: no close frame"));
            if let Some(code) = frame.close_code() {
                break code;
            }
        };
        assert_eq!(code, expected, "{limit}");
    }
    assert!(healthy.so_far().await.is_empty());
}
