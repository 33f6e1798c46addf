//! Needs: what a vocabulary shows of publications and only the classes of a node can give it.

use tidegate_protocol::subject::Pattern;

use crate::model::CompiledVocabulary;
use crate::placeholder::Placeholder;
use crate::placeholder::Source;

impl CompiledVocabulary {
    /// The NATS headers that its rules for publications name, each with the pattern of its rule.
    pub fn nats_headers(&self) -> impl Iterator<Item = (&Pattern, &str)> {
        let of_shows = self.shows.iter().flat_map(|show| {
            let conditions = show.when.iter().map(|condition| &condition.placeholder);
            show.json_template
                .placeholders()
                .into_iter()
                .chain(conditions)
                .map(|placeholder| (&show.pattern, placeholder))
        });
        let of_fields = self.fields.iter().map(|field| (&field.pattern, &field.placeholder));
        let named = of_shows
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
