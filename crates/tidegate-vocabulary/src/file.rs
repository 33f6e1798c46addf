//! File: reads sections of a vocabulary's file: lists of tables, texts, and values as templates.

use tidegate_document::diagnostic::ValueError;
use tidegate_document::node::Node;
use tidegate_document::node::Value;
use tidegate_document::section::Section;
use tidegate_document::section::lists::Commas;
use tidegate_protocol::json;

use crate::json_template::Tree;
use crate::language::index::sections_with_key;

/// How much of a rule's `when` diagnostics show next to its key, in characters.
const MAX_WHEN_CHARS: usize = 160;

/// A list of tables. Diagnostics show the `when` of a table next to its key, so that you find the rule:
/// `receive[3].channel (when …)`.
pub(crate) fn tables<'d>(section: &Section<'d>, name: &'static str) -> Vec<Section<'d>> {
    let tables = section.tables(name).unwrap_or_default().into_iter();
    tables
        .map(|table| {
            let when = table.entries().find(|(name, _)| *name == "when");
            let note = when.map(|(_, when)| when_note(when)).unwrap_or_default();
            table.noted(note)
        })
        .collect()
}

/// A text or a list of texts. `None` if an element is not a text.
pub(crate) fn texts<'d>(section: &Section<'d>, name: &'static str) -> Option<Vec<&'d str>> {
    let texts = section.texts(name, Commas::Text)?;
    let are_all = section.get(name).and_then(Node::list).is_none_or(|list| list.len() == texts.len());
    are_all.then(|| texts.into_iter().map(|element| element.text).collect())
}

/// Reports every key that was not read. `elsewhere` explains a key, if it can. Otherwise, for a key of other sections,
/// the diagnostic lists these sections.
pub(crate) fn reject_unknown_keys(section: &Section<'_>, elsewhere: impl Fn(&str) -> Option<ValueError>) {
    section.end(|name| elsewhere(name).or_else(|| misplaced(name)));
}

fn misplaced(name: &str) -> Option<ValueError> {
    let sections = sections_with_key(name);
    let problem = || format!("is not a key of this section, but of {}", sections.join(", "));
    (!sections.is_empty()).then(|| ValueError::new(problem(), "move it there, or remove it"))
}

/// The `when` of a rule, as diagnostics show it.
fn when_note(when: &Node) -> String {
    let json = json(when);
    match json.char_indices().nth(MAX_WHEN_CHARS) {
        Some((end, _)) => format!(" (when {}…)", &json[..end]),
        None => format!(" (when {json})"),
    }
}

/// A value as JSON, with members in the order of the file.
pub(crate) fn json(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => json::string(text),
        Value::List(list) => format!("[{}]", list.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Table(table) => {
            let members = table.iter().map(|(name, node)| format!("{}:{}", json::string(name), json(node)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Whole(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Time(time) => time.clone(),
    }
}

/// A value as a template. Reports values that JSON cannot represent.
pub(crate) fn template(section: &Section<'_>, name: &str, node: &Node) -> Option<Tree> {
    let tree = tree(node);
    if tree.is_none() {
        let help = "write texts, numbers, true, false, lists and tables; times as texts";
        section.error(name, "has a value that JSON does not have", help);
    }
    tree
}

fn tree(node: &Node) -> Option<Tree> {
    Some(match &node.value {
        Value::Text(text) => Tree::Text(text.clone()),
        Value::Whole(number) => Tree::Plain(number.to_string()),
        Value::Float(number) => Tree::Plain(serde_json::Number::from_f64(*number)?.to_string()),
        Value::Boolean(truth) => Tree::Plain(truth.to_string()),
        Value::List(list) => Tree::List(list.iter().map(tree).collect::<Option<_>>()?),
        Value::Table(table) => {
            let members = table.iter().map(|(name, node)| Some((name.to_owned(), tree(node)?)));
            Tree::Table(members.collect::<Option<_>>()?)
        }
        Value::Time(_) => return None,
    })
}
