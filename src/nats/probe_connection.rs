//! `ProbeConnection`: a connection for a few questions, one after the other, that shows every denial of the server.

use std::fmt;
use std::future::poll_fn;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::config::nats::login::NatsLogin;
use crate::nats::connect::ServerConnection;
use crate::nats::info::ServerInfo;
use crate::nats::login;
use crate::nats::message::Message;
use crate::nats::permissions::USER_INFO;
use crate::nats::permissions::UserInfo;
use crate::nats::wire::ServerOp;
use crate::nats::wire::WireParser;

/// How long a server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How much to read at a time.
const READ_BYTES: usize = 16 * 1024;
/// A header block without headers.
pub(super) const NO_HEADERS: &str = "NATS/1.0\r\n\r\n";
/// The status of a request to which no one is subscribed.
const NO_RESPONDERS: &[u8] = b"503";

/// A connection that is logged in.
pub(super) struct ProbeConnection {
    server: ServerConnection,
    wire: WireParser,
    buffer: BytesMut,
    subscriptions: u64,
}

/// What arrived before the `PONG`.
#[derive(Default)]
struct Replies {
    errors: Vec<String>,
    messages: Vec<Message>,
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum RequestOutcome {
    Reply(Message),
    /// The server denied the request or the subscription to its reply, for this reason.
    Denied(String),
    NoResponders,
    NoReply,
}

impl fmt::Debug for ProbeConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ProbeConnection").field("server", &self.server.info).finish_non_exhaustive()
    }
}

impl ProbeConnection {
    /// Logs in. `name` is what the server shows for the connection. An error is the server's reason.
    pub(super) async fn log_in(
        mut server: ServerConnection,
        login: &NatsLogin,
        name: &str,
    ) -> Result<Self, String> {
        let connect = login::connect_command(login, name, &server.info.nonce, server.socket.is_tls());
        let connect = connect.map_err(|error| error.to_string())?;
        let buffer = std::mem::take(&mut server.unread);
        let mut connection = Self { server, wire: WireParser::default(), buffer, subscriptions: 0 };
        connection.send(&connect).await?.map_or(Ok(connection), Err)
    }

    pub(super) fn server(&self) -> &ServerInfo {
        &self.server.info
    }

    pub(super) fn is_tls(&self) -> bool {
        self.server.socket.is_tls()
    }

    /// Sends these commands. Returns the first error of the server, if any.
    pub(super) async fn send(&mut self, commands: &[u8]) -> Result<Option<String>, String> {
        Ok(self.send_and_flush(commands).await?.errors.into_iter().next())
    }

    /// Subscribes and unsubscribes at once. Returns the server's error, if any.
    pub(super) async fn subscribe_error(&mut self, pattern: &str) -> Result<Option<String>, String> {
        self.subscriptions += 1;
        let sid = self.subscriptions;
        self.send(format!("SUB {pattern} {sid}\r\nUNSUB {sid}\r\n").as_bytes()).await
    }

    /// Publishes an empty message with this header block. Returns the server's error, if any.
    pub(super) async fn publish_error(
        &mut self,
        subject: &str,
        headers: &str,
    ) -> Result<Option<String>, String> {
        let size = headers.len();
        self.send(format!("HPUB {subject} {size} {size}\r\n{headers}\r\n").as_bytes()).await
    }

