//! NATS headers that a vocabulary reads: the node's classes must pass them on.

use tidegate_protocol::subject::Pattern;

use crate::model::CompiledVocabulary;
use crate::placeholder::Placeholder;
use crate::placeholder::Source;

impl CompiledVocabulary {
    /// The NATS headers that rules for publications read, each with the pattern of the rule.
    pub fn nats_headers(&self) -> impl Iterator<Item = (&Pattern, &str)> {
        let of_deliver_rules = self.deliver_rules.iter().flat_map(|rule| {
            let conditions = rule.when.iter().map(|condition| &condition.placeholder);
            rule.json_template
                .placeholders()
                .into_iter()
                .chain(conditions)
                .map(|placeholder| (&rule.pattern, placeholder))
        });
        let of_fields = self.fields.iter().map(|field| (&field.pattern, &field.placeholder));
        let named = of_deliver_rules
            .chain(of_fields)
            .filter_map(|(pattern, placeholder)| Some((pattern, header(placeholder)?)));
        let mut seen: Vec<(&Pattern, &str)> = Vec::new();
        for pair in named {
            if !seen.contains(&pair) {
                seen.push(pair);
            }
        }
        seen.into_iter()
    }
}

fn header(placeholder: &Placeholder) -> Option<&str> {
    if let Source::NatsHeader(name) = &placeholder.source { Some(name) } else { None }
}
