//! Farewells: sockets for which there is no room are told so, and health checks among them that the node lives.

use std::collections::VecDeque;
use std::io;
use std::io::ErrorKind;
use std::io::Write as _;
use std::net::Shutdown;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Sent to whoever has to come back.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// Sent to whoever asks whether the process lives: it does, and a restart would help no one.
const ALIVE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
                       connection: close\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";
/// How long one is kept: before it is answered, until it has said something, and then until it has read the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Those that are being told.
pub struct Farewells {
    most: usize,
    under_way: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Dropping one lets its socket end, whatever it has heard. The oldest first.
    ends: VecDeque<oneshot::Sender<()>>,
}

impl Farewells {
    /// At most so many at a time.
    pub fn new(most: usize) -> Self {
        Self { most, under_way: FuturesUnordered::new(), ends: VecDeque::new() }
    }

    /// One more; if there are too many, the oldest ends.
    pub fn add(&mut self, stream: std::net::TcpStream) {
        self.ends.retain(|end| !end.is_closed());
        if self.ends.len() >= self.most {
            drop(self.ends.pop_front());
        }
        let (end, ended) = oneshot::channel();
        self.ends.push_back(end);
        self.under_way.push(Box::pin(tell(stream, ended)));
    }

    /// Goes on with all of them, until one has ended.
    pub async fn some(&mut self) {
        if self.under_way.next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Ends with all of them, within this time.
    pub async fn end(mut self, within: Duration) {
        let all = async { while self.under_way.next().await.is_some() {} };
        if timeout(within, all).await.is_err() {
            self.ends.clear();
            while self.under_way.next().await.is_some() {}
        }
    }
}

async fn tell(stream: std::net::TcpStream, ended: oneshot::Receiver<()>) {
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    tokio::select! {
        biased;
        _ = ended => drop(say(&stream, TOO_MANY)),
        () = converse(&stream) => {}
    }
}

async fn converse(stream: &TcpStream) {
    let mut first = [0; 1024];
    let count = timeout(PATIENCE, read(stream, &mut first)).await.unwrap_or(Ok(0)).unwrap_or(0);
    let answer = if asks_for_health(&first[..count]) { ALIVE } else { TOO_MANY };
    if say(stream, answer).is_err() {
        return;
    }
    // To close one with something unread would be a reset, which takes back what it was told.
    let until_closed = async { while matches!(read(stream, &mut first).await, Ok(1..)) {} };
    let _ = timeout(PATIENCE, until_closed).await;
}

/// Not by tokio's own, which writes nothing before it has heard of the socket.
fn say(stream: &TcpStream, answer: &[u8]) -> io::Result<()> {
    let socket = SockRef::from(stream);
    (&*socket).write_all(answer)?;
    socket.shutdown(Shutdown::Write)
}

async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
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

    fn heard(mut client: std::net::TcpStream) -> Vec<u8> {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    }

    #[tokio::test]
    async fn ex_01_whoever_is_one_too_many_can_read_why_whatever_it_has_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut farewells = Farewells::new(16);
        let mut clients = Vec::new();
        for _ in 0..16 {
            let (mut client, stream) = pair(&listener);
            client.write_all(&[b'x'; 2000]).unwrap();
            farewells.add(stream);
            client.write_all(b"more").unwrap();
            clients.push(client);
        }
        let heard = tokio::task::spawn_blocking(|| clients.into_iter().map(heard).collect::<Vec<_>>());
        let heard = tokio::select! {
            heard = heard => heard.unwrap(),
            () = async { loop { farewells.some().await } } => unreachable!(),
        };
        assert!(heard.iter().all(|answer| answer == TOO_MANY), "{heard:?}");
    }

    #[tokio::test]
    async fn a_health_check_hears_that_the_node_lives_and_who_is_silent_hinders_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut farewells = Farewells::new(4);
        let silent: Vec<_> = (0..6).map(|_| pair(&listener)).collect();
        let (silent, streams): (Vec<_>, Vec<_>) = silent.into_iter().unzip();
        streams.into_iter().for_each(|stream| farewells.add(stream));
        let (mut check, stream) = pair(&listener);
        farewells.add(stream);
        assert_eq!(farewells.ends.len(), 4);
        check.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        let heard = tokio::task::spawn_blocking(move || {
            (heard(check), silent.into_iter().map(heard).collect::<Vec<_>>())
        });
        let (check, silent) = tokio::select! {
            heard = heard => heard.unwrap(),
            () = async { loop { farewells.some().await } } => unreachable!(),
        };
        assert_eq!(String::from_utf8(check).unwrap(), String::from_utf8(ALIVE.to_vec()).unwrap());
        assert!(silent.iter().all(|answer| answer == TOO_MANY));
    }
}
