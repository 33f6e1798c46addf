//! A producer: the NATS protocol on a bare TCP socket, so that publishing costs this program as little as possible.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::bail;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// What the payload of every publication begins with; its number follows.
pub(crate) const MARK: &[u8] = br#"{"n":""#;
/// Digits of the number.
pub(crate) const DIGITS: usize = 10;
/// What goes in one write at a steady rate.
const BATCH: usize = 256 * 1024;
/// What CONNECT says, for whoever speaks to nats-server.
pub(crate) const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\",\"name\":\"load\"}\r\n";

/// One connection that publishes.
#[derive(Debug)]
pub(crate) struct Producer {
    stream: TcpStream,
    out: Vec<u8>,
    /// How much of it has gone.
    sent: usize,
}

impl Producer {
    /// Connects, and waits until the server has answered.
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(format!("{CONNECT}PING\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"PONG\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                bail!("nats-server refuses a producer: {}", String::from_utf8_lossy(&answer));
            }
        }
        Ok(Self { stream, out: Vec::new(), sent: 0 })
    }

    /// Adds a publication to what goes next.
    pub(crate) fn add(&mut self, template: &Template, number: u64) {
        template.put(number, &mut self.out);
    }

    /// Sends what was added. Waits while the server takes no more; whoever stops waiting may go on with another call.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        self.answer()?;
        while self.sent < self.out.len() {
            self.sent +=
                self.stream.write(&self.out[self.sent..]).await.context("nats-server takes nothing")?;
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Publishes at a steady rate for as long as this is polled; `next` is the number of the next one.
    pub(crate) async fn steadily(
        &mut self,
        template: &Template,
        per_s: f64,
        next: &Cell<u64>,
    ) -> anyhow::Result<Infallible> {
        let (start, first) = (Instant::now(), next.get());
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        loop {
            tick.tick().await;
            while ((next.get() - first) as f64) < start.elapsed().as_secs_f64() * per_s
                && self.out.len() < BATCH
            {
                self.add(template, next.get());
                next.set(next.get() + 1);
            }
            self.flush().await?;
        }
    }

    /// The server's pings, answered with what goes next.
    fn answer(&mut self) -> anyhow::Result<()> {
        let mut heard = [0; 4096];
        match self.stream.try_read(&mut heard) {
            Ok(0) => bail!("nats-server has closed the connection"),
            Ok(count) => {
                let heard = String::from_utf8_lossy(&heard[..count]);
                if heard.contains("-ERR") {
                    bail!("nats-server refuses a publication: {}", heard.trim());
                }
                if heard.contains("PING") {
                    self.out.extend_from_slice(b"PONG\r\n");
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("the connection to nats-server is broken"),
        }
    }
}

/// A publication but for its number.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    number: usize,
}

impl Template {
    /// Publications to `subject`: JSON of `payload` bytes, or of as many as it needs at least.
    pub(crate) fn new(subject: &str, payload: usize) -> Self {
        let head = String::from_utf8_lossy(MARK);
        let fixed = head.len() + DIGITS + r#"","pad":""}"#.len();
        let pad = "x".repeat(payload.saturating_sub(fixed));
        let body = format!("{head}{:0DIGITS$}\",\"pad\":\"{pad}\"}}", 0);
        let line = format!("PUB {subject} {}\r\n", body.len());
        let number = line.len() + head.len();
        Self { bytes: format!("{line}{body}\r\n").into_bytes(), number }
    }

    fn put(&self, number: u64, out: &mut Vec<u8>) {
        let start = out.len() + self.number;
        out.extend_from_slice(&self.bytes);
        let mut left = number;
        for digit in out[start..start + DIGITS].iter_mut().rev() {
            *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
            left /= 10;
        }
    }
}

/// The number of a publication whose payload begins at the start of `bytes`.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(MARK)?.get(..DIGITS)?;
    digits.iter().try_fold(0_u64, |sum, digit| Some(sum * 10 + u64::from(digit.checked_sub(b'0')?)))
}
