//! Tests that goals are compared with the right results.

use std::path::PathBuf;

use super::*;
use crate::metrics::Metric;
use crate::metrics::Round;
use crate::metrics::TargetResults;
use crate::servers::Target;
use crate::suite;
use crate::suite::Entry;
use crate::workloads::heartbeats::Heartbeats;
use crate::workloads::messages::Pacing;

const COST: Metric = Metric::compared("cpu_us", "CPU", 2);

/// The suite's workload of this name, with these costs.
fn outcome(name: &str, costs: &[(&str, f64)]) -> Outcome {
    let entry = suite::all().into_iter().find(|entry| entry.name == name).unwrap();
    outcome_of(entry, costs)
}

fn outcome_of(entry: Entry, costs: &[(&str, f64)]) -> Outcome {
    let results = costs.iter().map(|(target, cost)| {
        let round = Round { metrics: vec![(&COST, *cost)], ..Round::default() };
        TargetResults { target: (*target).to_owned(), rounds: vec![round] }
    });
    Outcome {
        title: entry.title(),
        name: entry.name,
        workload: entry.workload,
        transport: entry.transport,
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
fn the_suite_measures_the_targets_of_every_goal() {
    let all = suite::all();
    let program = PathBuf::from("/program");
    let tidegate =
        |name: &str, own_lane| Target::Tidegate { name: name.to_owned(), program: program.clone(), own_lane };
    let targets = [
        tidegate("tidegate", false),
        tidegate("tidegate-own", true),
        Target::StockAgent { program: program.clone() },
        Target::Centrifugo { program: program.clone() },
        Target::NatsServer,
        Target::Baseline,
    ];
    for goal in &GOALS {
        let entry = all.iter().find(|entry| entry.name == goal.workload).unwrap();
        let is_measured = |name: &str| {
            let target = targets.iter().find(|target| target.name() == name).unwrap();
            entry.workload.supports(target) && entry.includes(target)
        };
        let compared = match goal.bound {
            Bound::TimesTarget(_, compared) => compared,
            Bound::Value(_) | Bound::TimesWorkload(..) => goal.target,
        };
        assert!(is_measured(goal.target) && is_measured(compared), "{goal:?}");
    }
}

#[test]
fn workloads_with_other_parameters_are_not_judged_and_the_report_names_them() {
    let costs = [("tidegate", 2.0), ("nats-server", 1.0), ("baseline", 1.0)];
    let fanout = |sockets, window| {
        outcome_of(
            Entry::new("fanout", Workload::Messages(suite::fanout(sockets, Pacing::Window(window)))),
            &costs,
        )
    };
    let fanout_over_tls = |sockets| {
        let workload = Workload::Messages(suite::fanout(sockets, Pacing::Window(64)));
        outcome_of(Entry::new("fanout", workload).over_tls(), &costs)
    };
    let heartbeats = |sockets, private, interval_s| {
        let workload = Heartbeats { sockets, processes: 1, private, interval_s };
        outcome_of(suite::heartbeats_entry(workload), &costs)
    };
    let outcomes = [
        fanout(1000, 64),
        fanout(1000, 2),
        fanout(999, 1),
        heartbeats(10_000, false, 25),
        heartbeats(100_000, false, 25),
        heartbeats(10_000, true, 25),
        heartbeats(10_000, true, 5),
        outcome("restart", &costs),
        fanout_over_tls(1000),
        fanout_over_tls(999),
    ];
    // The name alone does not count: the first is known by its parameters.
    let [plain, .., tls, _] = &outcomes;
    assert_eq!(check(&outcomes), check(&[plain.clone(), tls.clone()]));
    assert_eq!([plain, tls].map(|outcome| check(std::slice::from_ref(outcome)).len()), [2, 1]);
    assert_eq!(
        without_goal(&outcomes),
        [
            "fanout (1 subject × 1,000 sockets, 2 in flight, 200 B)",
            "fanout (1 subject × 999 sockets, 1 in flight, 200 B)",
            "heartbeats (100,000 idle sockets, a ping every 25 s)",
            "heartbeats-private (10,000 idle sockets with a subject each, a ping every 5 s)",
            "fanout-tls (1 subject × 999 sockets, 64 in flight, 200 B, TLS)",
        ]
    );
}

#[test]
fn goals_hold_or_do_not() {
    let fine = outcome("fanout-1", &[("tidegate", 1.75), ("nats-server", 5.0), ("baseline", 1.0)]);
    let checked = check(&[fine]);
    assert_eq!(
        checked,
        [
            ("fanout-1: CPU: 1.75, that is 0.35 × nats-server (at most 0.36)".to_owned(), true),
            ("fanout-1: CPU: 1.75, that is 1.75 × baseline (at most 1.15)".to_owned(), false),
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
    let both = [outcome("sockets-100", &[("tidegate", 1.0)]), outcome("sockets-10000", &[("tidegate", 2.0)])];
    assert_eq!(
        check(&both),
        [("sockets-10000: CPU: 2.00, that is 2.00 × sockets-100 (at most 1.3)".to_owned(), false)]
    );
    let connect = check(&[outcome("connect", &[("tidegate", 61.0)])]);
    assert_eq!(connect, [("connect: CPU: 61.00 (at most 50.00)".to_owned(), false)]);
}

#[test]
fn a_goal_for_a_lane_is_not_for_the_other_lane() {
    const SWITCHES: Metric = Metric::plain("front_switches", "- switches", 2);
    let mut lone = outcome("lone", &[("tidegate", 9.0), ("tidegate-own", 9.0)]);
    for (results, switches) in lone.results.iter_mut().zip([2.0, 1.5]) {
        results.rounds[0].add(&SWITCHES, switches);
    }
    assert_eq!(check(&[lone]), [("lone, tidegate-own: switches: 1.50 (at most 1.60)".to_owned(), true)]);
}
