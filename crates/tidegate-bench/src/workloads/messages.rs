//! `fanout`, `market`, `private` and `lone`: publications to many sockets, either in a closed loop with a fixed number in
//! flight, or at a steady rate.

mod wakeups;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::Bench;
use crate::client_pool::ClientPool;
use crate::delivery_tracker::DeliveryTracker;
use crate::delivery_tracker::Guarantee;
use crate::delivery_tracker::Shape;
use crate::delivery_tracker::quantile_ms;
use crate::metrics::Metric;
use crate::metrics::Round;
use crate::metrics::number;
use crate::payload::Template;
use crate::process_usage;
use crate::producer::Producer;
use crate::producer::SteadyProducer;
use crate::servers::Servers;
use crate::servers::Target;
use crate::servers::settings::Settings;
use crate::workloads::messages::wakeups::EventCounters;
use crate::workloads::messages::wakeups::Switches;

/// The measurement fails if nothing arrives for this long.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Time for perf to attach to the servers.
const ATTACH: Duration = Duration::from_millis(500);

pub const DELIVERIES: Metric = Metric::compared("deliveries_per_s", "deliveries/s", 0);
pub const CPU: Metric = Metric::compared("cpu_us", "CPU µs per delivery", 3);
const NATS: Metric = Metric::plain("nats_us", "- share of nats-server", 3);
pub const FRONT: Metric = Metric::plain("front_us", "- share of Tidegate or baseline", 3);
const CLIENTS: Metric = Metric::plain("clients_us", "clients, not counted", 3);
pub const P50: Metric = Metric::compared("p50_ms", "latency p50, ms", 2);
pub const P99: Metric = Metric::compared("p99_ms", "latency p99, ms", 2);
const P999: Metric = Metric::compared("p999_ms", "latency p99.9, ms", 2);
const MAX: Metric = Metric::compared("max_ms", "latency max, ms", 2);
const PER_WRITE: Metric = Metric::plain("deliveries_per_write", "deliveries per write", 1);
const WIRE: Metric = Metric::plain("wire_bytes", "bytes on the wire per delivery", 0);
const COMPRESSED: Metric = Metric::plain("compressed", "- of them compressed, %", 0);
const MEMORY: Metric = Metric::compared("memory_mib", "memory at the end, MiB", 1);
const RECEIVED: Metric = Metric::plain("received", "received, none missing", 0);

/// Selects the names of the subjects, and with them their class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    Fanout,
    Market,
    Private,
    /// As private, one at a time: the wake-ups are counted too, and Tidegate is measured with each `lane`.
    Lone,
}

/// When publications are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pacing {
    /// This many are in flight. The next is sent when one of them has reached all its subscribers.
    Window(u64),
    /// Publications per second, whether or not earlier ones have arrived.
    Rate(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Messages {
    pub kind: SubjectKind,
    pub shape: Shape,
    pub pacing: Pacing,
    /// Payload size in bytes.
    pub size: usize,
    /// Tidegate sends the newest publication of a subject at most once per this interval; 0 means all publications.
    pub max_rate_ms: u64,
    /// The `feed` key of the class of private subjects, or `own` for its `lane` key; left out if empty.
    pub feed: String,
    /// Whether clients offer permessage-deflate.
    pub compress: bool,
}

/// All counters at one moment.
struct Counters {
    at: Instant,
    deliveries: u64,
    nats: Duration,
    front: Duration,
    own: Duration,
    switches: Switches,
    writes: u64,
    bytes: u64,
    compressed: u64,
}

/// A measurement in progress.
struct MessagesRun<'a> {
    workload: &'a Messages,
    servers: Servers,
    pool: ClientPool,
    tracker: DeliveryTracker,
}

