//! Values of the merged tree, as the `config` crate has them: where each comes from, and what kind of value it is.

use ::config::Map;
use ::config::Value;
use ::config::ValueKind;

use crate::config::mistake::quoted;

/// How a key is set on the command line.
pub(super) const FLAG: &str = "--set ";

/// Where a value comes from, the weaker first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    File,
    Environment,
    Flag,
}

impl Layer {
    /// Values of the file carry no origin; those of flags begin as flags do.
    pub(super) fn of(value: &Value) -> Self {
        match value.origin() {
            None => Self::File,
            Some(origin) if origin.starts_with(FLAG) => Self::Flag,
            Some(_) => Self::Environment,
        }
    }
}

pub(super) fn table_of(value: &Value) -> Option<&Map<String, Value>> {
    if let ValueKind::Table(entries) = &value.kind { Some(entries) } else { None }
}

pub(super) fn text_of(value: &Value) -> Option<&str> {
    if let ValueKind::String(text) = &value.kind { Some(text) } else { None }
}

pub(super) fn whole(value: &Value) -> Option<i128> {
    if let ValueKind::I64(number) = value.kind {
        return Some(i128::from(number));
    }
    worded(value)?.parse().ok()
}

/// The text of a variable or a flag, which may stand for anything; in a file, text is text.
pub(super) fn worded(value: &Value) -> Option<&str> {
    text_of(value).filter(|_| Layer::of(value) != Layer::File).map(str::trim)
}

pub(super) fn shown(value: &Value) -> String {
    if let Some(text) = text_of(value) {
        quoted(text)
    } else if table_of(value).is_some() {
        "a table".to_owned()
    } else if matches!(value.kind, ValueKind::Array(_)) {
        "a list".to_owned()
    } else {
        value.kind.to_string()
    }
}
