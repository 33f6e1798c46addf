//! The goals for the results of the suite, and whether they hold.
//!
//! A goal is for one workload of the suite with all its parameters: sockets, window, rate, interval, TLS and so on. Results of
//! the same workload with other parameters are not judged.

mod goal;
#[cfg(test)]
mod tests;

use std::mem::discriminant;

use crate::goals::goal::Bound;
use crate::goals::goal::Direction;
use crate::goals::goal::GOALS;
use crate::goals::goal::Goal;
use crate::goals::goal::TIDEGATE;
use crate::metrics::number;
use crate::report::Outcome;
use crate::suite;
use crate::suite::Entry;
use crate::workloads::Workload;

/// Checks all goals whose workloads and targets were measured: their text, and whether they hold.
pub fn check(outcomes: &[Outcome]) -> Vec<(String, bool)> {
    let suite = suite::all();
    GOALS.iter().filter_map(|goal| check_goal(goal, &suite, outcomes)).collect()
}

/// The measured workloads that no goal is for, although there are goals for the same workload with other parameters: the
/// name and title of each.
pub fn without_goal(outcomes: &[Outcome]) -> Vec<String> {
    let suite = suite::all();
    let with_goal = |entry: &&Entry| GOALS.iter().any(|goal| goal.workload == entry.name);
    let is_unjudged = |outcome: &&Outcome| {
        let is_known = suite.iter().any(|entry| is_result_of(entry, outcome));
        !is_known
            && suite.iter().filter(with_goal).any(|entry| is_same_kind(&entry.workload, &outcome.workload))
    };
    let unjudged = outcomes.iter().filter(is_unjudged);
    unjudged.map(|outcome| format!("{} ({})", outcome.name, outcome.title)).collect()
}

/// Whether two workloads differ in their parameters only.
fn is_same_kind(one: &Workload, other: &Workload) -> bool {
    match (one, other) {
        (Workload::Messages(one), Workload::Messages(other)) => one.kind == other.kind,
        _ => discriminant(one) == discriminant(other),
    }
}

/// The results of the suite's workload of this name, if it was measured with the suite's parameters.
fn measured<'a>(name: &str, suite: &[Entry], outcomes: &'a [Outcome]) -> Option<&'a Outcome> {
    let entry = suite.iter().find(|entry| entry.name == name)?;
    outcomes.iter().find(|outcome| is_result_of(entry, outcome))
}

/// Whether an outcome is the result of exactly this entry.
fn is_result_of(entry: &Entry, outcome: &Outcome) -> bool {
    outcome.workload == entry.workload && outcome.transport == entry.transport
}

fn check_goal(goal: &Goal, suite: &[Entry], outcomes: &[Outcome]) -> Option<(String, bool)> {
    let Goal { workload, target, metric: name, direction, bound } = *goal;
    let outcome = measured(workload, suite, outcomes)?;
    let value = outcome.median(target, name)?;
    let metric = outcome.metric(name)?;
    let (unit, bound, factor) = match bound {
        Bound::Value(bound) => (String::new(), bound, None),
        Bound::TimesTarget(factor, target) => {
            (format!(" × {target}"), factor * outcome.median(target, name)?, Some(factor))
        }
        Bound::TimesWorkload(factor, other) => {
            let compared = measured(other, suite, outcomes)?.median(TIDEGATE, name)?;
            (format!(" × {other}"), factor * compared, Some(factor))
        }
    };
    let (relation, holds) = match direction {
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
