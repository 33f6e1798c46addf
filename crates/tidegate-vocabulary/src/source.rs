//! Source: the file of a vocabulary while it is read. Every mistake is noted, with its key and its cure, and reading
//! goes on.

use std::cell::RefCell;
use std::fmt;

use tidegate_document::suggest::did_you_mean;

use crate::shape::Tree;

/// How much of a rule's `when` stands beside its key, in characters.
const MAX_SHAPE: usize = 160;

/// What is wrong with the file of a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// As in the file, `receive[3].channel`, elements counted from 0, and which messages the rule is for; empty for the
    /// file as a whole.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// How to mend it.
    pub cure: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, problem, cure } = self;
        write!(formatter, "{key}: {problem}: {cure}")
    }
}

/// What the file of a vocabulary may say and probably does not mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// As that of a [`Mistake`].
    pub key: String,
    /// What comes of it.
    pub text: String,
}

/// All mistakes that were found so far.
#[derive(Debug, Default)]
pub struct Mistakes(RefCell<Vec<Mistake>>);

impl Mistakes {
    /// Notes one.
    pub fn add(&self, key: impl Into<String>, problem: impl Into<String>, cure: impl Into<String>) {
        let mistake = Mistake { key: key.into(), problem: problem.into(), cure: cure.into() };
        let mut all = self.0.borrow_mut();
        // A section may be read twice.
        if !all.contains(&mistake) {
            all.push(mistake);
        }
    }

    /// Notes several.
    pub fn extend(&self, mistakes: Vec<Mistake>) {
        self.0.borrow_mut().extend(mistakes);
    }

    /// Whether there is one in these sections.
    pub fn are_in(&self, sections: &[&str]) -> bool {
        let is_there = |mistake: &Mistake| sections.iter().any(|section| mistake.key.starts_with(section));
        self.0.borrow().iter().any(is_there)
    }

    /// All of them, in the order in which they were found.
    pub fn take(&self) -> Vec<Mistake> {
        self.0.take()
    }
}

/// Where a table of the file stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    key: String,
    /// Which messages it is for, ` (when {"type":"ping"})`; empty if it does not say.
    shape: String,
}

impl Location {
    /// The table itself, `receive[3]`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// One of its keys as a mistake names it, so that whoever reads it finds the rule: `receive[3].channel (when …)`.
    pub fn of(&self, name: &str) -> String {
        let Self { key, shape } = self;
        if key.is_empty() { name.to_owned() } else { format!("{key}.{name}{shape}") }
    }
}

/// One table of the file. Keys that nobody asks for are mistakes.
#[derive(Debug)]
pub struct Section<'t> {
    location: Location,
    table: &'t toml::Table,
    asked: RefCell<Vec<&'static str>>,
    mistakes: &'t Mistakes,
}

impl<'t> Section<'t> {
    /// The whole file.
    pub fn root(table: &'t toml::Table, mistakes: &'t Mistakes) -> Self {
        Self { location: Location::default(), table, asked: RefCell::default(), mistakes }
    }

    /// Where it stands.
    pub fn location(&self) -> &Location {
        &self.location
    }

