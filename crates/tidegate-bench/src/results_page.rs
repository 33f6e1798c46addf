//! Writes the results to `docs/BENCHMARKS.md`, between two markers, and all tables to `docs/benchmarks/RESULTS.md`. The
//! rest of the first page is written by hand.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::charts;
use crate::machine::Machine;
use crate::metrics::number;
use crate::report;
use crate::report::Outcome;

const BEGIN: &str = "<!-- results -->";
const END: &str = "<!-- /results -->";

/// The charts of the first page. All of them are on the page with all tables.
const FIRST_CHARTS: [&str; 2] = ["cpu", "memory"];

/// The rows of the table that answers what Tidegate costs: a workload, a metric, and what it means.
const COSTS: [(&str, &str, &str); 11] = [
    ("fanout-64", "cpu_us", "deliver a message to one of 1,000 subscribers of a subject, µs of CPU"),
    ("fanout-1", "cpu_us", "the same, with one message at a time"),
    ("market", "cpu_us", "deliver a message to one of five subscribers of a subject, µs of CPU"),
    ("private", "cpu_us", "deliver a message to the only subscriber of a subject, µs of CPU"),
    (
        "fanout-64-tls",
        "cpu_us",
        "deliver a message to one of 1,000 subscribers of a subject over TLS, µs of CPU",
    ),
    ("connect", "cpu_us", "accept a client: handshake, token and subscription, µs of CPU"),
    ("heartbeats", "ping_us", "ping a client and read its answer, µs of CPU"),
    ("idle-shared", "socket_bytes", "keep a client that receives nothing, bytes of memory"),
    ("idle-shared-tls", "socket_bytes", "the same over TLS"),
    ("fanout-rate", "p50_ms", "time from the producer to 1,000 clients, 200 messages a second, median, ms"),
    ("fanout-rate", "p99_ms", "the same, 99th percentile, ms"),
];

/// Replaces the results in the folder's `BENCHMARKS.md`, and writes all tables, the charts and `results.json` to its
/// folder `benchmarks`.
pub fn write(
    folder: &Path,
    command: &str,
    machine: &Machine,
    outcomes: &[Outcome],
    expectations: &[(String, bool)],
) -> anyhow::Result<()> {
    let file = folder.join("BENCHMARKS.md");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let results_folder = folder.join("benchmarks");
    std::fs::create_dir_all(&results_folder)?;
    let mut drawn = Vec::new();
    for (name, title, svg) in charts::all(outcomes) {
        std::fs::write(results_folder.join(format!("{name}.svg")), svg)?;
        drawn.push((name, title));
    }
    let json = report::json(command, machine, outcomes, expectations);
    std::fs::write(results_folder.join("results.json"), json)?;
    let all = all_results(command, machine, outcomes, expectations, &drawn);
    std::fs::write(results_folder.join("RESULTS.md"), all)?;
    let text = replace_results(&text, &costs(command, machine, outcomes, &drawn))
        .with_context(|| format!("{} needs a line {BEGIN} and, below it, a line {END}", file.display()))?;
    std::fs::write(&file, text)?;
    Ok(())
}

/// The text between the markers: what Tidegate costs, in one table and two charts.
fn costs(command: &str, machine: &Machine, outcomes: &[Outcome], drawn: &[(&str, &str)]) -> String {
    let mut text =
        "| what it costs to … | Tidegate | nats-server's listener | ratio |\n|---|---|---|---|\n".to_owned();
    for (workload, metric, what) in COSTS {
        let outcome = outcomes.iter().find(|outcome| outcome.name == workload);
        let median = |target| outcome?.median(target, metric);
        let Some(own) = median("tidegate") else { continue };
        let cell = |value: f64| number(value, decimals(value));
        let (other, ratio) = match median("nats-server") {
            Some(other) => (cell(other), number(own / other, 2)),
            None => ("–".to_owned(), String::new()),
        };
        let _ = writeln!(text, "| {what} | {} | {other} | {ratio} |", cell(own));
    }
    let _ = write!(
        text,
        "\nBoth columns are medians, and include nats-server, the kernel and a network of loopback. Measured by \
         `{command}`: {}.\n",
        machine.line()
    );
    for (name, title) in drawn.iter().filter(|(name, _)| FIRST_CHARTS.contains(name)) {
        let _ = write!(text, "\n![{title}](benchmarks/{name}.svg)\n");
    }
    text
}

