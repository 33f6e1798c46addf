//! Counts the instructions of a publication and of a delivery with valgrind's callgrind, so that the same code always
//! gives the same counts. Also checks that the cost of a client's message grows no faster than its length. See
//! `docs/BENCHMARKS.md`.
//!
//! `instructions` checks the agreed costs, `instructions growth` the growth, and `instructions --write` writes new
//! agreed costs.
#![expect(clippy::unwrap_used, reason = "a measurement that fails ends the program")]
#![expect(clippy::print_stdout, reason = "the program prints its results")]

mod budgets;
mod callgrind;
mod growth;
mod nats_stub;
mod node;
mod shard;
mod shard_workloads;
#[path = "../../tests/vocabularies/shipped.rs"]
mod shipped;
mod workloads;

use std::process::ExitCode;

use crate::budgets::Budgets;
use crate::shard_workloads::SHARD_WORKLOADS;
use crate::workloads::WORKLOADS;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["count", "workloads"] => {
            WORKLOADS.iter().for_each(workloads::Workload::count);
            ExitCode::SUCCESS
        }
        ["count", "shards"] => {
            shard_workloads::count();
            ExitCode::SUCCESS
        }
        ["count", "growth"] => {
            growth::count();
            ExitCode::SUCCESS
        }
        ["growth"] => ExitCode::from(u8::from(growth::check() > 0)),
        [] => check(),
        ["--write"] => write(),
        _ => {
            println!("usage: instructions [growth | --write]");
            ExitCode::FAILURE
        }
    }
}

/// By workload: its name, and the instructions per publication and per delivery.
fn measured() -> Vec<(&'static str, u64, u64)> {
    let (counts, _) = callgrind::run("workloads");
    let runs = counts.chunks_exact(2);
    let parts = WORKLOADS.iter().zip(runs).map(|(workload, runs)| {
        let publication = (runs[1] - runs[0]) / workload.length;
        (workload.name, publication, publication / workload.receivers)
    });
    let shards = shard_workloads::measured().into_iter().map(|(name, event)| (name, event, event));
    parts.chain(shards).collect()
}

fn check() -> ExitCode {
    let budgets = Budgets::read();
    let mut excesses = Vec::new();
    println!(
        "| workload | instructions per publication | per delivery | change from agreed | change from original |"
    );
    println!("|---|---|---|---|---|");
    for (name, publication, delivery) in measured() {
        let changes = budgets.change(name, publication);
        println!("| `{name}` | {publication} | {delivery} | {} |", changes.join(" | "));
        excesses.extend(budgets.excess(name, publication));
    }
    let all = WORKLOADS.len() + SHARD_WORKLOADS.len();
    let (passed, failed) = (all - excesses.len(), excesses.len());
    excesses.iter().for_each(|excess| println!("{excess}"));
    println!("instructions: {passed} passed, {failed} failed");
    if excesses.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write() -> ExitCode {
    let mut budgets = Budgets::read();
    for (name, publication, _) in measured() {
        budgets.set_agreed(name, publication);
    }
    budgets.write();
    println!("wrote the agreed costs: explain the change in the commit message");
    ExitCode::SUCCESS
}
