//! A producer: bare TCP sockets, so that publishing costs this program as little as possible. One socket to
//! nats-server, or one to each thread of the floor.

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

use crate::client::CONNECT;
use crate::floor;
use crate::payload::Template;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the server's pings are looked for.
const LISTEN_EVERY: Duration = Duration::from_millis(200);
/// What goes in one write at a steady rate, so that pings are answered in between.
const BATCH: usize = 256 * 1024;

/// Where publications go.
#[derive(Clone, Debug)]
pub enum Outlet {
    /// A nats-server.
    Nats(SocketAddr),
    /// The threads of the floor: each gets all.
    Floor(Vec<SocketAddr>),
}

/// One that publishes.
#[derive(Debug)]
pub struct Producer {
    streams: Vec<TcpStream>,
    speaks_nats: bool,
    template: Arc<Template>,
    out: Vec<u8>,
    /// How much of it has gone, by stream.
    sent: Vec<usize>,
    listened: Instant,
}

impl Producer {
    /// Connects, and waits until nats-server has answered.
    pub fn connect(outlet: &Outlet, template: Arc<Template>) -> anyhow::Result<Self> {
        let (addresses, speaks_nats) = match outlet {
            Outlet::Nats(address) => (std::slice::from_ref(address), true),
            Outlet::Floor(addresses) => (&addresses[..], false),
        };
        let mut streams = Vec::new();
        for address in addresses {
            let mut stream = TcpStream::connect(address).context("nobody takes publications")?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            if speaks_nats {
                greet(&mut stream)?;
            } else {
                stream.write_all(floor::FEED)?;
            }
            stream.set_nonblocking(true)?;
            streams.push(stream);
        }
        let sent = vec![0; streams.len()];
        Ok(Self { streams, speaks_nats, template, out: Vec::new(), sent, listened: Instant::now() })
    }

    /// Adds a publication to what goes next.
    pub fn add(&mut self, number: u64) {
        self.template.put(number, &mut self.out);
    }

    /// Sends what was added, as far as it is taken. False if some is left.
    pub fn flush(&mut self) -> anyhow::Result<bool> {
        self.listen()?;
        for (stream, sent) in self.streams.iter_mut().zip(&mut self.sent) {
            while *sent < self.out.len() {
                match stream.write(&self.out[*sent..]) {
                    Ok(count) => *sent += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("publications are not taken"),
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

    /// Sends all of it, however long that takes.
    pub fn flush_all(&mut self) -> anyhow::Result<()> {
        while !self.flush()? {
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// The server's pings, answered with what goes next.
    fn listen(&mut self) -> anyhow::Result<()> {
        if !self.speaks_nats
            || !self.out.is_empty() && self.sent[0] > 0
            || self.listened.elapsed() < LISTEN_EVERY
        {
            return Ok(());
        }
        self.listened = Instant::now();
        let mut heard = [0; 4096];
        match self.streams[0].read(&mut heard) {
            Ok(0) => bail!("nats-server has closed the connection of the producer"),
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

    /// Publishes at a steady rate on a thread of its own, until it is told to stop.
    pub fn steadily(self, per_s: f64, first: u64) -> anyhow::Result<Steady> {
        let start = Instant::now();
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(first)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&next));
        let thread = std::thread::Builder::new().name("producer".to_owned());
        let thread = thread.spawn(move || self.publish(per_s, start, &stopped, &counter))?;
        Ok(Steady { start, per_s, first, stop, next, thread: Some(thread) })
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
            // Whoever waits for long must still hear that it is to stop, and answer pings.
            let wait = wait.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
            std::thread::sleep(wait);
        }
        Ok(())
    }
}

/// A producer at a steady rate. It stops when this is dropped.
#[derive(Debug)]
pub struct Steady {
    start: Instant,
    per_s: f64,
    first: u64,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Steady {
    /// The number of the next publication.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// When a publication was meant to go, whether or not it could.
    pub fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number.saturating_sub(self.first) as f64 / self.per_s)
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops it; the number of the publication that would have been next.
    pub fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the producer has been stopped before")?;
        match thread.join() {
            Ok(ended) => ended.map(|()| self.next()),
            Err(_) => bail!("the producer has panicked"),
        }
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn greet(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(format!("{CONNECT}PING\r\n").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"PONG\r\n") {
        let mut fresh = [0; 4096];
        let count = stream.read(&mut fresh).context("nats-server does not answer a producer")?;
        if count == 0 {
            bail!("nats-server refuses a producer: {}", String::from_utf8_lossy(&answer));
        }
        answer.extend_from_slice(&fresh[..count]);
    }
    Ok(())
}
