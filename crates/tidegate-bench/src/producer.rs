//! Publishes on raw TCP sockets, so that publishing costs little: one socket to nats-server, or one to each thread of
//! the baseline.

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

use anyhow::Context as _;
use anyhow::bail;

use crate::baseline;
use crate::client::CONNECT;
use crate::payload::Template;

/// Longest time for nats-server to reply.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How often the producer reads pings from nats-server.
const PING_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// The most bytes per write at a steady rate, so that pings are answered in between.
const BATCH: usize = 256 * 1024;

/// Where a producer publishes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// nats-server's client port.
    Nats(SocketAddr),
    /// The ports of the baseline's threads. Each gets all publications.
    Baseline(Vec<SocketAddr>),
}

/// Connections that publish.
#[derive(Debug)]
pub struct Producer {
    streams: Vec<TcpStream>,
    is_nats: bool,
    template: Arc<Template>,
    out: Vec<u8>,
    /// By stream: how many bytes of `out` are sent.
    sent: Vec<usize>,
    last_ping_check: Instant,
}

impl Producer {
    /// Connects. With nats-server, waits until it accepts the connection.
    pub fn connect(destination: &Destination, template: Arc<Template>) -> anyhow::Result<Self> {
        let (addresses, is_nats) = match destination {
            Destination::Nats(address) => (std::slice::from_ref(address), true),
            Destination::Baseline(addresses) => (&addresses[..], false),
        };
        let mut streams = Vec::new();
        for address in addresses {
            let mut stream = TcpStream::connect(address).context("the producer cannot connect")?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            if is_nats {
                connect_to_nats(&mut stream)?;
            } else {
                stream.write_all(baseline::FEED)?;
            }
            stream.set_nonblocking(true)?;
            streams.push(stream);
        }
        let sent = vec![0; streams.len()];
        Ok(Self { streams, is_nats, template, out: Vec::new(), sent, last_ping_check: Instant::now() })
    }

    /// Queues the publication with this number.
    pub fn add(&mut self, number: u64) {
        self.template.append(number, &mut self.out);
    }

    /// Sends queued publications until a socket would block. Returns whether all are sent.
    pub fn flush(&mut self) -> anyhow::Result<bool> {
        self.answer_pings()?;
        for (stream, sent) in self.streams.iter_mut().zip(&mut self.sent) {
            while *sent < self.out.len() {
                match stream.write(&self.out[*sent..]) {
                    Ok(count) => *sent += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("cannot send publications"),
                }
            }
        }
        if self.sent.iter().any(|sent| *sent < self.out.len()) {
            return Ok(false);
        }
        self.out.clear();
        self.sent.fill(0);
        Ok(true)
    }

    /// Sends all queued publications, without a time limit.
    pub fn flush_all(&mut self) -> anyhow::Result<()> {
        while !self.flush()? {
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Reads from nats-server, and queues replies to its pings. Fails if nats-server reports an error.
    fn answer_pings(&mut self) -> anyhow::Result<()> {
        if !self.is_nats
            || !self.out.is_empty() && self.sent[0] > 0
            || self.last_ping_check.elapsed() < PING_CHECK_INTERVAL
        {
            return Ok(());
        }
        self.last_ping_check = Instant::now();
        let mut received = [0; 4096];
        match self.streams[0].read(&mut received) {
            Ok(0) => bail!("nats-server closed the connection of the producer"),
            Ok(count) => {
                let received = String::from_utf8_lossy(&received[..count]);
                if received.contains("-ERR") {
                    bail!("nats-server rejected a publication: {}", received.trim());
                }
                if received.contains("PING") {
                    self.out.extend_from_slice(b"PONG\r\n");
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("the producer cannot read from nats-server"),
        }
    }

    /// Publishes at a steady rate on a separate thread, until it is stopped. `first` is the first number.
    pub fn start_at_rate(self, per_s: f64, first: u64) -> anyhow::Result<SteadyProducer> {
        let start = Instant::now();
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(first)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&next));
        let thread = std::thread::Builder::new().name("producer".to_owned());
        let thread = thread.spawn(move || self.publish(per_s, start, &stopped, &counter))?;
        Ok(SteadyProducer { start, per_s, first, stop, next, thread: Some(thread) })
    }

    fn publish(
        mut self,
        per_s: f64,
        start: Instant,
        stop: &AtomicBool,
        counter: &AtomicU64,
    ) -> anyhow::Result<()> {
        let first = counter.load(Ordering::Relaxed);
        let mut next = first;
        while !stop.load(Ordering::Relaxed) {
            let due = first + (start.elapsed().as_secs_f64() * per_s) as u64;
            while next <= due && self.out.len() < BATCH {
                self.add(next);
                next += 1;
            }
            self.flush_all()?;
            counter.store(next, Ordering::Relaxed);
            let wait = start + Duration::from_secs_f64((next - first) as f64 / per_s);
            // Wakes up at least every 100 ms, to notice `stop` and to answer pings.
            let wait = wait.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
            std::thread::sleep(wait);
        }
        Ok(())
    }
}

/// A thread that publishes at a steady rate. It stops when this is dropped.
#[derive(Debug)]
pub struct SteadyProducer {
    start: Instant,
    per_s: f64,
    first: u64,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl SteadyProducer {
    /// The number of the next publication.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// When a publication was due, whether or not it was sent in time.
    pub fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number.saturating_sub(self.first) as f64 / self.per_s)
    }

    /// Whether the thread has ended, because of an error.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops publishing. Returns the number that would have been next.
    pub fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the producer is already stopped")?;
        match thread.join() {
            Ok(ended) => ended.map(|()| self.next()),
            Err(_) => bail!("the producer panicked"),
        }
    }
}

impl Drop for SteadyProducer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn connect_to_nats(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(format!("{CONNECT}PING\r\n").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"PONG\r\n") {
        let mut fresh = [0; 4096];
        let count = stream.read(&mut fresh).context("nats-server does not reply to the producer")?;
        if count == 0 {
            bail!("nats-server rejected the producer: {}", String::from_utf8_lossy(&answer));
        }
        answer.extend_from_slice(&fresh[..count]);
    }
    Ok(())
}
