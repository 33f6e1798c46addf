//! `fanout`, `market` and `private`: publications to many sockets, in a closed loop (so many in flight) or at a steady
//! rate.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::Bench;
use crate::crowd::Crowd;
use crate::figures::Figure;
use crate::figures::Round;
use crate::figures::number;
use crate::flow::Flow;
use crate::flow::Promise;
use crate::flow::Shape;
use crate::flow::quantile_ms;
use crate::payload::Template;
use crate::producer::Producer;
use crate::servers::Servers;
use crate::servers::Target;
use crate::servers::settings::Settings;
use crate::usage;

/// How long nothing may arrive before it counts as never.
const PATIENCE: Duration = Duration::from_secs(20);

pub const DELIVERIES: Figure = Figure::compared("deliveries_per_s", "deliveries/s", 0);
pub const CPU: Figure = Figure::compared("cpu_us", "CPU µs a delivery", 3);
const NATS: Figure = Figure::shown("nats_us", "- of it nats-server", 3);
pub const FRONT: Figure = Figure::shown("front_us", "- of it Tidegate or floor", 3);
const CLIENTS: Figure = Figure::shown("clients_us", "clients, not counted", 3);
pub const P50: Figure = Figure::compared("p50_ms", "latency p50, ms", 2);
pub const P99: Figure = Figure::compared("p99_ms", "latency p99, ms", 2);
const P999: Figure = Figure::compared("p999_ms", "latency p99.9, ms", 2);
const MAX: Figure = Figure::compared("max_ms", "latency max, ms", 2);
const PER_WRITE: Figure = Figure::shown("deliveries_per_write", "deliveries a write", 1);
const WIRE: Figure = Figure::shown("wire_bytes", "bytes on the wire a delivery", 0);
const COMPRESSED: Figure = Figure::shown("compressed", "- of them compressed, %", 0);
const MEMORY: Figure = Figure::compared("memory_mib", "memory at the end, MiB", 1);
const RECEIVED: Figure = Figure::shown("received", "received, none missing", 0);

/// What the subjects are called, and which class they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Fanout,
    Market,
    Private,
}

/// When something is published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Drive {
    /// So many are in flight; the next goes when one of them has reached everybody.
    Window(u64),
    /// So many a second, whatever becomes of them.
    Rate(f64),
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Messages {
    pub kind: Kind,
    pub shape: Shape,
    pub drive: Drive,
    /// Bytes of a payload.
    pub size: usize,
    /// At most one publication of a subject in so many milliseconds, the newest; 0 for all.
    pub max_rate_ms: u64,
    /// What the class of private subjects says of its feed; nothing if empty.
    pub feed: String,
    /// Whether clients offer permessage-deflate.
    pub compress: bool,
}

/// What is counted at one moment.
struct Reading {
    at: Instant,
    deliveries: u64,
    nats: Duration,
    front: Duration,
    own: Duration,
    writes: u64,
    bytes: u64,
    compressed: u64,
}

/// One measurement under way.
struct Run<'a> {
    work: &'a Messages,
    servers: Servers,
    crowd: Crowd,
    flow: Flow,
}