    /// Sends a request and waits for one reply, at a new subject below `inbox_prefix`.
    pub(super) async fn request(
        &mut self,
        inbox_prefix: &str,
        subject: &str,
        data: &str,
    ) -> Result<RequestOutcome, String> {
        self.subscriptions += 1;
        let (sid, size) = (self.subscriptions, data.len());
        let inbox = format!("{inbox_prefix}.probe-{}-{sid}", std::process::id());
        let commands = format!("SUB {inbox} {sid}\r\nPUB {subject} {inbox} {size}\r\n{data}\r\n");
        let replies = self.send_and_flush(commands.as_bytes()).await?;
        if let Some(reason) = replies.errors.into_iter().next() {
            return Ok(RequestOutcome::Denied(reason));
        }
        let reply = match replies.messages.into_iter().next() {
            Some(reply) => Some(reply),
            None => self.next_message().await?,
        };
        self.send(format!("UNSUB {sid}\r\n").as_bytes()).await?;
        Ok(match reply {
            None => RequestOutcome::NoReply,
            Some(reply) if reply.status() == Some(NO_RESPONDERS) => RequestOutcome::NoResponders,
            Some(reply) => RequestOutcome::Reply(reply),
        })
    }

    /// The permissions of this connection's user; `None` if it may not ask for them.
    pub(super) async fn user_info(&mut self, inbox_prefix: &str) -> Result<Option<UserInfo>, String> {
        Ok(match self.request(inbox_prefix, USER_INFO, "").await? {
            RequestOutcome::Reply(reply) => UserInfo::parse(&reply.payload()),
            RequestOutcome::Denied(_) | RequestOutcome::NoResponders | RequestOutcome::NoReply => None,
        })
    }

    /// The next message; `None` if none arrives in time.
    async fn next_message(&mut self) -> Result<Option<Message>, String> {
        let until = Instant::now() + TIMEOUT / 2;
        loop {
            match tokio::time::timeout_at(until, self.next()).await {
                Err(_) => return Ok(None),
                Ok(Ok(ServerOp::Message(_, message))) => return Ok(Some(message)),
                Ok(Ok(ServerOp::Error(reason))) => return Err(reason),
                Ok(Ok(
                    ServerOp::Info(_)
                    | ServerOp::Malformed(_)
                    | ServerOp::Ping
                    | ServerOp::Pong
                    | ServerOp::Ok,
                )) => {}
                Ok(Err(reason)) => return Err(reason),
            }
        }
    }

    /// Sends these bytes and a `PING`, and reads until the `PONG`.
    async fn send_and_flush(&mut self, bytes: &[u8]) -> Result<Replies, String> {
        let exchange = async {
            let whole = [bytes, b"PING\r\n"].concat();
            let mut sent = 0;
            while sent < whole.len() {
                let socket = &mut self.server.socket;
                let wrote = poll_fn(|context| socket.poll_write(context, &whole[sent..])).await;
                sent += wrote.map_err(|error| error.to_string())?;
            }
            let socket = &mut self.server.socket;
            poll_fn(|context| socket.poll_flush(context)).await.map_err(|error| error.to_string())?;
            self.read_until_pong().await
        };
        timeout(TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err("the server did not answer in time".to_owned()))
    }

    async fn read_until_pong(&mut self) -> Result<Replies, String> {
        let mut replies = Replies::default();
        loop {
            match self.next().await {
                Ok(ServerOp::Pong) => return Ok(replies),
                Ok(ServerOp::Error(reason)) => replies.errors.push(reason),
                Ok(ServerOp::Message(_, message)) => replies.messages.push(message),
                Ok(ServerOp::Info(_) | ServerOp::Malformed(_) | ServerOp::Ping | ServerOp::Ok) => {}
                // The server sends the reason before it closes.
                Err(reason) => return if replies.errors.is_empty() { Err(reason) } else { Ok(replies) },
            }
        }
    }

    async fn next(&mut self) -> Result<ServerOp, String> {
        loop {
            match self.wire.next(&mut self.buffer).map_err(|error| error.to_string())? {
                Some(op) => return Ok(op),
                None => {
                    self.buffer.reserve(READ_BYTES);
                    let (socket, buffer) = (&mut self.server.socket, &mut self.buffer);
                    let read = poll_fn(|context| socket.poll_read(context, buffer)).await;
                    if read.map_err(|error| error.to_string())? == 0 {
                        return Err("the server closed the connection".to_owned());
                    }
                }
            }
        }
    }
}
