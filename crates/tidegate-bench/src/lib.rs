//! The load generator behind `tidegate bench`. It starts servers, runs the same workloads against each, and reports the
//! cost. The servers are Tidegate, nats-server's own WebSocket listener, and the baseline. `docs/BENCHMARKS.md` has the
//! results.
//!
//! This crate imports nothing from the product: it runs Tidegate as a program. All clients share one thread and one
//! `epoll` instance, so that they cost little compared with the servers.

pub mod baseline;
pub mod charts;
pub mod client;
pub mod client_pool;
pub mod client_processes;
pub mod command;
pub mod delivery_tracker;
pub mod goals;
pub mod inflate_cache;
pub mod machine;
pub mod metrics;
mod output;
pub mod payload;
pub mod perf_counter;
pub mod process_usage;
pub mod producer;
pub mod report;
pub mod results_page;
pub mod sequence_tracker;
pub mod servers;
pub mod suite;
pub mod svg;
pub mod tls;
pub mod wire;
pub mod workloads;

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use rustix::process::Resource;
use rustix::process::Rlimit;

use crate::baseline::Baseline;
use crate::metrics::TargetResults;
use crate::output::print_line;
use crate::report::Outcome;
use crate::servers::Programs;
use crate::servers::Target;
use crate::servers::settings::Settings;
use crate::suite::Entry;
use crate::tls::Tls;

/// The most files that a server opens besides its client sockets.
const OTHER_FILES: u64 = 200;

/// The settings that all workloads share.
#[derive(Clone, Debug)]
pub struct Bench {
    pub programs: Programs,
    /// The servers to measure. In each round they take turns in this order.
    pub targets: Vec<Target>,
    /// Threads of Tidegate and the baseline; 0 means one per core.
    pub shards: usize,
    /// `KEY=VALUE` arguments for `tidegate serve --set`.
    pub set: Vec<String>,
    /// Whether the metrics of nodes are read once a second.
    pub scrape: bool,
    /// The certificate of the servers, if clients connect over TLS.
    pub tls: Option<Tls>,
    /// Number of measurements of each target.
    pub rounds: usize,
    /// Length of each measurement.
    pub seconds: Duration,
    /// Time under load before each measurement starts.
    pub warm_up: Duration,
}

/// Turns off the handshake rate limit: `connect` measures the cost of a handshake, not the limit.
const UNLIMITED_HANDSHAKES: &str = "limits.handshakes_per_s=0";

impl Bench {
    /// The server settings that workloads start from.
    pub fn settings(&self) -> Settings {
        let mut set = vec![UNLIMITED_HANDSHAKES.to_owned()];
        set.extend(self.set.iter().cloned());
        Settings {
            shards: self.shards,
            set,
            scrape: self.scrape,
            tls: self.tls.clone(),
            ..Settings::default()
        }
    }

    /// Measures all targets. They take turns in each round, so that a slow phase of the machine affects all of them.
    pub fn run(&self, entry: &Entry) -> anyhow::Result<Outcome> {
        let Entry { name, workload, .. } = entry;
        let needed = workload.sockets_per_process() as u64 + OTHER_FILES;
        let limit = raise_file_limit(needed);
        if limit < needed {
            bail!(
                "{name} needs {needed} open files, but the limit is {limit}: raise it (ulimit -Hn; as root \
                 prlimit --nofile={needed}), or use fewer --sockets, or more --processes if {name} has them"
            );
        }
        print_line!("{name}: {}", entry.title());
        let is_measured = |target: &&Target| workload.supports(target) && entry.includes(target);
        let mut results = Vec::new();
        for target in self.targets.iter().filter(is_measured) {
            results.push((target, TargetResults { target: target.name().to_owned(), rounds: Vec::new() }));
        }
        for number in 1..=self.rounds {
            for (target, results) in &mut results {
                let round = workload.round(self, target);
                let round = round.with_context(|| format!("{name}, round {number} of {}", target.name()))?;
                let main = round.metrics.iter().filter(|(metric, _)| !metric.title.starts_with('-'));
                let shown = main.take(2).map(|(metric, value)| {
                    format!("{}: {}", metric.title, metrics::number(*value, metric.digits))
                });
                print_line!("  {} {number}: {}", target.name(), shown.collect::<Vec<_>>().join(", "));
                results.rounds.push(round);
            }
        }
        let results = results.into_iter().map(|(_, results)| results).collect();
        Ok(Outcome {
            name: name.clone(),
            title: entry.title(),
            workload: workload.clone(),
            transport: entry.transport,
            results,
        })
    }
}

/// Raises the limit on open files, which the servers inherit: to `wanted` if the system permits that, otherwise to the
/// hard limit. Returns the new limit.
pub fn raise_file_limit(wanted: u64) -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    for most in [most.max(wanted), most] {
        let raised = Rlimit { current: Some(most), maximum: Some(most) };
        if rustix::process::setrlimit(Resource::Nofile, raised).is_ok() {
            return most;
        }
    }
    limit.current.unwrap_or(u64::MAX)
}

/// Runs a task on a separate thread, so that the caller can wait for Ctrl-C.
pub fn in_background(task: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("bench".to_owned()).spawn(task).map(drop)
}

/// Runs the baseline server with this number of threads, and writes one port per thread to the file `ports`. Returns
/// only if a thread fails.
pub fn run_baseline(threads: usize, ports: &Path) -> anyhow::Result<()> {
    raise_file_limit(0);
    let baselines: io::Result<Vec<_>> = (0..threads).map(|_| Baseline::new()).collect();
    let baselines = baselines.context("cannot listen")?;
    let lines: String = baselines.iter().map(|baseline| format!("{}\n", baseline.address.port())).collect();
    let mut threads = Vec::new();
    for baseline in baselines {
        threads.push(std::thread::Builder::new().name("baseline".to_owned()).spawn(|| baseline.run())?);
    }
    std::fs::write(ports, lines)?;
    for thread in threads {
        match thread.join() {
            Ok(ended) => ended?,
            Err(_) => bail!("a thread of the baseline panicked"),
        }
    }
    Ok(())
}
