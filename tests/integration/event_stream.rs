//! Server-Sent Events: the session and outbox of a WebSocket, over an HTTP response.

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::flood::flood;
use crate::support::flood::read_flood;
use crate::support::raw::RawClient;
use crate::support::within;

/// An HTTP response that is read event by event.
struct Events {
    stream: TcpStream,
    head: String,
    read: Vec<u8>,
    /// The bytes of the body's chunks that are not consumed yet.
    body: String,
    is_over: bool,
}

impl Events {
    async fn open(stream: TcpStream, query: &str, token: Option<&str>) -> Self {
        let mut events =
            Self { stream, head: String::new(), read: Vec::new(), body: String::new(), is_over: false };
        let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET /sse{query} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n");
        events.stream.write_all(request.as_bytes()).await.unwrap();
        events.head = events.line("\r\n\r\n").await;
        events
    }

    /// The text up to `end`, which is consumed as well.
    async fn line(&mut self, end: &str) -> String {
        loop {
            let found = self.read.windows(end.len()).position(|bytes| bytes == end.as_bytes());
            if let Some(at) = found {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            let count = within("bytes", self.stream.read_buf(&mut self.read)).await.unwrap();
            assert!(count > 0, "the connection ended instead of {end:?}");
        }
    }

    /// The next event or comment; `None` at the end of the body.
    async fn event(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.body.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.body = rest;
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            let size = usize::from_str_radix(self.line("\r\n").await.trim(), 16).unwrap();
            while self.read.len() < size + 2 {
                within("a chunk", self.stream.read_buf(&mut self.read)).await.unwrap();
            }
            let rest = self.read.split_off(size + 2);
            let chunk = std::mem::replace(&mut self.read, rest);
            self.body.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
            self.is_over = size == 0;
        }
    }

    /// The next message.
    async fn message(&mut self) -> Option<Value> {
        loop {
            let event = self.event().await?;
            if event == ":" {
                continue;
            }
            let lines: Vec<_> = event.lines().map(|line| line.strip_prefix("data: ").unwrap()).collect();
            return Some(serde_json::from_str(&lines.join("\n")).unwrap());
        }
    }

    async fn expect(&mut self, kind: &str) -> Value {
        let message = self.message().await.unwrap();
        assert_eq!(message["type"], kind, "{message}");
        message
    }
}

async fn open(edge: &TestEdge, query: &str, user: &str) -> Events {
    let stream = TcpStream::connect(edge.address()).await.unwrap();
    Events::open(stream, query, Some(&token(user))).await
}

#[tokio::test]
async fn a_stream_sends_the_same_messages_as_a_websocket() {
    let edge = TestEdge::start().await;
    let mut events = open(&edge, "?channel=prices.AAPL&channel=admin.users&channel=chat.*", "alice").await;
    assert!(events.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", events.head);
    assert!(events.head.contains("content-type: text/event-stream\r\n"), "{}", events.head);
    events.expect("connected").await;
    let refused = events.expect("error").await;
    assert_eq!((&refused["code"], &refused["channel"]), (&json!("forbidden"), &json!("admin.users")));
    let mut joined = [events.expect("subscribed").await, events.expect("subscribed").await]
        .map(|reply| reply["channel"].as_str().unwrap().to_owned());
    joined.sort();
    assert_eq!(joined, ["chat.*", "prices.AAPL"]);
    let nats = edge.nats.client().await;
    nats.publish("prices.AAPL", "{\n \"price\": 1\r}".into()).await.unwrap();
    nats.publish("chat.room", "hello".into()).await.unwrap();
    let received = [events.expect("message").await, events.expect("message").await];
    let data: Vec<_> = ["prices.AAPL", "chat.*"]
        .iter()
        .map(|channel| received.iter().find(|message| message["channel"] == *channel).unwrap())
        .collect();
    assert_eq!((&data[0]["data"], &data[1]["data"]), (&json!({ "price": 1 }), &json!("hello")));
}

#[tokio::test]
async fn a_stream_is_counted_drained_and_closed_like_any_connection() {
    let edge = TestEdge::start().await;
    let mut gone = open(&edge, "?channel=prices.AAPL", "alice").await;
    gone.expect("connected").await;
    let mut stays = open(&edge, "?channel=prices.AAPL", "alice").await;
    stays.expect("connected").await;
    stays.expect("subscribed").await;
    assert_eq!(edge.app.shards.sockets(), 2);
    drop(gone);
    eventually("the closed stream is released", || async { edge.app.shards.sockets() == 1 }).await;
    let (_, ()) = tokio::join!(edge.app.drain(), async {
        let close = stays.expect("close").await;
        assert_eq!(close["reason"], "going_away", "{close}");
        assert_eq!(stays.message().await, None, "the body has ended");
    });
}

#[tokio::test]
async fn a_stream_without_a_reader_has_a_bounded_outbox_and_gets_a_gap() {
    let edge = TestEdge::with(|config| {
        config.limits.outbox_bytes = 256 * 1024;
        config.limits.send_buffer_bytes = 16 * 1024;
        config.classes.push(Class { kind: Kind::Buffer, ..class("chat.>") });
    })
    .await;
    let small = RawClient::connect_small(&edge.address()).await.stream;
    let mut sleeper = Events::open(small, "?channel=chat.room", Some(&token("alice"))).await;
    sleeper.expect("connected").await;
    sleeper.expect("subscribed").await;
    let mut healthy = edge.client("bob").await;
    healthy.subscribe("chat.room").await;
    flood(&edge, "chat.room", 600, &mut healthy).await;
    let missed = read_flood(600, async || sleeper.message().await.unwrap()).await;
    assert!(missed > 0, "it has read all");
}

#[tokio::test]
async fn a_rejected_stream_gets_the_reason() {
    let edge = TestEdge::start().await;
    for (query, token, status, code) in [
        ("?channel=prices.AAPL", None, "401", "unauthorized"),
        ("?channel=prices.AAPL", Some("no.token.this"), "401", "invalid_token"),
        ("", Some("any"), "400", "bad_request"),
        (&*format!("?{}", ["channel=a"; 65].join("&")), Some("any"), "400", "bad_request"),
    ] {
        let stream = TcpStream::connect(edge.address()).await.unwrap();
        let mut events = Events::open(stream, query, token).await;
        assert!(events.head.starts_with(&format!("HTTP/1.1 {status} ")), "{query}: {}", events.head);
        let body = events.line("}").await;
        assert!(body.contains(code), "{query}: {body}");
    }
}
