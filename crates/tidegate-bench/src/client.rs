//! One client: a non-blocking WebSocket that reports what it receives as events, and answers pings by itself. It uses
//! Tidegate's native protocol or a vocabulary, the NATS protocol in WebSocket frames, or connects to the baseline.

pub mod dialect;
pub mod frame_parser;
mod stream;

use std::io;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use mio::net::TcpStream;
use socket2::Domain;
use socket2::Protocol as Transport;
use socket2::SockRef;
use socket2::Socket;
use socket2::Type;

use crate::client::dialect::Dialect;
use crate::client::frame_parser::ClientEvent;
use crate::client::frame_parser::FrameParser;
use crate::client::frame_parser::Phase;
use crate::client::stream::Stream;
use crate::wire;
use crate::wire::FrameReader;

/// Sockets per source address. An address has only about 28,000 ephemeral ports, and the kernel searches ever longer for
/// a free one when half of them are taken.
const SOCKETS_PER_ADDRESS: usize = 10_000;
/// The first line that clients and producers send to nats-server.
pub const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\",\"name\":\"bench\"}\r\n";

/// The name of the bench's copy of a vocabulary, and of the copy's path and subprotocol.
pub const BENCH_VOCABULARY: &str = "tidegate-bench";

/// Where a client connects, and what it subscribes to.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub address: SocketAddr,
    pub dialect: Dialect,
    /// The path of the upgrade request. Used with a vocabulary from a file only; other dialects have a fixed path.
    pub path: String,
    /// The bearer token. Used with Tidegate and Centrifugo only.
    pub token: String,
    /// The channels to subscribe to; with the baseline, the numbers of the subjects.
    pub channels: Vec<String>,
    /// Whether to offer permessage-deflate.
    pub compress: bool,
    /// The socket's receive buffer in bytes; 0 means the kernel's default, which grows to megabytes.
    pub receive_buffer: usize,
    /// Set if the client connects over TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// One WebSocket.
#[derive(Debug)]
pub struct Client {
    stream: Option<Stream>,
    /// The part of the upgrade response that was received so far.
    head: Vec<u8>,
    frames: FrameReader,
    parser: FrameParser,
    /// Bytes that still have to be sent.
    out: Vec<u8>,
    config: ClientConfig,
    /// When the connection attempt started.
    connecting_since: Instant,
    /// Bytes read from the socket since the upgrade; over TLS, encrypted.
    pub bytes: u64,
    /// The `Retry-After` of the last 503 response.
    pub retry_after: Duration,
}

impl Client {
    /// A client that is not connected.
    pub fn new(config: ClientConfig) -> Self {
        Self {
            stream: None,
            head: Vec::new(),
            frames: FrameReader::default(),
            parser: FrameParser::new(config.dialect),
            out: Vec::new(),
            config,
            connecting_since: Instant::now(),
            bytes: 0,
            retry_after: Duration::ZERO,
        }
    }

