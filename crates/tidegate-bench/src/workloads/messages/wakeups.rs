//! What a delivery costs besides CPU time: how often a thread of the servers sleeps, their syscalls and their
//! instructions. For `lone`, where wake-ups are most of the cost.

use std::path::Path;

use crate::metrics::Metric;
use crate::metrics::Round;
use crate::perf_counter::PerfCounter;
use crate::process_usage;
use crate::servers::Servers;

/// The metrics of one count: of all servers together, of nats-server, and of the server in front of it.
type Shares = [Metric; 3];

static SWITCHES: Shares = [
    Metric::compared("switches", "context switches per delivery (a thread slept)", 2),
    Metric::plain("nats_switches", "- share of nats-server", 2),
    Metric::plain("front_switches", "- share of Tidegate or baseline", 2),
];
static SYSCALLS: Shares = [
    Metric::compared("syscalls", "syscalls per delivery", 2),
    Metric::plain("nats_syscalls", "- share of nats-server", 2),
    Metric::plain("front_syscalls", "- share of Tidegate or baseline", 2),
];
static INSTRUCTIONS: Shares = [
    Metric::compared("instructions", "instructions per delivery, without the kernel", 0),
    Metric::plain("nats_instructions", "- share of nats-server", 0),
    Metric::plain("front_instructions", "- share of Tidegate or baseline", 0),
];
/// Each event of perf, its metrics, and what to do where it cannot be counted.
static EVENTS: [(&str, &Shares, &str); 2] = [
    ("raw_syscalls:sys_enter", &SYSCALLS, "Syscalls are missing"),
    (
        "instructions:u",
        &INSTRUCTIONS,
        "Instructions are missing; docs/benchmarks/instructions.sh counts them",
    ),
];

/// Context switches of nats-server, and of the server in front of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switches([u64; 2]);

impl Switches {
    pub(super) fn now(servers: &Servers) -> anyhow::Result<Self> {
        let [nats, front] = server_pids(servers);
        let count = |pid: Option<u32>| pid.map_or(Ok(0), process_usage::voluntary_switches);
        Ok(Self([count(nats)?, count(front)?]))
    }

    pub(super) fn add_to(self, round: &mut Round, before: Self, deliveries: f64) {
        let counts = [0, 1].map(|server| Some(self.0[server].saturating_sub(before.0[server])));
        add_shares(round, &SWITCHES, counts, deliveries);
    }
}

/// Counters of perf that are attached to the servers.
#[derive(Debug)]
pub(super) struct EventCounters {
    /// By event and server: the counter, or why there is none. `None` if the target lacks this server.
    counters: Vec<[Option<anyhow::Result<PerfCounter>>; 2]>,
}

impl EventCounters {
    pub(super) fn attach(servers: &Servers, folder: &Path) -> Self {
        let attach =
            |event: &str| server_pids(servers).map(|pid| Some(PerfCounter::attach(pid?, event, folder)));
        Self { counters: EVENTS.iter().map(|(event, ..)| attach(event)).collect() }
    }

    pub(super) fn start(&mut self) {
        self.for_each(PerfCounter::start);
    }

    /// Stops all counters before any of them is asked for its count, which takes a while.
    pub(super) fn stop(&mut self) {
        self.for_each(PerfCounter::stop);
    }

    fn for_each(&mut self, act: impl Fn(&mut PerfCounter) -> anyhow::Result<()>) {
        for counter in self.counters.iter_mut().flatten().flatten() {
            if let Ok(attached) = counter
                && let Err(error) = act(attached)
            {
                *counter = Err(error);
            }
        }
    }

    /// Adds the counts per delivery. A count that is missing becomes a note.
    pub(super) fn add_to(self, round: &mut Round, deliveries: f64) {
        for (counters, (_, metrics, missing)) in self.counters.into_iter().zip(&EVENTS) {
            let counts = counters.map(|counter| counter.map(|counter| counter.and_then(PerfCounter::count)));
            if let Some(error) = counts.iter().flatten().find_map(|count| count.as_ref().err()) {
                round.note(format!("{missing} ({error:#})."));
                continue;
            }
            add_shares(round, metrics, counts.map(|count| count.and_then(Result::ok)), deliveries);
        }
    }
}

/// nats-server, and the server in front of it.
fn server_pids(servers: &Servers) -> [Option<u32>; 2] {
    [servers.nats_pid(), servers.front_pids().first().copied()]
}

fn add_shares(round: &mut Round, metrics: &'static Shares, counts: [Option<u64>; 2], deliveries: f64) {
    let [nats, front] = counts.map(|count| count.unwrap_or_default() as f64 / deliveries);
    for (metric, value) in metrics.iter().zip([nats + front, nats, front]) {
        round.add(metric, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_divided_by_the_deliveries() {
        let mut round = Round::default();
        let (before, after) = (Switches([10, 100]), Switches([30, 400]));
        after.add_to(&mut round, before, 100.0);
        let values = ["switches", "nats_switches", "front_switches"].map(|name| round.value(name));
        assert_eq!(values, [Some(3.2), Some(0.2), Some(3.0)]);
    }

    #[test]
    fn a_count_that_is_missing_becomes_a_note_with_the_reason() {
        let mut round = Round::default();
        let missing = || Some(Err(anyhow::anyhow!("perf is not installed")));
        EventCounters { counters: vec![[missing(), None]] }.add_to(&mut round, 1.0);
        assert_eq!(round.notes, ["Syscalls are missing (perf is not installed)."]);
        assert_eq!(round.value("syscalls"), None);
    }
}
