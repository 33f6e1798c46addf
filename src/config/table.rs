//! A table of the merged configuration, read key by key. A wrong value is noted and its default taken, so
//! that one reading finds every mistake (a derived `Deserialize` would end at the first).

mod list;
mod secrets;

use std::ops::RangeInclusive;
use std::time::Duration;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostic::Wrong;
use tidegate_document::section::Section;
use tidegate_document::section::UNKNOWN_KEY;

use crate::config::reader::ConfigReader;
use crate::config::reader::SetValue;
use crate::config::suggest;
use crate::config::tree::Layer;

/// Where the wrong kind of file was named.
const OF_VOCABULARIES: [&str; 6] = ["receive", "deliver", "path", "greeting", "protocol", "description"];

pub(super) struct ConfigTable<'a> {
    reader: &'a ConfigReader<'a>,
    section: Section<'a>,
}

impl<'a> ConfigTable<'a> {
    /// Reads the whole configuration.
    pub(super) fn root<T>(reader: &'a ConfigReader<'a>, read: impl FnOnce(&Self) -> T) -> T {
        Self::read(reader, Section::root(&reader.diagnostics), read)
    }

    /// Reads a whole table; keys that `read` does not ask for are mistakes.
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
        self.know(key, None);
        self.section.boolean(key).unwrap_or(default)
    }

    pub(super) fn count(&self, key: &'static str, default: usize, range: RangeInclusive<u64>) -> usize {
        self.know(key, Some(range.clone()));
        let of = if key.contains("_bytes") { " of bytes" } else { "" };
        let count = self.section.whole(key, range, of, &default.to_string());
        count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
    }

    /// A time in the unit that the key's name ends with.
    pub(super) fn duration(
        &self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<u64>,
    ) -> Duration {
        self.know(key, Some(range.clone()));
        self.section.duration(key, range, Some(default)).unwrap_or(default)
    }

    /// The same where 0 represents none.
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
        self.know(key, None);
        self.section.choice(key, choices).unwrap_or(default)
    }

    pub(super) fn required<T>(
        &self,
        key: &'static str,
        cure: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.section.required(key, cure);
        self.optional(key, parse)
    }

    /// `None` where the key is absent, and where its value is a mistake.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.know(key, None);
        self.section.parsed(key, parse)
    }

    /// Text that counts only where it is not empty.
    pub(super) fn given(&self, key: &'static str) -> Option<SetValue<String>> {
        let text = self.optional(key, |text| Ok(text.to_owned()))?;
        self.found(key, text).filter(|found| !found.value.is_empty())
    }

    /// Keys that are known to come, with what they need, and so cannot be here yet.
    pub(super) fn not_yet(&self, keys: &[(&'static str, &str)]) {
        for (key, need) in keys {
            if self.has(key) {
                let problem = format!("`{key}` needs {need}, which this version does not have yet");
                self.mistake(key, problem, "remove the key");
            }
        }
    }

    /// A mistake that shows only when several keys are seen together.
    pub(super) fn mistake(&self, key: &str, problem: impl Into<String>, cure: impl Into<String>) {
        self.section.mistake(key, problem, cure);
    }

    /// A mistake in a value that could be read.
    pub(super) fn refuse_found<T>(&self, found: &SetValue<T>, wrong: Wrong) {
        self.reader.diagnostics.refuse(&found.key, wrong);
    }

    pub(super) fn warning(&self, key: &str, text: impl Into<String>) {
        self.section.warning(key, text);
    }

    /// What is wrong or doubtful in a file that a key names.
    pub(super) fn in_file(&self, file: &str, diagnostic: Diagnostic) {
        self.reader.diagnostics.add(diagnostic.with_origin(file));
    }

    /// Of two keys that exclude each other, the one to name: the second where only that one was written.
    pub(super) fn written_of(&self, first: &'static str, second: &'static str) -> &'static str {
        let root = self.reader.diagnostics.root();
        let is_set = |key: &str| root.find(&self.section.path_to(key)).is_some();
        if is_set(second) && !is_set(first) { second } else { first }
    }

    /// Whether a key is there; it counts as read.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.section.get(key).is_some()
    }

    /// Of several ways to say one thing, the one from the strongest source. Two from the same source are a
    /// mistake.
    pub(super) fn strongest<T>(&self, mut ways: Vec<SetValue<T>>, cure: &str) -> Option<SetValue<T>> {
        ways.sort_by_key(|way| way.layer);
        let chosen = ways.pop()?;
        for other in ways {
            let diagnostic = if other.layer == chosen.layer {
                let problem = format!("{} and {} exclude each other", other.key, chosen.key);
                Diagnostic::error(other.key, problem, cure)
            } else {
                Diagnostic::warning(other.key, format!("it is not used, because {} replaces it", chosen.key))
            };
            self.reader.diagnostics.at_key(diagnostic);
        }
        Some(chosen)
    }

    /// What is said of a key that there is not.
    fn unknown(&self, key: &str) -> Wrong {
        let path = self.section.path_to(key);
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
        Wrong::new(UNKNOWN_KEY, cure)
    }

    fn know(&self, key: &str, range: Option<RangeInclusive<u64>>) {
        if self.reader.surveys {
            self.reader.know(general(&self.section.path_to(key)), range);
        }
    }

    fn found<T>(&self, key: &'static str, value: T) -> Option<SetValue<T>> {
        let layer = Layer::of(self.section.get(key)?);
        Some(SetValue { value, key: self.section.path_to(key), layer })
    }
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
