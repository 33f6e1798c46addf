//! Schema: the tables of the language as a JSON Schema, with which editors complete and check files.

use tidegate_document::node::Node;
use tidegate_document::node::Table;
use tidegate_document::node::Value;
use tidegate_document::parse::parse;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::json;

use crate::language::key::ActionSpec;
use crate::language::key::Key;
use crate::language::key::Kind;
use crate::language::rules::HTTP;
use crate::language::rules::HTTP_ACTIONS;
use crate::language::rules::ON_CONNECT;
use crate::language::rules::RECEIVE;
use crate::language::rules::RECEIVE_ACTIONS;
use crate::language::sections::DELIVER;
use crate::language::sections::ERRORS;
use crate::language::sections::PATH;
use crate::language::sections::TOP;

/// The types that several keys share, each as a schema in TOML.
const SHARED: &str = include_str!("schema/shared.toml");

/// The whole schema, as the text of `vocabulary.schema.json`.
pub fn schema() -> String {
    let mut root = vec![
        ("$schema", text("https://json-schema.org/draft/2020-12/schema")),
        ("title", text("A vocabulary of Tidegate")),
    ];
    let doc = "The messages of one frontend. The manual is docs/VOCABULARIES.md.";
    root.extend(section(doc, TOP, &[]));
    root.push(("$defs", definitions()));
    let mut out = String::new();
    write(&object(root), 0, &mut out);
    out.push('\n');
    out
}

fn definitions() -> Node {
    let mut all = parse(SHARED).map(|shared| entries(&shared)).unwrap_or_default();
    let errors = ErrorCode::ALL.iter().map(|code| text(code.name())).collect();
    let error_name = vec![("description", text("One of Tidegate's errors.")), ("enum", list(errors))];
    let (early, early_words) = on_connect();
    let path = "A path where clients connect.";
    let receive = "A rule for one kind of message from clients.";
    let on_connect = "An action when a client has an identity.";
    let http = "A rule for one kind of HTTP request. {msg} is its body.";
    let deliver = "A rule for publications. The first one that matches, in the order of the file, is used.";
    let ours = [
        ("error_name", error_name),
        ("receive", section(receive, RECEIVE, RECEIVE_ACTIONS)),
        ("on_connect", section(on_connect, &early, &early_words)),
        ("http", section(http, HTTP, HTTP_ACTIONS)),
        ("path", section(path, PATH, &[])),
        ("deliver", section(deliver, DELIVER, &[])),
    ];
    all.extend(ours.map(|(name, schema)| (name.to_owned(), object(schema))));
    node(Value::Table(Table(all)))
}

/// The keys and actions of `[[path.on_connect]]`: those of a rule that need no message.
fn on_connect() -> (Vec<Key>, Vec<ActionSpec>) {
    let words: Vec<ActionSpec> =
        RECEIVE_ACTIONS.iter().filter(|word| ON_CONNECT.contains(&word.name)).copied().collect();
    let is_known = |key: &&Key| {
        !matches!(key.name, "path" | "when") && (takes(&words, key.name) || !takes(RECEIVE_ACTIONS, key.name))
    };
    (RECEIVE.iter().filter(is_known).copied().collect(), words)
}

fn takes(words: &[ActionSpec], key: &str) -> bool {
    words.iter().any(|word| word.keys.contains(&key))
}

/// The schema of a table with these keys. `words` are the values of its `do`.
fn section(doc: &str, keys: &[Key], words: &[ActionSpec]) -> Vec<(&'static str, Node)> {
    let mut schema = vec![("description", text(doc)), ("type", text("object")), closed()];
    let required: Vec<Node> = keys.iter().filter(|key| key.is_required).map(|key| text(key.name)).collect();
    if !required.is_empty() {
        schema.push(("required", list(required)));
    }
    schema.push(("properties", object(keys.iter().map(|key| (key.name, value(key, words))).collect())));
    if !words.is_empty() {
        schema.push(("allOf", list(words.iter().map(|word| branch(keys, words, word)).collect())));
    }
    schema
}

/// The constraints on a table whose `do` is this action.
fn branch(keys: &[Key], words: &[ActionSpec], word: &ActionSpec) -> Node {
    let is_word = object(vec![("do", object(vec![("const", text(word.name))]))]);
    let condition = vec![("required", list(vec![text("do")])), ("properties", is_word)];
    let names = keys.iter().map(|key| key.name);
    let taken = names.filter(|key| word.keys.contains(key) || !takes(words, key));
    let names = vec![("enum", list(taken.map(text).collect()))];
    let mut then = vec![("propertyNames", object(names))];
    if !word.required.is_empty() {
        then.push(("required", list(word.required.iter().map(|key| text(key)).collect())));
    }
    if word.takes_channels {
        let one = |key| object(vec![("required", list(vec![text(key)]))]);
        then.push(("anyOf", list(vec![one("channel"), one("channels")])));
    }
    let code = match word.name {
        "error" => Some(object(vec![shared("error_name")])),
        "close" => Some(object(vec![("anyOf", list(vec![normal(), object(vec![shared("close_code")])]))])),
        _ => None,
    };
    then.extend(code.map(|code| ("properties", object(vec![("code", code)]))));
    object(vec![("if", object(condition)), ("then", object(then))])
}

