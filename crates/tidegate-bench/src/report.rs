//! The results of workloads, as tables and as JSON.

use std::fmt::Write as _;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::machine::Machine;
use crate::metrics;
use crate::metrics::Metric;
use crate::metrics::TargetResults;
use crate::tls::Transport;
use crate::workloads::Workload;

/// The results of one workload.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The name of the entry: `fanout-64`.
    pub name: String,
    pub title: String,
    pub workload: Workload,
    pub transport: Transport,
    /// One per target. The table compares the others with the first.
    pub results: Vec<TargetResults>,
}

impl Outcome {
    /// The Markdown table that compares the targets, and below it the notes of all rounds, each once.
    pub fn table(&self) -> String {
        let mut text = metrics::table(&self.title, &self.results);
        let mut notes: Vec<&str> = Vec::new();
        for note in self.results.iter().flat_map(|results| &results.rounds).flat_map(|round| &round.notes) {
            if !notes.contains(&note.as_str()) {
                notes.push(note);
                let _ = write!(text, "\n{note}\n");
            }
        }
        text
    }

    /// The median of a target's metric.
    pub fn median(&self, target: &str, metric: &str) -> Option<f64> {
        self.results.iter().find(|results| results.target == target)?.median(metric)
    }

    /// The metric of this name, if a round has it.
    pub fn metric(&self, name: &str) -> Option<&'static Metric> {
        let mut metrics =
            self.results.iter().flat_map(|results| &results.rounds).flat_map(|round| &round.metrics);
        metrics.find(|(metric, _)| metric.name == name).map(|(metric, _)| *metric)
    }

    /// The expectations of all rounds. One holds if it did in every round.
    pub fn expectations(&self) -> Vec<(String, bool)> {
        let mut all: Vec<(String, bool)> = Vec::new();
        for results in &self.results {
            for (what, holds) in results.rounds.iter().flat_map(|round| &round.expectations) {
                let what = format!("{}, {}: {what}", self.name, results.target);
                match all.iter_mut().find(|(known, _)| *known == what) {
                    Some((_, known)) => *known &= holds,
                    None => all.push((what, *holds)),
                }
            }
        }
        all
    }
}

/// A target's metrics: the summary, and the values of all rounds.
fn results_json(results: &TargetResults) -> Value {
    let mut all = Map::new();
    for (metric, _) in results.rounds.iter().flat_map(|round| &round.metrics) {
        let rounds: Vec<_> = results.rounds.iter().filter_map(|round| round.value(metric.name)).collect();
        if let Some(summary) = results.summary(metric.name) {
            let (median, min, max) = (summary.median, summary.min, summary.max);
            let summary = json!({ "median": median, "min": min, "max": max, "rounds": rounds });
            all.insert(metric.name.to_owned(), summary);
        }
    }
    json!({ "target": results.target, "metrics": all })
}

/// All results as JSON, with one line per target, so that two files can be compared with `diff`.
pub fn json(
    command: &str,
    machine: &Machine,
    outcomes: &[Outcome],
    expectations: &[(String, bool)],
) -> String {
    let mut text =
        format!("{{\n\"command\": {},\n\"machine\": {},\n\"workloads\": [\n", json!(command), machine.json());
    for (at, outcome) in outcomes.iter().enumerate() {
        let _ = writeln!(
            text,
            "{{\"name\": {}, \"title\": {}, \"targets\": [",
            json!(outcome.name),
            json!(outcome.title)
        );
        let targets: Vec<_> =
            outcome.results.iter().map(|results| results_json(results).to_string()).collect();
        let comma = if at + 1 < outcomes.len() { "," } else { "" };
        let _ = writeln!(text, "{}\n]}}{comma}", targets.join(",\n"));
    }
    let line = |(what, holds): &(String, bool)| json!({ "what": what, "holds": holds }).to_string();
    let lines: Vec<_> = expectations.iter().map(line).collect();
    let _ = write!(text, "],\n\"expectations\": [\n{}\n]\n}}\n", lines.join(",\n"));
    text
}

/// One line of text per expectation.
pub fn expectations(all: &[(String, bool)]) -> String {
    let line = |(what, holds): &(String, bool)| {
        format!("{} {what}\n", if *holds { "holds:        " } else { "does not hold:" })
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Round;
    use crate::suite;

    const COST: Metric = Metric::compared("cost_us", "cost", 1);

    fn outcome(holds: [bool; 2]) -> Outcome {
        let round = |(cost, holds)| Round {
            metrics: vec![(&COST, cost)],
            expectations: vec![("all is well".to_owned(), holds)],
            notes: vec!["Costs are missing.".to_owned()],
        };
        let rounds = [(1.0, holds[0]), (3.0, holds[1])].map(round).to_vec();
        let results = vec![TargetResults { target: "tidegate".to_owned(), rounds }];
        let workload = Workload::Restart(suite::restart());
        Outcome {
            name: "a".to_owned(),
            title: "the \"a\"".to_owned(),
            workload,
            transport: Transport::Plain,
            results,
        }
    }

    #[test]
    fn the_json_is_valid_and_has_all_rounds() {
        let outcomes = [outcome([true, true]), outcome([true, false])];
        let text =
            json("bench \"x\"", &Machine::current("nats-server 1"), &outcomes, &outcomes[1].expectations());
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["command"], "bench \"x\"");
        assert_eq!(read["workloads"][1]["title"], "the \"a\"");
        let cost = &read["workloads"][0]["targets"][0]["metrics"]["cost_us"];
        assert_eq!(*cost, json!({ "median": 2.0, "min": 1.0, "max": 3.0, "rounds": [1.0, 3.0] }));
        assert_eq!(read["expectations"][0], json!({ "what": "a, tidegate: all is well", "holds": false }));
        let none = json("x", &Machine::current("y"), &[], &[]);
        assert!(serde_json::from_str::<Value>(&none).is_ok(), "{none}");
    }

    #[test]
    fn the_notes_are_below_the_table_each_once() {
        let table = outcome([true, true]).table();
        assert!(table.ends_with("|\n\nCosts are missing.\n"), "{table}");
        assert_eq!(table.matches("Costs").count(), 1);
    }

    #[test]
    fn an_expectation_fails_if_it_does_not_hold_in_one_round() {
        assert!(outcome([true, true]).expectations()[0].1);
        let lines = expectations(&outcome([false, true]).expectations());
        assert_eq!(lines, "does not hold: a, tidegate: all is well\n");
    }
}
