//! Groups: whether what a rule leaves is what another has joined.

use tidegate_document::diagnostic::Diagnostic;

use crate::channel::Channel;
use crate::compile::check::parts::Parts;
use crate::compile::check::parts::PlacedRule;
use crate::json_template::JsonTemplate;
use crate::json_template::OnMissing;
use crate::known::OutcomeScope;
use crate::model::Act;
use crate::placeholder::Placeholder;
use crate::placeholder::WhenAbsent;

/// `unsubscribe` in a group in which nothing of it was joined: it leaves nothing, and says that it did.
pub(super) fn left_elsewhere(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.rules {
        let Act::Unsubscribe { channels, group, .. } = &placed.rule.act else { continue };
        for path in &placed.paths {
            let joins = parts.rules.iter().filter(|other| other.paths.contains(path));
            let joins = joins.filter_map(|other| Some((other, group_of(other)?)));
            let joins: Vec<_> = joins.filter(|(other, _)| meets(other, channels)).collect();
            // What no one can join no one has to leave.
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
fn group_of(placed: &PlacedRule) -> Option<Option<&JsonTemplate>> {
    if let Act::Subscribe(wants) = &placed.rule.act { Some(wants.group.as_ref()) } else { None }
}

fn meets(joining: &PlacedRule, left: &[Channel]) -> bool {
    left.is_empty()
        || left.iter().any(|channel| joining.channels.iter().any(|joined| channel.reach().overlaps(joined)))
}

/// Whether two names of groups can ever be the same.
fn may_be_same(one: Option<&JsonTemplate>, other: Option<&JsonTemplate>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => !(is_fixed(one) && is_fixed(other)) || one == other,
        (Some(json_template), None) | (None, Some(json_template)) => may_be_empty(json_template),
    }
}

/// A rule without a group has the group `""`. A page hardly sends that.
fn may_be_empty(json_template: &JsonTemplate) -> bool {
    let is_empty = |placeholder: &Placeholder| matches!(&placeholder.absent, WhenAbsent::Default(json) if &**json == "\"\"");
    let placeholders = json_template.placeholders();
    placeholders.iter().any(|placeholder| is_empty(placeholder))
        || placeholders.is_empty()
            && json_template
                .text(&OutcomeScope::default(), OnMissing::AreNull)
                .is_ok_and(|text| text.is_empty())
}

fn is_fixed(json_template: &JsonTemplate) -> bool {
    json_template.placeholders().is_empty()
}