    fn key_of(&self, name: &str) -> String {
        if self.location.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.location.key) }
    }

    /// Notes a mistake at one of its keys.
    pub fn mistake(&self, name: &str, problem: impl Into<String>, cure: impl Into<String>) {
        self.mistakes.add(self.location.of(name), problem, cure);
    }

    /// A value as it stands there.
    pub fn get(&self, name: &'static str) -> Option<&'t toml::Value> {
        self.asked.borrow_mut().push(name);
        self.table.get(name)
    }

    /// A value that one of the kinds of value must be; another kind is a mistake.
    fn kind<T>(
        &self,
        name: &'static str,
        what: &str,
        read: impl FnOnce(&'t toml::Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(name)?;
        let read = read(value);
        if read.is_none() {
            self.mistake(name, format!("is {}", kind_of(value)), format!("write {what}"));
        }
        read
    }

    /// A text.
    pub fn text(&self, name: &'static str) -> Option<&'t str> {
        self.kind(name, "a text, between quotation marks", toml::Value::as_str)
    }

    /// A text that must be there.
    pub fn required_text(&self, name: &'static str, cure: &str) -> Option<&'t str> {
        if self.get(name).is_none() {
            self.mistake(name, "is missing", cure);
        }
        let text = self.text(name)?;
        if text.is_empty() {
            self.mistake(name, "is empty", cure);
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// Yes or no.
    pub fn boolean(&self, name: &'static str) -> bool {
        self.kind(name, "true or false", toml::Value::as_bool).unwrap_or(false)
    }

    /// A whole number within limits.
    pub fn whole(&self, name: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        self.kind(name, &what, |value| value.as_integer().filter(|number| range.contains(number)))
    }

    /// A text or a list of texts.
    pub fn texts(&self, name: &'static str) -> Option<Vec<&'t str>> {
        self.kind(name, "a text, or a list of texts", |value| match value {
            toml::Value::String(text) => Some(vec![text.as_str()]),
            toml::Value::Array(list) => list.iter().map(toml::Value::as_str).collect(),
            toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Table(_) => None,
        })
    }

    /// A template: any value.
    pub fn tree(&self, name: &'static str) -> Option<Tree> {
        let read = tree(self.get(name)?);
        if read.is_none() {
            let cure = "write texts, numbers, true, false, lists and tables; times as texts";
            self.mistake(name, "has a value that JSON does not have", cure);
        }
        read
    }

    /// A table.
    pub fn table(&self, name: &'static str) -> Option<Self> {
        let table = self.kind(name, "a table", toml::Value::as_table)?;
        Some(self.inner(Location { key: self.key_of(name), shape: self.location.shape.clone() }, table))
    }

    /// A list of tables.
    pub fn tables(&self, name: &'static str) -> Vec<Self> {
        let tables = self.kind(name, &format!("[[{}]], once for each", self.key_of(name)), |value| {
            value.as_array()?.iter().map(toml::Value::as_table).collect::<Option<Vec<_>>>()
        });
        let tables = tables.into_iter().flatten().enumerate();
        let location = |at: usize, table: &toml::Table| Location {
            key: format!("{}[{at}]", self.key_of(name)),
            shape: table.get("when").map(shape_of).unwrap_or_default(),
        };
        tables.map(|(at, table)| self.inner(location(at, table), table)).collect()
    }

    fn inner(&self, location: Location, table: &'t toml::Table) -> Self {
        Self { location, table, asked: RefCell::default(), mistakes: self.mistakes }
    }

    /// Its keys and values in the order of the file, for tables whose keys are names.
    pub fn entries(&self) -> impl Iterator<Item = (&'t str, &'t toml::Value)> {
        self.table.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Notes every key that nobody has asked for. `elsewhere` says what it would be good for, if it is known.
    pub fn end(&self, elsewhere: impl Fn(&str) -> Option<(String, String)>) {
        let mut asked = self.asked.take();
        asked.sort_unstable();
        asked.dedup();
        for (name, _) in self.table {
            if asked.contains(&name.as_str()) {
                continue;
            }
            let (problem, cure) = elsewhere(name).unwrap_or_else(|| {
                let hint = did_you_mean(name, &asked);
                ("there is no such key".to_owned(), format!("{hint}known here are {}", asked.join(", ")))
            });
            self.mistake(name, problem, cure);
        }
    }
}

/// `when` of a rule as it stands beside its key.
fn shape_of(when: &toml::Value) -> String {
    let json = serde_json::to_string(when).unwrap_or_default();
    match json.char_indices().nth(MAX_SHAPE) {
        Some((end, _)) => format!(" (when {}…)", &json[..end]),
        None => format!(" (when {json})"),
    }
}

/// A value of the file as a template.
pub fn tree(value: &toml::Value) -> Option<Tree> {
    Some(match value {
        toml::Value::String(text) => Tree::Text(text.clone()),
        toml::Value::Integer(number) => Tree::Plain(number.to_string()),
        toml::Value::Float(number) if number.is_finite() => {
            Tree::Plain(serde_json::Number::from_f64(*number)?.to_string())
        }
        toml::Value::Boolean(truth) => Tree::Plain(truth.to_string()),
        toml::Value::Array(list) => Tree::List(list.iter().map(tree).collect::<Option<_>>()?),
        toml::Value::Table(table) => {
            let members = table.iter().map(|(name, value)| Some((name.clone(), tree(value)?)));
            Tree::Table(members.collect::<Option<_>>()?)
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) => return None,
    })
}

/// What a value is, for whoever expected another.
pub fn kind_of(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a text",
        toml::Value::Integer(_) | toml::Value::Float(_) => "a number, or out of range",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Datetime(_) => "a time",
        toml::Value::Array(_) => "a list, or has something of another kind in it",
        toml::Value::Table(_) => "a table",
    }
}