/// Three significant digits, for values below 1,000.
fn decimals(value: f64) -> usize {
    match value {
        ..1.0 => 3,
        1.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    }
}

/// The page with all tables.
fn all_results(
    command: &str,
    machine: &Machine,
    outcomes: &[Outcome],
    expectations: &[(String, bool)],
    drawn: &[(&str, &str)],
) -> String {
    let mut text = format!(
        "# Results of all benchmarks\n\nWritten by `{command}`: {}. [BENCHMARKS.md](../BENCHMARKS.md) describes the \
         workloads. All rounds are in [results.json](results.json). Each cell shows the median of the rounds, with the \
         minimum and maximum in parentheses if they differ.\n",
        machine.line()
    );
    for (name, title) in drawn {
        let _ = write!(text, "\n![{title}]({name}.svg)\n");
    }
    text.push_str("\n## Goals\n\n| | goal and result |\n|---|---|\n");
    for (what, holds) in expectations {
        let _ = writeln!(text, "| {} | {what} |", if *holds { "holds" } else { "**does not hold**" });
    }
    for outcome in outcomes {
        let _ = write!(text, "\n## {}\n\n{}", outcome.name, outcome.table());
    }
    text
}

/// Replaces the text between the markers. `None` if a marker is missing.
fn replace_results(text: &str, results: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{results}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metric;
    use crate::metrics::Round;
    use crate::metrics::TargetResults;
    use crate::suite;
    use crate::tls::Transport;
    use crate::workloads::Workload;

    #[test]
    fn only_the_text_between_the_markers_is_replaced() {
        let text = "# A\n\n<!-- results -->\nold\n<!-- /results -->\n\nB\n";
        let new = replace_results(text, "new\n").unwrap();
        assert_eq!(new, "# A\n\n<!-- results -->\nnew\n<!-- /results -->\n\nB\n");
        assert_eq!(replace_results(&new, "new\n").unwrap(), new);
        assert_eq!(replace_results("# A\n<!-- results -->\n", "new"), None);
        assert_eq!(replace_results("# A\n<!-- /results -->\n<!-- results -->", "new"), None);
    }

    #[test]
    fn the_costs_are_compared_and_a_workload_without_results_has_no_row() {
        const CPU: Metric = Metric::compared("cpu_us", "CPU", 2);
        let target = |target: &str, value| TargetResults {
            target: target.to_owned(),
            rounds: vec![Round { metrics: vec![(&CPU, value)], expectations: Vec::new(), notes: Vec::new() }],
        };
        let outcome = |name: &str, results| Outcome {
            name: name.to_owned(),
            title: name.to_owned(),
            workload: Workload::Restart(suite::restart()),
            transport: Transport::Plain,
            results,
        };
        let outcomes = [
            outcome("fanout-64", vec![target("tidegate", 0.125), target("nats-server", 1.25)]),
            outcome("private", vec![target("tidegate", 12.34)]),
        ];
        let text =
            costs("bench", &Machine::current("nats-server 1"), &outcomes, &[("cpu", "CPU"), ("growth", "G")]);
        let rows: Vec<_> = text.lines().take_while(|line| line.starts_with('|')).skip(2).collect();
        assert_eq!(rows.len(), 2, "{text}");
        assert!(rows[0].ends_with("| 0.125 | 1.25 | 0.10 |"), "{text}");
        assert!(rows[1].ends_with("| 12.3 | – |  |"), "{text}");
        assert!(text.contains("(benchmarks/cpu.svg)") && !text.contains("growth"), "{text}");
    }
}
