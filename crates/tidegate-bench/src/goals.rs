//! The goals for the results of the suite, and whether they hold.

use crate::metrics::number;
use crate::report::Outcome;

/// The limit that a metric is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// A fixed value.
    Value(f64),
    /// A factor, and the target whose median in the same workload it multiplies.
    TimesTarget(f64, &'static str),
    /// A factor, and the workload where Tidegate's median is multiplied.
    TimesWorkload(f64, &'static str),
}

/// Whether the bound is an upper or a lower limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    AtMost,
    AtLeast,
}

struct Goal {
    workload: &'static str,
    target: &'static str,
    metric: &'static str,
    direction: Direction,
    bound: Bound,
}

const fn at_most(workload: &'static str, metric: &'static str, bound: Bound) -> Goal {
    Goal { workload, target: TIDEGATE, metric, direction: Direction::AtMost, bound }
}

const fn at_least(workload: &'static str, metric: &'static str, bound: Bound) -> Goal {
    Goal { workload, target: TIDEGATE, metric, direction: Direction::AtLeast, bound }
}

/// The same goal for the target `stock-agent`, whose clients use a vocabulary.
const fn stock_agent(goal: Goal) -> Goal {
    Goal { target: STOCK_AGENT, ..goal }
}

const TIDEGATE: &str = "tidegate";
const STOCK_AGENT: &str = "stock-agent";
const NATS_SERVER: &str = "nats-server";
const BASELINE: &str = "baseline";

const GOALS: [Goal; 35] = [
    at_most("fanout-64", "cpu_us", Bound::TimesTarget(0.22, NATS_SERVER)),
    at_most("fanout-64", "cpu_us", Bound::TimesTarget(1.25, BASELINE)),
    at_least("fanout-64", "deliveries_per_s", Bound::TimesTarget(4.0, NATS_SERVER)),
    at_most("fanout-1", "cpu_us", Bound::TimesTarget(0.4, NATS_SERVER)),
    at_most("fanout-1", "cpu_us", Bound::TimesTarget(1.15, BASELINE)),
    at_most("fanout-1", "p99_ms", Bound::TimesTarget(0.6, NATS_SERVER)),
    at_most("fanout-rate", "p50_ms", Bound::TimesTarget(0.5, NATS_SERVER)),
    at_most("fanout-rate", "p99_ms", Bound::TimesTarget(0.5, NATS_SERVER)),
    at_most("market", "cpu_us", Bound::TimesTarget(0.6, NATS_SERVER)),
    at_most("market", "front_us", Bound::Value(0.7)),
    stock_agent(at_most("market", "cpu_us", Bound::TimesTarget(1.1, TIDEGATE))),
    at_most("private", "cpu_us", Bound::TimesTarget(0.75, NATS_SERVER)),
    at_most("private-pattern", "cpu_us", Bound::TimesWorkload(1.0, "private")),
    at_most("idle-shared", "front_socket_bytes", Bound::Value(3072.0)),
    at_most("idle-compressed", "front_socket_bytes", Bound::Value(5120.0)),
    at_most("idle-private-pattern", "front_socket_bytes", Bound::Value(4096.0)),
    at_most("heartbeats", "front_socket_bytes", Bound::Value(3072.0)),
    at_most("heartbeats", "idle_cpu_percent", Bound::Value(5.0)),
    at_most("heartbeats", "ping_us", Bound::Value(25.0)),
    at_most("connect", "cpu_us", Bound::Value(60.0)),
    at_most("connect", "cpu_us", Bound::TimesTarget(0.4, NATS_SERVER)),
    at_least("connect", "connections_per_s", Bound::Value(2000.0)),
    at_least("connect-same-token", "connections_per_s", Bound::Value(5000.0)),
    at_most("storm", "failed", Bound::Value(0.0)),
    at_most("sockets-10000", "cpu_us", Bound::TimesWorkload(1.3, "sockets-100")),
    at_most("subjects-10000", "cpu_us", Bound::TimesWorkload(1.3, "subjects-100")),
    at_most("compressed-200", "memory_mib", Bound::TimesWorkload(1.5, "fanout-64")),
    at_most("compressed-200", "wire_bytes", Bound::TimesWorkload(1.0, "fanout-64")),
    at_most("compressed-1024", "memory_mib", Bound::TimesWorkload(1.5, "plain-1024")),
    at_most("compressed-1024", "wire_bytes", Bound::TimesWorkload(0.7, "plain-1024")),
    at_least("load-L3", "deliveries_per_s", Bound::Value(495_000.0)),
    at_most("load-L3", "p99_ms", Bound::Value(50.0)),
    at_least("churn", "commands_per_s", Bound::Value(9900.0)),
    at_most("churn", "memory_growth_percent", Bound::Value(5.0)),
    at_most("churn", "subscriptions_left", Bound::Value(0.0)),
];

