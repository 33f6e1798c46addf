//! Replies to sockets above a limit: 503 or 429 to clients, and 200 to health checks, since the process is alive.

use std::collections::VecDeque;
use std::io;
use std::io::ErrorKind;
use std::io::Write as _;
use std::net::Shutdown;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use socket2::SockRef;
use tokio::sync::oneshot;
use tokio::time::timeout;
use warp::http::HeaderMap;

use crate::http::problem::Problem;
use crate::http::raw_response;
use crate::http::request_id;
use crate::net::socket::RegisteredSocket;
use crate::net::socket::Socket;

/// The reply to clients of a full node.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// The reply to `/healthz`: the process is alive, and restarting it would not help.
const ALIVE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
                       connection: close\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";
/// The reply on a TLS listener: a fatal alert, `internal_error` (RFC 8446 §6). It is sent without a TLS handshake,
/// to save its CPU time.
const TLS_ALERT: &[u8] = b"\x15\x03\x03\0\x02\x02\x50";
/// How long to wait for the first bytes of a client, and then for it to close.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What sockets of a listener are told before TLS and before their request is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BusyText {
    /// 503, or another problem, or 200 to a health check.
    Http,
    /// An alert, as the listener has TLS.
    Tls,
}

impl BusyText {
    /// The reply to a socket with this problem.
    pub fn rejection(self, problem: Problem) -> Bytes {
        match self {
            Self::Http => raw_response::error(problem, request_id::from_headers(&HeaderMap::new()), None),
            Self::Tls => Bytes::from_static(TLS_ALERT),
        }
    }
}

/// The replies in progress.
pub struct BusyReplies {
    text: BusyText,
    max: usize,
    pending: FuturesUnordered<BoxFuture<'static, ()>>,
    /// One for each reply, the oldest first. Dropping it replies at once and closes the socket.
    cancels: VecDeque<oneshot::Sender<()>>,
}

impl BusyReplies {
    /// At most `max` replies at the same time.
    pub fn new(text: BusyText, max: usize) -> Self {
        Self { text, max, pending: FuturesUnordered::new(), cancels: VecDeque::new() }
    }

    /// Starts one more reply: the node is busy. If there are too many, the oldest is cancelled.
    pub fn add(&mut self, socket: Socket) {
        let busy = match self.text {
            BusyText::Http => BUSY,
            BusyText::Tls => TLS_ALERT,
        };
        self.add_reply(socket, Bytes::from_static(busy));
    }

    /// Like [`BusyReplies::add`], with this problem.
    pub fn reject(&mut self, socket: Socket, problem: Problem) {
        let rejection = self.text.rejection(problem);
        self.add_reply(socket, rejection);
    }

    fn add_reply(&mut self, socket: Socket, busy: Bytes) {
        self.cancels.retain(|cancel| !cancel.is_closed());
        if self.cancels.len() >= self.max {
            drop(self.cancels.pop_front());
        }
        let (cancel, cancelled) = oneshot::channel();
        self.cancels.push_back(cancel);
        self.pending.push(Box::pin(reply_or_cancel(socket, self.text, busy, cancelled)));
    }

