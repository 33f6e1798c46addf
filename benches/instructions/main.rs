//! Instructions: what a publication and a delivery cost, and that no client's message costs more than its length is worth;
//! counted by valgrind's callgrind, so that the same code gives the same figures. See `docs/BENCHMARKS.md`.
//!
//! `instructions` checks what is agreed, `instructions growth` that costs grow with lengths, `instructions --write` writes the figures anew.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "it prints what it has counted")]

mod callgrind;
mod figures;
mod growth;
mod node;
mod workloads;

use std::process::ExitCode;

use crate::figures::SessionStats;
use crate::workloads::WORKLOADS;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["count", "workloads"] => {
            WORKLOADS.iter().for_each(workloads::Workload::count);
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
            println!("instructions [--write]");
            ExitCode::FAILURE
        }
    }
}

/// Instructions of one publication, by workload.
fn measured() -> Vec<(&'static str, u64, u64)> {
    let counts = callgrind::run("workloads");
    let runs = counts.chunks_exact(2);
    WORKLOADS
        .iter()
        .zip(runs)
        .map(|(workload, runs)| {
            let publication = (runs[1] - runs[0]) / workload.length;
            (workload.name, publication, publication / workload.receivers)
        })
        .collect()
}

fn check() -> ExitCode {
    let figures = SessionStats::read();
    let mut mistakes = Vec::new();
    println!("| workload | instructions a publication | a delivery | as agreed | as at first |");
    println!("|---|---|---|---|---|");
    for (name, publication, delivery) in measured() {
        let agreed = figures.change(name, publication);
        println!("| `{name}` | {publication} | {delivery} | {} |", agreed.join(" | "));
        mistakes.extend(figures.mistake(name, publication));
    }
    let (passed, failed) = (WORKLOADS.len() - mistakes.len(), mistakes.len());
    mistakes.iter().for_each(|mistake| println!("{mistake}"));
    println!("instructions: {passed} passed, {failed} failed");
    if mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write() -> ExitCode {
    let mut figures = SessionStats::read();
    for (name, publication, _) in measured() {
        figures.set(name, publication);
    }
    figures.write();
    println!("the figures are written: say in the commit why they differ");
    ExitCode::SUCCESS
}
