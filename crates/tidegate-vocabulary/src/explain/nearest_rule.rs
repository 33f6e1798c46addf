//! Nearest rule: for a message that no rule matches, the rule that comes closest, and what is wrong with the message.

use tidegate_protocol::json;
use tidegate_protocol::json::Step;
use tidegate_protocol::members::Members;
use tidegate_protocol::message::RuleId;

use crate::binding::Binding;
use crate::inbound;
use crate::model::Literal;
use crate::model::Matcher;
use crate::model::MessageTest;

/// The rule that comes closest to a message.
pub(super) struct NearestRule {
    pub(super) rule: RuleId,
    /// The reasons why it does not match, in English.
    pub(super) mismatches: Vec<String>,
}

/// The rule that names a value of the message and has the fewest mismatches.
pub(super) fn nearest_rule(binding: &Binding, message: &str) -> Option<NearestRule> {
    let members: Members<'_> = serde_json::from_str(message).ok()?;
    let dispatch = &binding.path_rule()?.dispatch;
    let mut rules: Vec<RuleId> = dispatch.arms.values().flatten().chain(&dispatch.rest).copied().collect();
    rules.sort_unstable();
    let near = rules.into_iter().filter_map(|rule| {
        let when = &binding.rule(rule)?.when;
        let (holding, failing): (Vec<&MessageTest>, Vec<&MessageTest>) =
            when.iter().partition(|test| inbound::test_matches(test, &members));
        let names_it = holding.iter().any(|test| matches!(test.matcher, Matcher::OneOf(_)));
        names_it.then(|| NearestRule { rule, mismatches: failing.into_iter().map(mismatch).collect() })
    });
    near.min_by_key(|near| near.mismatches.len())
}

fn mismatch(test: &MessageTest) -> String {
    let path: Vec<&str> = test.path.iter().map(Step::name).collect();
    let path = path.join(".");
    match &test.matcher {
        Matcher::Present => format!("`{path}` is missing"),
        Matcher::Absent => format!("`{path}` must be absent"),
        Matcher::OneOf(literals) => {
            let literals: Vec<String> = literals.iter().map(literal).collect();
            format!("`{path}` must be {}", literals.join(" or "))
        }
    }
}

fn literal(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => json::string(text),
        Literal::Integer(number) => number.to_string(),
        Literal::Boolean(truth) => truth.to_string(),
        Literal::EmptyList => "[]".to_owned(),
    }
}
