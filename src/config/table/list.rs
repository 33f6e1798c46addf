//! Lists in a table: of texts, and of tables.

use ::config::ValueKind;

use crate::config::mistake::Wrong;
use crate::config::mistake::quoted;
use crate::config::reader::Found;
use crate::config::table::Table;
use crate::config::value::table_of;
use crate::config::value::text_of;

impl Table<'_> {
    /// A list of texts, each with its path; one text may stand for a list, and commas separate texts in it.
    /// `None` where the key is absent or something else.
    pub(in crate::config) fn texts(&self, key: &'static str) -> Option<Found<Vec<(String, String)>>> {
        self.know(key, None);
        let value = self.value(key)?;
        let mut texts = Vec::new();
        if let Some(text) = text_of(value) {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            texts.extend(parts.map(|part| (key.to_owned(), part.to_owned())));
        } else if let ValueKind::Array(elements) = &value.kind {
            for (index, element) in elements.iter().enumerate() {
                let name = format!("{key}[{index}]");
                self.reader.note_origin(self.path_to(&name), element);
                match text_of(element) {
                    Some(text) => texts.push((name, text.to_owned())),
                    None => {
                        let wrong = Wrong::new("is not a text", "write it between quotation marks");
                        self.refuse(&name, element, wrong);
                    }
                }
            }
        } else {
            let wrong = Wrong::new("is not a list of texts", "write it as [\"one\", \"two\"]");
            self.refuse(key, value, wrong);
            return None;
        }
        self.found(key, texts)
    }

    /// The same, each text parsed; those that are wrong are left out.
    pub(in crate::config) fn list<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let refuse = |name: &str, text: &str, wrong: Wrong| {
            self.mistake(name, format!("{} {}", quoted(text), wrong.problem), wrong.cure);
        };
        let texts = self.texts(key)?.value;
        let parsed = texts.iter().map(|(name, text)| parse(text).map_err(|wrong| refuse(name, text, wrong)));
        Some(parsed.filter_map(Result::ok).collect())
    }

    /// A list of tables, each with its path. `None` where the key is absent or something else.
    pub(in crate::config) fn tables<T>(
        &self,
        key: &'static str,
        read: impl Fn(&Table<'_>) -> Option<T>,
    ) -> Option<Vec<(String, T)>> {
        if self.reader.surveys {
            Table::read(self.reader, self.path_to(&format!("{key}[]")), None, &read);
        }
        let value = self.value(key)?;
        let cure = format!("write each under a line [[{}]]", self.path_to(key));
        let ValueKind::Array(elements) = &value.kind else {
            self.refuse(key, value, Wrong::new("is not a list of tables", cure));
            return None;
        };
        let mut tables = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let name = format!("{key}[{index}]");
            self.reader.note_origin(self.path_to(&name), element);
            if table_of(element).is_none() {
                self.refuse(&name, element, Wrong::new("is not a table", cure.clone()));
                continue;
            }
            let path = self.path_to(&name);
            let table = Table::read(self.reader, path.clone(), table_of(element), &read);
            tables.extend(table.map(|table| (path, table)));
        }
        Some(tables)
    }

    /// Two elements of a list may not have the same name. `names` holds the path of each element, and its
    /// name.
    pub(in crate::config) fn refuse_twins<'n>(
        &self,
        names: impl Iterator<Item = (&'n str, &'n str)>,
        field: &str,
        cure: &str,
    ) {
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for (path, name) in names {
            if let Some((first, _)) = seen.iter().find(|(_, other)| *other == name) {
                let problem = format!("{} is that of {first} too", quoted(name));
                self.reader.mistake(format!("{path}.{field}"), Wrong::new(problem, cure));
            }
            seen.push((path, name));
        }
    }
}
