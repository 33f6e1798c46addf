//! Groups: whether what a rule leaves is what another has joined.

use tidegate_document::diagnostic::Diagnostic;

use crate::channel::Channel;
use crate::compile::check::parts::Parts;
use crate::compile::check::parts::PlacedRule;
use crate::hole::Absent;
use crate::hole::Hole;
use crate::known::Outcome;
use crate::model::Act;
use crate::shape::Gaps;
use crate::shape::Shape;

/// `unsubscribe` in a group in which nothing of it was joined: it leaves nothing, and says that it did.
pub(super) fn left_elsewhere(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.rules {
        let Act::Unsubscribe { channels, group, .. } = &placed.rule.act else { continue };
        for path in &placed.paths {
            let joins = parts.rules.iter().filter(|other| other.paths.contains(path));
            let joins = joins.filter_map(|other| Some((other, group_of(other)?)));
            let joins: Vec<_> = joins.filter(|(other, _)| meets(other, channels)).collect();
            // What nobody can join nobody has to leave.
            let Some((first, _)) = joins.first() else { continue };
            if joins.iter().any(|(_, joined)| may_be_same(*joined, group.as_ref())) {
                continue;
            }
            let (key, named) = (placed.location.key(), first.location.key());
            let what = if channels.is_empty() {
                "nothing is joined in"
            } else {
                "what it names is joined in another than"
            };
            mistakes.push(Diagnostic::error(
                placed.location.of("group"),
                format!(
                    "{key} leaves nothing on the path \"{}\": {what} {}",
                    parts.path_name(*path),
                    if group.is_some() {
                        "this group"
                    } else {
                        "the group \"\", which is that of a rule without one"
                    }
                ),
                format!("write the group of {named}, or none in both"),
            ));
            break;
        }
    }
    mistakes
}

/// The group of a rule that joins something.
fn group_of(placed: &PlacedRule) -> Option<Option<&Shape>> {
    if let Act::Subscribe(wants) = &placed.rule.act { Some(wants.group.as_ref()) } else { None }
}

fn meets(joining: &PlacedRule, left: &[Channel]) -> bool {
    left.is_empty()
        || left.iter().any(|channel| joining.channels.iter().any(|joined| channel.reach().overlaps(joined)))
}

/// Whether two names of groups can ever be the same.
fn may_be_same(one: Option<&Shape>, other: Option<&Shape>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => !(is_fixed(one) && is_fixed(other)) || one == other,
        (Some(shape), None) | (None, Some(shape)) => may_be_empty(shape),
    }
}

/// A rule without a group has the group `""`. A page hardly sends that.
fn may_be_empty(shape: &Shape) -> bool {
    let is_empty = |hole: &Hole| matches!(&hole.absent, Absent::Default(json) if &**json == "\"\"");
    let holes = shape.holes();
    holes.iter().any(|hole| is_empty(hole))
        || holes.is_empty()
            && shape.text(&Outcome::default(), Gaps::AreNull).is_ok_and(|text| text.is_empty())
}

fn is_fixed(shape: &Shape) -> bool {
    shape.holes().is_empty()
}
