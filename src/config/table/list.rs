//! Lists in a table: lists of texts and lists of tables.

use tidegate_document::diagnostic::ValueError;
use tidegate_document::quote::quoted;
use tidegate_document::section::lists::Commas;
use tidegate_document::section::lists::Element;

use crate::config::reader::SetValue;
use crate::config::table::ConfigTable;

impl<'a> ConfigTable<'a> {
    /// A list of texts. It may also be written as one text, with commas between the elements. `None` if the key is
    /// absent or its value is neither.
    pub(in crate::config) fn texts(&self, key: &'static str) -> Option<SetValue<Vec<Element<'a>>>> {
        self.add_key(key, None);
        let texts = self.section.texts(key, Commas::Separate)?;
        self.found(key, texts)
    }

    /// The same, with each text parsed. Texts that are wrong are reported and left out.
    pub(in crate::config) fn list<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Option<Vec<T>> {
        let texts = self.texts(key)?.value;
        let parsed = texts
            .iter()
            .map(|element| parse(element.text).map_err(|wrong| self.section.refuse_element(element, wrong)));
        Some(parsed.filter_map(Result::ok).collect())
    }

    /// A table whose keys are names, with a text for each. Texts that are wrong are reported and left out.
    pub(in crate::config) fn names<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str, &str) -> Result<T, ValueError>,
    ) -> Vec<(String, T)> {
        self.add_key(key, None);
        let Some(section) = self.section.table(key) else { return Vec::new() };
        let parsed = section.entries().filter_map(|(name, node)| {
            let wrong = || ValueError::new("is not a text", "write it between quotation marks");
            let value = node.text().ok_or_else(wrong).and_then(|text| parse(name, text));
            value
                .map_err(|wrong| section.refuse(name, node, wrong))
                .ok()
                .map(|value| (name.to_owned(), value))
        });
        parsed.collect()
    }

    /// Whether the value of a key is a list. Also true while all keys are collected.
    pub(in crate::config) fn is_list(&self, key: &'static str) -> bool {
        self.is_survey() || self.section.get(key).is_some_and(|node| node.list().is_some())
    }

    /// Whether this run only collects all keys that exist. Then no key has a value.
    pub(in crate::config) fn is_survey(&self) -> bool {
        self.reader.is_survey
    }

    /// A list of tables, each with its path. `None` if the key is absent or its value is not such a list.
    pub(in crate::config) fn tables<T>(
        &self,
        key: &'static str,
        read: impl Fn(&ConfigTable<'_>) -> Option<T>,
    ) -> Option<Vec<(String, T)>> {
        if self.reader.is_survey {
            ConfigTable::read(self.reader, self.section.absent(&format!("{key}[]")), &read);
        }
        let tables = self.section.tables(key)?.into_iter().filter_map(|section| {
            let path = section.location().key().to_owned();
            ConfigTable::read(self.reader, section, &read).map(|table| (path, table))
        });
        Some(tables.collect())
    }

    /// Reports elements of a list that have the same name. `names` has the path and the name of each element.
    pub(in crate::config) fn reject_duplicates<'n>(
        &self,
        names: impl Iterator<Item = (&'n str, &'n str)>,
        field: &str,
        help: &str,
    ) {
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for (path, name) in names {
            if let Some((first, _)) = seen.iter().find(|(_, other)| *other == name) {
                let message = format!("{first} has {} too", quoted(name));
                self.reader.diagnostics.refuse(format!("{path}.{field}"), ValueError::new(message, help));
            }
            seen.push((path, name));
        }
    }
}