/// The schema of a key's value.
fn value(key: &Key, words: &[ActionSpec]) -> Node {
    if let Kind::Shared(name) = key.kind {
        let doc = Some(("description", text(key.doc))).filter(|_| !key.doc.is_empty());
        return object([Some(shared(name)), doc].into_iter().flatten().collect());
    }
    let mut schema = vec![("description", text(key.doc))];
    match key.kind {
        Kind::Table(keys) => schema = section(key.doc, keys, &[]),
        Kind::Action => {
            let said = words.iter().map(|word| format!(" {}: {}", word.name, word.doc));
            schema = vec![("description", text(&(key.doc.to_owned() + &said.collect::<String>())))];
            schema.push(("enum", list(words.iter().map(|word| text(word.name)).collect())));
        }
        Kind::OneOf(words) => schema.push(("enum", list(words.iter().map(|word| text(word)).collect()))),
        Kind::Boolean => schema.push(("type", text("boolean"))),
        Kind::Text(least, most) => {
            schema.push(("type", text("string")));
            schema.extend(bounds([("minLength", least), ("maxLength", most)]));
        }
        Kind::Integer(least, most) => {
            schema.extend([("type", text("integer")), ("minimum", whole(least)), ("maximum", whole(most))]);
        }
        Kind::Tables(name, least, most) => {
            schema.push(("type", text("array")));
            schema.extend(bounds([("minItems", least), ("maxItems", most)]));
            schema.push(("items", object(vec![shared(name)])));
        }
        Kind::ErrorNames => schema.extend(names(codes())),
        Kind::ClosingCodes => {
            let codes = ErrorCode::ALL.iter().map(|code| (code.name(), object(vec![shared("close_code")])));
            schema.extend(names(codes.collect()));
        }
        Kind::CloseCodes(keys) => schema.extend(names(ends(keys))),
        Kind::RuleCode => {
            let of = |name| object(vec![shared(name)]);
            schema.push(("anyOf", list(vec![of("error_name"), normal(), of("close_code")])));
        }
        Kind::Shared(_) => {}
    }
    object(schema)
}

/// The schema of a table that allows these keys only.
fn names(properties: Vec<(&str, Node)>) -> [(&'static str, Node); 3] {
    [("type", text("object")), closed(), ("properties", object(properties))]
}

/// The vocabulary's names for errors.
fn codes() -> Vec<(&'static str, Node)> {
    let kinds = || list(vec![text("string"), text("integer")]);
    let codes = ERRORS.iter();
    codes.map(|(name, doc)| (*name, object(vec![("description", text(doc)), ("type", kinds())]))).collect()
}

/// The close code for each end of a session.
fn ends(keys: &[Key]) -> Vec<(&'static str, Node)> {
    let ends = Disconnect::ALL.iter().map(|end| {
        let doc = format!("Default: {}.", end.code());
        (end.name(), object(vec![shared("close_code"), ("description", text(&doc))]))
    });
    keys.iter().map(|key| (key.name, value(key, &[]))).chain(ends).collect()
}

/// The close code of a normal end.
fn normal() -> Node {
    object(vec![("const", whole(1000))])
}

fn bounds<const N: usize>(bounds: [(&'static str, u32); N]) -> impl Iterator<Item = (&'static str, Node)> {
    bounds.into_iter().filter(|(_, bound)| *bound > 0).map(|(name, bound)| (name, whole(bound.into())))
}

fn closed() -> (&'static str, Node) {
    ("additionalProperties", node(Value::Boolean(false)))
}

fn shared(name: &str) -> (&'static str, Node) {
    ("$ref", text(&format!("#/$defs/{name}")))
}

fn node(value: Value) -> Node {
    Node { value, ..Node::default() }
}

fn text(text: &str) -> Node {
    node(Value::Text(text.to_owned()))
}

fn whole(number: i64) -> Node {
    node(Value::Whole(number))
}

fn list(elements: Vec<Node>) -> Node {
    node(Value::List(elements))
}

fn object(entries: Vec<(&str, Node)>) -> Node {
    node(Value::Table(Table(entries.into_iter().map(|(name, node)| (name.to_owned(), node)).collect())))
}

fn entries(node: &Node) -> Vec<(String, Node)> {
    node.table().map(|table| table.0.clone()).unwrap_or_default()
}

/// Writes a node as indented JSON.
fn write(node: &Node, depth: usize, out: &mut String) {
    let (open, close, members): (char, char, Vec<(Option<&str>, &Node)>) = match &node.value {
        Value::Table(table) => ('{', '}', table.iter().map(|(name, node)| (Some(name), node)).collect()),
        Value::List(list) => ('[', ']', list.iter().map(|node| (None, node)).collect()),
        Value::Text(_) | Value::Whole(_) | Value::Float(_) | Value::Boolean(_) | Value::Time(_) => {
            out.push_str(&crate::file::json(node));
            return;
        }
    };
    out.push(open);
    for (at, (name, node)) in members.into_iter().enumerate() {
        out.push_str(if at == 0 { "\n" } else { ",\n" });
        out.push_str(&"  ".repeat(depth + 1));
        if let Some(name) = name {
            out.push_str(&json::string(name));
            out.push_str(": ");
        }
        write(node, depth + 1, out);
    }
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
    out.push(close);
}

#[cfg(test)]
mod tests;
