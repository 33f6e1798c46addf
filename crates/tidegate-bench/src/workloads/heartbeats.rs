//! `heartbeats`: idle sockets whose clients answer pings. Measures what a ping and its answer cost, and how often they
//! wake a thread.

use std::time::Duration;
use std::time::Instant;

use crate::Bench;
use crate::client_pool::ClientPool;
use crate::delivery_tracker::DeliveryTracker;
use crate::delivery_tracker::Guarantee;
use crate::delivery_tracker::Shape;
use crate::metrics::Metric;
use crate::metrics::Round;
use crate::metrics::number;
use crate::process_usage;
use crate::servers::Servers;
use crate::servers::Target;
use crate::workloads::idle::SETTLE;
use crate::workloads::idle::wait;

/// How late the last ping may be before it counts as missing.
const TOLERANCE: Duration = Duration::from_secs(1);

const CPU: Metric = Metric::compared("ping_us", "CPU µs per ping and its answer", 1);
const IDLE_CPU: Metric = Metric::compared("idle_cpu_percent", "CPU while idle, % of a core", 2);
const SWITCHES: Metric = Metric::compared("switches", "context switches per ping (a thread slept)", 2);
const WRITES: Metric = Metric::compared("writes", "calls of `write` per ping (wake-ups, not frames)", 3);
const MEMORY: Metric = Metric::compared("front_socket_bytes", "memory per socket, bytes", 0);
const PINGS: Metric = Metric::plain("pings", "pings", 0);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeats {
    pub sockets: usize,
    /// `limits.ping_interval_s`.
    pub interval_s: u64,
}

/// The counters of the Tidegate process.
struct Usage {
    cpu: Duration,
    switches: u64,
    writes: u64,
}

impl Usage {
    fn of(pid: u32) -> anyhow::Result<Self> {
        Ok(Self {
            cpu: process_usage::cpu(pid)?,
            switches: process_usage::voluntary_switches(pid)?,
            writes: process_usage::writes(pid)?,
        })
    }
}

impl Heartbeats {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let mut settings = bench.settings();
        settings.set.push(format!("limits.ping_interval_s={}", self.interval_s));
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let pid = servers.client_facing_pid()?;
        let subjects = ["bench.user.all.notifications".to_owned()];
        let configs =
            (0..self.sockets).map(|client| servers.client_config(client, &subjects, &[0], &settings));
        let mut pool = ClientPool::new(configs.collect::<anyhow::Result<_>>()?)?;
        let shape = Shape { sockets: self.sockets, subjects: 1, per_socket: 1 };
        let mut tracker = DeliveryTracker::new(shape, Guarantee::All)?;
        wait(&mut pool, &mut tracker, SETTLE)?;
        let memory_before = process_usage::resident(pid)?;
        pool.connect_all(|_, _| {})?;
        wait(&mut pool, &mut tracker, SETTLE)?;
        let memory = process_usage::resident(pid)?;
        // The first pings come sooner than the others.
        wait(&mut pool, &mut tracker, self.interval().max(bench.warm_up))?;

        let (before, pings_before, start) = (Usage::of(pid)?, pool.pings(), Instant::now());
        wait(&mut pool, &mut tracker, bench.seconds)?;
        let (after, pings_after, time) = (Usage::of(pid)?, pool.pings(), start.elapsed());

        let received: Vec<_> = pings_after
            .iter()
            .zip(&pings_before)
            .map(|(after, before)| after.saturating_sub(*before))
            .collect();
        let pings = received.iter().sum::<u64>() as f64;
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let mut round = Round::default();
        round.add(&CPU, cpu * 1e6 / pings);
        round.add(&IDLE_CPU, cpu * 100.0 / time.as_secs_f64());
        round.add(&SWITCHES, after.switches.saturating_sub(before.switches) as f64 / pings);
        round.add(&WRITES, after.writes.saturating_sub(before.writes) as f64 / pings);
        round.add(&MEMORY, (memory as f64 - memory_before as f64) / self.sockets as f64);
        round.add(&PINGS, pings);
        let least = time.saturating_sub(TOLERANCE).as_secs() / self.interval_s;
        let is_pinged = received.iter().all(|pings| *pings >= least);
        round.expect(format!("every client receives its pings ({least} or more)"), is_pinged);
        Ok(round)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_s)
    }

    pub fn title(&self) -> String {
        format!("{} idle sockets, a ping every {} s", number(self.sockets as f64, 0), self.interval_s)
    }
}
