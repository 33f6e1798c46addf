//! Schema: the tables of the language as a JSON Schema, by which editors complete and check files.

use tidegate_document::node::Node;
use tidegate_document::node::Table;
use tidegate_document::node::Value;
use tidegate_document::parse::parse;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::json;

use crate::language::key::Key;
use crate::language::key::Kind;
use crate::language::key::Word;
use crate::language::rules::HTTP;
use crate::language::rules::HTTP_WORDS;
use crate::language::rules::ON_CONNECT;
use crate::language::rules::RECEIVE;
use crate::language::rules::RECEIVE_WORDS;
use crate::language::sections::DELIVER;
use crate::language::sections::ERRORS;
use crate::language::sections::PATH;
use crate::language::sections::TOP;

/// The kinds of values that several keys share, each as a schema in TOML.
const SHARED: &str = include_str!("schema/shared.toml");

/// The whole schema, as the text of a file.
pub fn schema() -> String {
    let mut root = vec![
        ("$schema", text("https://json-schema.org/draft/2020-12/schema")),
        ("title", text("A vocabulary of Tidegate")),
    ];
    let doc = "The messages of one frontend. docs/VOCABULARIES.md is the manual.";
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
    let path = "A way in.";
    let receive = "What becomes of one kind of message of the client.";
    let on_connect = "What is done for a client as soon as it is known who it is.";
    let http = "What one kind of HTTP request asks for. {msg} is the body.";
    let deliver = "How publications are shown. The first that matches, in the order of the file, decides.";
    let ours = [
        ("error_name", error_name),
        ("receive", section(receive, RECEIVE, RECEIVE_WORDS)),
        ("on_connect", section(on_connect, &early, &early_words)),
        ("http", section(http, HTTP, HTTP_WORDS)),
        ("path", section(path, PATH, &[])),
        ("deliver", section(deliver, DELIVER, &[])),
    ];
    all.extend(ours.map(|(name, schema)| (name.to_owned(), object(schema))));
    node(Value::Table(Table(all)))
}

/// The keys and words of `[[path.on_connect]]`: those of a rule that need no message.
fn on_connect() -> (Vec<Key>, Vec<Word>) {
    let words: Vec<Word> =
        RECEIVE_WORDS.iter().filter(|word| ON_CONNECT.contains(&word.name)).copied().collect();
    let is_known = |key: &&Key| {
        !matches!(key.name, "path" | "when") && (takes(&words, key.name) || !takes(RECEIVE_WORDS, key.name))
    };
    (RECEIVE.iter().filter(is_known).copied().collect(), words)
}

fn takes(words: &[Word], key: &str) -> bool {
    words.iter().any(|word| word.keys.contains(&key))
}

/// A table with these keys; `words` may represent its `do`.
fn section(doc: &str, keys: &[Key], words: &[Word]) -> Vec<(&'static str, Node)> {
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

/// What holds of a table whose `do` is this word.
fn branch(keys: &[Key], words: &[Word], word: &Word) -> Node {
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

/// What a key holds.
fn value(key: &Key, words: &[Word]) -> Node {
    if let Kind::Shared(name) = key.kind {
        let doc = Some(("description", text(key.doc))).filter(|_| !key.doc.is_empty());
        return object([Some(shared(name)), doc].into_iter().flatten().collect());
    }
    let mut schema = vec![("description", text(key.doc))];
    match key.kind {
        Kind::Table(keys) => schema = section(key.doc, keys, &[]),
        Kind::Do => {
            let said = words.iter().map(|word| format!(" {}: {}", word.name, word.doc));
            schema = vec![("description", text(&(key.doc.to_owned() + &said.collect::<String>())))];
            schema.push(("enum", list(words.iter().map(|word| text(word.name)).collect())));
        }
        Kind::Words(words) => schema.push(("enum", list(words.iter().map(|word| text(word)).collect()))),
        Kind::Boolean => schema.push(("type", text("boolean"))),
        Kind::Text(least, most) => {
            schema.push(("type", text("string")));
            schema.extend(bounds([("minLength", least), ("maxLength", most)]));
        }
        Kind::Whole(least, most) => {
            schema.extend([("type", text("integer")), ("minimum", whole(least)), ("maximum", whole(most))]);
        }
        Kind::Tables(name, least, most) => {
            schema.push(("type", text("array")));
            schema.extend(bounds([("minItems", least), ("maxItems", most)]));
            schema.push(("items", object(vec![shared(name)])));
        }
        Kind::Codes => schema.extend(names(codes())),
        Kind::ClosingCodes => {
            let codes = ErrorCode::ALL.iter().map(|code| (code.name(), object(vec![shared("close_code")])));
            schema.extend(names(codes.collect()));
        }
        Kind::Ends(keys) => schema.extend(names(ends(keys))),
        Kind::CodeOfRule => {
            let of = |name| object(vec![shared(name)]);
            schema.push(("anyOf", list(vec![of("error_name"), normal(), of("close_code")])));
        }
        Kind::Shared(_) => {}
    }
    object(schema)
}

/// A table with these names for keys.
fn names(properties: Vec<(&str, Node)>) -> [(&'static str, Node); 3] {
    [("type", text("object")), closed(), ("properties", object(properties))]
}

/// What may represent each error.
fn codes() -> Vec<(&'static str, Node)> {
    let kinds = || list(vec![text("string"), text("integer")]);
    let codes = ERRORS.iter();
    codes.map(|(name, doc)| (*name, object(vec![("description", text(doc)), ("type", kinds())]))).collect()
}

/// The code of each end of a session.
fn ends(keys: &[Key]) -> Vec<(&'static str, Node)> {
    let ends = Disconnect::ALL.iter().map(|end| {
        let doc = format!("{} where it is left out.", end.code());
        (end.name(), object(vec![shared("close_code"), ("description", text(&doc))]))
    });
    keys.iter().map(|key| (key.name, value(key, &[]))).chain(ends).collect()
}

/// The close code of a session that ends as it should.
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

/// As JSON over several lines.
fn write(node: &Node, depth: usize, out: &mut String) {
    let (open, close, members): (char, char, Vec<(Option<&str>, &Node)>) = match &node.value {
        Value::Table(table) => ('{', '}', table.iter().map(|(name, node)| (Some(name), node)).collect()),
        Value::List(list) => ('[', ']', list.iter().map(|node| (None, node)).collect()),
        Value::Text(_) | Value::Whole(_) | Value::Float(_) | Value::Boolean(_) | Value::Time(_) => {
            out.push_str(&crate::source::json(node));
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
