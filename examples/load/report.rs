//! Report: what was measured, as a table, and whether what was expected holds.

use std::process::ExitCode;

/// Figures and expectations of one run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<(String, String)>,
    expectations: Vec<(String, bool)>,
}

impl Report {
    /// Adds a figure.
    pub(crate) fn figure(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.figures.push((name.into(), value.into()));
    }

    /// Adds something that must hold.
    pub(crate) fn expect(&mut self, what: impl Into<String>, holds: bool) {
        self.expectations.push((what.into(), holds));
    }

    /// Prints all of it; a failure unless everything holds.
    pub(crate) fn print(&self) -> ExitCode {
        let width = self.figures.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        println!();
        for (name, value) in &self.figures {
            println!("| {name:width$} | {value} |");
        }
        println!();
        for (what, holds) in &self.expectations {
            println!("{} {what}", if *holds { "holds:" } else { "FAILS:" });
        }
        if self.expectations.iter().all(|(_, holds)| *holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The middle of some numbers.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}
