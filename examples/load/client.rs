//! A client: a raw WebSocket that reads large chunks, walks frame headers and looks no further than it must, so that
//! this program is not what is measured. It answers pings by itself.

use std::cell::RefCell;
use std::io;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use crate::producer;
use crate::producer::CONNECT;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// What one read takes at most. All clients share the buffer.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Sockets of one source address; an address has about 28,000 ports.
const SOCKETS_PER_ADDRESS: usize = 10_000;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Whom a client speaks to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Tidegate, with a token.
    Tidegate(SocketAddr, String),
    /// nats-server's WebSocket listener, which speaks the NATS protocol in binary frames.
    Nats(SocketAddr),
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The publication of this number.
    Publication(u64),
    /// Publications are missing here: why, and how many if that is known.
    Gap { cause: String, dropped: Option<u64> },
    /// Anything else, by its type.
    Other(String),
    /// The server closes, with this code.
    Closed(u16),
}

/// One WebSocket.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    /// The beginning of a frame.
    frame: Vec<u8>,
    /// The beginning of a message of the NATS protocol.
    message: Vec<u8>,
    /// Where in a Tidegate message of this channel the payload begins.
    payload_at: usize,
    /// Answers to pings.
    answers: Vec<u8>,
    /// Bytes read since the upgrade.
    pub(crate) bytes: u64,
}

impl Client {
    /// Connects and subscribes; returns once the server has confirmed it.
    pub(crate) async fn subscribe(target: &Target, number: usize, channel: &str) -> anyhow::Result<Self> {
        let subscribed = async {
            match target {
                Target::Tidegate(address, token) => Self::to_tidegate(*address, token, number, channel).await,
                Target::Nats(address) => Self::to_nats(*address, number, channel).await,
            }
        };
        let subscribed = tokio::time::timeout(PATIENCE, subscribed).await;
        subscribed
            .context("no answer in time")?
            .with_context(|| format!("client {number} got no subscription"))
    }

    async fn to_tidegate(
        address: SocketAddr,
        token: &str,
        number: usize,
        channel: &str,
    ) -> anyhow::Result<Self> {
        let headers =
            format!("Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: tidegate.v1.json\r\n");
        let mut client = Self::upgrade(address, number, "/ws", &headers).await?;
        client.until("connected").await?;
        client.send_text(&format!(r#"{{"type":"subscribe","id":1,"channel":"{channel}"}}"#)).await?;
        client.until("subscribed").await?;
        Ok(client)
    }

    async fn to_nats(address: SocketAddr, number: usize, channel: &str) -> anyhow::Result<Self> {
        let mut client = Self::upgrade(address, number, "/", "").await?;
        client.send_frame(0x82, format!("{CONNECT}SUB {channel} 1\r\nPING\r\n").as_bytes()).await?;
        client.until("PONG").await?;
        Ok(client)
    }

    async fn upgrade(address: SocketAddr, number: usize, path: &str, headers: &str) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        let last = u8::try_from(2 + number / SOCKETS_PER_ADDRESS).context("too many sockets")?;
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
        let mut stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let end = loop {
            if stream.read_buf(&mut answer).await? == 0 {
                bail!("closed in place of an answer");
            }
            if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        if !answer.starts_with(b"HTTP/1.1 101") {
            bail!("no upgrade: {}", String::from_utf8_lossy(&answer));
        }
        let frame = answer.split_off(end);
        let (message, answers) = (Vec::new(), Vec::new());
        Ok(Self { stream, frame, message, payload_at: 0, answers, bytes: 0 })
    }

    /// Reads until it hears something of this type.
    async fn until(&mut self, kind: &str) -> anyhow::Result<()> {
        let mut found = false;
        let mut instead = String::new();
        self.walk(&[], &mut |heard| note(heard, kind, &mut found, &mut instead));
        while !found {
            if !instead.is_empty()
                || !self.read(&mut |heard| note(heard, kind, &mut found, &mut instead)).await?
            {
                bail!("{instead} in place of {kind}");
            }
        }
        Ok(())
    }

    /// Sends a text message.
    pub(crate) async fn send_text(&mut self, text: &str) -> io::Result<()> {
        self.send_frame(0x81, text.as_bytes()).await
    }

    async fn send_frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        put_frame(first, payload, &mut frame);
        self.stream.write_all(&frame).await
    }

    /// Waits for something to read, reads once, and tells what it heard. False at the end.
    pub(crate) async fn read(&mut self, hear: &mut impl FnMut(Heard)) -> io::Result<bool> {
        self.stream.readable().await?;
        let open = SCRATCH.with_borrow_mut(|scratch| match self.stream.try_read(scratch) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.bytes += count as u64;
                self.walk(&scratch[..count], hear);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        })?;
        if !self.answers.is_empty() {
            let answers = std::mem::take(&mut self.answers);
            self.stream.write_all(&answers).await?;
        }
        Ok(open)
    }

