//! The command `bench`: parses its arguments into a [`Job`], which the caller runs and waits for.

mod workload;

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use clap::Args;

use crate::Bench;
use crate::command::workload::Workload;
use crate::document;
use crate::goals;
use crate::machine::Machine;
use crate::report;
use crate::report::Outcome;
use crate::servers::Programs;
use crate::servers::Target;
use crate::servers::vocabulary::Vocabulary;
use crate::suite::Entry;

/// The arguments of `tidegate bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    workload: Workload,
}

/// What every workload takes.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Measures another tidegate. Twice: both, in turn. Default: this very program.
    #[arg(long, global = true, value_name = "FILE")]
    tidegate: Vec<PathBuf>,
    /// Also measures nats-server's own WebSocket listener on the same work.
    #[arg(long, global = true)]
    peer: bool,
    /// Also measures `market` through a vocabulary: that of a file, or Stock Agent's if none is named; `all` does.
    #[arg(long, global = true, value_name = "FILE")]
    vocabulary: Option<Option<PathBuf>>,
    /// Also measures bare frames from memory to sockets: what no server can do without.
    #[arg(long, global = true)]
    floor: bool,
    /// The nats-server to use. Default: `TIDEGATE_NATS_SERVER`, else nats-server on the PATH.
    #[arg(long, global = true, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Threads of Tidegate and the floor; 0 for one per core.
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    shards: usize,
    /// Sets one key of Tidegate's configuration, as `tidegate serve --set` does. May be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Measurements of each target; they take turns. Default: 3, and in `all` less for what takes long.
    #[arg(long, global = true, value_name = "N")]
    rounds: Option<usize>,
    /// Seconds of each measurement. Default: 5; 2 in `all`, and more where a workload needs it.
    #[arg(long, global = true, value_name = "S")]
    seconds: Option<f64>,
    /// Seconds before each measurement. Default: 1; in `all` half of one.
    #[arg(long, global = true, value_name = "S")]
    warm_up: Option<f64>,
    /// Writes all figures of all rounds to a file.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fails when something does not hold that should.
    #[arg(long, global = true)]
    check: bool,
}

/// A folder that goes when its owner goes.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .context("cannot make a folder for the servers")?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl BenchArgs {
    /// What is to be measured, and the folder of its servers: keep it until the job has ended. `nats_server` is the
    /// program to use where the arguments name none.
    pub fn job(&self, nats_server: Option<PathBuf>) -> anyhow::Result<(Job, Folder)> {
        let Self { common, workload } = self;
        let entries = workload.entries()?;
        let folder = Folder::new()?;
        let (bench, nats_server) = common.bench(folder.0.clone(), workload, nats_server)?;
        let job = Job { bench, nats_server, common: common.clone(), docs: workload.docs(), entries };
        Ok((job, folder))
    }
}

impl Common {
    /// How to measure, and the version of nats-server.
    fn bench(
        &self,
        folder: PathBuf,
        workload: &Workload,
        nats_server: Option<PathBuf>,
    ) -> anyhow::Result<(Bench, String)> {
        let all = matches!(workload, Workload::All(_));
        let (rounds, seconds) =
            (self.rounds.unwrap_or(3), self.seconds.unwrap_or(if all { 2.0 } else { 5.0 }));
        let warm_up = self.warm_up.unwrap_or(if all { 0.5 } else { 1.0 });
        if rounds == 0 || !(0.01..=86_400.0).contains(&seconds) || !(0.0..=3600.0).contains(&warm_up) {
            bail!("--rounds, --seconds and --warm-up must be more than nothing, and less than a day");
        }
        let own = std::env::current_exe().context("cannot find our own program")?;
        let program = self.nats_server.clone().or(nats_server);
        let nats_server = program.unwrap_or_else(|| PathBuf::from("nats-server"));
        let output = Command::new(&nats_server).arg("--version").output();
        let output = output.with_context(|| {
            format!(
                "there is no {} to run. `nats/get-nats-server.sh` fetches one and prints its path; or install \
                 nats-server on the PATH, or name one with --nats-server or TIDEGATE_NATS_SERVER",
                nats_server.display()
            )
        })?;
        let version =
            String::from_utf8_lossy(&output.stdout).trim().replace("nats-server: v", "nats-server ");
        let mut targets = Vec::new();
        for (number, program) in self.tidegate.iter().enumerate() {
            if !program.exists() {
                bail!("there is no {}: build it with `cargo build --release`", program.display());
            }
            let name = if number == 0 { "tidegate".to_owned() } else { format!("tidegate-{}", number + 1) };
            println!("{name} is {}", program.display());
            targets.push(Target::Tidegate { name, program: std::path::absolute(program)? });
        }
        if targets.is_empty() {
            targets.push(Target::Tidegate { name: "tidegate".to_owned(), program: own.clone() });
        }
        if all || matches!(self.vocabulary, Some(None)) {
            targets.push(Target::Described { program: own.clone() });
        }
        if let Some(Some(file)) = &self.vocabulary {
            targets.push(Target::File { program: own.clone(), vocabulary: Vocabulary::read(file)? });
        }
        targets.extend((self.peer || all).then_some(Target::Peer));
        targets.extend((self.floor || all).then_some(Target::Floor));
        let bench = Bench {
            programs: Programs { nats_server, own, folder },
            targets,
            shards: self.shards,
            set: self.set.clone(),
            rounds,
            seconds: Duration::from_secs_f64(seconds),
            warm_up: Duration::from_secs_f64(warm_up),
        };
        Ok((bench, version))
    }
}

/// A measurement, which runs on its own thread.
#[derive(Debug)]
pub struct Job {
    bench: Bench,
    nats_server: String,
    common: Common,
    /// The folder with the document.
    docs: Option<PathBuf>,
    entries: Vec<Entry>,
}

impl Job {
    /// Measures all of it, and writes what was asked for.
    pub fn measure(self) -> anyhow::Result<()> {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let command = format!("tidegate {}", arguments.join(" "));
        let machine = Machine::here(&self.nats_server);
        println!("$ {command}\n{}\n", machine.line());
        let mut outcomes = Vec::new();
        for entry in &self.entries {
            let outcome = self.bench_for(entry).run(entry)?;
            println!("\n{}", outcome.table());
            outcomes.push(outcome);
        }
        let mut expectations: Vec<_> = outcomes.iter().flat_map(Outcome::expectations).collect();
        expectations.extend(goals::check(&outcomes));
        print!("{}", report::expectations(&expectations));
        if let Some(file) = &self.common.json {
            let json = report::json(&command, &machine, &outcomes, &expectations);
            std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
        }
        if let Some(folder) = &self.docs {
            document::write(folder, &command, &machine, &outcomes, &expectations)?;
        }
        let failed = expectations.iter().filter(|(_, holds)| !holds).count();
        if self.common.check && failed > 0 {
            bail!("{failed} of {} do not hold", expectations.len());
        }
        Ok(())
    }

    /// What is asked for wins over what suits a workload.
    fn bench_for(&self, entry: &Entry) -> Bench {
        let mut bench = self.bench.clone();
        if let (None, Some(rounds)) = (self.common.rounds, entry.rounds) {
            bench.rounds = rounds;
        }
        if let (None, Some(seconds)) = (self.common.seconds, entry.seconds) {
            bench.seconds = seconds;
        }
        bench
    }
}
