//! A client: one raw WebSocket that is told when it can read or write, and tells what it hears. It answers pings by
//! itself. It speaks Tidegate's native protocol, NATS inside WebSocket frames, or listens to the floor.

pub mod dialect;
pub mod ear;

use std::io;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use mio::net::TcpStream;
use socket2::Domain;
use socket2::Protocol as Transport;
use socket2::SockRef;
use socket2::Socket;
use socket2::Type;

use crate::client::dialect::Dialect;
use crate::client::ear::Ear;
use crate::client::ear::Heard;
use crate::client::ear::Phase;
use crate::wire;
use crate::wire::Frames;

/// Sockets of one source address; an address has about 28,000 ports.
const SOCKETS_PER_ADDRESS: usize = 20_000;
/// What CONNECT says, for whoever speaks to nats-server.
pub const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\",\"name\":\"bench\"}\r\n";

/// What the bench adds to a vocabulary from a file is called so: the copy, its path and its subprotocol.
pub const ADDED: &str = "tidegate-bench";

/// Where a client goes, and what it wants there.
#[derive(Clone, Debug)]
pub struct Wish {
    pub address: SocketAddr,
    pub dialect: Dialect,
    /// The path, in a vocabulary from a file. The others have paths of their own.
    pub path: String,
    /// Tidegate's only.
    pub token: String,
    /// What it subscribes to; for the floor, the numbers of the subjects.
    pub channels: Vec<String>,
    /// Whether it offers permessage-deflate.
    pub compress: bool,
    /// What the kernel may keep for it unread, in bytes; 0 for as much as it likes, which is megabytes.
    pub receive_buffer: usize,
}

/// One WebSocket.
#[derive(Debug)]
pub struct Client {
    stream: Option<TcpStream>,
    /// The beginning of the answer to the upgrade.
    head: Vec<u8>,
    frames: Frames,
    ear: Ear,
    /// What has not been sent yet.
    out: Vec<u8>,
    wish: Wish,
    /// When it began to connect.
    since: Instant,
    /// Bytes read since the upgrade.
    pub bytes: u64,
    /// How long a server that refuses asks it to wait.
    pub retry_after: Duration,
}

impl Client {
    /// One that has yet to connect.
    pub fn new(wish: Wish) -> Self {
        Self {
            stream: None,
            head: Vec::new(),
            frames: Frames::default(),
            ear: Ear::new(wish.dialect),
            out: Vec::new(),
            wish,
            since: Instant::now(),
            bytes: 0,
            retry_after: Duration::ZERO,
        }
    }