    fn walk(&mut self, fresh: &[u8], hear: &mut impl FnMut(Heard)) {
        let mut kept = std::mem::take(&mut self.frame);
        let joined = !kept.is_empty();
        if joined {
            kept.extend_from_slice(fresh);
        }
        let bytes = if joined { &kept } else { fresh };
        let mut at = 0;
        while let Some((header, length)) = frame_size(&bytes[at..])
            && let Some(payload) = bytes.get(at + header..at + header + length)
        {
            self.frame(bytes[at] & 0x0f, payload, hear);
            at += header + length;
        }
        let rest = bytes[at..].to_vec();
        self.frame = rest;
    }

    fn frame(&mut self, opcode: u8, payload: &[u8], hear: &mut impl FnMut(Heard)) {
        match opcode {
            0x1 => self.text(payload, hear),
            0x2 => self.nats(payload, hear),
            0x8 => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                hear(Heard::Closed(code));
            }
            0x9 => put_frame(0x8a, payload, &mut self.answers),
            _ => {}
        }
    }

    fn text(&mut self, payload: &[u8], hear: &mut impl FnMut(Heard)) {
        if let Some(number) = payload.get(self.payload_at..).and_then(producer::number) {
            return hear(Heard::Publication(number));
        }
        let Ok(message) = serde_json::from_slice::<Value>(payload) else {
            return hear(Heard::Other(String::from_utf8_lossy(payload).into_owned()));
        };
        match message["type"].as_str().unwrap_or_default() {
            "message" => match payload.windows(producer::MARK.len()).position(|at| at == producer::MARK) {
                Some(at) => {
                    self.payload_at = at;
                    hear(Heard::Publication(producer::number(&payload[at..]).unwrap_or(u64::MAX)));
                }
                None => hear(Heard::Other("a message of somebody else".to_owned())),
            },
            "gap" => hear(Heard::Gap {
                cause: message["cause"].as_str().unwrap_or_default().to_owned(),
                dropped: message["dropped"].as_u64(),
            }),
            "ping" => put_frame(0x81, br#"{"type":"pong"}"#, &mut self.answers),
            "error" => hear(Heard::Other(message.to_string())),
            other => hear(Heard::Other(other.to_owned())),
        }
    }

    /// The NATS protocol is a stream: a frame may hold several messages or a part of one.
    fn nats(&mut self, payload: &[u8], hear: &mut impl FnMut(Heard)) {
        let mut kept = std::mem::take(&mut self.message);
        let joined = !kept.is_empty();
        if joined {
            kept.extend_from_slice(payload);
        }
        let bytes = if joined { &kept } else { payload };
        let mut at = 0;
        while let Some(end) = bytes[at..].iter().position(|&byte| byte == b'\n') {
            let line = bytes[at..at + end].trim_ascii_end();
            let mut next = at + end + 1;
            if line.starts_with(b"MSG ") {
                let Some(body) = bytes.get(next..next + size(line) + 2) else {
                    break;
                };
                hear(Heard::Publication(producer::number(body).unwrap_or(u64::MAX)));
                next += body.len();
            } else if line == b"PING" {
                put_frame(0x82, b"PONG\r\n", &mut self.answers);
            } else if line == b"PONG" || line.starts_with(b"-ERR") {
                hear(Heard::Other(String::from_utf8_lossy(line).into_owned()));
            }
            at = next;
        }
        let rest = bytes[at..].to_vec();
        self.message = rest;
    }
}

fn note(heard: Heard, kind: &str, found: &mut bool, instead: &mut String) {
    match heard {
        Heard::Other(other) if other == kind => *found = true,
        Heard::Other(other) => *instead = other,
        Heard::Closed(code) => *instead = format!("a close with {code}"),
        Heard::Publication(_) | Heard::Gap { .. } => {}
    }
}

/// The size in a line such as `MSG load.fanout 1 200`.
fn size(line: &[u8]) -> usize {
    let digits = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit.saturating_sub(b'0')))
}

fn frame_size(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => Some((10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?)),
        length => Some((2, usize::from(length))),
    }
}

/// A masked frame of at most 64 KiB. The mask is zero: nobody is between us and the server who could be fooled.
fn put_frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match u8::try_from(payload.len()) {
        Ok(length @ ..126) => out.push(0x80 | length),
        Ok(_) | Err(_) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}