    /// Drives all replies until one of them is done; waits forever if there is none.
    pub async fn next_done(&mut self) {
        if self.pending.next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Drives all replies until they are done, and cancels those that are not done in time.
    pub async fn finish(mut self, within: Duration) {
        let all = async { while self.pending.next().await.is_some() {} };
        if timeout(within, all).await.is_err() {
            self.cancels.clear();
            while self.pending.next().await.is_some() {}
        }
    }
}

async fn reply_or_cancel(socket: Socket, text: BusyText, busy: Bytes, cancelled: oneshot::Receiver<()>) {
    let Ok(stream) = socket.register() else {
        return;
    };
    tokio::select! {
        biased;
        _ = cancelled => drop(write_and_shut_down(&stream, &busy)),
        () = reply(&stream, text, &busy) => {}
    }
}

async fn reply(stream: &RegisteredSocket, text: BusyText, busy: &[u8]) {
    let mut first = [0; 1024];
    let count = timeout(TIMEOUT, read(stream, &mut first)).await.unwrap_or(Ok(0)).unwrap_or(0);
    let answer = match text {
        BusyText::Http if asks_for_health(&first[..count]) => ALIVE,
        BusyText::Http | BusyText::Tls => busy,
    };
    if write_and_shut_down(stream, answer).is_err() {
        return;
    }
    // Closing with unread bytes would send a reset, and the client could lose the reply.
    let until_closed = async { while matches!(read(stream, &mut first).await, Ok(1..)) {} };
    let _ = timeout(TIMEOUT, until_closed).await;
}

/// Writes to the socket directly: tokio's `try_write` writes nothing before the reactor has seen the socket.
fn write_and_shut_down(stream: &RegisteredSocket, answer: &[u8]) -> io::Result<()> {
    let socket = SockRef::from(stream);
    (&*socket).write_all(answer)?;
    socket.shutdown(Shutdown::Write)
}

async fn read(stream: &RegisteredSocket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

fn asks_for_health(first: &[u8]) -> bool {
    [&b"GET /healthz "[..], b"HEAD /healthz "].iter().any(|line| first.starts_with(line))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    fn pair(listener: &TcpListener) -> (std::net::TcpStream, std::net::TcpStream) {
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (client, stream)
    }

    fn received(mut client: std::net::TcpStream) -> Vec<u8> {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    }

    #[tokio::test]
    async fn ex_01_a_client_above_the_limit_gets_503_whatever_it_has_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut busy_replies = BusyReplies::new(BusyText::Http, 16);
        let mut clients = Vec::new();
        for _ in 0..16 {
            let (mut client, stream) = pair(&listener);
            client.write_all(&[b'x'; 2000]).unwrap();
            busy_replies.add(Socket::Tcp(stream));
            client.write_all(b"more").unwrap();
            clients.push(client);
        }
        let received = tokio::task::spawn_blocking(|| clients.into_iter().map(received).collect::<Vec<_>>());
        let received = tokio::select! {
            received = received => received.unwrap(),
            () = async { loop { busy_replies.next_done().await } } => unreachable!(),
        };
        assert!(received.iter().all(|answer| answer == BUSY), "{received:?}");
    }

    #[tokio::test]
    async fn ex_01_a_client_whose_address_is_at_its_limit_gets_the_problem() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut busy_replies = BusyReplies::new(BusyText::Http, 16);
        let (mut client, stream) = pair(&listener);
        client.write_all(b"GET /ws HTTP/1.1\r\n").unwrap();
        let problem = Problem::new(warp::http::StatusCode::TOO_MANY_REQUESTS, "limit_exceeded", "close one");
        busy_replies.reject(Socket::Tcp(stream), problem);
        let received = tokio::task::spawn_blocking(|| received(client));
        let received = tokio::select! {
            received = received => received.unwrap(),
            () = async { loop { busy_replies.next_done().await } } => unreachable!(),
        };
        let text = String::from_utf8(received).unwrap();
        assert!(text.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{text}");
        assert!(
            text.contains("\r\nconnection: close\r\n") && text.contains("\"detail\":\"close one\""),
            "{text}"
        );
    }

    #[tokio::test]
    async fn ex_01_before_tls_clients_get_an_alert() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut busy_replies = BusyReplies::new(BusyText::Tls, 16);
        let (full, stream) = pair(&listener);
        busy_replies.add(Socket::Tcp(stream));
        let (rejected, stream) = pair(&listener);
        let problem = Problem::new(warp::http::StatusCode::TOO_MANY_REQUESTS, "limit_exceeded", "close one");
        busy_replies.reject(Socket::Tcp(stream), problem);
        let mut clients = [full, rejected];
        for client in &mut clients {
            client.write_all(b"\x16\x03\x01\0\x05").unwrap();
        }
        let received = tokio::task::spawn_blocking(|| clients.map(received));
        let received = tokio::select! {
            received = received => received.unwrap(),
            () = async { loop { busy_replies.next_done().await } } => unreachable!(),
        };
        assert!(received.iter().all(|answer| answer == TLS_ALERT), "{received:?}");
    }

    #[tokio::test]
    async fn a_health_check_gets_200_even_among_silent_clients() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut busy_replies = BusyReplies::new(BusyText::Http, 4);
        let silent: Vec<_> = (0..6).map(|_| pair(&listener)).collect();
        let (silent, streams): (Vec<_>, Vec<_>) = silent.into_iter().unzip();
        streams.into_iter().for_each(|stream| busy_replies.add(Socket::Tcp(stream)));
        let (mut check, stream) = pair(&listener);
        busy_replies.add(Socket::Tcp(stream));
        assert_eq!(busy_replies.cancels.len(), 4);
        check.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        let received = tokio::task::spawn_blocking(move || {
            (received(check), silent.into_iter().map(received).collect::<Vec<_>>())
        });
        let (check, silent) = tokio::select! {
            received = received => received.unwrap(),
            () = async { loop { busy_replies.next_done().await } } => unreachable!(),
        };
        assert_eq!(String::from_utf8(check).unwrap(), String::from_utf8(ALIVE.to_vec()).unwrap());
        assert!(silent.iter().all(|answer| answer == BUSY));
    }
}
