//! Dispatch: sorts rules by the texts of the member that most of them test.

use std::collections::BTreeMap;

use tidegate_protocol::message::RuleId;

use crate::compile::check::parts::PlacedRule;
use crate::model::Dispatch;
use crate::model::Literal;
use crate::model::Matcher;
use crate::model::Rule;

/// Sorts the rules of one path.
pub(super) fn dispatch(rules: &[PlacedRule], mine: &[RuleId]) -> Dispatch {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (field, _) in mine.iter().flat_map(|rule| texts(&rules[usize::from(rule.0)].rule)) {
        *counts.entry(field).or_default() += 1;
    }
    let Some((field, _)) = counts.iter().max_by_key(|(_, count)| **count) else {
        return Dispatch { rest: mine.into(), ..Dispatch::default() };
    };
    let field = (*field).to_owned();
    let wanted = |rule: RuleId| {
        texts(&rules[usize::from(rule.0)].rule).find(|(name, _)| **name == *field).map(|(_, texts)| texts)
    };
    let mut words: Vec<&str> = mine.iter().filter_map(|rule| wanted(*rule)).flatten().collect();
    words.sort_unstable();
    words.dedup();
    let taking = |word: Option<&str>| {
        let takes =
            |rule: &RuleId| wanted(*rule).is_none_or(|texts| word.is_some_and(|word| texts.contains(&word)));
        mine.iter().copied().filter(takes).collect::<Box<[RuleId]>>()
    };
    let arms = words.iter().map(|word| (Box::from(*word), taking(Some(word)))).collect();
    let rest = taking(None);
    Dispatch { field: field.into(), arms, rest }
}

/// The top-level members that a rule compares with texts only.
fn texts(rule: &Rule) -> impl Iterator<Item = (&str, Vec<&str>)> {
    rule.when.iter().filter_map(|test| {
        let [step] = &test.path[..] else { return None };
        let Matcher::OneOf(literals) = &test.matcher else { return None };
        let texts = literals.iter().map(|literal| match literal {
            Literal::Text(text) => Some(&**text),
            Literal::Integer(_) | Literal::Boolean(_) | Literal::EmptyList => None,
        });
        Some((step.name(), texts.collect::<Option<Vec<_>>>()?))
    })
}
