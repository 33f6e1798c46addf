//! `heartbeats`: idle sockets whose clients answer pings. Measures what a ping and its answer cost, and how often they
//! wake a thread.

use std::time::Duration;
use std::time::Instant;

use crate::Bench;
use crate::client_processes::ClientProcesses;
use crate::client_processes::IdleClient;
use crate::metrics::Metric;
use crate::metrics::Round;
use crate::metrics::number;
use crate::process_usage;
use crate::servers::Servers;
use crate::servers::Target;
use crate::workloads::idle::CONNECTED;
use crate::workloads::idle::IDLE_SOCKET;
use crate::workloads::idle::SETTLE;
use crate::workloads::idle::on_nodes;

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
    /// Number of Tidegate nodes, and of client processes.
    pub processes: usize,
    /// Whether each socket subscribes to a different subject. Otherwise all share one.
    pub private: bool,
    /// `limits.ping_interval_s`.
    pub interval_s: u64,
}

/// The counters of all Tidegate processes.
#[derive(Default)]
struct Usage {
    cpu: Duration,
    switches: u64,
    writes: u64,
}

impl Usage {
    fn of(servers: &Servers) -> anyhow::Result<Self> {
        let mut usage = Self::default();
        for pid in servers.front_pids() {
            usage.cpu += process_usage::cpu(pid)?;
            usage.switches += process_usage::voluntary_switches(pid)?;
            usage.writes += process_usage::writes(pid)?;
        }
        Ok(usage)
    }
}

impl Heartbeats {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let mut settings = bench.settings();
        settings.set.push(format!("limits.ping_interval_s={}", self.interval_s));
        settings.nodes = self.processes;
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let name = |number| format!("bench.user.U{number:06}.notifications");
        let subjects: Vec<_> = (0..if self.private { self.sockets } else { 1 }).map(name).collect();
        let idle_client = |client: usize| {
            let subject = client % subjects.len();
            let config = servers.client_config(client, &subjects, &[subject], &settings)?;
            anyhow::Ok(IdleClient { config, expects: 0 })
        };
        let idle_clients: Vec<_> = (0..self.sockets).map(idle_client).collect::<anyhow::Result<_>>()?;
        let mut clients =
            ClientProcesses::start(&bench.programs, &idle_clients, self.processes, bench.tls.as_ref())?;
        std::thread::sleep(SETTLE);
        let memory_before = servers.memory()?.1;
        clients.connect()?;
        std::thread::sleep(SETTLE);
        let memory = servers.memory()?.1;
        // The first pings come sooner than the others.
        std::thread::sleep(self.interval().max(bench.warm_up));

        clients.report()?;
        let (before, start) = (Usage::of(&servers)?, Instant::now());
        std::thread::sleep(bench.seconds);
        let (after, time) = (Usage::of(&servers)?, start.elapsed());
        let report = clients.report()?;

        let pings = report.pings as f64;
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let mut round = Round::default();
        round.add(&CPU, cpu * 1e6 / pings);
        round.add(&IDLE_CPU, cpu * 100.0 / time.as_secs_f64());
        round.add(&IDLE_SOCKET, cpu * 1e6 / time.as_secs_f64() / self.sockets as f64);
        round.add(&SWITCHES, after.switches.saturating_sub(before.switches) as f64 / pings);
        round.add(&WRITES, after.writes.saturating_sub(before.writes) as f64 / pings);
        round.add(&MEMORY, (memory as f64 - memory_before as f64) / self.sockets as f64);
        round.add(&PINGS, pings);
        round.add(&CONNECTED, report.connected as f64);
        let least = time.saturating_sub(TOLERANCE).as_secs() / self.interval_s;
        let is_pinged = report.connected == self.sockets as u64 && report.fewest_pings >= least;
        round.expect(format!("every client receives its pings ({least} or more)"), is_pinged);
        Ok(round)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_s)
    }

    pub fn title(&self) -> String {
        let (sockets, nodes) = (number(self.sockets as f64, 0), on_nodes(self.processes));
        let subjects = if self.private { " with a subject each" } else { "" };
        format!("{sockets} idle sockets{subjects}, a ping every {} s{nodes}", self.interval_s)
    }
}
