//! Place: where in a TOML file a key is, by line and column, for whoever has to mend it.

use std::fmt;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// A place in a file, counted from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

/// The places of all keys of a file.
pub struct Places<'t> {
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
    read: Result<DeTable<'t>, Broken>,
}

/// Why a file is no TOML, and where.
struct Broken {
    at: usize,
    words: String,
}

impl<'t> Places<'t> {
    /// Reads the file.
    pub fn of(text: &'t str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        let read = DeTable::parse(text).map(Spanned::into_inner).map_err(|error| Broken {
            at: error.span().map_or(0, |span| span.start),
            words: error.message().to_owned(),
        });
        Self { text, lines, read }
    }

    /// What is wrong with a file that is no TOML, without any of its text but names of keys.
    pub fn broken(&self) -> Option<&str> {
        self.read.as_ref().err().map(|broken| broken.words.as_str())
    }

    /// Where a key is: `role[0].subscribe.allow[1]`, elements counted from 0; what follows a blank is ignored. Of one
    /// that is missing, the table that should have it; of a file that is no TOML, where that shows. `None`: nowhere.
    pub fn find(&self, key: &str) -> Option<Place> {
        let table = match &self.read {
            Ok(table) => table,
            Err(broken) => return Some(self.place(broken.at)),
        };
        let key = key.split(' ').next().unwrap_or_default();
        let mut at = None;
        let mut within = Within::Table(table);
        for segment in key.split('.') {
            let mut parts = segment.split('[');
            let name = parts.next().unwrap_or_default();
            let Within::Table(table) = within else { break };
            let Some((found, value)) = table.iter().find(|(found, _)| found.get_ref() == name) else { break };
            at = Some(found.span().start);
            within = Within::of(value.get_ref());
            for number in parts {
                let number = number.strip_suffix(']').and_then(|number| number.parse::<usize>().ok());
                let Within::List(list) = within else { break };
                let Some(element) = number.and_then(|number| list.get(number)) else { break };
                at = Some(element.span().start);
                within = Within::of(element.get_ref());
            }
        }
        at.map(|at| self.place(at))
    }

    fn place(&self, at: usize) -> Place {
        let at = self.text.floor_char_boundary(at);
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        Place { line, column: self.text[start..at].chars().count() + 1 }
    }
}

/// What a key holds.
enum Within<'v, 't> {
    Table(&'v DeTable<'t>),
    List(&'v [Spanned<DeValue<'t>>]),
    Nothing,
}

impl<'v, 't> Within<'v, 't> {
    fn of(value: &'v DeValue<'t>) -> Self {
        match value {
            DeValue::Table(table) => Self::Table(table),
            DeValue::Array(list) => Self::List(list),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, key: &str) -> Option<(usize, usize)> {
        Places::of(text).find(key).map(|place| (place.line, place.column))
    }

    const FILE: &str = "\
# A file.
[http]
listen = \"x\"
console = 7
[auth]
\"role_claim\" = 1
[[role]]
name = \"a\"
subscribe = { allow = [\"a\", \"é\", \"c\"] }
[[role]]
 name = \"b\"
[role.publish]
allow = [
  \"a\",
  \"b\",
]
[[auth.key]]
kid = 1
";

    #[test]
    fn keys_are_found_where_they_are() {
        for (key, place) in [
            ("http", (2, 2)),
            ("http.listen", (3, 1)),
            ("http.console", (4, 1)),
            ("auth.role_claim", (6, 1)),
            ("role[0].name", (8, 1)),
            ("role[0].subscribe.allow", (9, 15)),
            ("role[0].subscribe.allow[1]", (9, 29)),
            ("role[0].subscribe.allow[2]", (9, 34)),
            ("role[1].name", (11, 2)),
            ("role[1].publish.allow[1]", (15, 3)),
            ("auth.key[0].kid (when {\"a\":1})", (18, 1)),
        ] {
            assert_eq!(at(FILE, key), Some(place), "{key}");
        }
    }

    #[test]
    fn what_is_missing_is_where_it_should_be() {
        for (key, place) in [
            ("http.port", (2, 2)),
            ("role[0].nmae", (7, 1)),
            ("role[1].subscribe.allow[0]", (10, 1)),
            ("role[1].publish.deny[0]", (12, 7)),
            ("auth.key[0].secret", (17, 1)),
            ("auth.key[7].secret", (17, 8)),
        ] {
            assert_eq!(at(FILE, key), Some(place), "{key}");
        }
        for key in ["nats.url", "", "x", "[", "]."] {
            assert_eq!(at(FILE, key), None, "{key}");
        }
    }

    #[test]
    fn what_is_no_toml_is_where_that_shows() {
        let places = Places::of("[http]\nlisten = \"a\"\nconsole = \n");
        assert!(places.broken().is_some());
        assert_eq!(places.find("http.listen"), Some(Place { line: 3, column: 11 }));
        assert!(Places::of(FILE).broken().is_none());
    }
}
