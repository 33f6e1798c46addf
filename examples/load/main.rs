//! Load generator: starts nats-server and Tidegate on free loopback ports, puts one of four workloads on them, prints
//! figures, and fails when an expectation does not hold. `docs/BENCHMARKS.md` tells how to use it.
#![expect(clippy::print_stdout, reason = "figures are for people")]

mod client;
mod crowd;
mod fanout;
mod idle;
mod producer;
mod report;
mod restart;
mod servers;
mod slow;
mod usage;

use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::bail;
use clap::Parser;
use clap::Subcommand;
use rustix::process::Resource;
use rustix::process::Rlimit;
use tokio::signal::unix::SignalKind;
use tokio::task::LocalSet;

use crate::report::Report;
use crate::servers::Common;

/// Puts load on a Tidegate of its own and prints what it costs.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// One subject, many sockets, side by side with nats-server's own WebSocket listener: CPU per delivery.
    Fanout(fanout::Args),
    /// Sockets that hardly hear anything: who stays, what is lost, memory and CPU.
    Idle(idle::Args),
    /// One reader stops reading a flood: the others get all, memory stays bounded, the reader is told or cut.
    Slow(slow::Args),
    /// nats-server is killed and started again under load: everybody hears of it, and nobody has to reconnect.
    Restart(restart::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    println!("$ cargo run --release --example load -- {}", arguments.join(" "));
    match work(&cli) {
        Ok(report) => report.print(),
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(cli: &Cli) -> anyhow::Result<Report> {
    let files = raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let workload = async {
            match &cli.workload {
                Workload::Fanout(args) => fanout::run(&cli.common, args).await,
                Workload::Idle(args) => {
                    let wanted = u64::try_from(args.sockets)? + 200;
                    if files < wanted {
                        bail!(
                            "{wanted} open files are needed and {files} allowed: raise the limit (ulimit -Hn)"
                        );
                    }
                    idle::run(&cli.common, args).await
                }
                Workload::Slow(args) => slow::run(&cli.common, args).await,
                Workload::Restart(args) => restart::run(&cli.common, args).await,
            }
        };
        // Whatever ends the workload drops it, and with it the servers that it has started.
        let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
        let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
        tokio::select! {
            report = workload => report.context("the workload could not be measured"),
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("told to end"),
        }
    })
}

/// As many open files as are allowed, for this program and the servers that it starts; how many that is.
fn raise_file_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}
