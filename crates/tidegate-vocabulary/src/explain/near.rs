//! Near: of a message that no rule takes, the rule that nearly did, and what the message lacks for it.

use tidegate_protocol::json;
use tidegate_protocol::json::Step;
use tidegate_protocol::members::Members;
use tidegate_protocol::message::RuleId;

use crate::binding::Binding;
use crate::inbound;
use crate::model::Is;
use crate::model::Literal;
use crate::model::Test;

/// A rule that is for such messages.
pub(super) struct Near {
    /// Its number.
    pub(super) rule: RuleId,
    /// What is wrong with the message, in words.
    pub(super) lacks: Vec<String>,
}

/// The one that the message fits best: it has a value that the rule looks for, and lacks the least.
pub(super) fn nearest(binding: &Binding, message: &str) -> Option<Near> {
    let members: Members<'_> = serde_json::from_str(message).ok()?;
    let dispatch = &binding.rules()?.dispatch;
    let mut rules: Vec<RuleId> = dispatch.arms.values().flatten().chain(&dispatch.rest).copied().collect();
    rules.sort_unstable();
    let near = rules.into_iter().filter_map(|rule| {
        let when = &binding.rule(rule)?.when;
        let (holding, failing): (Vec<&Test>, Vec<&Test>) =
            when.iter().partition(|test| inbound::holds(test, &members));
        let names_it = holding.iter().any(|test| matches!(test.is, Is::OneOf(_)));
        names_it.then(|| Near { rule, lacks: failing.into_iter().map(lack).collect() })
    });
    near.min_by_key(|near| near.lacks.len())
}

fn lack(test: &Test) -> String {
    let path: Vec<&str> = test.path.iter().map(Step::name).collect();
    let path = path.join(".");
    match &test.is {
        Is::There => format!("`{path}` is missing"),
        Is::Absent => format!("`{path}` must not be there"),
        Is::OneOf(literals) => {
            let literals: Vec<String> = literals.iter().map(literal).collect();
            format!("`{path}` must be {}", literals.join(" or "))
        }
    }
}

fn literal(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => json::string(text),
        Literal::Whole(number) => number.to_string(),
        Literal::Truth(truth) => truth.to_string(),
    }
}
