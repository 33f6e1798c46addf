//! The wildcard patterns that a lane has subscribed to on NATS. NATS sends a message once for each of them that matches
//! its subject.

use std::collections::BTreeMap;
use std::ops::Bound;

use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::overlap;

/// The maximum cost of checking one pattern.
const MAX_STEPS: usize = 20_000;

/// Patterns, by the tokens before their first wildcard. Two patterns can overlap only if one's tokens begin with the
/// other's, so the patterns of a thousand users are never compared with each other.
#[derive(Debug, Default)]
pub(super) struct Wildcards(BTreeMap<Box<str>, Vec<Pattern>>);

impl Wildcards {
    /// Adds a pattern, if it has a wildcard.
    pub(super) fn insert(&mut self, pattern: &Pattern) {
        if !pattern.is_literal() {
            self.0.entry(literal_part(pattern).into()).or_default().push(pattern.clone());
        }
    }

    pub(super) fn remove(&mut self, pattern: &Pattern) {
        let part = literal_part(pattern);
        if let Some(patterns) = self.0.get_mut(part) {
            patterns.retain(|known| known != pattern);
            if patterns.is_empty() {
                self.0.remove(part);
            }
        }
    }

    /// Whether at least `bound` of the patterns match one subject that the wildcard `pattern` matches too.
    pub(super) fn reaches(&self, pattern: &Pattern, bound: usize) -> bool {
        if pattern.is_literal() {
            return false;
        }
        let part = literal_part(pattern);
        let shorter =
            part.match_indices('.').map(|(at, _)| &part[..at]).chain((!part.is_empty()).then_some(""));
        let shorter = shorter.chain([part]).filter_map(|part| self.0.get(part));
        let (from, to) = (format!("{part}."), format!("{part}/"));
        let longer = if part.is_empty() {
            self.0.range::<str, _>((Bound::Excluded(""), Bound::Unbounded))
        } else {
            self.0.range::<str, _>((Bound::Included(from.as_str()), Bound::Excluded(to.as_str())))
        };
        let candidates = shorter.chain(longer.map(|(_, patterns)| patterns)).flatten();
        let mut steps = MAX_STEPS;
        overlap::reaches(candidates, pattern, bound, &mut steps)
    }
}

/// The tokens before the first wildcard.
fn literal_part(pattern: &Pattern) -> &str {
    let text = pattern.as_str();
    let wildcard = text.find(['*', '>']).unwrap_or(text.len());
    text[..wildcard].trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        let token = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("*")];
        (vec(token, 0..4), any::<bool>()).prop_filter_map("empty", |(mut tokens, has_tail)| {
            if has_tail {
                tokens.push(">");
            }
            (!tokens.is_empty()).then(|| Pattern::parse(&tokens.join(".")).unwrap())
        })
    }

    proptest! {
        #[test]
        fn the_table_finds_all_that_overlap(patterns in vec(any_pattern(), 0..12), gone in 0..6_usize, wanted in any_pattern()) {
            let mut table = Wildcards::default();
            let mut known: Vec<Pattern> = Vec::new();
            for pattern in patterns {
                if !known.contains(&pattern) && !pattern.is_literal() {
                    table.insert(&pattern);
                    known.push(pattern);
                }
            }
            for pattern in known.drain(..gone.min(known.len())) {
                table.remove(&pattern);
            }
            for bound in 1..5 {
                let mut steps = MAX_STEPS;
                let expected = overlap::reaches(known.iter(), &wanted, bound, &mut steps) && !wanted.is_literal();
                prop_assert_eq!(table.reaches(&wanted, bound), expected);
            }
            known.iter().for_each(|pattern| table.remove(pattern));
            prop_assert!(table.0.is_empty());
        }
    }
}
