//! The fields of payloads that say how a publication is delivered: `key = "data.symbol"`, `priority = "data.priority"`.

use std::borrow::Cow;

use bytes::Bytes;

use crate::json::Step;
use crate::json::elements;
use crate::json::find;
use crate::json::is_number;
use crate::json::paths::JsonParts;
use crate::json::paths::JsonPaths;
use crate::json::paths::JsonSpans;
use crate::json::text;
use crate::payload::Payload;

/// Longer keys are ignored.
pub const MAX_KEY_BYTES: usize = 256;
/// A longer list counts as one value.
pub const MAX_KEYED_ELEMENTS: usize = 10_000;
/// The longest path to a field, in steps.
pub const MAX_STEPS: usize = 16;
/// An escape needs at most six bytes for one byte of text, and the quotes need two more.
const MAX_WRITTEN_BYTES: usize = 6 * MAX_KEY_BYTES + 2;

/// A path to a field of a JSON payload.
pub type FieldPath = Box<[Step]>;

/// An element of a list: its key, and its JSON.
type KeyedElement<'p> = (Option<Cow<'p, str>>, &'p str);

/// Where the key of a publication is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPath {
    field: FieldPath,
    /// If the payload is a list, each of its elements has the field, and is a last value of its own.
    of_elements: bool,
}

/// The fields that a class reads from payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFields {
    key: Option<KeyPath>,
    priority: Option<FieldPath>,
    paths: JsonPaths,
}

/// What a payload says about its delivery.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FieldValues<'p> {
    /// The text or number, if it can be a key.
    pub key: Option<Cow<'p, str>>,
    /// The text or number.
    pub priority: Option<Cow<'p, str>>,
}

/// Parses a path such as `data.symbol`, whose first step is the payload, or `data[].symbol` for the elements of a payload
/// that is a list. `None` if it names no field.
pub fn parse_key(path: &str) -> Option<KeyPath> {
    match path.strip_prefix("data[].") {
        Some(field) => Some(KeyPath { field: parse_steps(field)?, of_elements: true }),
        None => Some(KeyPath { field: parse_path(path)?, of_elements: false }),
    }
}

/// Parses a path such as `data.symbol`, whose first step is the payload. `None` if it names no field.
pub fn parse_path(path: &str) -> Option<FieldPath> {
    parse_steps(path.strip_prefix("data.")?)
}

fn parse_steps(names: &str) -> Option<FieldPath> {
    let names: Vec<&str> = names.split('.').collect();
    let is_valid = names.len() <= MAX_STEPS && names.iter().all(|name| !name.is_empty());
    is_valid.then(|| names.into_iter().map(Step::read).collect())
}

impl PayloadFields {
    /// `None` if there are no fields to read.
    pub fn new(key: Option<KeyPath>, priority: Option<FieldPath>) -> Option<Box<Self>> {
        let paths = JsonPaths::new(key.iter().map(|key| &key.field).chain(&priority).map(|path| &**path));
        (key.is_some() || priority.is_some()).then(|| Box::new(Self { key, priority, paths }))
    }

    /// The same fields, with another key or priority if it is given.
    pub fn merged(
        older: Option<Box<Self>>,
        key: Option<KeyPath>,
        priority: Option<FieldPath>,
    ) -> Option<Box<Self>> {
        let (old_key, old_priority) = older.map(|older| (older.key, older.priority)).unwrap_or_default();
        Self::new(key.or(old_key), priority.or(old_priority))
    }

    /// Reads the fields, in one pass over the payload. A payload that is not JSON has none. Use new `spans` for each
    /// payload.
    pub fn read<'p>(&'p self, payload: &'p Payload, spans: &'p JsonSpans) -> FieldValues<'p> {
        let json = json_of(payload);
        let parts = JsonParts::new(json, &self.paths, spans);
        let value = |path: &FieldPath| parts.at(path).and_then(scalar);
        let of_list = || self.elements(json).map(|elements| Cow::Owned(key_of_list(&elements)));
        FieldValues {
            key: self
                .key
                .as_ref()
                .and_then(|key| value(&key.field))
                .filter(|key| is_key(key))
                .or_else(of_list),
            priority: self.priority.as_ref().and_then(value),
        }
    }

    /// The elements of a payload that is a list, as payloads of one element, with their keys: each is a last value. `None`
    /// if the payload is one value.
    pub fn separate(&self, payload: &Payload) -> Option<Vec<(Option<String>, Payload)>> {
        let elements = self.elements(json_of(payload))?;
        let of_one = |(key, json): KeyedElement<'_>| {
            (key.map(Cow::into_owned), Payload::Json(Bytes::from(["[", json, "]"].concat())))
        };
        Some(elements.into_iter().map(of_one).collect())
    }

    fn elements<'p>(&'p self, json: &'p str) -> Option<Vec<KeyedElement<'p>>> {
        let key = self.key.as_ref().filter(|key| key.of_elements)?;
        let found = elements(json).filter(|found| found.len() <= MAX_KEYED_ELEMENTS)?;
        let with_key = |json| (find(json, &key.field).and_then(scalar).filter(|key| is_key(key)), json);
        Some(found.into_iter().map(with_key).collect())
    }

    /// Whether one of them is the key.
    pub fn have_key(&self) -> bool {
        self.key.is_some()
    }

    /// Whether one of them is the priority.
    pub fn have_priority(&self) -> bool {
        self.priority.is_some()
    }
}

fn json_of(payload: &Payload) -> &str {
    match payload {
        Payload::Json(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        Payload::Text(_) | Payload::Binary(_) => "",
    }
}

/// The key of a whole list, however long, so that it replaces only lists with the same keys.
fn key_of_list(elements: &[KeyedElement<'_>]) -> String {
    let keys: Vec<&str> = elements.iter().map(|(key, _)| key.as_deref().unwrap_or_default()).collect();
    format!("[{}]", keys.join(","))
}

/// Whether a text can be a key.
pub fn is_key(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_KEY_BYTES
}

/// The content of a string, or a number as written. Nothing else, and nothing that is too long for a key.
fn scalar(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes().first()? {
        _ if json.len() > MAX_WRITTEN_BYTES => None,
        b'"' => text(json),
        _ => is_number(json).then_some(Cow::Borrowed(json)),
    }
}

#[cfg(test)]
mod tests;
