//! The arguments of `tidegate bench`, and the [`Job`] that they describe.

mod workload;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use clap::Args;

use crate::Bench;
use crate::command::workload::Lane;
use crate::command::workload::WorkloadArgs;
use crate::goals;
use crate::machine::Machine;
use crate::output::print_line;
use crate::output::print_text;
use crate::report;
use crate::report::Outcome;
use crate::results_page;
use crate::servers::Programs;
use crate::servers::Target;
use crate::servers::vocabulary::Vocabulary;
use crate::suite::Entry;
use crate::tls::Tls;
use crate::tls::Transport;

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    workload: WorkloadArgs,
}

/// The arguments that all workloads share.
#[derive(Clone, Debug, Args)]
struct CommonArgs {
    /// Measure this tidegate program. Repeat to compare several builds. Default: this program.
    #[arg(long, global = true, value_name = "FILE")]
    tidegate: Vec<PathBuf>,
    /// Also measure nats-server's own WebSocket listener under the same load.
    #[arg(long, global = true)]
    peer: bool,
    /// Also measure `market` with clients that use this vocabulary. Without a file: Stock Agent's, as in `all`.
    #[arg(long, global = true, value_name = "FILE")]
    vocabulary: Option<Option<PathBuf>>,
    /// Also measure this Centrifugo (version 6) under the same load, with nats-server as its broker; in `fanout`, `market`,
    /// `private` and `lone` only.
    #[arg(long, global = true, value_name = "FILE")]
    centrifugo: Option<PathBuf>,
    /// Also measure the baseline: prepared frames written from memory to sockets, the least that a server must do.
    #[arg(long, global = true)]
    baseline: bool,
    #[arg(long, global = true, hide = true)]
    floor: bool,
    /// Clients connect over TLS 1.3, with a full handshake each. Measures only Tidegate and nats-server. Not for `abuse`, nor
    /// for `all`, which always measures two workloads over TLS.
    #[arg(long, global = true)]
    tls: bool,
    /// The nats-server program. Default: `TIDEGATE_NATS_SERVER`, otherwise nats-server on the PATH.
    #[arg(long, global = true, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Threads of Tidegate and the baseline; 0 means one per core.
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    shards: usize,
    /// Set one key of Tidegate's configuration, as `tidegate serve --set` does. May be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Read `/metrics` of each node of Tidegate once a second while it is measured, as Prometheus does.
    #[arg(long, global = true)]
    scrape: bool,
    /// Measurements of each server; the servers take turns. Default: 3; in `all` fewer for slow workloads.
    #[arg(long, global = true, value_name = "N")]
    rounds: Option<usize>,
    /// Length of each measurement in seconds. Default: 5; in `all` 2, and more for workloads that need it.
    #[arg(long, global = true, value_name = "S")]
    seconds: Option<f64>,
    /// Seconds under load before each measurement. Default: 1; in `all` 0.5.
    #[arg(long, global = true, value_name = "S")]
    warm_up: Option<f64>,
    /// Write all results of all rounds to this file, as JSON.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a goal or expectation does not hold.
    #[arg(long, global = true)]
    check: bool,
}

/// A temporary folder, deleted when this is dropped.
#[derive(Debug)]
pub struct TempFolder(PathBuf);

impl TempFolder {
    fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .context("cannot create a temporary folder for the servers")?;
        Ok(Self(folder))
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl BenchArgs {
    /// The measurements to run, and the folder for the servers' files: keep it until the job ends. `nats_server` is the
    /// program to use if the arguments name none.
    pub fn job(&self, nats_server: Option<PathBuf>) -> anyhow::Result<(Job, TempFolder)> {
        let Self { common, workload } = self;
        let entries = if common.tls { workload.entries_over_tls()? } else { workload.entries()? };
        let folder = TempFolder::new()?;
        let (bench, nats_server) = common.bench(folder.0.clone(), workload, nats_server)?;
        let job = Job { bench, nats_server, common: common.clone(), docs: workload.docs(), entries };
        Ok((job, folder))
    }
}

impl CommonArgs {
    /// Returns the settings of the measurements, and the version of nats-server.
    fn bench(
        &self,
        folder: PathBuf,
        workload: &WorkloadArgs,
        nats_server: Option<PathBuf>,
    ) -> anyhow::Result<(Bench, String)> {
        let all = matches!(workload, WorkloadArgs::All(_));
        let (rounds, seconds) =
            (self.rounds.unwrap_or(3), self.seconds.unwrap_or(if all { 2.0 } else { 5.0 }));
        let warm_up = self.warm_up.unwrap_or(if all { 0.5 } else { 1.0 });
        if rounds == 0 || !(0.01..=86_400.0).contains(&seconds) || !(0.0..=3600.0).contains(&warm_up) {
            bail!(
                "out of range: --rounds must be at least 1, --seconds from 0.01 to 86400, and --warm-up from 0 to 3600"
            );
        }
        if self.floor {
            bail!("--floor is now called --baseline");
        }
        let own = std::env::current_exe().context("cannot find the path of this program")?;
        let program = self.nats_server.clone().or(nats_server);
        let nats_server = program.unwrap_or_else(|| PathBuf::from("nats-server"));
        let output = Command::new(&nats_server).arg("--version").output();
        let output = output.with_context(|| {
            format!(
                "cannot run {}: install nats-server on the PATH, or set --nats-server or TIDEGATE_NATS_SERVER to the \
                 path that `nats/get-nats-server.sh` prints (it downloads one)",
                nats_server.display()
            )
        })?;
        let version =
            String::from_utf8_lossy(&output.stdout).trim().replace("nats-server: v", "nats-server ");
        let mut targets = self.builds(&own, workload.lanes())?;
        if all || matches!(self.vocabulary, Some(None)) {
            targets.push(Target::StockAgent { program: own.clone() });
        }
        if let Some(Some(file)) = &self.vocabulary {
            targets.push(Target::Vocabulary { program: own.clone(), vocabulary: Vocabulary::read(file)? });
        }
        if let Some(program) = &self.centrifugo {
            targets.push(Target::Centrifugo { program: existing(program)? });
        }
        targets.extend((self.peer || all).then_some(Target::NatsServer));
        targets.extend((self.baseline || all).then_some(Target::Baseline));
        let bench = Bench {
            programs: Programs { nats_server, own, folder },
            targets,
            shards: self.shards,
            set: self.set.clone(),
            scrape: self.scrape,
            tls: None,
            rounds,
            seconds: Duration::from_secs_f64(seconds),
            warm_up: Duration::from_secs_f64(warm_up),
        };
        Ok((bench, version))
    }

