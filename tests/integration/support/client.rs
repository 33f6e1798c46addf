//! A well-behaved client: one WebSocket with JSON messages.

use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::raw::RawClient;
use crate::support::secrets;
use crate::support::within;

/// The stream of a WebSocket: plain or TLS.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A client of the native protocol.
pub(crate) struct Client {
    socket: WebSocketStream<Box<dyn Bytes>>,
    /// The close code of the server, once it has closed.
    pub(crate) closed: Option<u16>,
    /// The reason in the close frame of the server.
    pub(crate) close_reason: Option<String>,
    /// The shard that serves it, from the id of its session.
    pub(crate) shard: usize,
    requests: u64,
}

impl Client {
    /// Connects with a token in the `Authorization` header, and reads `connected`.
    pub(crate) async fn connect(address: &str, token: &str) -> Self {
        Self::open(address, "/ws", Some(token)).await.greeted().await
    }

    /// Connects with a small receive buffer, so that unread data stays at the server.
    pub(crate) async fn connect_small(address: &str, token: &str) -> Self {
        Self::connect_over(RawClient::connect_small(address).await.stream, token).await
    }

    /// Connects over a stream that is already open.
    pub(crate) async fn connect_over(stream: impl Bytes + 'static, token: &str) -> Self {
        let bearer = format!("Bearer {token}");
        Self::open_over(stream, "localhost", "/ws", &[("authorization", &bearer)]).await.greeted().await
    }

    /// Connects, with a token or without.
    pub(crate) async fn open(address: &str, path: &str, token: Option<&str>) -> Self {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        Self::open_with(address, path, &headers).await
    }

    /// Connects with these headers.
    pub(crate) async fn open_with(address: &str, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        Self::open_over(stream, address, path, headers).await
    }

    async fn open_over(
        stream: impl Bytes + 'static,
        address: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Self {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream: Box<dyn Bytes> = Box::new(stream);
        let handshake = tokio_tungstenite::client_async(request, stream);
        let (socket, _) = within("a handshake", handshake).await.unwrap();
        Self { socket, closed: None, close_reason: None, shard: 0, requests: 0 }
    }

    async fn greeted(mut self) -> Self {
        let connected = self.expect("connected").await;
        let shard = connected["session"].as_str().unwrap().split('-').nth(1).unwrap();
        self.shard = usize::from_str_radix(shard, 16).unwrap();
        self
    }

    /// Sends one message.
    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    /// Sends one message as text.
    pub(crate) async fn send_text(&mut self, text: &str) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    /// Subscribes and returns `subscribed`.
    pub(crate) async fn subscribe(&mut self, channel: &str) -> Value {
        self.requests += 1;
        self.send(&json!({ "type": "subscribe", "id": self.requests, "channel": channel })).await;
        let reply = self.expect("subscribed").await;
        assert_eq!(reply["channel"], channel);
        reply
    }

    /// The next message except pings, which are answered; `None` once the server has closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            match within("a message", self.socket.next()).await? {
                Ok(Message::Text(text)) => {
                    secrets::assert_none_in(&text);
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] != "ping" {
                        return Some(message);
                    }
                    self.send(&json!({ "type": "pong" })).await;
                }
                Ok(Message::Close(close)) => {
                    self.closed = close.as_ref().map(|close| close.code.into());
                    self.close_reason = close.map(|close| close.reason.to_string());
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next message, which must be of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let message =
            self.next().await.unwrap_or_else(|| panic!("closed ({:?}) instead of {kind}", self.closed));
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// All messages up to the first of this type.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            let message =
                self.next().await.unwrap_or_else(|| panic!("closed ({:?}) before {kind}", self.closed));
            let found = message["type"] == kind;
            messages.push(message);
            if found {
                return messages;
            }
        }
    }

    /// All messages until the server closes, and the close code.
    pub(crate) async fn until_closed(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            messages.push(message);
        }
        (messages, self.closed)
    }

    /// The messages that arrive before the answer to a ping. Proves that there are no others.
    pub(crate) async fn so_far(&mut self) -> Vec<Value> {
        self.send(&json!({ "type": "ping" })).await;
        let mut messages = self.until("pong").await;
        messages.pop();
        messages
    }
}
