//! Dotted: the subjects of a vocabulary in which a value may be several tokens, for checks of roles.

use tidegate_protocol::permissions::Operation;
use tidegate_protocol::subject::Pattern;

use crate::channel::Channel;
use crate::model::CompiledVocabulary;
use crate::model::HttpAction;
use crate::model::RuleAction;

impl CompiledVocabulary {
    /// Patterns that cover the subjects with a `dotted` value, such as `prices.>`, and what clients do with them.
    pub fn dotted_subjects(&self) -> impl Iterator<Item = (Operation, Pattern)> {
        let of_rules = self.rules.iter().map(|rule| subjects_of(&rule.action));
        let of_routes = self.http_routes.iter().filter_map(|route| match &route.action {
            HttpAction::Rule(action) => Some(subjects_of(action)),
            HttpAction::Last { channels, .. } => Some((Operation::Subscribe, &**channels)),
            HttpAction::Stats | HttpAction::Receive | HttpAction::Health | HttpAction::Console => None,
        });
        of_rules.chain(of_routes).flat_map(|(operation, channels)| {
            let dotted = channels.iter().filter(|channel| channel.dotted().is_some());
            dotted.map(move |channel| (operation, channel.reach()))
        })
    }
}

/// The subjects for which an action needs a permission.
pub(crate) fn subjects_of(action: &RuleAction) -> (Operation, &[Channel]) {
    match action {
        RuleAction::Subscribe(spec) => (Operation::Subscribe, &spec.channels),
        RuleAction::Publish { subject, .. } => (Operation::Publish, std::slice::from_ref(subject)),
        RuleAction::Request { subject, .. } => (Operation::Request, std::slice::from_ref(subject)),
        RuleAction::Unsubscribe { .. }
        | RuleAction::Filter { .. }
        | RuleAction::Auth(_)
        | RuleAction::Send
        | RuleAction::Pong
        | RuleAction::Ignore
        | RuleAction::Error { .. }
        | RuleAction::Close { .. } => (Operation::Subscribe, &[]),
    }
}