impl Messages {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        if self.compress && matches!(target, Target::NatsServer) {
            bail!("the bench cannot read compressed messages of nats-server: leave out --peer or --compress");
        }
        let settings = Settings {
            feed: if target.has_own_lane() { "own".to_owned() } else { self.feed.clone() },
            max_rate_ms: self.max_rate_ms,
            compress: self.compress,
            ..bench.settings()
        };
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let subjects = target.subjects(self.subjects());
        let config =
            |client| servers.client_config(client, &subjects, &self.shape.subjects_of(client), &settings);
        let pool = ClientPool::connected((0..self.shape.sockets).map(config))?;
        let template = Arc::new(match target {
            Target::Baseline => Template::for_baseline(&subjects, self.size),
            Target::NatsServer
            | Target::Tidegate { .. }
            | Target::Centrifugo { .. }
            | Target::StockAgent { .. }
            | Target::Vocabulary { .. } => Template::for_nats(&subjects, self.size),
        });
        let producer = Producer::connect(&servers.destination(), template)?;
        // nats-server and the baseline do not conflate: they deliver every publication.
        let conflated = self.max_rate_ms > 0 && matches!(target, Target::Tidegate { .. });
        let guarantee = if conflated { Guarantee::Newest } else { Guarantee::All };
        let run = MessagesRun {
            workload: self,
            servers,
            pool,
            tracker: DeliveryTracker::new(self.shape, guarantee)?,
        };
        match self.pacing {
            Pacing::Window(window) => run.run_window(bench, producer, window),
            Pacing::Rate(rate) => run.run_rate(bench, producer, rate),
        }
    }

    fn subjects(&self) -> Vec<String> {
        // All names have the same length, so that the payload has the same offset in all messages.
        let name = |number: usize| match self.kind {
            SubjectKind::Fanout => "bench.fanout".to_owned(),
            SubjectKind::Market if self.max_rate_ms > 0 => format!("bench.latest.S{number:05}"),
            SubjectKind::Market => format!("bench.market.S{number:05}"),
            SubjectKind::Private | SubjectKind::Lone => format!("bench.user.U{number:06}.notifications"),
        };
        (0..self.shape.subjects).map(name).collect()
    }

    pub fn title(&self) -> String {
        let Shape { sockets, subjects, per_socket } = self.shape;
        let (sockets, subjects) = (number(sockets as f64, 0), number(subjects as f64, 0));
        let what = match self.kind {
            SubjectKind::Fanout => format!("1 subject × {sockets} sockets"),
            SubjectKind::Market => {
                format!("{subjects} subjects × {per_socket} per socket, {sockets} sockets")
            }
            SubjectKind::Private | SubjectKind::Lone => format!("{sockets} sockets with a subject each"),
        };
        let how = match self.pacing {
            Pacing::Window(window) => format!("{window} in flight"),
            Pacing::Rate(rate) => format!("{} messages/s", number(rate, 0)),
        };
        let mut title = format!("{what}, {how}, {} B", self.size);
        if self.max_rate_ms > 0 {
            title += &format!(", the newest every {} ms", self.max_rate_ms);
        }
        title += &how_fed(&self.feed);
        if self.compress {
            title += ", compressed";
        }
        title
    }
}

/// The part of a title about [`Messages::feed`].
pub(super) fn how_fed(feed: &str) -> String {
    match feed {
        "" => String::new(),
        "own" => ", in the lane of the first client".to_owned(),
        feed => format!(", feed by {feed}"),
    }
}

