//! Reads a table of the merged configuration key by key. A wrong value is reported and its default used, so that one
//! run finds every error. A derived `Deserialize` would stop at the first.

mod list;
mod secrets;

use std::ops::RangeInclusive;
use std::time::Duration;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostic::ValueError;
use tidegate_document::section::Section;
use tidegate_document::section::UNKNOWN_KEY;

use crate::config::keys::renamed;
use crate::config::reader::ConfigReader;
use crate::config::reader::SetValue;
use crate::config::suggest;
use crate::config::tree::Layer;

/// Keys that show that the file is a vocabulary, not a configuration.
const VOCABULARY_KEYS: [&str; 6] = ["receive", "deliver", "path", "greeting", "protocol", "description"];

pub(super) struct ConfigTable<'a> {
    reader: &'a ConfigReader<'a>,
    section: Section<'a>,
}

impl<'a> ConfigTable<'a> {
    /// Reads the whole configuration.
    pub(super) fn root<T>(reader: &'a ConfigReader<'a>, read: impl FnOnce(&Self) -> T) -> T {
        Self::read(reader, Section::root(&reader.diagnostics), read)
    }

    /// Reads a whole table. Keys that `read` does not ask for are errors.
    fn read<T>(reader: &'a ConfigReader<'a>, section: Section<'a>, read: impl FnOnce(&Self) -> T) -> T {
        let table = Self { reader, section };
        let value = read(&table);
        table.section.end(|key| Some(table.unknown(key)));
        value
    }

