//! Checks for rules that never match, because an earlier rule matches everything that they could.

use tidegate_document::diagnostic::Diagnostic;

use crate::compile::check::parts::Parts;
use crate::model::Condition;
use crate::model::DeliverRule;
use crate::model::Matcher;
use crate::model::MessageTest;
use crate::route::PathIndex;

/// Reports rules that no message can reach.
pub(super) fn unreachable_rules(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let received: Vec<_> = parts.rules.iter().filter(|placed| placed.is_received).collect();
    let mut mistakes = Vec::new();
    for (at, placed) in received.iter().enumerate() {
        let key = placed.location.key();
        let earlier = &received[..at];
        let shares = |other: &[PathIndex]| placed.paths.iter().any(|path| other.contains(path));
        let same = earlier
            .iter()
            .find(|other| shares(&other.paths) && are_same(&other.rule.when, &placed.rule.when));
        let mut error = |problem, help| {
            mistakes.push(Diagnostic::error(placed.location.of("when"), problem, help));
        };
        if let Some(same) = same {
            let problem = format!("{key} has the same when as {}", same.location.key());
            error(problem, "remove one, or tell them apart by another field".to_owned());
            continue;
        }
        let taker = first_taker(&placed.paths, |path| {
            earlier
                .iter()
                .find(|other| other.paths.contains(&path) && takes(&other.rule.when, &placed.rule.when))
        });
        if let Some(taker) = taker {
            let (problem, help) = never(key, taker.location.key());
            error(problem, help);
        }
    }
    mistakes
}

/// Reports rules that no publication can reach.
pub(super) fn unreachable_deliver_rules(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (at, placed) in parts.deliver_rules.iter().enumerate() {
        let rule = &placed.rule;
        let taker = first_taker(&placed.paths, |path| {
            parts.deliver_rules[..at].iter().find(|other| {
                // Conditions of a rule with `each` are about elements.
                let each = |rule: &DeliverRule| rule.each.as_ref().map(|each| each.each.clone());
                let are_alike = other.rule.takes_all() || each(&other.rule) == each(rule);
                other.paths.contains(&path)
                    && are_alike
                    && other.rule.pattern.covers(&rule.pattern)
                    && other.rule.when.iter().all(|condition| is_implied(condition, &rule.when))
                    && !rule.renders_more_than(&other.rule)
            })
        });
        if let Some(taker) = taker {
            let (problem, help) = never(placed.location.key(), taker.location.key());
            mistakes.push(Diagnostic::error(placed.location.of("pattern"), problem, help));
        }
    }
    mistakes
}

/// Reports HTTP routes that no request can reach.
pub(super) fn unreachable_http_routes(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (at, placed) in parts.http_routes.iter().enumerate() {
        let route = &placed.route;
        let taker = parts.http_routes[..at].iter().find(|other| {
            other.route.method == route.method
                && other.route.template == route.template
                && other.route.when.iter().all(|condition| is_implied(condition, &route.when))
        });
        let Some(taker) = taker else { continue };
        let (key, problem, help) = if route.when.is_empty() {
            let problem = format!("there are two calls {} {}", route.method, route.template);
            ("path", problem, "remove one of them, or tell them apart with when".to_owned())
        } else {
            let (problem, help) = never(placed.location.key(), taker.location.key());
            ("when", problem, help)
        };
        mistakes.push(Diagnostic::error(placed.location.of(key), problem, help));
    }
    mistakes
}

/// Reports rules that also match the client's answer to pings. They would never see it.
pub(super) fn ambiguous_pongs(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let Some(pong) = parts.pong else { return Vec::new() };
    let received = parts.rules.iter().filter(|placed| placed.is_received);
    let for_pongs = received.filter(|placed| {
        let when = &placed.rule.when;
        // A rule for many kinds of messages may include the answer by accident; only a rule that names it is an error.
        let names_it = when.iter().any(|test| matches!(test.matcher, Matcher::OneOf(_))) && takes(when, pong);
        names_it || takes(pong, when)
    });
    let error = |key: &str| {
        Diagnostic::error(
            "heartbeat.pong",
            format!("pong is matched by {key} too"),
            "remove one, or tell them apart by another field",
        )
    };
    for_pongs.map(|placed| error(placed.location.key())).collect()
}

fn never(key: &str, taker: &str) -> (String, String) {
    let problem = format!("{key} never matches: {taker} matches the same first");
    (problem, format!("move it above {taker}"))
}

/// If each of these paths has a taker, the taker on the first path.
fn first_taker<T>(paths: &[PathIndex], taker: impl Fn(PathIndex) -> Option<T>) -> Option<T> {
    let mut takers: Vec<T> = paths.iter().map(|path| taker(*path)).collect::<Option<_>>()?;
    (!takers.is_empty()).then(|| takers.swap_remove(0))
}

fn are_same(one: &[MessageTest], other: &[MessageTest]) -> bool {
    takes(one, other) && takes(other, one)
}

/// Whether every message that matches `narrow` also matches `wide`.
fn takes(wide: &[MessageTest], narrow: &[MessageTest]) -> bool {
    wide.iter().all(|wide| narrow.iter().any(|narrow| implies(narrow, wide)))
}

fn implies(narrow: &MessageTest, wide: &MessageTest) -> bool {
    if narrow.path == wide.path {
        return is_within(&narrow.matcher, &wide.matcher);
    }
    match (&narrow.matcher, &wide.matcher) {
        // If a member is present, the object that contains it is present too.
        (Matcher::Present | Matcher::OneOf(_), Matcher::Present) => narrow.path.starts_with(&wide.path),
        // An absent value has no members, nor do texts and numbers.
        (Matcher::Absent | Matcher::OneOf(_), Matcher::Absent) => wide.path.starts_with(&narrow.path),
        (Matcher::Present, Matcher::Absent)
        | (Matcher::Absent, Matcher::Present)
        | (_, Matcher::OneOf(_)) => false,
    }
}

fn is_within(narrow: &Matcher, wide: &Matcher) -> bool {
    match (narrow, wide) {
        (Matcher::Present | Matcher::OneOf(_), Matcher::Present) | (Matcher::Absent, Matcher::Absent) => true,
        (Matcher::OneOf(narrow), Matcher::OneOf(wide)) => narrow.iter().all(|literal| wide.contains(literal)),
        (Matcher::Absent, Matcher::Present | Matcher::OneOf(_))
        | (Matcher::Present, Matcher::Absent | Matcher::OneOf(_))
        | (Matcher::OneOf(_), Matcher::Absent) => false,
    }
}

fn is_implied(wide: &Condition, narrow: &[Condition]) -> bool {
    narrow
        .iter()
        .any(|narrow| narrow.placeholder == wide.placeholder && is_within(&narrow.matcher, &wide.matcher))
}
