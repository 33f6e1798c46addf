//! The fields of payloads that say how a publication is delivered: `key = "data.symbol"`, `priority = "data.priority"`.

use std::borrow::Cow;

use crate::json::Step;
use crate::json::is_number;
use crate::json::paths::JsonParts;
use crate::json::paths::JsonPaths;
use crate::json::paths::JsonSpans;
use crate::json::text;
use crate::payload::Payload;

/// Longer keys are ignored.
pub const MAX_KEY_BYTES: usize = 256;
/// The longest path to a field, in steps.
pub const MAX_STEPS: usize = 16;
/// An escape needs at most six bytes for one byte of text, and the quotes need two more.
const MAX_WRITTEN_BYTES: usize = 6 * MAX_KEY_BYTES + 2;

/// A path to a field of a JSON payload.
pub type FieldPath = Box<[Step]>;

/// The fields that a class reads from payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFields {
    key: Option<FieldPath>,
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

/// Parses a path such as `data.symbol`, whose first step is the payload. `None` if it names no field.
pub fn parse_path(path: &str) -> Option<FieldPath> {
    let names: Vec<&str> = path.strip_prefix("data.")?.split('.').collect();
    let is_valid = names.len() <= MAX_STEPS && names.iter().all(|name| !name.is_empty());
    is_valid.then(|| names.into_iter().map(Step::read).collect())
}

impl PayloadFields {
    /// `None` if there are no fields to read.
    pub fn new(key: Option<FieldPath>, priority: Option<FieldPath>) -> Option<Box<Self>> {
        let paths = JsonPaths::new(key.iter().chain(&priority).map(|path| &**path));
        (key.is_some() || priority.is_some()).then(|| Box::new(Self { key, priority, paths }))
    }

    /// The same fields, with another key or priority if it is given.
    pub fn merged(
        older: Option<Box<Self>>,
        key: Option<FieldPath>,
        priority: Option<FieldPath>,
    ) -> Option<Box<Self>> {
        let (old_key, old_priority) = older.map(|older| (older.key, older.priority)).unwrap_or_default();
        Self::new(key.or(old_key), priority.or(old_priority))
    }

    /// Reads the fields, in one pass over the payload. A payload that is not JSON has none. Use new `spans` for each
    /// payload.
    pub fn read<'p>(&'p self, payload: &'p Payload, spans: &'p JsonSpans) -> FieldValues<'p> {
        let json = match payload {
            Payload::Json(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
            Payload::Text(_) | Payload::Binary(_) => "",
        };
        let parts = JsonParts::new(json, &self.paths, spans);
        let value = |path: &FieldPath| parts.at(path).and_then(scalar);
        FieldValues {
            key: self.key.as_ref().and_then(value).filter(|key| is_key(key)),
            priority: self.priority.as_ref().and_then(value),
        }
    }

    /// Whether one of them is the priority.
    pub fn have_priority(&self) -> bool {
        self.priority.is_some()
    }
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
