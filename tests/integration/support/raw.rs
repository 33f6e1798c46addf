//! A client that can send arbitrary bytes, for what a well-behaved client does not do.

use serde_json::Value;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use crate::support::secrets;
use crate::support::within;

/// A frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) opcode: u8,
    /// Whether the payload is compressed. `payload` has the bytes of the frame, unchanged.
    pub(crate) deflated: bool,
    pub(crate) payload: Vec<u8>,
}

impl RawFrame {
    /// The code of a close frame.
    pub(crate) fn close_code(&self) -> Option<u16> {
        let code = self.payload.get(..2)?;
        (self.opcode == 8).then(|| u16::from_be_bytes([code[0], code[1]]))
    }

    /// The message, inflated if needed.
    pub(crate) fn message(&self) -> Vec<u8> {
        if self.deflated { inflated(&self.payload) } else { self.payload.clone() }
    }
}

/// An HTTP response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header_of(&self.head, name)
    }

    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// A socket, and the bytes that were read from it and not processed yet.
pub(crate) struct RawClient<S = TcpStream> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

impl RawClient {
    /// Connects, and sends nothing.
    pub(crate) async fn connect(address: &str) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    /// Connects with a small receive buffer, so that unread data stays at the server.
    pub(crate) async fn connect_small(address: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        Self { stream: socket.connect(address.parse().unwrap()).await.unwrap(), buffer: Vec::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    /// A client on a stream that is already open.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Upgrades a stream. `headers` are additional lines, each with its line end.
    pub(crate) async fn upgrade(stream: S, path: &str, headers: &str) -> Self {
        let mut client = Self { stream, buffer: Vec::new() };
        client.send(&handshake(path, headers)).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        client
    }

    /// Sends bytes. Ignores errors: the test finds out by reading that the peer has closed.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The status line and headers of a response.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap();
                secrets::assert_none_in(&head);
                return head;
            }
            assert!(self.fill().await, "closed within the head: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// A whole response of a node, so that another request can follow.
    pub(crate) async fn answer(&mut self) -> Answer {
        let answer = self.any_answer().await;
        secrets::assert_none_in(&answer.body);
        answer
    }

    /// A whole response of any server, which may have a token for the client.
    pub(crate) async fn any_answer(&mut self) -> Answer {
        let head = self.head().await;
        let status = head[9..12].parse().unwrap();
        let length = header_of(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            assert!(self.fill().await, "closed within the body of {head}");
        }
        let body = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        Answer { status, head, body }
    }

    /// The next frame; `None` once the server has closed the connection.
    pub(crate) async fn frame(&mut self) -> Option<RawFrame> {
        loop {
            if let Some((header, length)) = frame_size(&self.buffer)
                && self.buffer.len() >= header + length
            {
                let (opcode, deflated) = (self.buffer[0] & 0x0f, self.buffer[0] & 0x40 != 0);
                let frame: Vec<u8> = self.buffer.drain(..header + length).collect();
                return Some(RawFrame { opcode, deflated, payload: frame[header..].to_vec() });
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next message, which must be JSON. Skips pings.
    pub(crate) async fn message(&mut self) -> Value {
        loop {
            let frame = self.frame().await.expect("the connection closed instead of a message");
            let message = || serde_json::from_slice::<Value>(&frame.message());
            match frame.opcode {
                1 if message().unwrap()["type"] == "ping" => {}
                9 => {}
                1 => {
                    let message = message().unwrap();
                    secrets::assert_none_in(&message.to_string());
                    return message;
                }
                _ => panic!("not a message: {frame:?}"),
            }
        }
    }

    /// Reads frames until the close frame. Returns its code.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        while let Some(frame) = self.frame().await {
            if frame.opcode == 8 {
                return frame.close_code();
            }
        }
        None
    }

    /// Everything until the server closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        let read = within("bytes from the server", self.stream.read(&mut chunk)).await;
        let count = read.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..count]);
        count > 0
    }
}

/// The request of a WebSocket handshake.
pub(crate) fn handshake(path: &str, headers: &str) -> Vec<u8> {
    let fixed =
        "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    format!("GET {path} HTTP/1.1\r\n{fixed}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n")
        .into_bytes()
}

/// A masked frame with any first byte and any length, whatever the size of its payload.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    let mask = [0x11, 0x22, 0x33, 0x44];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A masked text frame.
pub(crate) fn text(message: &str) -> Vec<u8> {
    frame(0x81, message.as_bytes())
}

/// A masked text frame with a compressed message.
pub(crate) fn deflated_text(message: &str) -> Vec<u8> {
    frame(0xc1, &deflated(message.as_bytes()))
}

/// The compressed payload of a message.
pub(crate) fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() * 2 + 100);
    let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
    compress.compress_vec(message, &mut out, flate2::FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    out
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let mut decompress = flate2::Decompress::new(false);
    let whole = [payload, &[0, 0, 0xff, 0xff]].concat();
    decompress.decompress_vec(&whole, &mut out, flate2::FlushDecompress::Sync).unwrap();
    assert_eq!(decompress.total_in(), whole.len() as u64);
    out
}

/// The header of a masked frame, without the mask.
pub(crate) fn header(first: u8, length: u64) -> Vec<u8> {
    match u16::try_from(length) {
        Ok(length @ ..126) => vec![first, 0x80 | u8::try_from(length).unwrap()],
        Ok(length) => [&[first, 0x80 | 126][..], &length.to_be_bytes()].concat(),
        Err(_) => [&[first, 0x80 | 127][..], &length.to_be_bytes()].concat(),
    }
}

/// The response to these bytes, on a new connection.
pub(crate) async fn ask(address: &str, request: impl AsRef<[u8]>) -> Answer {
    let mut client = RawClient::connect(address).await;
    client.send(request.as_ref()).await;
    client.answer().await
}

/// Status and body of a GET.
pub(crate) async fn get(address: &str, path: &str) -> (u16, String) {
    let mut client = RawClient::connect(address).await;
    client
        .send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .await;
    let head = client.head().await;
    let status = head[9..12].parse().unwrap();
    let mut body = client.rest().await;
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunk(&body);
    }
    (status, String::from_utf8(body).unwrap())
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
    body
}

fn header_of<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn frame_size(buffer: &[u8]) -> Option<(usize, usize)> {
    match buffer.get(1)? & 0x7f {
        126 => Some((4, usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?)))),
        127 => Some((10, usize::try_from(u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?)).ok()?)),
        length => Some((2, usize::from(length))),
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