    /// Starts to connect. Resets the previous connection first, so that it leaves no socket in `TIME_WAIT`. `number`
    /// selects the source address.
    pub fn connect(&mut self, number: usize) -> io::Result<&mut TcpStream> {
        self.reset();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Transport::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // Closing sends a reset, so that no socket remains in TIME_WAIT.
        socket.set_linger(Some(Duration::ZERO))?;
        if self.config.receive_buffer > 0 {
            socket.set_recv_buffer_size(self.config.receive_buffer)?;
        }
        let group = number / SOCKETS_PER_ADDRESS;
        if group > 0 {
            let [_, _, high, low] = u32::try_from(group + 1).unwrap_or(u32::MAX).to_be_bytes();
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, high, low), 0)).into())?;
        }
        self.connecting_since = Instant::now();
        match socket.connect(&self.config.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        self.parser.phase = Phase::Upgrading;
        self.put_upgrade();
        let stream = Stream::new(TcpStream::from_std(socket.into()), self.config.tls.as_ref())?;
        Ok(self.stream.insert(stream).tcp_mut())
    }

    /// Closes the connection with a TCP reset.
    pub fn reset(&mut self) {
        self.stream = None;
        self.head = Vec::new();
        self.out.clear();
        self.frames = FrameReader::default();
        self.parser = FrameParser::new(self.config.dialect);
    }

    /// Replaces the configuration. It takes effect with the next connection.
    pub fn set_config(&mut self, config: ClientConfig) {
        self.config = config;
    }

    fn put_upgrade(&mut self) {
        let ClientConfig { address, dialect, path, token, channels, compress, .. } = &self.config;
        let (path, headers) = match dialect {
            Dialect::Native => (
                "/ws".to_owned(),
                format!("Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: tidegate.v1.json\r\n"),
            ),
            Dialect::StockAgent => ("/ws/bench".to_owned(), format!("Authorization: Bearer {token}\r\n")),
            Dialect::Vocabulary => (
                path.clone(),
                format!("Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: {BENCH_VOCABULARY}\r\n"),
            ),
            Dialect::Nats => ("/".to_owned(), String::new()),
            Dialect::Centrifugo => ("/connection/websocket".to_owned(), String::new()),
            Dialect::Baseline => (format!("/{}", channels.join(",")), String::new()),
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

    /// Sends pending bytes until the socket would block.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match stream.send(&mut self.out) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(()),
            sent => sent,
        }
    }

    /// Reads until the socket would block, and reports events. Returns `false` at the end of the stream.
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> io::Result<bool> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(true) };
            match stream.read(scratch) {
                Ok(None) => return Ok(false),
                Ok(Some(chunk)) => {
                    self.on_bytes(&scratch[..chunk.length], on_event);
                    if self.parser.phase != Phase::Upgrading {
                        self.bytes = (self.bytes + chunk.received).saturating_sub(chunk.length as u64);
                    }
                    // Later bytes cause another readiness event.
                    if chunk.is_socket_empty {
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

    fn on_bytes(&mut self, fresh: &[u8], on_event: &mut impl FnMut(ClientEvent<'_>)) {
        if self.parser.phase != Phase::Upgrading {
            self.bytes += fresh.len() as u64;
            return self.parse_frames(fresh, on_event);
        }
        self.head.extend_from_slice(fresh);
        let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else { return };
        let head = std::mem::take(&mut self.head);
        let (head, rest) = head.split_at(end + 4);
        if head.starts_with(b"HTTP/1.1 101") {
            self.subscribe(on_event);
            self.bytes += rest.len() as u64;
            self.parse_frames(rest, on_event);
            return;
        }
        self.parser.phase = Phase::Ended;
        let head = String::from_utf8_lossy(head).into_owned();
        if head.starts_with("HTTP/1.1 503") {
            self.retry_after = retry_after(&head);
            on_event(ClientEvent::Rejected);
        } else {
            on_event(ClientEvent::Ended(head.lines().next().unwrap_or_default()));
        }
    }

    fn parse_frames(&mut self, fresh: &[u8], on_event: &mut impl FnMut(ClientEvent<'_>)) {
        let (parser, out, connecting_since) = (&mut self.parser, &mut self.out, self.connecting_since);
        self.frames.parse(fresh, |frame| parser.frame(frame, connecting_since, out, on_event));
    }

    /// Subscribes to all channels with one write.
    fn subscribe(&mut self, on_event: &mut impl FnMut(ClientEvent<'_>)) {
        let left = self.config.channels.len();
        match self.config.dialect {
            // One more reply: the greeting.
            Dialect::Native => {
                self.parser.phase = Phase::Subscribing { replies_left: left + 1 };
                for (id, channel) in self.config.channels.iter().enumerate() {
                    put_subscribe(id, channel, &mut self.out);
                }
            }
            Dialect::StockAgent => {
                self.parser.phase = Phase::Subscribing { replies_left: left + 1 };
                for symbol in &self.config.channels {
                    put_prices("subscribe", symbol, &mut self.out);
                }
            }
            Dialect::Vocabulary => {
                self.parser.phase = Phase::Subscribing { replies_left: left + 1 };
                for item in &self.config.channels {
                    put_bench_subscribe(item, &mut self.out);
                }
            }
            Dialect::Nats => {
                self.parser.phase = Phase::Subscribing { replies_left: 1 };
                let mut text = CONNECT.to_owned();
                for (id, channel) in self.config.channels.iter().enumerate() {
                    text += &format!("SUB {channel} {}\r\n", id + 1);
                }
                wire::put_masked(0x82, (text + "PING\r\n").as_bytes(), &mut self.out);
            }
            Dialect::Centrifugo => {
                self.parser.phase = Phase::Subscribing { replies_left: left + 1 };
                let connect = format!(r#"{{"id":1,"connect":{{"token":"{}"}}}}"#, self.config.token);
                wire::put_masked(0x81, connect.as_bytes(), &mut self.out);
                for (id, channel) in self.config.channels.iter().enumerate() {
                    let text = format!(r#"{{"id":{},"subscribe":{{"channel":"{channel}"}}}}"#, id + 2);
                    wire::put_masked(0x81, text.as_bytes(), &mut self.out);
                }
            }
            Dialect::Baseline => {
                self.parser.phase = Phase::Live;
                on_event(ClientEvent::Live { after: self.connecting_since.elapsed() });
            }
        }
    }

    /// Subscribes to one more channel. The reply is an event.
    pub fn add_channel(&mut self, channel: &str) -> io::Result<()> {
        match self.config.dialect {
            Dialect::Native => put_subscribe(1, channel, &mut self.out),
            Dialect::StockAgent => put_prices("subscribe", channel, &mut self.out),
            Dialect::Vocabulary => put_bench_subscribe(channel, &mut self.out),
            Dialect::Nats => {
                wire::put_masked(0x82, format!("SUB {channel} 9\r\nPING\r\n").as_bytes(), &mut self.out);
            }
            // No workload that changes subscriptions measures these targets.
            Dialect::Centrifugo | Dialect::Baseline => {}
        }
        self.flush()
    }

    /// Unsubscribes from a channel that was added. The reply is an event.
    pub fn remove_channel(&mut self, channel: &str) -> io::Result<()> {
        match self.config.dialect {
            Dialect::Native => {
                let text = format!(r#"{{"type":"unsubscribe","id":2,"channel":"{channel}"}}"#);
                wire::put_masked(0x81, text.as_bytes(), &mut self.out);
            }
            Dialect::StockAgent => put_prices("unsubscribe", channel, &mut self.out),
            Dialect::Nats => wire::put_masked(0x82, b"UNSUB 9\r\nPING\r\n", &mut self.out),
            // The bench's rule cannot unsubscribe, and `churn` does not measure these targets.
            Dialect::Centrifugo | Dialect::Baseline | Dialect::Vocabulary => {}
        }
        self.flush()
    }

    /// Number of ping frames that the current connection has received.
    pub fn pings(&self) -> u64 {
        self.parser.pings
    }

    /// Whether all subscriptions are confirmed.
    pub fn is_live(&self) -> bool {
        self.parser.phase == Phase::Live
    }

    /// Whether the connection or its subscriptions are not complete yet.
    pub fn is_connecting(&self) -> bool {
        matches!(self.parser.phase, Phase::Upgrading | Phase::Subscribing { .. })
    }

    /// The pending error of the socket, if any.
    pub fn socket_error(&self) -> Option<io::Error> {
        SockRef::from(self.stream.as_ref()?.tcp()).take_error().ok()?
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

fn put_bench_subscribe(item: &str, out: &mut Vec<u8>) {
    let text = format!(r#"{{"bench":"subscribe","item":"{item}"}}"#);
    wire::put_masked(0x81, text.as_bytes(), out);
}

/// The value of `Retry-After` in seconds (RFC 9110 §10.2.3); one second if the header is missing.
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
    fn retry_after_is_read_from_a_503_response() {
        let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nRetry-After: 3\r\n\r\n";
        assert_eq!(retry_after(head), Duration::from_secs(3));
        assert_eq!(retry_after("HTTP/1.1 503 No\r\n\r\n"), Duration::from_secs(1));
    }
}
