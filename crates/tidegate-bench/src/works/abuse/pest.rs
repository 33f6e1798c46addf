//! Pests: sockets on a thread of their own that send what a script says, at the pace that it says, throw away what they
//! hear, and come again when they are sent away.

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

/// How long a pest rests that has been sent away.
const REST: Duration = Duration::from_millis(200);
/// From one turn of all pests to the next.
const TURN: Duration = Duration::from_millis(5);

/// What one pest does.
#[derive(Clone, Debug)]
pub struct Script {
    /// Sent at once on each connection.
    first: Vec<u8>,
    /// Then this, over and over.
    then: Vec<u8>,
    /// Bytes a second of it.
    pace: usize,
    /// When it goes by itself and comes again.
    anew: Option<Duration>,
}

impl Script {
    /// A WebSocket at this path, without a credential.
    pub fn socket(path: &str) -> Self {
        let first = format!(
            "GET {path} HTTP/1.1\r\nHost: abuse\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        Self { first: first.into_bytes(), ..Self::silent() }
    }

    /// A socket that says nothing.
    pub fn silent() -> Self {
        Self { first: Vec::new(), then: Vec::new(), pace: 0, anew: None }
    }

    /// HTTP calls, one after the other, so many bytes a second.
    pub fn calls(call: &str, pace: usize) -> Self {
        Self { then: call.as_bytes().to_vec(), pace, ..Self::silent() }
    }

    /// Also says these messages, one a line, with the first write.
    pub fn at_once(mut self, messages: &str) -> Self {
        for message in messages.lines() {
            wire::put_masked(0x81, message.as_bytes(), &mut self.first);
        }
        self
    }

    /// And then this one over and over, so many bytes a second.
    pub fn then(mut self, message: &str, pace: usize) -> Self {
        wire::put_masked(0x81, message.as_bytes(), &mut self.then);
        self.pace = pace;
        self
    }

    /// It goes after so long, and comes again.
    pub fn anew(mut self, after: Duration) -> Self {
        self.anew = Some(after);
        self
    }
}

/// One of them.
struct Pest {
    script: Script,
    stream: Option<TcpStream>,
    /// Since when it is what it is: connected, or not.
    since: Instant,
    /// How much of the first has gone, and of the rest.
    first: usize,
    then: usize,
}

/// All pests of an attack. They end when this is dropped.
pub struct Pests {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Pests {
    /// Lets them loose.
    pub fn begin(node: SocketAddr, scripts: &[Script]) -> anyhow::Result<Self> {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut pests: Vec<_> = scripts.iter().cloned().map(Pest::new).collect();
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::Builder::new().name("pests".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for pest in &mut pests {
                    counter.fetch_add(pest.turn(node) as u64, Ordering::Relaxed);
                }
                std::thread::sleep(TURN);
            }
        })?;
        Ok(Self { stop, sent, thread: Some(thread) })
    }

    /// Ends them; how many bytes they have sent.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Pests {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Pest {
    fn new(script: Script) -> Self {
        Self { script, stream: None, since: Instant::now(), first: 0, then: 0 }
    }

    /// Sends what is due, and hears; how many bytes it has sent.
    fn turn(&mut self, node: SocketAddr) -> usize {
        let Some(stream) = &mut self.stream else {
            self.connect(node);
            return 0;
        };
        let mut sent = 0;
        let result = send(stream, &self.script.first, &mut self.first, usize::MAX).and_then(|count| {
            sent += count;
            let due = (self.since.elapsed().as_secs_f64() * self.script.pace as f64) as usize;
            let count = match self.script.then.len() {
                0 => 0,
                _ if self.first < self.script.first.len() => 0,
                _ => send_over_and_over(stream, &self.script.then, &mut self.then, due)?,
            };
            sent += count;
            hear(stream)
        });
        let is_over = self.script.anew.is_some_and(|after| self.since.elapsed() > after);
        if result.is_err() || is_over {
            self.stream = None;
            self.since = if is_over { Instant::now() - REST } else { Instant::now() };
        }
        sent
    }

    fn connect(&mut self, node: SocketAddr) {
        if self.first + self.then > 0 && self.since.elapsed() < REST {
            return;
        }
        self.since = Instant::now();
        (self.first, self.then) = (0, 0);
        if let Ok(stream) = TcpStream::connect_timeout(&node, REST)
            && stream.set_nonblocking(true).is_ok()
        {
            self.stream = Some(stream);
        }
    }
}

/// Sends on, up to there, as far as it is taken.
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

/// The same for bytes that begin again where they end.
fn send_over_and_over(
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

/// Throws away what has come. An end is an error.
fn hear(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut heard = [0; 65_536];
    loop {
        match stream.read(&mut heard) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
