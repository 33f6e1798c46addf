//! What the figures should come to, and whether they do.

use crate::figures::number;
use crate::report::Outcome;

/// What a figure is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// A value of its own.
    At(f64),
    /// So many times what another target came to.
    Times(f64, &'static str),
    /// So many times what the same target came to in another workload.
    Of(f64, &'static str),
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    AtMost,
    AtLeast,
}

struct Goal {
    work: &'static str,
    target: &'static str,
    figure: &'static str,
    side: Side,
    bound: Bound,
}

const fn at_most(work: &'static str, figure: &'static str, bound: Bound) -> Goal {
    Goal { work, target: OURS, figure, side: Side::AtMost, bound }
}

const fn at_least(work: &'static str, figure: &'static str, bound: Bound) -> Goal {
    Goal { work, target: OURS, figure, side: Side::AtLeast, bound }
}

/// Of the target that speaks as a file says.
const fn described(goal: Goal) -> Goal {
    Goal { target: DESCRIBED, ..goal }
}

const OURS: &str = "tidegate";
const DESCRIBED: &str = "stock-agent";
const PEER: &str = "nats-server";
const FLOOR: &str = "floor";

const GOALS: [Goal; 34] = [
    at_most("fanout-64", "cpu_us", Bound::Times(0.22, PEER)),
    at_most("fanout-64", "cpu_us", Bound::Times(1.25, FLOOR)),
    at_least("fanout-64", "deliveries_per_s", Bound::Times(4.0, PEER)),
    at_most("fanout-1", "cpu_us", Bound::Times(0.4, PEER)),
    at_most("fanout-1", "cpu_us", Bound::Times(1.15, FLOOR)),
    at_most("fanout-1", "p99_ms", Bound::Times(0.6, PEER)),
    at_most("fanout-rate", "p50_ms", Bound::Times(0.5, PEER)),
    at_most("fanout-rate", "p99_ms", Bound::Times(0.5, PEER)),
    at_most("market", "cpu_us", Bound::Times(0.6, PEER)),
    at_most("market", "front_us", Bound::At(0.7)),
    described(at_most("market", "cpu_us", Bound::Times(1.1, OURS))),
    at_most("private", "cpu_us", Bound::Times(0.75, PEER)),
    at_most("private-pattern", "cpu_us", Bound::Of(1.0, "private")),
    at_most("idle-shared", "front_socket_bytes", Bound::At(3072.0)),
    at_most("idle-compressed", "front_socket_bytes", Bound::At(5120.0)),
    at_most("idle-private-pattern", "front_socket_bytes", Bound::At(4096.0)),
    at_most("heartbeats", "front_socket_bytes", Bound::At(3072.0)),
    at_most("heartbeats", "quiet_percent", Bound::At(5.0)),
    at_most("connect", "cpu_us", Bound::At(60.0)),
    at_most("connect", "cpu_us", Bound::Times(0.4, PEER)),
    at_least("connect", "connections_per_s", Bound::At(2000.0)),
    at_least("connect-same-token", "connections_per_s", Bound::At(5000.0)),
    at_most("storm", "failed", Bound::At(0.0)),
    at_most("sockets-10000", "cpu_us", Bound::Of(1.3, "sockets-100")),
    at_most("subjects-10000", "cpu_us", Bound::Of(1.3, "subjects-100")),
    at_most("compressed-200", "memory_mib", Bound::Of(1.5, "fanout-64")),
    at_most("compressed-200", "wire_bytes", Bound::Of(1.0, "fanout-64")),
    at_most("compressed-1024", "memory_mib", Bound::Of(1.5, "plain-1024")),
    at_most("compressed-1024", "wire_bytes", Bound::Of(0.7, "plain-1024")),
    at_least("load-L3", "deliveries_per_s", Bound::At(495_000.0)),
    at_most("load-L3", "p99_ms", Bound::At(50.0)),
    at_least("churn", "commands_per_s", Bound::At(9900.0)),
    at_most("churn", "drift_percent", Bound::At(5.0)),
    at_most("churn", "subscriptions_left", Bound::At(0.0)),
];

/// Those of which everything was measured, and whether they hold.
pub fn check(outcomes: &[Outcome]) -> Vec<(String, bool)> {
    GOALS.iter().filter_map(|goal| goal.check(outcomes)).collect()
}

impl Goal {
    fn check(&self, outcomes: &[Outcome]) -> Option<(String, bool)> {
        let Self { work, target, figure: name, .. } = *self;
        let outcome = |name: &str| outcomes.iter().find(|outcome| outcome.name == name);
        let ours = outcome(work)?;
        let value = ours.median(target, name)?;
        let figure = ours.figure(name)?;
        let (unit, bound, factor) = match self.bound {
            Bound::At(bound) => (String::new(), bound, None),
            Bound::Times(factor, target) => {
                (format!(" × {target}"), factor * ours.median(target, name)?, Some(factor))
            }
            Bound::Of(factor, other) => {
                (format!(" × {other}"), factor * outcome(other)?.median(OURS, name)?, Some(factor))
            }
        };
        let (words, holds) = match self.side {
            Side::AtMost => ("at most", value <= bound),
            Side::AtLeast => ("at least", value >= bound),
        };
        let by = if target == OURS { String::new() } else { format!(", {target}") };
        let title = format!("{by}: {}", figure.title.trim_start_matches("- "));
        let shown = number(value, figure.digits);
        let what = match factor {
            None => format!("{work}{title}: {shown} ({words} {})", number(bound, figure.digits)),
            Some(factor) => {
                let ratio = value * factor / bound;
                format!("{work}{title}: {shown}, that is {ratio:.2}{unit} ({words} {factor})")
            }
        };
        Some((what, holds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figure;
    use crate::figures::Results;
    use crate::figures::Round;
    use crate::suite;

    const COST: Figure = Figure::compared("cpu_us", "CPU", 2);

    fn outcome(name: &str, costs: &[(&str, f64)]) -> Outcome {
        let entry = suite::all().into_iter().find(|entry| entry.name == name).unwrap();
        let results = costs.iter().map(|(target, cost)| {
            let round = Round { figures: vec![(&COST, *cost)], expectations: Vec::new() };
            Results { target: (*target).to_owned(), rounds: vec![round] }
        });
        Outcome { name: name.to_owned(), title: String::new(), work: entry.work, results: results.collect() }
    }

    #[test]
    fn every_goal_is_one_of_a_workload() {
        let all = suite::all();
        let known = |name: &str| all.iter().any(|entry| entry.name == name);
        for goal in &GOALS {
            assert!(known(goal.work), "{}", goal.work);
            match goal.bound {
                Bound::Of(_, other) => assert!(known(other), "{other}"),
                Bound::At(_) | Bound::Times(..) => {}
            }
        }
    }

    #[test]
    fn goals_hold_or_do_not() {
        let fine = outcome("fanout-1", &[("tidegate", 2.0), ("nats-server", 5.0), ("floor", 1.0)]);
        let checked = check(&[fine]);
        assert_eq!(
            checked,
            [
                ("fanout-1: CPU: 2.00, that is 0.40 × nats-server (at most 0.4)".to_owned(), true),
                ("fanout-1: CPU: 2.00, that is 2.00 × floor (at most 1.15)".to_owned(), false),
            ]
        );
    }

    #[test]
    fn a_goal_of_a_vocabulary_is_held_against_our_own_words() {
        let checked = check(&[outcome("market", &[("tidegate", 2.0), ("stock-agent", 2.1)])]);
        assert_eq!(
            checked,
            [("market, stock-agent: CPU: 2.10, that is 1.05 × tidegate (at most 1.1)".to_owned(), true)]
        );
    }

    #[test]
    fn a_goal_of_what_was_not_measured_is_left_out() {
        assert_eq!(check(&[outcome("fanout-1", &[("tidegate", 2.0)])]), []);
        assert_eq!(check(&[outcome("sockets-10000", &[("tidegate", 2.0)])]), []);
        let both =
            [outcome("sockets-100", &[("tidegate", 1.0)]), outcome("sockets-10000", &[("tidegate", 2.0)])];
        assert_eq!(
            check(&both),
            [("sockets-10000: CPU: 2.00, that is 2.00 × sockets-100 (at most 1.3)".to_owned(), false)]
        );
        let connect = check(&[outcome("connect", &[("tidegate", 61.0)])]);
        assert_eq!(connect, [("connect: CPU: 61.00 (at most 60.00)".to_owned(), false)]);
    }
}
