//! Needs: what a vocabulary shows of publications and only the classes of a node can give it.

use tidegate_protocol::subject::Pattern;

use crate::hole::Hole;
use crate::hole::Source;
use crate::model::Described;

impl Described {
    /// The NATS headers that its rules for publications name, each with the pattern of its rule.
    pub fn nats_headers(&self) -> impl Iterator<Item = (&Pattern, &str)> {
        let of_shows = self.shows.iter().flat_map(|show| {
            let conditions = show.when.iter().map(|condition| &condition.hole);
            show.shape.holes().into_iter().chain(conditions).map(|hole| (&show.pattern, hole))
        });
        let of_fields = self.fields.iter().map(|field| (&field.pattern, &field.hole));
        let named = of_shows.chain(of_fields).filter_map(|(pattern, hole)| Some((pattern, header(hole)?)));
        let mut seen: Vec<(&Pattern, &str)> = Vec::new();
        for pair in named {
            if !seen.contains(&pair) {
                seen.push(pair);
            }
        }
        seen.into_iter()
    }
}

fn header(hole: &Hole) -> Option<&str> {
    if let Source::NatsHeader(name) = &hole.source { Some(name) } else { None }
}
