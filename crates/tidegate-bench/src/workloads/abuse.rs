//! `abuse`: well-behaved clients receive prices while attackers load a node. In turns, they attack another node on the
//! same nats-server and machine, as a control, and the node of the well-behaved clients.

pub mod attack;
pub mod attackers;

use std::net::SocketAddr;
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
use crate::output::print_line;
use crate::payload::Template;
use crate::process_usage;
use crate::producer::Producer;
use crate::producer::SteadyProducer;
use crate::servers::Servers;
use crate::servers::Target;
use crate::servers::settings::Settings;
use crate::workloads::abuse::attack::Attack;

/// Longest time for the last publications to arrive.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Time from the start of an attack to the measurement, and from its end to the next step.
const SETTLE: Duration = Duration::from_secs(1);
/// Number of subjects, and of subjects per well-behaved client.
const SUBJECTS: (usize, usize) = (100, 10);
/// How often each node is attacked. The results are medians: one pause of the machine spoils a 99th percentile.
const TURNS: usize = 3;
/// The largest allowed ratio of the 99th percentile to that of the control.
const MAX_RATIO: f64 = 2.0;
/// A difference that says nothing about the node: a thread of a busy machine waits that long for its turn.
const NOISE_MS: f64 = 1.0;
/// A 99th percentile of fewer deliveries than this is that of a handful, and is not judged.
const MIN_SAMPLES: u64 = 1000;
/// How much memory may grow: less than the attacks try to allocate, more than what an allocator keeps.
const MAX_GROWTH_MIB: f64 = 64.0;

const NO_ATTACK_P50: Metric = Metric::plain("no_attack_p50_ms", "no attack: p50, ms", 2);
const NO_ATTACK_P99: Metric = Metric::plain("no_attack_p99_ms", "no attack: p99, ms", 2);
const CONTROL_P50: Metric = Metric::plain("control_p50_ms", "attack on the other node: p50, ms", 2);
const CONTROL_P99: Metric = Metric::plain("control_p99_ms", "attack on the other node: p99, ms", 2);
const P50: Metric = Metric::plain("p50_ms", "attack on this node: p50, ms", 2);
const P99: Metric = Metric::plain("p99_ms", "attack on this node: p99, ms", 2);
const RATIO: Metric = Metric::plain("ratio", "p99 ÷ p99 of the control", 2);
const FAULTS: Metric = Metric::plain("faults", "faults: lost, out of order, gaps, closed connections", 0);
const MISSING: Metric = Metric::plain("missing", "publications not received", 0);
const RECEIVED: Metric = Metric::plain("received", "publications received", 0);
const SENT: Metric = Metric::plain("attack_mib", "sent by attackers to this node, MiB", 1);
const MEMORY: Metric = Metric::plain("memory_mib", "memory before the attack, MiB", 1);
const PEAK: Metric = Metric::plain("peak_mib", "peak memory, MiB", 1);
const AFTER: Metric = Metric::plain("after_mib", "memory after the attack, MiB", 1);

#[derive(Clone, Debug, PartialEq)]
pub struct Abuse {
    pub attack: Attack,
    /// Number of attackers, for the attacks without a fixed number.
    pub attackers: usize,
    /// Number of well-behaved clients.
    pub sockets: usize,
    /// Publications per second to the well-behaved clients.
    pub rate: f64,
}

/// A measurement in progress: the well-behaved clients, and what they receive.
struct AbuseRun {
    servers: Servers,
    pool: ClientPool,
    tracker: DeliveryTracker,
    steady: SteadyProducer,
    peak: u64,
    last_sample: Instant,
}

/// Latencies of one phase, in milliseconds.
#[derive(Clone, Copy)]
struct Latency {
    p50: f64,
    p99: f64,
    /// The number of deliveries.
    samples: u64,
}

impl Latency {
    /// The medians of several phases, and the deliveries of the one with the fewest.
    fn median(of: &[Self]) -> Self {
        let median = |value: fn(&Self) -> f64| {
            let mut values: Vec<_> = of.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        let samples = of.iter().map(|latency| latency.samples).min().unwrap_or_default();
        Self { p50: median(|latency| latency.p50), p99: median(|latency| latency.p99), samples }
    }
}

impl Abuse {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let vocabulary = Servers::write_file(&bench.programs, "abused.toml", &attack::vocabulary())?;
        let extra_toml = attack::configuration(&vocabulary);
        let settings = Settings {
            extra_toml,
            max_open_files: self.attack.max_open_files(self.sockets),
            ..bench.settings()
        };
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let (second_node, _process) = servers.start_second_node(&settings)?;
        let shape = Shape { sockets: self.sockets, subjects: SUBJECTS.0, per_socket: SUBJECTS.1 };
        let subjects: Vec<_> =
            (0..shape.subjects).map(|subject| format!("bench.prices.S{subject:05}")).collect();
        let config = |client| servers.client_config(client, &subjects, &shape.subjects_of(client), &settings);
        let pool = ClientPool::connected((0..self.sockets).map(config))?;
        let producer =
            Producer::connect(&servers.destination(), Arc::new(Template::for_nats(&subjects, 200)))?;
        let (this, nats) = (servers.address(0), servers.destination());
        let mut run = AbuseRun {
            servers,
            pool,
            tracker: DeliveryTracker::new(shape, Guarantee::All)?,
            steady: producer.start_at_rate(self.rate, 0)?,
            peak: 0,
            last_sample: Instant::now(),
        };
        run.run_for(bench.warm_up)?;
        let no_attack = run.measure(bench.seconds)?;
        let turn = bench.seconds / u32::try_from(TURNS).unwrap_or(1);
        let (mut controls, mut attacked, mut sent) = (Vec::new(), Vec::new(), 0);
        let before = run.memory()?;
        run.peak = before;
        for _ in 0..TURNS {
            controls.push(run.attacked(second_node, self, &nats, turn)?.0);
            let (latency, bytes) = run.attacked(this, self, &nats, turn)?;
            attacked.push(latency);
            sent += bytes;
        }
        let after = run.memory()?;
        let [control, latency] = [controls, attacked].map(|phases| Latency::median(&phases));
        run.end([no_attack, control, latency], [before, after], sent)
    }