impl MessagesRun<'_> {
    /// Keeps `window` publications in flight.
    fn run_window(mut self, bench: &Bench, mut producer: Producer, window: u64) -> anyhow::Result<Round> {
        let start = Instant::now();
        let end = bench.warm_up + bench.seconds;
        let (mut before, mut after) = (None, None);
        let mut progress = (0, start);
        while after.is_none() || self.tracker.in_flight() > 0 {
            if after.is_none() {
                let now = Instant::now();
                while self.tracker.in_flight() < window {
                    producer.add(self.tracker.record_sent(now));
                }
            }
            let left = !producer.flush()?;
            let (pool, tracker) = (&mut self.pool, &mut self.tracker);
            let wait = Duration::from_millis(if left { 1 } else { 50 });
            pool.poll(wait, &mut |client, event, now| tracker.record(client, event, now, None))?;
            self.check(&mut progress)?;
            let elapsed = start.elapsed();
            if before.is_none() && elapsed >= bench.warm_up {
                before = Some(self.counters()?);
                self.tracker.reset_latency();
            } else if before.is_some() && after.is_none() && elapsed >= end {
                after = Some(self.counters()?);
            }
        }
        let next = self.tracker.next;
        match (before, after) {
            (Some(before), Some(after)) => self.metrics(&before, &after, next),
            _ => bail!("nothing was measured"),
        }
    }

    /// Publishes at a steady rate. Latency counts from the time when a publication was due, so that it includes delays
    /// caused by earlier publications.
    fn run_rate(mut self, bench: &Bench, producer: Producer, rate: f64) -> anyhow::Result<Round> {
        let start = Instant::now();
        let steady = producer.start_at_rate(rate, 0)?;
        let mut progress = (0, start);
        self.run_part(&steady, bench.warm_up, &mut progress)?;
        let before = self.counters()?;
        self.tracker.reset_latency();
        self.run_part(&steady, bench.seconds, &mut progress)?;
        let (after, latency) = (self.counters()?, self.tracker.latency.clone());
        let mut events = Round::default();
        if self.workload.kind == SubjectKind::Lone {
            self.count_events(bench, &steady, &mut progress, &mut events)?;
        }
        let next = steady.stop()?;
        let due = |_| start;
        while !self.tracker.is_settled(next) {
            let tracker = &mut self.tracker;
            self.pool.poll(Duration::from_millis(10), &mut |client, event, now| {
                tracker.record(client, event, now, Some(&due));
            })?;
            self.check(&mut progress)?;
        }
        self.tracker.latency = latency;
        let mut round = self.metrics(&before, &after, next)?;
        round.metrics.append(&mut events.metrics);
        round.notes.append(&mut events.notes);
        Ok(round)
    }

    /// Receives for this long, while publications are sent at a steady rate.
    fn run_part(
        &mut self,
        steady: &SteadyProducer,
        part: Duration,
        progress: &mut (u64, Instant),
    ) -> anyhow::Result<()> {
        let end = Instant::now() + part;
        while Instant::now() < end {
            let tracker = &mut self.tracker;
            let due = |number| steady.due(number);
            self.pool.poll(Duration::from_millis(10), &mut |client, event, now| {
                tracker.record(client, event, now, Some(&due));
            })?;
            self.check(progress)?;
            if steady.has_ended() {
                bail!("the producer stopped early");
            }
        }
        Ok(())
    }

    /// Counts events in a part after the measurement, because counting them takes time.
    fn count_events(
        &mut self,
        bench: &Bench,
        steady: &SteadyProducer,
        progress: &mut (u64, Instant),
        round: &mut Round,
    ) -> anyhow::Result<()> {
        let mut counters = EventCounters::attach(&self.servers, &bench.programs.folder);
        // Receives what arrived meanwhile, so that only deliveries during the count are counted.
        self.run_part(steady, ATTACH, progress)?;
        counters.start();
        let before = self.tracker.deliveries;
        self.run_part(steady, bench.seconds, progress)?;
        counters.stop();
        counters.add_to(round, (self.tracker.deliveries - before) as f64);
        Ok(())
    }

    /// Fails at the first fault, or if nothing arrives for [`TIMEOUT`].
    fn check(&self, progress: &mut (u64, Instant)) -> anyhow::Result<()> {
        self.tracker.check_faults()?;
        if self.tracker.deliveries != progress.0 {
            *progress = (self.tracker.deliveries, Instant::now());
        } else if progress.1.elapsed() > TIMEOUT {
            let (in_flight, deliveries) = (self.tracker.in_flight(), self.tracker.deliveries);
            bail!(
                "nothing arrived for {TIMEOUT:?}: {in_flight} publications in flight, {deliveries} deliveries"
            );
        }
        Ok(())
    }

    fn counters(&self) -> anyhow::Result<Counters> {
        let (nats, front) = self.servers.cpu()?;
        Ok(Counters {
            at: Instant::now(),
            deliveries: self.tracker.deliveries,
            nats,
            front,
            own: process_usage::cpu(std::process::id())?,
            switches: Switches::now(&self.servers)?,
            writes: process_usage::writes(self.servers.client_facing_pid()?)?,
            bytes: self.pool.bytes(),
            compressed: self.tracker.compressed,
        })
    }

    fn metrics(&self, before: &Counters, after: &Counters, next: u64) -> anyhow::Result<Round> {
        let expected = self.tracker.expected_deliveries(next);
        if self.workload.max_rate_ms == 0 && self.tracker.deliveries != expected {
            bail!("{} deliveries instead of {expected}", self.tracker.deliveries);
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
        for (metric, quantile) in [(&P50, 0.5), (&P99, 0.99), (&P999, 0.999), (&MAX, 1.0)] {
            round.add(metric, quantile_ms(&self.tracker.latency, quantile));
        }
        // The kernel counts `write` and `writev`; Tidegate nearly always calls `send`.
        if let Some((answered, failed)) = self.servers.scrapes() {
            round.expect("each scrape of /metrics is answered", answered > 0 && failed == 0);
        }
        if !self.servers.is_tidegate() {
            round.add(&PER_WRITE, deliveries / (after.writes - before.writes) as f64);
        }
        round.add(&WIRE, (after.bytes - before.bytes) as f64 / deliveries);
        if self.workload.compress {
            round.add(&COMPRESSED, (after.compressed - before.compressed) as f64 * 100.0 / deliveries);
        }
        if self.workload.kind == SubjectKind::Lone {
            after.switches.add_to(&mut round, before.switches, deliveries);
        }
        round.add(&MEMORY, (nats_memory + front_memory) as f64 / 1_048_576.0);
        round.add(&RECEIVED, self.tracker.deliveries as f64);
        if self.workload.max_rate_ms > 0 {
            // The checks above fail otherwise.
            round.expect(
                "no gap, no older value after a newer one, and in the end the newest value of every subject",
                true,
            );
        }
        Ok(round)
    }
}