    /// Begins to connect. Whatever it was before is over, without a trace in the kernel's tables.
    pub fn connect(&mut self, number: usize) -> io::Result<&mut TcpStream> {
        self.end();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Transport::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // A reset at the end leaves no one waiting.
        socket.set_linger(Some(Duration::ZERO))?;
        if self.wish.receive_buffer > 0 {
            socket.set_recv_buffer_size(self.wish.receive_buffer)?;
        }
        let group = number / SOCKETS_PER_ADDRESS;
        if group > 0 {
            let [_, _, high, low] = u32::try_from(group + 1).unwrap_or(u32::MAX).to_be_bytes();
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, high, low), 0)).into())?;
        }
        self.since = Instant::now();
        match socket.connect(&self.wish.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        self.ear.phase = Phase::Upgrading;
        self.put_upgrade();
        Ok(self.stream.insert(TcpStream::from_std(socket.into())))
    }

    /// Goes, with a reset.
    pub fn end(&mut self) {
        self.stream = None;
        self.head = Vec::new();
        self.out.clear();
        self.frames = Frames::default();
        self.ear = Ear::new(self.wish.dialect);
    }

    /// Wants something else from now on.
    pub fn wish(&mut self, wish: Wish) {
        self.wish = wish;
    }

    fn put_upgrade(&mut self) {
        let Wish { address, dialect, path, token, channels, compress, .. } = &self.wish;
        let (path, headers) = match dialect {
            Dialect::Tidegate => (
                "/ws".to_owned(),
                format!("Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: tidegate.v1.json\r\n"),
            ),
            Dialect::Described => ("/ws/bench".to_owned(), format!("Authorization: Bearer {token}\r\n")),
            Dialect::Added => (
                path.clone(),
                format!("Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: {ADDED}\r\n"),
            ),
            Dialect::Nats => ("/".to_owned(), String::new()),
            Dialect::Floor => (format!("/{}", channels.join(",")), String::new()),
        };
        let extension = if *compress {
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
             client_no_context_takeover\r\n"
        } else {
            ""
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}{extension}\r\n"
        );
        self.out.extend_from_slice(request.as_bytes());
    }

    /// Sends what waits to be sent, as far as the socket takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads all there is and tells what it heard. False at the end of the stream.
    pub fn read(&mut self, scratch: &mut [u8], hear: &mut impl FnMut(Heard<'_>)) -> io::Result<bool> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(true) };
            match stream.read(scratch) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.take(&scratch[..count], hear);
                    // Less than there was room for: the next bytes come with an event of their own.
                    if count < scratch.len() {
                        return Ok(true);
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, fresh: &[u8], hear: &mut impl FnMut(Heard<'_>)) {
        if self.ear.phase != Phase::Upgrading {
            self.bytes += fresh.len() as u64;
            return self.walk(fresh, hear);
        }
        self.head.extend_from_slice(fresh);
        let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else { return };
        let head = std::mem::take(&mut self.head);
        let (head, rest) = head.split_at(end + 4);
        if head.starts_with(b"HTTP/1.1 101") {
            self.subscribe(hear);
            self.bytes += rest.len() as u64;
            self.walk(rest, hear);
            return;
        }
        self.ear.phase = Phase::Ended;
        let head = String::from_utf8_lossy(head).into_owned();
        if head.starts_with("HTTP/1.1 503") {
            self.retry_after = retry_after(&head);
            hear(Heard::Refused);
        } else {
            hear(Heard::Ended(head.lines().next().unwrap_or_default()));
        }
    }

    fn walk(&mut self, fresh: &[u8], hear: &mut impl FnMut(Heard<'_>)) {
        let (ear, out, since) = (&mut self.ear, &mut self.out, self.since);
        self.frames.walk(fresh, |frame| ear.frame(frame, since, out, hear));
    }

    /// Says what it wants, in one go.
    fn subscribe(&mut self, hear: &mut impl FnMut(Heard<'_>)) {
        let left = self.wish.channels.len();
        match self.wish.dialect {
            // It greets first.
            Dialect::Tidegate => {
                self.ear.phase = Phase::Subscribing { left: left + 1 };
                for (id, channel) in self.wish.channels.iter().enumerate() {
                    put_subscribe(id, channel, &mut self.out);
                }
            }
            Dialect::Described => {
                self.ear.phase = Phase::Subscribing { left: left + 1 };
                for symbol in &self.wish.channels {
                    put_prices("subscribe", symbol, &mut self.out);
                }
            }
            Dialect::Added => {
                self.ear.phase = Phase::Subscribing { left: left + 1 };
                for item in &self.wish.channels {
                    put_added(item, &mut self.out);
                }
            }
            Dialect::Nats => {
                self.ear.phase = Phase::Subscribing { left: 1 };
                let mut text = CONNECT.to_owned();
                for (id, channel) in self.wish.channels.iter().enumerate() {
                    text += &format!("SUB {channel} {}\r\n", id + 1);
                }
                wire::put_masked(0x82, (text + "PING\r\n").as_bytes(), &mut self.out);
            }
            Dialect::Floor => {
                self.ear.phase = Phase::Live;
                hear(Heard::Live { after: self.since.elapsed() });
            }
        }
    }

    /// Subscribes to one more channel; the answer is heard.
    pub fn add_channel(&mut self, channel: &str) -> io::Result<()> {
        match self.wish.dialect {
            Dialect::Tidegate => put_subscribe(1, channel, &mut self.out),
            Dialect::Described => put_prices("subscribe", channel, &mut self.out),
            Dialect::Added => put_added(channel, &mut self.out),
            Dialect::Nats => {
                wire::put_masked(0x82, format!("SUB {channel} 9\r\nPING\r\n").as_bytes(), &mut self.out);
            }
            Dialect::Floor => {}
        }
        self.flush()
    }

    /// Leaves it again; the answer is heard.
    pub fn remove_channel(&mut self, channel: &str) -> io::Result<()> {
        match self.wish.dialect {
            Dialect::Tidegate => {
                let text = format!(r#"{{"type":"unsubscribe","id":2,"channel":"{channel}"}}"#);
                wire::put_masked(0x81, text.as_bytes(), &mut self.out);
            }
            Dialect::Described => put_prices("unsubscribe", channel, &mut self.out),
            Dialect::Nats => wire::put_masked(0x82, b"UNSUB 9\r\nPING\r\n", &mut self.out),
            // Nothing in its vocabulary leaves a channel, and `churn` does not have it as a target.
            Dialect::Floor | Dialect::Added => {}
        }
        self.flush()
    }

    /// Whether it has all that it wanted.
    pub fn is_live(&self) -> bool {
        self.ear.phase == Phase::Live
    }

    /// Whether it is on its way to be.
    pub fn is_connecting(&self) -> bool {
        matches!(self.ear.phase, Phase::Upgrading | Phase::Subscribing { .. })
    }

    /// What the kernel says has gone wrong with its socket.
    pub fn fault(&self) -> Option<io::Error> {
        SockRef::from(self.stream.as_ref()?).take_error().ok()?
    }
}

fn put_subscribe(id: usize, channel: &str, out: &mut Vec<u8>) {
    let text = format!(r#"{{"type":"subscribe","id":{id},"channel":"{channel}"}}"#);
    wire::put_masked(0x81, text.as_bytes(), out);
}

fn put_prices(word: &str, symbol: &str, out: &mut Vec<u8>) {
    let text = format!(r#"{{"type":"{word}","channel":"prices","symbols":["{symbol}"]}}"#);
    wire::put_masked(0x81, text.as_bytes(), out);
}

fn put_added(item: &str, out: &mut Vec<u8>) {
    let text = format!(r#"{{"bench":"subscribe","item":"{item}"}}"#);
    wire::put_masked(0x81, text.as_bytes(), out);
}

/// What `Retry-After` says, in seconds (RFC 9110 §10.2.3); one where it says nothing.
fn retry_after(head: &str) -> Duration {
    let line = head.lines().filter_map(|line| line.split_once(':'));
    let mut value = line.filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    let seconds = value.next().and_then(|(_, value)| value.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_knows_how_long_to_wait() {
        let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nRetry-After: 3\r\n\r\n";
        assert_eq!(retry_after(head), Duration::from_secs(3));
        assert_eq!(retry_after("HTTP/1.1 503 No\r\n\r\n"), Duration::from_secs(1));
    }
}