    /// The Tidegate programs to measure, with each of these lanes. `own` is this program.
    fn builds(&self, own: &Path, lanes: &[Lane]) -> anyhow::Result<Vec<Target>> {
        let own = [own.to_owned()];
        let programs = if self.tidegate.is_empty() { &own[..] } else { &self.tidegate };
        let mut targets = Vec::new();
        for (number, program) in programs.iter().enumerate() {
            let program = existing(program).context("build it with `cargo build --release`")?;
            for &lane in lanes {
                let name = build_name(number, lane);
                if !self.tidegate.is_empty() {
                    print_line!("{name} is {}", program.display());
                }
                let (program, own_lane) = (program.clone(), lane == Lane::Own);
                targets.push(Target::Tidegate { name, program, own_lane });
            }
        }
        Ok(targets)
    }
}

/// The absolute path of a program. Fails if there is none.
fn existing(program: &Path) -> anyhow::Result<PathBuf> {
    if !program.exists() {
        bail!("there is no program {}", program.display());
    }
    Ok(std::path::absolute(program)?)
}

/// The name of a build in tables. The first is `tidegate`, and with `lane = "own"` it is `tidegate-own`.
fn build_name(number: usize, lane: Lane) -> String {
    let number = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    let lane = if lane == Lane::Own { "-own" } else { "" };
    format!("tidegate{number}{lane}")
}

/// Measurements that are ready to run. The caller runs them on a separate thread.
#[derive(Debug)]
pub struct Job {
    bench: Bench,
    nats_server: String,
    common: CommonArgs,
    /// The folder with BENCHMARKS.md, if the results go there.
    docs: Option<PathBuf>,
    entries: Vec<Entry>,
}

impl Job {
    /// Runs all measurements, prints the results, and writes the files that the arguments name. Fails with `--check`
    /// if a goal or expectation does not hold.
    pub fn measure(self) -> anyhow::Result<()> {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let command = format!("tidegate {}", arguments.join(" "));
        let machine = Machine::current(&self.nats_server);
        print_line!("$ {command}\n{}\n", machine.line());
        let mut outcomes = Vec::new();
        for entry in &self.entries {
            let outcome = self.bench_for(entry)?.run(entry)?;
            print_line!("\n{}", outcome.table());
            outcomes.push(outcome);
        }
        let mut expectations: Vec<_> = outcomes.iter().flat_map(Outcome::expectations).collect();
        if let Some(reason) = self.why_unjudged() {
            print_line!("goals are not judged: {reason}");
        } else {
            expectations.extend(goals::check(&outcomes));
            for workload in goals::without_goal(&outcomes) {
                print_line!("no goal for these parameters: {workload}");
            }
        }
        print_text!("{}", report::expectations(&expectations));
        if let Some(file) = &self.common.json {
            let json = report::json(&command, &machine, &outcomes, &expectations);
            std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
        }
        if let Some(folder) = &self.docs {
            results_page::write(folder, &command, &machine, &outcomes, &expectations)?;
        }
        let failed = expectations.iter().filter(|(_, holds)| !holds).count();
        if self.common.check && failed > 0 {
            bail!("{failed} of {} goals and expectations do not hold", expectations.len());
        }
        Ok(())
    }

    /// Why the results cannot be compared with the goals, which are for the default configuration.
    fn why_unjudged(&self) -> Option<&'static str> {
        let CommonArgs { shards, set, scrape, .. } = &self.common;
        let is_other = *shards != 0 || !set.is_empty() || *scrape;
        is_other.then_some("they are for a node without --shards, --set and --scrape")
    }

    /// The settings for one entry. `--rounds` and `--seconds` override the entry's own.
    fn bench_for(&self, entry: &Entry) -> anyhow::Result<Bench> {
        let mut bench = self.bench.clone();
        if entry.transport == Transport::Tls {
            bench.tls = Some(Tls::create(&bench.programs.folder)?);
        }
        if let (None, Some(rounds)) = (self.common.rounds, entry.rounds) {
            bench.rounds = rounds;
        }
        if let (None, Some(seconds)) = (self.common.seconds, entry.seconds) {
            bench.seconds = seconds;
        }
        Ok(bench)
    }
}