impl Messages {
    /// Measures a target once.
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        if self.compress && matches!(target, Target::Peer) {
            bail!("what nats-server compresses cannot be counted: leave out --peer or --compress");
        }
        let settings = Settings {
            feed: self.feed.clone(),
            max_rate_ms: self.max_rate_ms,
            compress: self.compress,
            ..bench.settings()
        };
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let subjects = target.subjects(self.subjects());
        let wish = |client| servers.wish(client, &subjects, &self.shape.wanted(client), &settings);
        let crowd = Crowd::connected((0..self.shape.sockets).map(wish))?;
        let template = Arc::new(match target {
            Target::Floor => Template::for_floor(&subjects, self.size),
            Target::Peer | Target::Tidegate { .. } | Target::Described { .. } | Target::File { .. } => {
                Template::for_nats(&subjects, self.size)
            }
        });
        let producer = Producer::connect(&servers.outlet(), template)?;
        // nats-server and the floor deliver all there is; so their deliveries cannot be those of `latest`.
        let conflated = self.max_rate_ms > 0 && matches!(target, Target::Tidegate { .. });
        let promise = if conflated { Promise::Newest } else { Promise::All };
        let run = Run { work: self, servers, crowd, flow: Flow::new(self.shape, promise)? };
        match self.drive {
            Drive::Window(window) => run.closed(bench, producer, window),
            Drive::Rate(rate) => run.open(bench, producer, rate),
        }
    }

    fn subjects(&self) -> Vec<String> {
        // As long as each other, so that the payload begins at the same place in all messages.
        let name = |number: usize| match self.kind {
            Kind::Fanout => "bench.fanout".to_owned(),
            Kind::Market if self.max_rate_ms > 0 => format!("bench.latest.S{number:05}"),
            Kind::Market => format!("bench.market.S{number:05}"),
            Kind::Private => format!("bench.user.U{number:06}.notifications"),
        };
        (0..self.shape.subjects).map(name).collect()
    }

    /// What it is, in a line.
    pub fn title(&self) -> String {
        let Shape { sockets, subjects, per_socket } = self.shape;
        let (sockets, subjects) = (number(sockets as f64, 0), number(subjects as f64, 0));
        let what = match self.kind {
            Kind::Fanout => format!("1 subject × {sockets} sockets"),
            Kind::Market => format!("{subjects} subjects × {per_socket} a socket, {sockets} sockets"),
            Kind::Private => format!("{sockets} sockets with a subject each"),
        };
        let how = match self.drive {
            Drive::Window(window) => format!("{window} in flight"),
            Drive::Rate(rate) => format!("{} messages/s", number(rate, 0)),
        };
        let mut title = format!("{what}, {how}, {} B", self.size);
        if self.max_rate_ms > 0 {
            title += &format!(", the newest each {} ms", self.max_rate_ms);
        }
        if !self.feed.is_empty() {
            title += &format!(", feed by {}", self.feed);
        }
        if self.compress {
            title += ", compressed";
        }
        title
    }
}

