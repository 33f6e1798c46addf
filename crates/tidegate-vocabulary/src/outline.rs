//! Outline: the paths of a vocabulary and example messages, for the test page.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::json::Step;
use tidegate_protocol::message::RuleId;

use crate::model::CompiledVocabulary;
use crate::model::Each;
use crate::model::Literal;
use crate::model::Matcher;
use crate::model::PathRule;
use crate::model::Rule;
use crate::model::RuleAction;

/// Placeholder values in example messages.
const SOMETHING: &str = "\"…\"";
const A_LIST: &str = "[\"…\"]";

impl CompiledVocabulary {
    /// The name, description, query parameters and paths, with example messages for each path.
    pub fn outline(&self) -> Value {
        let paths = self.paths.iter().map(
            |path| json!({ "name": &*path.name, "path": &*path.template, "messages": self.messages(path) }),
        );
        json!({
            "name": &*self.name,
            "description": &*self.description,
            "queries": self.queries.iter().map(|name| &**name).collect::<Vec<_>>(),
            "paths": paths.collect::<Vec<_>>(),
        })
    }

    /// Whether a `[[deliver]]` rule is for publications on this subject.
    pub fn delivers(&self, subject: &str) -> bool {
        self.deliver_rules.iter().any(|rule| rule.pattern.matches(subject))
    }

    /// One example message for each rule of a path, as JSON, in the order of the file.
    fn messages(&self, path: &PathRule) -> Vec<String> {
        let of_arms = path.dispatch.arms.values().flatten();
        let all: BTreeSet<RuleId> = of_arms.chain(&path.dispatch.rest).copied().collect();
        let rules = all.into_iter().filter_map(|rule| self.rules.get(usize::from(rule.0)));
        let mut messages = Vec::new();
        for message in rules.map(message) {
            if !messages.contains(&message) {
                messages.push(message);
            }
        }
        messages
    }
}

/// A value in a message, as JSON.
struct ObjectMember<'r> {
    path: &'r [Step],
    value: String,
}

/// A message that matches the `when` of a rule.
fn message(rule: &Rule) -> String {
    let values = rule.when.iter().filter_map(|test| {
        let value = match &test.matcher {
            Matcher::Absent => return None,
            Matcher::Present if is_list(rule, &test.path) => A_LIST.to_owned(),
            Matcher::Present => SOMETHING.to_owned(),
            Matcher::OneOf(values) => values.first().map_or_else(|| SOMETHING.to_owned(), written),
        };
        Some(ObjectMember { path: &test.path, value })
    });
    object(&values.collect::<Vec<_>>())
}

/// Whether the rule reads that member as a list.
fn is_list(rule: &Rule, path: &[Step]) -> bool {
    let placeholder = match &rule.action {
        RuleAction::Subscribe(wants) => wants.each.as_ref(),
        RuleAction::Unsubscribe { each, .. } => each.as_ref(),
        RuleAction::Filter { tests, .. } => {
            let mut lists = [&tests.values, &tests.not].into_iter().flatten();
            return lists.any(|list| is_at(&list.name, path));
        }
        RuleAction::Publish { .. }
        | RuleAction::Request { .. }
        | RuleAction::Auth(_)
        | RuleAction::Send
        | RuleAction::Pong
        | RuleAction::Ignore
        | RuleAction::Error { .. }
        | RuleAction::Close { .. } => None,
    };
    matches!(placeholder, Some(Each::Placeholder(placeholder)) if is_at(&placeholder.name, path))
}

fn is_at(name: &str, path: &[Step]) -> bool {
    let mut names = name.split('.');
    names.next() == Some("msg") && names.eq(path.iter().map(Step::name))
}

fn written(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => json!(&**text).to_string(),
        Literal::Integer(whole) => whole.to_string(),
        Literal::Boolean(truth) => truth.to_string(),
        Literal::EmptyList => "[]".to_owned(),
    }
}

/// The object with these members, in this order.
fn object(members: &[ObjectMember<'_>]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in members.iter().filter_map(|member| Some(member.path.first()?.name())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let written = names.iter().map(|name| {
        let inside = members.iter().filter_map(|member| {
            let (first, path) = member.path.split_first()?;
            (first.name() == *name).then(|| ObjectMember { path, value: member.value.clone() })
        });
        let inside: Vec<_> = inside.collect();
        let value = inside.iter().find(|member| member.path.is_empty());
        let value = value.map_or_else(|| object(&inside), |member| member.value.clone());
        format!("{}:{value}", json!(name))
    });
    format!("{{{}}}", written.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use crate::compile::compile;

    const FILE: &str = r#"
name = "try"

[[path]]
name = "one"
path = "/one/{symbol}"

[[path]]
name = "other"
path = "/other"

[[receive]]
path = "one"
when = { op = ["join", "enter"], rooms = true, why = false, at = { place = 7, sure = [true] } }
do = "subscribe"
each = "{msg.rooms}"
channel = "room.{item}"

[[receive]]
when = { op = "say", to = true, loud = false }
do = "ignore"

[[receive]]
when = { op = "say", to = true }
do = "publish"
subject = "chat.{msg.to}.{query.as|default:nobody}"
data = "{msg}"

[[deliver]]
pattern = "room.*"
send = "{data}"
"#;

    #[test]
    fn each_path_has_the_messages_of_its_rules() {
        let outline = compile(FILE).unwrap().vocabulary.outline();
        assert_eq!(outline["name"], "try");
        assert_eq!(outline["queries"], serde_json::json!(["as"]));
        assert_eq!(outline["paths"][0]["path"], "/one/{symbol}");
        let join = r#"{"op":"join","rooms":["…"],"at":{"place":7,"sure":true}}"#;
        let outbound = r#"{"op":"say","to":"…"}"#;
        assert_eq!(outline["paths"][0]["messages"], serde_json::json!([join, outbound]));
        assert_eq!(outline["paths"][1]["messages"], serde_json::json!([outbound]));
    }
}