    pub fn title(&self) -> String {
        format!(
            "{} well-behaved sockets, {} messages/s, and {}",
            number(self.sockets as f64, 0),
            number(self.rate, 0),
            self.attack.title(self.attackers)
        )
    }
}

impl AbuseRun {
    /// Measures while a node is attacked. Also returns how many bytes the attackers sent.
    fn attacked(
        &mut self,
        node: SocketAddr,
        workload: &Abuse,
        nats: &crate::producer::Destination,
        seconds: Duration,
    ) -> anyhow::Result<(Latency, u64)> {
        let attackers = workload.attack.start(workload.attackers, node, nats)?;
        self.run_for(SETTLE)?;
        let latency = self.measure(seconds)?;
        let sent = attackers.stop();
        self.run_for(SETTLE)?;
        Ok((latency, sent))
    }

    fn measure(&mut self, seconds: Duration) -> anyhow::Result<Latency> {
        self.tracker.reset_latency();
        self.run_for(seconds)?;
        // Waits for late publications, so that their latency counts too.
        let (next, since) = (self.steady.next(), Instant::now());
        while !self.tracker.is_settled(next) && since.elapsed() < TIMEOUT {
            self.poll()?;
        }
        let [p50, p99] = [0.5, 0.99].map(|quantile| quantile_ms(&self.tracker.latency, quantile));
        Ok(Latency { p50, p99, samples: self.tracker.latency.len() })
    }

    fn run_for(&mut self, seconds: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + seconds;
        while Instant::now() < until {
            self.poll()?;
            if self.steady.has_ended() {
                bail!("the producer stopped early");
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> anyhow::Result<()> {
        let (tracker, steady) = (&mut self.tracker, &self.steady);
        let due = |number| steady.due(number);
        self.pool.poll(Duration::from_millis(10), &mut |client, event, now| {
            tracker.record(client, event, now, Some(&due));
        })?;
        if self.last_sample.elapsed() > Duration::from_millis(50) {
            self.last_sample = Instant::now();
            self.peak = self.peak.max(process_usage::resident_estimate(self.servers.client_facing_pid()?)?);
        }
        Ok(())
    }

    fn memory(&self) -> anyhow::Result<u64> {
        process_usage::resident(self.servers.client_facing_pid()?)
    }

    /// Waits for the last publications, and returns the results.
    fn end(
        mut self,
        [no_attack, control, latency]: [Latency; 3],
        [before, after]: [u64; 2],
        sent: u64,
    ) -> anyhow::Result<Round> {
        let (pool, tracker) = (&mut self.pool, &mut self.tracker);
        let next = self.steady.stop()?;
        let (start, due) = (Instant::now(), |_| Instant::now());
        while !tracker.is_settled(next) && start.elapsed() < TIMEOUT {
            pool.poll(Duration::from_millis(10), &mut |client, event, now| {
                tracker.record(client, event, now, Some(&due));
            })?;
        }
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let missing = tracker.expected_deliveries(next).saturating_sub(tracker.deliveries);
        let (faults, first) = tracker.faults();
        let ratio = latency.p99 / control.p99;
        let mut round = Round::default();
        for (metric, value) in [
            (&P99, latency.p99),
            (&RATIO, ratio),
            (&P50, latency.p50),
            (&CONTROL_P50, control.p50),
            (&CONTROL_P99, control.p99),
            (&NO_ATTACK_P50, no_attack.p50),
            (&NO_ATTACK_P99, no_attack.p99),
            (&FAULTS, faults as f64),
            (&MISSING, missing as f64),
            (&RECEIVED, tracker.deliveries as f64),
            (&SENT, mib(sent)),
            (&MEMORY, mib(before)),
            (&PEAK, mib(self.peak)),
            (&AFTER, mib(after)),
        ] {
            round.add(metric, value);
        }
        if faults > 0 {
            print_line!("  the first fault of a client: {first}");
        }
        round.expect("well-behaved clients lose nothing", faults == 0 && missing == 0);
        let is_close = ratio <= MAX_RATIO || latency.p99 - control.p99 <= NOISE_MS;
        if latency.samples.min(control.samples) >= MIN_SAMPLES {
            let what =
                format!("their p99 is at most {MAX_RATIO} × that of the control, or {NOISE_MS} ms more");
            round.expect(what, is_close);
        }
        let grown = mib(self.peak) - mib(before);
        round.expect(format!("memory grows by at most {MAX_GROWTH_MIB} MiB"), grown <= MAX_GROWTH_MIB);
        round.expect("/readyz is 200 in the end", self.servers.readyz()? == 200);
        Ok(round)
    }
}
