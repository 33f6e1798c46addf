//! A client gets the same bytes in the same order, whether its subscriptions are live or held.

use serde_json::json;

use crate::support::edge::TestEdge;
use crate::support::raw;
use crate::support::raw::RawFrame;

/// The frames of clients on both shards in one scenario: first two without compression, then two with it.
async fn conversation(hold: bool) -> Vec<Vec<RawFrame>> {
    let edge = TestEdge::with_options(|_| {}, hold).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(edge.raw("alice").await);
    }
    for _ in 0..2 {
        clients.push(edge.deflating("alice").await);
    }
    let mut seen = vec![Vec::new(); clients.len()];
    for channel in ["chat.a", "chat.*", "prices.A"] {
        for (client, seen) in clients.iter_mut().zip(&mut seen) {
            let subscribe = json!({ "type": "subscribe", "id": channel, "channel": channel });
            client.send(&raw::text(&subscribe.to_string())).await;
            seen.push(client.frame().await.expect("subscribed"));
        }
    }
    let nats = edge.nats.client().await;
    let mut sent = 0;
    for number in 0..30 {
        for subject in ["chat.a", "chat.b", "prices.A"] {
            // Every third is long enough to be compressed.
            let words = if number % 3 == 0 { "and on ".repeat(100) } else { String::new() };
            let payload = json!({ "n": number, "words": words });
            nats.publish(subject, payload.to_string().into()).await.unwrap();
            nats.flush().await.unwrap();
            sent += if subject == "chat.a" { 2 } else { 1 };
        }
    }
    for (client, seen) in clients.iter_mut().zip(&mut seen) {
        while seen.iter().filter(|frame| frame.opcode == 1).count() < sent + 3 {
            seen.push(client.frame().await.expect("a message"));
        }
    }
    seen
}

/// The frame without the time, which differs between runs.
fn without_time(frame: &RawFrame) -> (u8, String) {
    let text = String::from_utf8(frame.message()).unwrap();
    match text.find("\"time\":\"") {
        Some(at) => (frame.opcode, format!("{}{}", &text[..at + 8], &text[at + 8 + 24..])),
        None => (frame.opcode, text),
    }
}

/// Frames are in order within a channel. Channels may be on different lanes, so their relative order is undefined.
fn by_channel<T>(frames: &[RawFrame], seen: impl Fn(&RawFrame) -> T) -> Vec<T> {
    let channel = |frame: &&RawFrame| {
        let message: serde_json::Value = serde_json::from_slice(&frame.message()).unwrap();
        message["channel"].as_str().unwrap_or_default().to_owned()
    };
    let mut frames: Vec<_> = frames.iter().collect();
    frames.sort_by_key(channel);
    frames.into_iter().map(seen).collect()
}

#[tokio::test]
async fn all_clients_of_a_channel_get_the_same_bytes() {
    let live = conversation(false).await;
    let held = conversation(true).await;
    let expected = by_channel(&live[0], without_time);
    assert_eq!(expected.len(), 3 + 30 * 4);
    for frames in live.iter().chain(&held) {
        assert_eq!(by_channel(frames, without_time), expected);
    }
    for run in [live, held] {
        let count = |frames: &[RawFrame]| frames.iter().filter(|frame| frame.deflated).count();
        assert_eq!(run.iter().map(|frames| count(frames)).collect::<Vec<_>>(), [0, 0, 40, 40]);
        // Within one run of the test, even the times are equal.
        assert_eq!(by_channel(&run[0], RawFrame::clone), by_channel(&run[1], RawFrame::clone));
        assert_eq!(by_channel(&run[2], RawFrame::clone), by_channel(&run[3], RawFrame::clone));
    }
}
