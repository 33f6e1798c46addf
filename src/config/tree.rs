//! Converts the merged sources to document nodes, which record the source and the place of each value.

use ::config::Value;
use ::config::ValueKind;
use tidegate_document::node::Node;
use tidegate_document::node::Table;
use tidegate_document::node::Value as Written;

/// The flag that sets a key on the command line.
pub(super) const FLAG: &str = "--set ";

/// The source of a value. Later layers override earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    File,
    Environment,
    Flag,
}

impl Layer {
    /// Values of the file have no origin; the origin of a flag's value starts with [`FLAG`].
    pub(super) fn of(node: &Node) -> Self {
        match &node.origin {
            None => Self::File,
            Some(origin) if origin.starts_with(FLAG) => Self::Flag,
            Some(_) => Self::Environment,
        }
    }
}

/// Converts a merged value. `written` is the file's node at the same path; it has the place.
pub(super) fn node(value: &Value, written: Option<&Node>) -> Node {
    let origin = value.origin().map(str::to_owned);
    let place = written.filter(|_| origin.is_none()).and_then(|written| written.place);
    Node { value: kind(&value.kind, written), origin, place }
}

fn kind(kind: &ValueKind, written: Option<&Node>) -> Written {
    match kind {
        ValueKind::String(text) => Written::Text(text.clone()),
        ValueKind::Boolean(truth) => Written::Boolean(*truth),
        ValueKind::I64(number) => Written::Whole(*number),
        ValueKind::Float(number) => Written::Float(*number),
        ValueKind::Array(list) => {
            let written = |at: usize| written.and_then(Node::list).and_then(|list| list.get(at));
            Written::List(list.iter().enumerate().map(|(at, value)| node(value, written(at))).collect())
        }
        ValueKind::Table(table) => {
            let written = |key: &str| written.and_then(Node::table).and_then(|table| table.get(key));
            let mut entries: Vec<(String, Node)> =
                table.iter().map(|(key, value)| (key.clone(), node(value, written(key)))).collect();
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            Written::Table(Table(entries))
        }
        // No source has such values.
        ValueKind::Nil | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
            Written::Text(kind.to_string())
        }
    }
}
