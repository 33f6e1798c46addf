//! What came out: tables for people, JSON for machines.

use std::fmt::Write as _;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::figures;
use crate::figures::Figure;
use crate::figures::Results;
use crate::machine::Machine;
use crate::works::Work;

/// What one workload came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name among others.
    pub name: String,
    pub title: String,
    pub work: Work,
    /// Of each target; the first is what the others are compared with.
    pub results: Vec<Results>,
}

impl Outcome {
    /// Its figures side by side.
    pub fn table(&self) -> String {
        figures::table(&self.title, &self.results)
    }

    /// What a target's figure came to.
    pub fn median(&self, target: &str, figure: &str) -> Option<f64> {
        self.results.iter().find(|results| results.target == target)?.median(figure)
    }

    /// How a figure is shown.
    pub fn figure(&self, name: &str) -> Option<&'static Figure> {
        let mut figures =
            self.results.iter().flat_map(|results| &results.rounds).flat_map(|round| &round.figures);
        figures.find(|(figure, _)| figure.name == name).map(|(figure, _)| *figure)
    }

    /// What had to hold in the rounds: it holds when it did in all of them.
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

/// A target's figures: of every round, and over all of them.
fn results_json(results: &Results) -> Value {
    let mut all = Map::new();
    for (figure, _) in results.rounds.iter().flat_map(|round| &round.figures) {
        let rounds: Vec<_> = results.rounds.iter().filter_map(|round| round.value(figure.name)).collect();
        if let Some(spread) = results.spread(figure.name) {
            let (median, min, max) = (spread.median, spread.min, spread.max);
            let spread = json!({ "median": median, "min": min, "max": max, "rounds": rounds });
            all.insert(figure.name.to_owned(), spread);
        }
    }
    json!({ "target": results.target, "figures": all })
}

/// All of it, with a line for each target, so that two files can be compared.
pub fn json(
    command: &str,
    machine: &Machine,
    outcomes: &[Outcome],
    expectations: &[(String, bool)],
) -> String {
    let mut text =
        format!("{{\n\"command\": {},\n\"machine\": {},\n\"works\": [\n", json!(command), machine.json());
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

/// One line for each of them.
pub fn expectations(all: &[(String, bool)]) -> String {
    let line = |(what, holds): &(String, bool)| {
        format!("{} {what}\n", if *holds { "holds:        " } else { "does not hold:" })
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Round;
    use crate::suite;

    const COST: Figure = Figure::compared("cost_us", "cost", 1);

    fn outcome(holds: [bool; 2]) -> Outcome {
        let round = |(cost, holds)| Round {
            figures: vec![(&COST, cost)],
            expectations: vec![("all is well".to_owned(), holds)],
        };
        let rounds = [(1.0, holds[0]), (3.0, holds[1])].map(round).to_vec();
        let results = vec![Results { target: "tidegate".to_owned(), rounds }];
        let work = Work::Restart(suite::restart());
        Outcome { name: "a".to_owned(), title: "the \"a\"".to_owned(), work, results }
    }

    #[test]
    fn json_is_json_with_all_rounds() {
        let outcomes = [outcome([true, true]), outcome([true, false])];
        let text =
            json("bench \"x\"", &Machine::here("nats-server 1"), &outcomes, &outcomes[1].expectations());
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["command"], "bench \"x\"");
        assert_eq!(told["works"][1]["title"], "the \"a\"");
        let cost = &told["works"][0]["targets"][0]["figures"]["cost_us"];
        assert_eq!(*cost, json!({ "median": 2.0, "min": 1.0, "max": 3.0, "rounds": [1.0, 3.0] }));
        assert_eq!(told["expectations"][0], json!({ "what": "a, tidegate: all is well", "holds": false }));
        let none = json("x", &Machine::here("y"), &[], &[]);
        assert!(serde_json::from_str::<Value>(&none).is_ok(), "{none}");
    }

    #[test]
    fn what_does_not_hold_once_does_not_hold() {
        assert!(outcome([true, true]).expectations()[0].1);
        let lines = expectations(&outcome([false, true]).expectations());
        assert_eq!(lines, "does not hold: a, tidegate: all is well\n");
    }
}