impl Run<'_> {
    /// A window of publications, refilled as soon as everybody has received one.
    fn closed(mut self, bench: &Bench, mut producer: Producer, window: u64) -> anyhow::Result<Round> {
        let start = Instant::now();
        let end = bench.warm_up + bench.seconds;
        let (mut before, mut after) = (None, None);
        let mut progress = (0, start);
        while after.is_none() || self.flow.in_flight() > 0 {
            if after.is_none() {
                let now = Instant::now();
                while self.flow.in_flight() < window {
                    producer.add(self.flow.depart(now));
                }
            }
            let left = !producer.flush()?;
            let (crowd, flow) = (&mut self.crowd, &mut self.flow);
            let wait = Duration::from_millis(if left { 1 } else { 50 });
            crowd.turn(wait, &mut |client, heard, now| flow.hear(client, heard, now, None))?;
            self.check(&mut progress)?;
            let elapsed = start.elapsed();
            if before.is_none() && elapsed >= bench.warm_up {
                before = Some(self.reading()?);
                self.flow.begin();
            } else if before.is_some() && after.is_none() && elapsed >= end {
                after = Some(self.reading()?);
            }
        }
        let next = self.flow.next;
        match (before, after) {
            (Some(before), Some(after)) => self.figures(&before, &after, next),
            _ => bail!("nothing was measured"),
        }
    }

    /// A steady rate. Latency counts from when a publication was meant to go, so that what is late because of what
    /// came before it is late.
    fn open(mut self, bench: &Bench, producer: Producer, rate: f64) -> anyhow::Result<Round> {
        let start = Instant::now();
        let steady = producer.steadily(rate, 0)?;
        let mut readings = Vec::new();
        let mut progress = (0, start);
        for part in [bench.warm_up, bench.seconds] {
            let end = Instant::now() + part;
            while Instant::now() < end {
                let flow = &mut self.flow;
                let due = |number| steady.due(number);
                self.crowd.turn(Duration::from_millis(10), &mut |client, heard, now| {
                    flow.hear(client, heard, now, Some(&due));
                })?;
                self.check(&mut progress)?;
                if steady.has_ended() {
                    steady.stop()?;
                    bail!("the producer has ended by itself");
                }
            }
            readings.push(self.reading()?);
            if readings.len() == 1 {
                self.flow.begin();
            }
        }
        let latency = self.flow.latency.clone();
        let next = steady.stop()?;
        let due = |_| start;
        while !self.flow.is_settled(next) {
            let flow = &mut self.flow;
            self.crowd.turn(Duration::from_millis(10), &mut |client, heard, now| {
                flow.hear(client, heard, now, Some(&due));
            })?;
            self.check(&mut progress)?;
        }
        self.flow.latency = latency;
        self.figures(&readings[0], &readings[1], next)
    }

    /// Fails at the first fault, or when nothing arrives any more.
    fn check(&self, progress: &mut (u64, Instant)) -> anyhow::Result<()> {
        self.flow.check_faults()?;
        if self.flow.deliveries != progress.0 {
            *progress = (self.flow.deliveries, Instant::now());
        } else if progress.1.elapsed() > PATIENCE {
            let (in_flight, deliveries) = (self.flow.in_flight(), self.flow.deliveries);
            bail!(
                "nothing arrives for {PATIENCE:?}: {in_flight} publications in flight, {deliveries} deliveries"
            );
        }
        Ok(())
    }

    fn reading(&self) -> anyhow::Result<Reading> {
        let (nats, front) = self.servers.cpu()?;
        Ok(Reading {
            at: Instant::now(),
            deliveries: self.flow.deliveries,
            nats,
            front,
            own: usage::cpu(std::process::id())?,
            writes: usage::writes(self.servers.facing()?)?,
            bytes: self.crowd.bytes(),
            compressed: self.flow.compressed,
        })
    }

    fn figures(&self, before: &Reading, after: &Reading, next: u64) -> anyhow::Result<Round> {
        let owed = self.flow.owed(next);
        if self.work.max_rate_ms == 0 && self.flow.deliveries != owed {
            bail!("{} deliveries in place of {owed}", self.flow.deliveries);
        }
        let deliveries = (after.deliveries - before.deliveries) as f64;
        let cost =
            |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / deliveries;
        let (nats, front) = (cost(after.nats, before.nats), cost(after.front, before.front));
        let (nats_memory, front_memory) = self.servers.memory()?;
        let mut round = Round::default();
        round.add(&DELIVERIES, deliveries / (after.at - before.at).as_secs_f64());
        round.add(&CPU, nats + front);
        round.add(&NATS, nats);
        round.add(&FRONT, front);
        round.add(&CLIENTS, cost(after.own, before.own));
        for (figure, quantile) in [(&P50, 0.5), (&P99, 0.99), (&P999, 0.999), (&MAX, 1.0)] {
            round.add(figure, quantile_ms(&self.flow.latency, quantile));
        }
        // The kernel counts `write` and `writev`; Tidegate nearly always calls `send`.
        if !self.servers.is_tidegate() {
            round.add(&PER_WRITE, deliveries / (after.writes - before.writes) as f64);
        }
        round.add(&WIRE, (after.bytes - before.bytes) as f64 / deliveries);
        if self.work.compress {
            round.add(&COMPRESSED, (after.compressed - before.compressed) as f64 * 100.0 / deliveries);
        }
        round.add(&MEMORY, (nats_memory + front_memory) as f64 / 1_048_576.0);
        round.add(&RECEIVED, self.flow.deliveries as f64);
        if self.work.max_rate_ms > 0 {
            // Or it would not have come so far.
            round.expect("no gap, nothing older than before, and at rest the newest of every subject", true);
        }
        Ok(round)
    }
}
