//! Sessions of clients that make no mistake, or few.

use serde_json::Value;
use serde_json::json;

use crate::regressions::names;
use crate::regressions::prices;
use crate::support::client::Client;
use crate::support::dialect::Dialect;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;

#[tokio::test]
async fn c_01_subscribing_twice_to_25_channels_does_not_end_the_session() {
    let edge = TestEdge::start().await;
    let mut client = edge.client("alice").await;
    for _ in 0..2 {
        for channel in names("chat.c", 0..25) {
            client.subscribe(&channel).await;
        }
    }
    for _ in 0..2 {
        for channel in names("chat.c", 0..25) {
            client.send(&json!({ "type": "unsubscribe", "id": 1, "channel": channel })).await;
            assert_eq!(client.expect("unsubscribed").await["channel"], channel);
        }
    }
}

#[tokio::test]
async fn c_01_a_list_with_22_invalid_symbols_counts_as_one_error() {
    let edge = TestEdge::with(|config| Dialect::StockAgent.configure(config)).await;
    let authorization = format!("Bearer {}", token("alice"));
    let mut page = Client::open_with(&edge.address(), "/ws/page", &[("authorization", &authorization)]).await;
    page.expect("connected").await;
    let mut symbols: Vec<_> = (0..22).map(|number| format!("RELIANCE{number}.NS")).collect();
    symbols.push("AAPL".to_owned());
    for _ in 0..5 {
        page.send_text(&prices("subscribe", &symbols)).await;
    }
    page.so_far().await;
    page.send_text(&prices("subscribe", &["MSFT".to_owned()])).await;
    page.so_far().await;
    assert_eq!(page.closed, None);
}

/// Sends all messages in one write. Returns the replies, ordered by id.
async fn in_one_write(client: &mut RawClient, messages: &[Value]) -> Vec<Value> {
    let bytes: Vec<u8> = messages.iter().flat_map(|message| raw::text(&message.to_string())).collect();
    client.send(&bytes).await;
    let mut answers = vec![Value::Null; messages.len()];
    for _ in 0..messages.len() {
        let answer = client.message().await;
        let id = usize::try_from(answer["id"].as_u64().unwrap_or_else(|| panic!("{answer}"))).unwrap();
        answers[id] = answer;
    }
    answers
}

#[tokio::test]
async fn c_01_hundreds_of_messages_in_the_first_write_are_all_answered() {
    let edge = TestEdge::start().await;
    let (nats, mut requests) = edge.nats.subscribe("svc.echo").await;
    tokio::spawn(async move {
        use futures_util::StreamExt as _;
        while let Some(request) = requests.next().await {
            nats.publish(request.reply.unwrap(), request.payload).await.unwrap();
        }
    });
    let subscribe = |id: usize| json!({ "type": "subscribe", "id": id, "channel": format!("chat.c{id}") });
    let request = |id: usize| json!({ "type": "request", "id": id, "channel": "svc.echo", "data": id });
    let publish = |id: usize| json!({ "type": "publish", "id": id, "channel": "chat.x", "data": id });
    let requested: [(&str, Vec<Value>); 3] = [
        ("subscribed", (0..300).map(subscribe).collect()),
        ("reply", (0..40).map(request).collect()),
        ("published", (0..37).map(publish).collect()),
    ];
    for (expected, messages) in requested {
        let mut client = edge.raw("alice").await;
        for answer in in_one_write(&mut client, &messages).await {
            assert_eq!(answer["type"], expected, "{answer}");
        }
    }
}

#[tokio::test]
async fn c_02_a_token_that_has_just_expired_is_rejected_in_the_handshake() {
    let edge = TestEdge::start().await;
    let now =
        std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let token = crate::support::edge::token_with(&json!({ "exp": now - 2 }));
    let answer = ask(&edge.address(), handshake("/ws", &format!("Authorization: Bearer {token}\r\n"))).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert!(answer.body.contains("expired"), "{answer:?}");
}

#[tokio::test]
async fn c_03_a_reloaded_page_gets_the_only_connection_of_its_user() {
    let edge = TestEdge::with(|config| config.limits.connections_per_user = 1).await;
    let authorization = format!("Authorization: Bearer {}\r\n", token("alice"));
    let mut page: Option<RawClient> = None;
    for reload in 0..30 {
        if let Some(mut gone) = page.take() {
            gone.send(&raw::frame(0x88, &1001_u16.to_be_bytes())).await;
        }
        let mut fresh = RawClient::connect(&edge.address()).await;
        fresh.send(&handshake("/ws", &authorization)).await;
        let head = fresh.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "reload {reload}: {head}");
        page = Some(fresh);
    }
}
