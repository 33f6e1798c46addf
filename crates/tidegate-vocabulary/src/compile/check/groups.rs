//! Checks that rules leave channels in the groups in which other rules join them.

use tidegate_document::diagnostic::Diagnostic;

use crate::arguments::may_be_empty;
use crate::channel::Channel;
use crate::compile::check::parts::Parts;
use crate::compile::check::parts::PlacedRule;
use crate::json_template::JsonTemplate;
use crate::model::RuleAction;

/// Reports `unsubscribe` in a group in which no rule joins these channels: it would do nothing, and confirm it.
pub(super) fn unsubscribes_from_other_groups(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.rules {
        let RuleAction::Unsubscribe { channels, group, .. } = &placed.rule.action else { continue };
        for path in &placed.paths {
            let joins = parts.rules.iter().filter(|other| other.paths.contains(path));
            let joins = joins.filter_map(|other| Some((other, group_of(other)?)));
            let joins: Vec<_> = joins.filter(|(other, _)| meets(other, channels)).collect();
            // If no rule joins the channel, leaving it is harmless.
            let Some((first, _)) = joins.first() else { continue };
            if joins.iter().any(|(_, joined)| may_be_same(*joined, group.as_ref())) {
                continue;
            }
            let (key, named) = (placed.location.key(), first.location.key());
            let what = if channels.is_empty() {
                "no rule subscribes in"
            } else {
                "other rules subscribe to its channels, but not in"
            };
            mistakes.push(Diagnostic::error(
                placed.location.of("group"),
                format!(
                    "{key} unsubscribes from nothing on the path \"{}\": {what} {}",
                    parts.path_name(*path),
                    if group.is_some() {
                        "this group"
                    } else {
                        "the group \"\", the group of a rule without group"
                    }
                ),
                format!("write the group of {named}, or none in both"),
            ));
            break;
        }
    }
    mistakes
}

/// The group in which a rule joins channels. `None` if it joins none.
fn group_of(placed: &PlacedRule) -> Option<Option<&JsonTemplate>> {
    if let RuleAction::Subscribe(spec) = &placed.rule.action { Some(spec.group.as_ref()) } else { None }
}

fn meets(joining: &PlacedRule, left: &[Channel]) -> bool {
    left.is_empty()
        || left.iter().any(|channel| joining.channels.iter().any(|joined| channel.reach().overlaps(joined)))
}

/// Whether two group templates can give the same name.
fn may_be_same(one: Option<&JsonTemplate>, other: Option<&JsonTemplate>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => !(is_fixed(one) && is_fixed(other)) || one == other,
        (Some(json_template), None) | (None, Some(json_template)) => may_be_empty(json_template),
    }
}

fn is_fixed(json_template: &JsonTemplate) -> bool {
    json_template.placeholders().is_empty()
}