/// Checks all goals whose workloads and targets were measured: their text, and whether they hold.
pub fn check(outcomes: &[Outcome]) -> Vec<(String, bool)> {
    GOALS.iter().filter_map(|goal| goal.check(outcomes)).collect()
}

impl Goal {
    fn check(&self, outcomes: &[Outcome]) -> Option<(String, bool)> {
        let Self { workload, target, metric: name, .. } = *self;
        let outcome = |name: &str| outcomes.iter().find(|outcome| outcome.name == name);
        let measured = outcome(workload)?;
        let value = measured.median(target, name)?;
        let metric = measured.metric(name)?;
        let (unit, bound, factor) = match self.bound {
            Bound::Value(bound) => (String::new(), bound, None),
            Bound::TimesTarget(factor, target) => {
                (format!(" × {target}"), factor * measured.median(target, name)?, Some(factor))
            }
            Bound::TimesWorkload(factor, other) => {
                (format!(" × {other}"), factor * outcome(other)?.median(TIDEGATE, name)?, Some(factor))
            }
        };
        let (relation, holds) = match self.direction {
            Direction::AtMost => ("at most", value <= bound),
            Direction::AtLeast => ("at least", value >= bound),
        };
        let by = if target == TIDEGATE { String::new() } else { format!(", {target}") };
        let title = format!("{by}: {}", metric.title.trim_start_matches("- "));
        let shown = number(value, metric.digits);
        let what = match factor {
            None => format!("{workload}{title}: {shown} ({relation} {})", number(bound, metric.digits)),
            Some(factor) => {
                let ratio = value * factor / bound;
                format!("{workload}{title}: {shown}, that is {ratio:.2}{unit} ({relation} {factor})")
            }
        };
        Some((what, holds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metric;
    use crate::metrics::Round;
    use crate::metrics::TargetResults;
    use crate::suite;

    const COST: Metric = Metric::compared("cpu_us", "CPU", 2);

    fn outcome(name: &str, costs: &[(&str, f64)]) -> Outcome {
        let entry = suite::all().into_iter().find(|entry| entry.name == name).unwrap();
        let results = costs.iter().map(|(target, cost)| {
            let round = Round { metrics: vec![(&COST, *cost)], ..Round::default() };
            TargetResults { target: (*target).to_owned(), rounds: vec![round] }
        });
        Outcome {
            name: name.to_owned(),
            title: String::new(),
            workload: entry.workload,
            results: results.collect(),
        }
    }

    #[test]
    fn every_goal_names_workloads_of_the_suite() {
        let all = suite::all();
        let known = |name: &str| all.iter().any(|entry| entry.name == name);
        for goal in &GOALS {
            assert!(known(goal.workload), "{}", goal.workload);
            match goal.bound {
                Bound::TimesWorkload(_, other) => assert!(known(other), "{other}"),
                Bound::Value(_) | Bound::TimesTarget(..) => {}
            }
        }
    }

    #[test]
    fn goals_hold_or_do_not() {
        let fine = outcome("fanout-1", &[("tidegate", 2.0), ("nats-server", 5.0), ("baseline", 1.0)]);
        let checked = check(&[fine]);
        assert_eq!(
            checked,
            [
                ("fanout-1: CPU: 2.00, that is 0.40 × nats-server (at most 0.4)".to_owned(), true),
                ("fanout-1: CPU: 2.00, that is 2.00 × baseline (at most 1.15)".to_owned(), false),
            ]
        );
    }

    #[test]
    fn a_goal_for_a_vocabulary_is_compared_with_the_native_protocol() {
        let checked = check(&[outcome("market", &[("tidegate", 2.0), ("stock-agent", 2.1)])]);
        assert_eq!(
            checked,
            [("market, stock-agent: CPU: 2.10, that is 1.05 × tidegate (at most 1.1)".to_owned(), true)]
        );
    }

    #[test]
    fn a_goal_is_left_out_if_something_was_not_measured() {
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
