//! Lists in a table: of texts, and of tables.

use tidegate_document::diagnostic::Wrong;
use tidegate_document::quote::quoted;
use tidegate_document::section::lists::Commas;
use tidegate_document::section::lists::Element;

use crate::config::reader::SetValue;
use crate::config::table::ConfigTable;

impl<'a> ConfigTable<'a> {
    /// A list of texts; one text may represent a list, and commas separate texts in it. `None` where the key is absent or
    /// something else.
    pub(in crate::config) fn texts(&self, key: &'static str) -> Option<SetValue<Vec<Element<'a>>>> {
        self.know(key, None);
        let texts = self.section.texts(key, Commas::Separate)?;
        self.found(key, texts)
    }

    /// The same, each text parsed; those that are wrong are left out.
    pub(in crate::config) fn list<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let texts = self.texts(key)?.value;
        let parsed = texts
            .iter()
            .map(|element| parse(element.text).map_err(|wrong| self.section.refuse_element(element, wrong)));
        Some(parsed.filter_map(Result::ok).collect())
    }

    /// A list of tables, each with its path. `None` where the key is absent or something else.
    pub(in crate::config) fn tables<T>(
        &self,
        key: &'static str,
        read: impl Fn(&ConfigTable<'_>) -> Option<T>,
    ) -> Option<Vec<(String, T)>> {
        if self.reader.surveys {
            ConfigTable::read(self.reader, self.section.absent(&format!("{key}[]")), &read);
        }
        let tables = self.section.tables(key)?.into_iter().filter_map(|section| {
            let path = section.location().key().to_owned();
            ConfigTable::read(self.reader, section, &read).map(|table| (path, table))
        });
        Some(tables.collect())
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
                self.reader.diagnostics.refuse(format!("{path}.{field}"), Wrong::new(problem, cure));
            }
            seen.push((path, name));
        }
    }
}
