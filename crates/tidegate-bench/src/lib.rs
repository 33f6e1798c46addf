//! The load generator behind `tidegate bench`. It starts servers, puts load on them and reports what it costs: Tidegate,
//! nats-server's own WebSocket listener, and the floor, in turn on the same work. `docs/BENCHMARKS.md` has the results.
//!
//! It imports nothing of the product and knows Tidegate only as a program, like any other client. It works on one thread,
//! with sockets that the kernel reports on, so that the clients cost little next to the servers.
#![expect(clippy::print_stdout, reason = "figures are for people")]

pub mod account;
pub mod charts;
pub mod client;
pub mod command;
pub mod crowd;
pub mod document;
pub mod figures;
pub mod floor;
pub mod flow;
pub mod goals;
pub mod inflated;
pub mod machine;
pub mod payload;
pub mod producer;
pub mod report;
pub mod servers;
pub mod suite;
pub mod svg;
pub mod usage;
pub mod wire;
pub mod works;

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use rustix::process::Resource;
use rustix::process::Rlimit;

use crate::figures::Results;
use crate::floor::Floor;
use crate::report::Outcome;
use crate::servers::Programs;
use crate::servers::Target;
use crate::servers::settings::Settings;
use crate::suite::Entry;

/// Files that a server opens next to its sockets, at most.
const OTHER_FILES: u64 = 200;

/// How all workloads are measured.
#[derive(Clone, Debug)]
pub struct Bench {
    pub programs: Programs,
    /// In turn, in this order.
    pub targets: Vec<Target>,
    /// Threads of Tidegate and the floor; 0 for one per core.
    pub shards: usize,
    /// `--set` for Tidegate.
    pub set: Vec<String>,
    /// Measurements of each target.
    pub rounds: usize,
    /// Of each measurement.
    pub seconds: Duration,
    /// Before each measurement.
    pub warm_up: Duration,
}

/// What connecting costs is to be seen, not at which rate a node lets clients in.
const UNPACED: &str = "limits.handshakes_per_s=0";

impl Bench {
    /// What servers are started with unless a workload says more.
    pub fn settings(&self) -> Settings {
        let mut set = vec![UNPACED.to_owned()];
        set.extend(self.set.iter().cloned());
        Settings { shards: self.shards, set, ..Settings::default() }
    }

    /// Measures all targets in turn, so that all see the same machine.
    pub fn run(&self, entry: &Entry) -> anyhow::Result<Outcome> {
        let Entry { name, work, compared, .. } = entry;
        let wanted = work.sockets() as u64 + OTHER_FILES;
        let files = raise_file_limit(wanted);
        if files < wanted {
            bail!(
                "{name} needs {wanted} open files, and {files} are allowed: raise the limit (ulimit -Hn; as root \
                 prlimit --nofile={wanted}), or take fewer sockets"
            );
        }
        println!("{name}: {}", work.title());
        let suits =
            |target: &&Target| work.suits(target) && (*compared || matches!(target, Target::Tidegate { .. }));
        let mut results = Vec::new();
        for target in self.targets.iter().filter(suits) {
            results.push((target, Results { target: target.name().to_owned(), rounds: Vec::new() }));
        }
        for number in 1..=self.rounds {
            for (target, results) in &mut results {
                let round = work.round(self, target);
                let round = round.with_context(|| format!("{name}, round {number} of {}", target.name()))?;
                let telling = round.figures.iter().filter(|(figure, _)| !figure.title.starts_with('-'));
                let shown = telling.take(2).map(|(figure, value)| {
                    format!("{}: {}", figure.title, figures::number(*value, figure.digits))
                });
                println!("  {} {number}: {}", target.name(), shown.collect::<Vec<_>>().join(", "));
                results.rounds.push(round);
            }
        }
        let results = results.into_iter().map(|(_, results)| results).collect();
        Ok(Outcome { name: name.clone(), title: work.title(), work: work.clone(), results })
    }
}

/// As many open files as are allowed, for this program and the servers that it starts; more than the hard limit
/// where the system lets us. How many that is.
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

/// Works on a thread of its own, so that whoever called can wait for Ctrl-C.
pub fn in_background(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("bench".to_owned()).spawn(work).map(drop)
}

/// Becomes the floor: so many threads, whose ports are written to a file. Works until the process is ended.
pub fn run_floor(threads: usize, ports: &Path) -> anyhow::Result<()> {
    raise_file_limit(0);
    let floors: io::Result<Vec<_>> = (0..threads).map(|_| Floor::new()).collect();
    let floors = floors.context("cannot listen")?;
    let lines: String = floors.iter().map(|floor| format!("{}\n", floor.address.port())).collect();
    let mut threads = Vec::new();
    for floor in floors {
        threads.push(std::thread::Builder::new().name("floor".to_owned()).spawn(|| floor.run())?);
    }
    std::fs::write(ports, lines)?;
    for thread in threads {
        match thread.join() {
            Ok(ended) => ended?,
            Err(_) => bail!("a thread of the floor has panicked"),
        }
    }
    Ok(())
}
