//! Checks that rules do not use the user that a message names: a session without a credential may name any.

use tidegate_document::diagnostic::Diagnostic;
use tidegate_protocol::json::Step;

use crate::channel::Channel;
use crate::compile::check::parts::Parts;
use crate::json_template::JsonTemplate;
use crate::model::Each;
use crate::model::Require;
use crate::model::RuleAction;
use crate::placeholder::Placeholder;
use crate::placeholder::Source;

/// The placeholders of a rule by key.
type Uses<'r> = Vec<(&'static str, Vec<&'r Placeholder>)>;

/// Reports subjects, groups, headers and stored values with a part of the message that `require` of a path compares with
/// `{user}`.
pub(super) fn uses_of_claimed_users(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.rules {
        let paths = placed.paths.iter().filter_map(|path| parts.paths.get(usize::from(path.0)));
        let requires: Vec<(&str, &Require)> = paths
            .flat_map(|path| path.require.iter().map(|require| (&*path.name, require)))
            .filter(|(_, require)| require.names_user())
            .collect();
        let set = ("set", all(placed.rule.set.iter().map(|(_, template)| template)));
        for (key, placeholders) in uses(&placed.rule.action, placed.names).into_iter().chain([set]) {
            let claims = |placeholder: &&Placeholder| {
                let overlaps =
                    |(_, require): &&(&str, &Require)| overlap(placeholder.steps(), require.left.steps());
                let required = requires.iter().find(overlaps);
                required.filter(|_| placeholder.source == Source::Message).copied()
            };
            let found = placeholders.iter().find_map(|placeholder| Some((placeholder, claims(placeholder)?)));
            let Some((placeholder, (path, require))) = found else { continue };
            let problem = format!(
                "{{{}}} is what any client without a credential may write: `require` of the path \"{path}\" compares \
                 {} with {{user}}, and ignores it without a credential",
                placeholder.name, require.left.name
            );
            mistakes.push(Diagnostic::error(placed.location.of(key), problem, "write {user}"));
        }
    }
    mistakes
}

/// Whether one of two parts of a message is in the other.
fn overlap(one: &[Step], other: &[Step]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn all<'r>(templates: impl Iterator<Item = &'r JsonTemplate>) -> Vec<&'r Placeholder> {
    templates.flat_map(JsonTemplate::placeholders).collect()
}

/// The placeholders in the subjects and stored values of an action. `names` is the key of its channels or subject.
fn uses<'r>(action: &'r RuleAction, names: &'static str) -> Uses<'r> {
    let of_channels = |channels: &'r [Channel]| {
        (names, channels.iter().flat_map(Channel::placeholders).collect::<Vec<_>>())
    };
    let of_each = |each: &'r Option<Each>| match each {
        Some(Each::Placeholder(placeholder)) => ("each", vec![placeholder]),
        Some(Each::List(_)) | None => ("each", Vec::new()),
    };
    match action {
        RuleAction::Subscribe(spec) => vec![
            of_channels(&spec.channels),
            of_each(&spec.each),
            ("group", all(spec.group.iter())),
            ("keep", all(spec.keep.iter().map(|(_, template)| template))),
        ],
        RuleAction::Unsubscribe { each, channels, group } => {
            vec![of_channels(channels), of_each(each), ("group", all(group.iter()))]
        }
        RuleAction::Filter { channel, .. } => vec![of_channels(std::slice::from_ref(channel))],
        RuleAction::Publish { subject, headers, .. } | RuleAction::Request { subject, headers, .. } => vec![
            of_channels(std::slice::from_ref(subject)),
            ("headers", all(headers.iter().map(|(_, template)| template))),
        ],
        RuleAction::Auth(_)
        | RuleAction::Send
        | RuleAction::Pong
        | RuleAction::Ignore
        | RuleAction::Error { .. }
        | RuleAction::Close { .. } => Vec::new(),
    }
}
