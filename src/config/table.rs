//! A table of the merged configuration, read key by key. A wrong value is noted and its default taken, so
//! that one reading finds every mistake (a derived `Deserialize` would end at the first).

mod list;
mod secrets;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::Map;
use ::config::Value;
use ::config::ValueKind;
use tidegate_document::place::Place;
use tidegate_document::suggest::did_you_mean;

use crate::config::mistake::Wrong;
use crate::config::mistake::plain;
use crate::config::reader::Found;
use crate::config::reader::Reader;
use crate::config::suggest;
use crate::config::value::Layer;
use crate::config::value::shown;
use crate::config::value::table_of;
use crate::config::value::text_of;
use crate::config::value::whole;
use crate::config::value::worded;

/// Where the wrong kind of file was named.
const OF_VOCABULARIES: [&str; 6] = ["receive", "deliver", "path", "greeting", "protocol", "description"];

pub(super) struct Table<'a> {
    reader: &'a Reader,
    path: String,
    entries: Option<&'a Map<String, Value>>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Table<'a> {
    /// Reads a whole table; keys that `read` does not ask for are mistakes.
    pub(super) fn read<T>(
        reader: &'a Reader,
        path: String,
        entries: Option<&'a Map<String, Value>>,
        read: impl FnOnce(&Self) -> T,
    ) -> T {
        let table = Self { reader, path, entries, asked: RefCell::default() };
        let value = read(&table);
        table.refuse_unknown();
        value
    }

    pub(super) fn section<T>(&self, key: &'static str, read: impl FnOnce(&Table<'_>) -> T) -> T {
        let value = self.value(key);
        let entries = value.and_then(table_of);
        if let (Some(value), None) = (value, entries) {
            self.refuse(key, value, Wrong::new("is not a table", "write it as a table"));
        }
        Table::read(self.reader, self.path_to(key), entries, read)
    }

    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        self.know(key, None);
        let Some(value) = self.value(key) else {
            return default;
        };
        if let ValueKind::Boolean(value) = value.kind {
            return value;
        }
        match worded(value).map(str::to_lowercase).as_deref() {
            Some("true" | "yes" | "on" | "1") => true,
            Some("false" | "no" | "off" | "0") => false,
            Some(_) | None => {
                self.refuse(key, value, Wrong::new("is neither true nor false", "write true or false"));
                default
            }
        }
    }

    pub(super) fn count(&self, key: &'static str, default: usize, range: RangeInclusive<u64>) -> usize {
        let unit = if key.contains("_bytes") { " of bytes" } else { "" };
        self.whole(key, unit, default, range).and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
    }

    /// A time in the unit that the key's name ends with.
    pub(super) fn duration(
        &self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<u64>,
    ) -> Duration {
        let found = if key.ends_with("_ms") {
            self.whole(key, " of milliseconds", default.as_millis(), range).map(Duration::from_millis)
        } else {
            self.whole(key, " of seconds", default.as_secs(), range).map(Duration::from_secs)
        };
        found.unwrap_or(default)
    }

    /// The same where 0 stands for none.
    pub(super) fn duration_or_none(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<Duration> {
        Some(self.duration(key, Duration::ZERO, range)).filter(|duration| !duration.is_zero())
    }

    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// A word out of a list of words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, default: T, choices: &[(&str, T)]) -> T {
        self.parsed(key, default, |text| choose(text, choices))
    }

    pub(super) fn required<T>(
        &self,
        key: &'static str,
        cure: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        if self.value(key).is_none() {
            self.mistake(key, "is missing", cure);
        }
        self.optional(key, parse)
    }

    /// `None` where the key is absent, and where its value is a mistake.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.know(key, None);
        let value = self.value(key)?;
        let text =
            text_of(value).ok_or_else(|| Wrong::new("is not a text", "write it between quotation marks"));
        let parsed = text.and_then(parse);
        parsed.map_err(|wrong| self.refuse(key, value, wrong)).ok()
    }

    /// Text that counts only where it is not empty.
    pub(super) fn given(&self, key: &'static str) -> Option<Found<String>> {
        let text = self.optional(key, |text| Ok(text.to_owned()))?;
        self.found(key, text).filter(|found| !found.value.is_empty())
    }

    /// Keys that are known to come, with what they need, and so cannot stand here yet.
    pub(super) fn not_yet(&self, keys: &[(&'static str, &str)]) {
        for (key, need) in keys {
            if self.value(key).is_some() {
                let problem = format!("`{key}` needs {need}, which this version does not have yet");
                self.mistake(key, problem, "remove the key");
            }
        }
    }

    /// A mistake that shows only when several keys are seen together.
    pub(super) fn mistake(&self, key: &str, problem: impl Into<String>, cure: impl Into<String>) {
        self.reader.mistake(self.path_to(key), Wrong::new(problem, cure));
    }

    /// A mistake in a file that a key names.
    pub(super) fn mistake_in(&self, file: &str, key: &str, place: Option<Place>, wrong: Wrong) {
        self.reader.mistake_at(key, file, place, wrong);
    }

    /// A mistake in a value that could be read.
    pub(super) fn refuse_found<T>(&self, found: &Found<T>, problem: &str, cure: &str) {
        self.reader.mistake(found.key.clone(), Wrong::new(problem, cure));
    }

    pub(super) fn warning(&self, key: &str, text: impl Into<String>) {
        self.reader.warning(self.path_to(key), text.into());
    }

    /// A warning of a file that a key names.
    pub(super) fn warning_in(&self, file: &str, key: &str, place: Option<Place>, text: String) {
        self.reader.warning_at(key, file, place, text);
    }

    /// Of two keys that exclude each other, the one to name: the second where only that one was written.
    pub(super) fn written_of(&self, first: &'static str, second: &'static str) -> &'static str {
        let is_set = |key: &str| self.reader.is_set(&self.path_to(key));
        if is_set(second) && !is_set(first) { second } else { first }
    }

    /// Whether a key is there; it counts as read.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// Of several ways to say one thing, the one from the strongest source. Two from the same source are a
    /// mistake.
    pub(super) fn strongest<T>(&self, mut ways: Vec<Found<T>>, cure: &str) -> Option<Found<T>> {
        ways.sort_by_key(|way| way.layer);
        let chosen = ways.pop()?;
        for other in ways {
            if other.layer == chosen.layer {
                let problem = format!("{} and {} exclude each other", other.key, chosen.key);
                self.reader.mistake(other.key, Wrong::new(problem, cure));
            } else {
                self.reader.warning(other.key, format!("it is not used, because {} replaces it", chosen.key));
            }
        }
        Some(chosen)
    }

    fn whole(
        &self,
        key: &'static str,
        unit: &str,
        default: impl fmt::Display,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        self.know(key, Some(range.clone()));
        let value = self.value(key)?;
        let cure = format!(
            "write a whole number{unit} from {} to {} (default: {default})",
            range.start(),
            range.end()
        );
        let wrong = match whole(value).map(u64::try_from) {
            Some(Ok(number)) if range.contains(&number) => return Some(number),
            Some(_) => Wrong::new("is out of range", cure),
            None => Wrong::new("is not a whole number", cure),
        };
        self.refuse(key, value, wrong);
        None
    }

    fn refuse_unknown(&self) {
        let asked = self.asked.borrow();
        let unknown = self.entries.into_iter().flatten().filter(|(key, _)| !asked.contains(key.as_str()));
        let mut unknown: Vec<(&String, &Value)> = unknown.collect();
        unknown.sort_by_key(|(key, _)| *key);
        for (key, value) in unknown {
            let path = self.path_to(key);
            let meant = suggest::key(&general(&path), &self.reader.keys().names());
            let cure = match meant {
                _ if OF_VOCABULARIES.contains(&path.as_str()) => {
                    "this is a key of a vocabulary: name that file as \
                    `vocabulary` of an [[endpoint]]; `tidegate vocabulary show FILE` reads it"
                        .to_owned()
                }
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "remove it; the config.toml that comes with Tidegate names every key".to_owned(),
            };
            self.reader.note_origin(plain(&path), value);
            self.reader.mistake(plain(&path), Wrong::new("there is no such key", cure));
        }
    }

    fn know(&self, key: &str, range: Option<RangeInclusive<u64>>) {
        if self.reader.surveys {
            self.reader.know(general(&self.path_to(key)), range);
        }
    }

    fn value(&self, key: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(key);
        let value = self.entries?.get(key)?;
        self.reader.note_origin(self.path_to(key), value);
        Some(value)
    }

    fn found<T>(&self, key: &'static str, value: T) -> Option<Found<T>> {
        let layer = Layer::of(self.value(key)?);
        Some(Found { value, key: self.path_to(key), layer })
    }

    fn refuse(&self, key: &str, value: &Value, wrong: Wrong) {
        self.mistake(key, format!("{} {}", shown(value), wrong.problem), wrong.cure);
    }

    fn path_to(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// One of several words.
pub(super) fn choose<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let unknown = || {
        let listed: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let hint = did_you_mean(text, &words);
        Wrong::new("is not a word for this", format!("{hint}write {}", listed.join(" or ")))
    };
    choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice).ok_or_else(unknown)
}

/// The path of a key without the numbers of list elements: `role[3].name` is `role[].name`.
fn general(path: &str) -> String {
    let mut parts = path.split('[');
    let mut general = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        general.push('[');
        general.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    general
}
