//! Checks of what never happens, because something earlier takes all that it could.

use tidegate_document::diagnostic::Diagnostic;

use crate::compile::check::parts::Parts;
use crate::model::Condition;
use crate::model::Is;
use crate::model::PathIndex;
use crate::model::Test;

/// Rules that no message comes to.
pub(super) fn taken_rules(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let received: Vec<_> = parts.rules.iter().filter(|placed| placed.is_received).collect();
    let mut mistakes = Vec::new();
    for (at, placed) in received.iter().enumerate() {
        let key = placed.location.key();
        let earlier = &received[..at];
        let shares = |other: &[PathIndex]| placed.paths.iter().any(|path| other.contains(path));
        let same = earlier
            .iter()
            .find(|other| shares(&other.paths) && are_same(&other.rule.when, &placed.rule.when));
        let mut mistake = |problem, help| {
            mistakes.push(Diagnostic::error(placed.location.of("when"), problem, help));
        };
        if let Some(same) = same {
            let problem = format!("{key} has the same when as {}", same.location.key());
            mistake(problem, "remove one, or tell them apart by another field".to_owned());
            continue;
        }
        let taker = first_taker(&placed.paths, |path| {
            earlier
                .iter()
                .find(|other| other.paths.contains(&path) && takes(&other.rule.when, &placed.rule.when))
        });
        if let Some(taker) = taker {
            let (problem, help) = never(key, taker.location.key());
            mistake(problem, help);
        }
    }
    mistakes
}

/// Rules that no publication comes to.
pub(super) fn taken_shows(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (at, placed) in parts.shows.iter().enumerate() {
        let show = &placed.show;
        let taker = first_taker(&placed.paths, |path| {
            parts.shows[..at].iter().find(|other| {
                other.paths.contains(&path)
                    && other.show.pattern.covers(&show.pattern)
                    && other.show.when.iter().all(|condition| is_implied(condition, &show.when))
            })
        });
        if let Some(taker) = taker {
            let (problem, help) = never(placed.location.key(), taker.location.key());
            mistakes.push(Diagnostic::error(placed.location.of("pattern"), problem, help));
        }
    }
    mistakes
}

/// Answers to pings that a rule is for as well: it is never asked.
pub(super) fn taken_pongs(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let Some(pong) = parts.pong else { return Vec::new() };
    let received = parts.rules.iter().filter(|placed| placed.is_received);
    let for_pongs = received.filter(|placed| {
        let when = &placed.rule.when;
        // What is for all sorts of messages need not be for this one.
        let names_it = when.iter().any(|test| matches!(test.is, Is::OneOf(_))) && takes(when, pong);
        names_it || takes(pong, when)
    });
    let mistake = |key: &str| {
        Diagnostic::error(
            "heartbeat.pong",
            format!("pong is matched by {key} too"),
            "remove one, or tell them apart by another field",
        )
    };
    for_pongs.map(|placed| mistake(placed.location.key())).collect()
}

fn never(key: &str, taker: &str) -> (String, String) {
    let problem = format!("{key} never matches: {taker} takes all that it could");
    (problem, format!("move it above {taker}"))
}

/// Who takes all on the first of these paths, if on each of them somebody does.
fn first_taker<T>(paths: &[PathIndex], taker: impl Fn(PathIndex) -> Option<T>) -> Option<T> {
    let mut takers: Vec<T> = paths.iter().map(|path| taker(*path)).collect::<Option<_>>()?;
    (!takers.is_empty()).then(|| takers.swap_remove(0))
}

fn are_same(one: &[Test], other: &[Test]) -> bool {
    takes(one, other) && takes(other, one)
}

/// Whether whatever is as `narrow` says is as `wide` says too.
fn takes(wide: &[Test], narrow: &[Test]) -> bool {
    wide.iter().all(|wide| narrow.iter().any(|narrow| implies(narrow, wide)))
}

fn implies(narrow: &Test, wide: &Test) -> bool {
    if narrow.path == wide.path {
        return is_within(&narrow.is, &wide.is);
    }
    match (&narrow.is, &wide.is) {
        // Where a field is, there is what it is in.
        (Is::There | Is::OneOf(_), Is::There) => narrow.path.starts_with(&wide.path),
        // Nothing is in what is not there, nor in texts and numbers.
        (Is::Absent | Is::OneOf(_), Is::Absent) => wide.path.starts_with(&narrow.path),
        (Is::There, Is::Absent) | (Is::Absent, Is::There) | (_, Is::OneOf(_)) => false,
    }
}

fn is_within(narrow: &Is, wide: &Is) -> bool {
    match (narrow, wide) {
        (Is::There | Is::OneOf(_), Is::There) | (Is::Absent, Is::Absent) => true,
        (Is::OneOf(narrow), Is::OneOf(wide)) => narrow.iter().all(|literal| wide.contains(literal)),
        (Is::Absent, Is::There | Is::OneOf(_))
        | (Is::There, Is::Absent | Is::OneOf(_))
        | (Is::OneOf(_), Is::Absent) => false,
    }
}

fn is_implied(wide: &Condition, narrow: &[Condition]) -> bool {
    narrow.iter().any(|narrow| narrow.placeholder == wide.placeholder && is_within(&narrow.is, &wide.is))
}
