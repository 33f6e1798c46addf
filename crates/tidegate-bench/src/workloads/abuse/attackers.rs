//! Attackers: sockets on a separate thread. Each sends what its script says, at the script's rate, discards what it
//! receives, and reconnects when the node closes it.

use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use crate::wire;

/// How long an attacker waits before it reconnects, and the timeout of a connection attempt.
const RECONNECT_DELAY: Duration = Duration::from_millis(200);
/// Time between two steps of all attackers.
const STEP_INTERVAL: Duration = Duration::from_millis(5);

/// What one attacker sends.
#[derive(Clone, Debug)]
pub struct AttackScript {
    /// Sent at the start of each connection.
    initial: Vec<u8>,
    /// Sent repeatedly after `initial`.
    repeated: Vec<u8>,
    /// Rate of `repeated`.
    bytes_per_s: usize,
    /// Length of a connection before the attacker closes it and reconnects, if there is such a limit.
    reconnect_after: Option<Duration>,
    /// Whether the attacker reads nothing.
    is_unread: bool,
}

impl AttackScript {
    /// Opens a WebSocket at this path, without a credential.
    pub fn socket(path: &str) -> Self {
        let initial = format!(
            "GET {path} HTTP/1.1\r\nHost: abuse\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        Self { initial: initial.into_bytes(), ..Self::silent() }
    }

    /// Opens a TCP connection and sends nothing.
    pub fn silent() -> Self {
        let (initial, repeated) = (Vec::new(), Vec::new());
        Self { initial, repeated, bytes_per_s: 0, reconnect_after: None, is_unread: false }
    }

    /// Sends a request that never ends, one byte a second.
    pub fn slow_request() -> Self {
        let initial = b"GET /ws HTTP/1.1\r\nHost: abuse\r\n".to_vec();
        Self { initial, repeated: b"X-Slow: 1\r\n".to_vec(), bytes_per_s: 1, ..Self::silent() }
    }

    /// Repeats an HTTP call on one connection, at this rate.
    pub fn calls(call: &str, bytes_per_s: usize) -> Self {
        Self { repeated: call.as_bytes().to_vec(), bytes_per_s, ..Self::silent() }
    }

    /// Sends these messages, one per line, together with the handshake.
    pub fn at_once(mut self, messages: &str) -> Self {
        for message in messages.lines() {
            wire::put_masked(0x81, message.as_bytes(), &mut self.initial);
        }
        self
    }

    /// Repeats this message after the initial ones, at this rate.
    pub fn repeated(mut self, message: &str, bytes_per_s: usize) -> Self {
        wire::put_masked(0x81, message.as_bytes(), &mut self.repeated);
        self.bytes_per_s = bytes_per_s;
        self
    }

    /// Repeats pings after the initial messages, at this rate.
    pub fn pings(mut self, bytes_per_s: usize) -> Self {
        wire::put_masked(0x89, b"", &mut self.repeated);
        self.bytes_per_s = bytes_per_s;
        self
    }

    /// Reads nothing of what the node sends.
    pub fn unread(mut self) -> Self {
        self.is_unread = true;
        self
    }

    /// Closes each connection after this time, and reconnects.
    pub fn reconnect_after(mut self, after: Duration) -> Self {
        self.reconnect_after = Some(after);
        self
    }
}

struct Attacker {
    script: AttackScript,
    stream: Option<TcpStream>,
    /// When the current connection, or the pause after it, started.
    since: Instant,
    /// Bytes sent of the script's `initial` and `repeated` part on this connection.
    sent_initial: usize,
    sent_repeated: usize,
}

/// The thread with all attackers. It stops when this is dropped.
pub struct AttackerThread {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl AttackerThread {
    /// Starts one attacker per script.
    pub fn start(node: SocketAddr, scripts: &[AttackScript]) -> anyhow::Result<Self> {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut attackers: Vec<_> = scripts.iter().cloned().map(Attacker::new).collect();
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::Builder::new().name("attackers".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for attacker in &mut attackers {
                    counter.fetch_add(attacker.step(node) as u64, Ordering::Relaxed);
                }
                std::thread::sleep(STEP_INTERVAL);
            }
        })?;
        Ok(Self { stop, sent, thread: Some(thread) })
    }

    /// Stops the attackers. Returns how many bytes they sent.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for AttackerThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Attacker {
    fn new(script: AttackScript) -> Self {
        Self { script, stream: None, since: Instant::now(), sent_initial: 0, sent_repeated: 0 }
    }

    /// Connects, or sends what is due and reads. Returns how many bytes it sent.
    fn step(&mut self, node: SocketAddr) -> usize {
        let Some(stream) = &mut self.stream else {
            self.connect(node);
            return 0;
        };
        let mut sent = 0;
        let result =
            send(stream, &self.script.initial, &mut self.sent_initial, usize::MAX).and_then(|count| {
                sent += count;
                let due = (self.since.elapsed().as_secs_f64() * self.script.bytes_per_s as f64) as usize;
                let count = match self.script.repeated.len() {
                    0 => 0,
                    _ if self.sent_initial < self.script.initial.len() => 0,
                    _ => send_repeated(stream, &self.script.repeated, &mut self.sent_repeated, due)?,
                };
                sent += count;
                if self.script.is_unread { check(stream) } else { discard_input(stream) }
            });
        let is_due = self.script.reconnect_after.is_some_and(|after| self.since.elapsed() > after);
        if result.is_err() || is_due {
            self.stream = None;
            self.since = if is_due { Instant::now() - RECONNECT_DELAY } else { Instant::now() };
        }
        sent
    }

    fn connect(&mut self, node: SocketAddr) {
        if self.sent_initial + self.sent_repeated > 0 && self.since.elapsed() < RECONNECT_DELAY {
            return;
        }
        self.since = Instant::now();
        (self.sent_initial, self.sent_repeated) = (0, 0);
        if let Ok(stream) = TcpStream::connect_timeout(&node, RECONNECT_DELAY)
            && stream.set_nonblocking(true).is_ok()
        {
            self.stream = Some(stream);
        }
    }
}

/// Sends `bytes` from offset `at` until `most` or until the socket would block. Returns how many bytes it sent.
fn send(stream: &mut TcpStream, bytes: &[u8], at: &mut usize, most: usize) -> std::io::Result<usize> {
    let before = *at;
    while *at < bytes.len().min(most) {
        match stream.write(&bytes[*at..bytes.len().min(most)]) {
            Ok(count) => *at += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(*at - before)
}

/// Sends `bytes` repeatedly until `due` bytes are sent in total, or until the socket would block. Returns how many
/// bytes it sent.
fn send_repeated(
    stream: &mut TcpStream,
    bytes: &[u8],
    sent: &mut usize,
    due: usize,
) -> std::io::Result<usize> {
    let before = *sent;
    while *sent < due {
        let mut at = *sent % bytes.len();
        let most = (at + due - *sent).min(bytes.len());
        let count = send(stream, bytes, &mut at, most)?;
        if count == 0 {
            break;
        }
        *sent += count;
    }
    Ok(*sent - before)
}

/// Fails when the node has reset the connection.
fn check(stream: &TcpStream) -> std::io::Result<()> {
    stream.take_error()?.map_or(Ok(()), Err)
}

/// Reads and discards all input. Fails when the node has closed the connection.
fn discard_input(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut scratch = [0; 65_536];
    loop {
        match stream.read(&mut scratch) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