    pub(super) fn section<T>(&self, key: &'static str, read: impl FnOnce(&ConfigTable<'_>) -> T) -> T {
        let section = self.section.table(key).unwrap_or_else(|| self.section.absent(key));
        ConfigTable::read(self.reader, section, read)
    }

    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        self.add_key(key, None);
        self.section.boolean(key).unwrap_or(default)
    }

    /// `true`, `false`, or a third word. `choices` are their meanings; the first is the default.
    pub(super) fn boolean_or<T: Copy>(&self, key: &'static str, word: &str, choices: [T; 3]) -> T {
        self.add_key(key, None);
        let [no, yes, third] = choices;
        match self.section.get(key) {
            None => no,
            Some(node) => match (node.boolean(), node.text()) {
                (Some(value), _) => {
                    if value {
                        yes
                    } else {
                        no
                    }
                }
                (None, Some(text)) if text == word => third,
                (None, _) => {
                    let help = format!("write true, false or \"{word}\"");
                    self.section.refuse(key, node, ValueError::new("is not an allowed value", help));
                    no
                }
            },
        }
    }

    pub(super) fn count(&self, key: &'static str, default: usize, range: RangeInclusive<u64>) -> usize {
        self.add_key(key, Some(range.clone()));
        let of = if key.contains("_bytes") { " of bytes" } else { "" };
        let count = self.section.whole(key, range, of, &default.to_string());
        count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
    }

    /// A duration in the unit at the end of the key's name, `_ms` or `_s`.
    pub(super) fn duration(
        &self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<u64>,
    ) -> Duration {
        self.add_key(key, Some(range.clone()));
        self.section.duration(key, range, Some(default)).unwrap_or(default)
    }

    /// The same for a key where 0 means none.
    pub(super) fn duration_or_none(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<Duration> {
        Some(self.duration(key, Duration::ZERO, range)).filter(|duration| !duration.is_zero())
    }

    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, default: T, choices: &[(&str, T)]) -> T {
        self.add_key(key, None);
        self.section.choice(key, choices).unwrap_or(default)
    }

    pub(super) fn required<T>(
        &self,
        key: &'static str,
        help: &str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        self.section.required(key, help);
        self.optional(key, parse)
    }

    /// `None` if the key is absent or its value is wrong.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        self.add_key(key, None);
        self.section.parsed(key, parse)
    }

    /// Text; empty text counts as absent.
    pub(super) fn non_empty(&self, key: &'static str) -> Option<SetValue<String>> {
        let text = self.optional(key, |text| Ok(text.to_owned()))?;
        self.found(key, text).filter(|found| !found.value.is_empty())
    }

    /// Rejects keys of planned features; each has the feature that it needs.
    pub(super) fn not_yet(&self, keys: &[(&'static str, &str)]) {
        for (key, feature) in keys {
            if self.has(key) {
                let message = format!("`{key}` needs {feature}, which this version does not have yet");
                self.error(key, message, "remove the key");
            }
        }
    }

    /// Reports an error at a key of this table.
    pub(super) fn error(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        self.section.error(key, message, help);
    }

    /// The full path of a key of this table.
    pub(super) fn path_to(&self, key: &str) -> String {
        self.section.path_to(key)
    }

    /// Reports an error at the full path of a key.
    pub(super) fn error_at(&self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.reader.diagnostics.at_key(Diagnostic::error(path, message, help));
    }

    /// Reports an error in a value that has been read.
    pub(super) fn reject<T>(&self, found: &SetValue<T>, wrong: ValueError) {
        self.reader.diagnostics.refuse(&found.key, wrong);
    }

    pub(super) fn warning(&self, key: &str, message: impl Into<String>) {
        self.section.warning(key, message);
    }

    /// Reports an error or a warning in a file that a key names.
    pub(super) fn in_file(&self, file: &str, diagnostic: Diagnostic) {
        self.reader.diagnostics.add(diagnostic.with_origin(file));
    }

    /// The key at which to report a conflict of two keys: the second if only that one is set, otherwise the first.
    pub(super) fn conflict_key(&self, first: &'static str, second: &'static str) -> &'static str {
        let root = self.reader.diagnostics.root();
        let is_set = |key: &str| root.find(&self.section.path_to(key)).is_some();
        if is_set(second) && !is_set(first) { second } else { first }
    }

    /// Whether a key is set. It then counts as read.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.section.get(key).is_some()
    }

    /// Of alternative settings for one thing, the one from the layer that overrides the others. Two from the same
    /// layer are an error.
    pub(super) fn choose_last_layer<T>(
        &self,
        mut alternatives: Vec<SetValue<T>>,
        help: &str,
    ) -> Option<SetValue<T>> {
        alternatives.sort_by_key(|alternative| alternative.layer);
        let chosen = alternatives.pop()?;
        for other in alternatives {
            let diagnostic = if other.layer == chosen.layer {
                let message = format!("{} and {} exclude each other", other.key, chosen.key);
                Diagnostic::error(other.key, message, help)
            } else {
                Diagnostic::warning(other.key, format!("not used, because {} overrides it", chosen.key))
            };
            self.reader.diagnostics.at_key(diagnostic);
        }
        Some(chosen)
    }

    fn unknown(&self, key: &str) -> ValueError {
        let path = self.section.path_to(key);
        if let Some(new) = renamed(&without_indices(&path)) {
            let new = new.rsplit('.').next().unwrap_or(new);
            return ValueError::new(
                format!("`{key}` is called `{new}` now"),
                format!("rename it to `{new}`"),
            );
        }
        let intended = suggest::key(&without_indices(&path), &self.reader.keys().names());
        let help = match intended {
            _ if VOCABULARY_KEYS.contains(&path.as_str()) => {
                "this is a key of a vocabulary: name that file as the `vocabulary` of an [[endpoint]]; `tidegate \
                 vocabulary show FILE` prints it"
                    .to_owned()
            }
            Some(intended) => format!("did you mean `{intended}`?"),
            None => "remove it; the config.toml that comes with Tidegate lists every key".to_owned(),
        };
        ValueError::new(UNKNOWN_KEY, help)
    }

    fn add_key(&self, key: &str, range: Option<RangeInclusive<u64>>) {
        if self.reader.is_survey {
            self.reader.add_key(without_indices(&self.section.path_to(key)), range);
        }
    }

    fn add_secret_key(&self, key: &str) {
        self.add_key(key, None);
        if self.reader.is_survey {
            self.reader.add_secret(without_indices(&self.section.path_to(key)));
        }
    }

    fn found<T>(&self, key: &'static str, value: T) -> Option<SetValue<T>> {
        let layer = Layer::of(self.section.get(key)?);
        Some(SetValue { value, key: self.section.path_to(key), layer })
    }
}

/// The path of a key without list indices: `role[].name` for `role[3].name`.
fn without_indices(path: &str) -> String {
    let mut parts = path.split('[');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push('[');
        result.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    result
}
