//! Node: a value of a document, and where it comes from.

use crate::place::Place;
use crate::quote::quoted;

/// A value, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value itself.
    pub value: Value,
    /// The variable or the flag that it comes from; `None`: the file.
    pub origin: Option<String>,
    /// Where its key is in the file; of an element of a list, where the element is.
    pub place: Option<Place>,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// Any other number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A date, a time, or both, as written.
    Time(String),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// Keys and their values, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table(pub Vec<(String, Node)>);

impl Table {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// All keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(name, node)| (name.as_str(), node))
    }
}

impl Default for Node {
    /// An empty document.
    fn default() -> Self {
        Self { value: Value::Table(Table::default()), origin: None, place: None }
    }
}

impl Node {
    /// Its text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The text of a variable or a flag, which may represent any kind of value. In a file, text is text.
    fn word(&self) -> Option<&str> {
        self.text().filter(|_| self.origin.is_some()).map(str::trim)
    }

    /// Its whole number.
    pub fn whole(&self) -> Option<i128> {
        if let Value::Whole(number) = self.value {
            return Some(i128::from(number));
        }
        self.word()?.parse().ok()
    }

    /// True or false.
    pub fn boolean(&self) -> Option<bool> {
        if let Value::Boolean(truth) = self.value {
            return Some(truth);
        }
        match self.word()?.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        }
    }

    /// Its elements, if it is a list.
    pub fn list(&self) -> Option<&[Self]> {
        if let Value::List(list) = &self.value { Some(list) } else { None }
    }

    /// Its keys, if it is a table.
    pub fn table(&self) -> Option<&Table> {
        if let Value::Table(table) = &self.value { Some(table) } else { None }
    }

    /// How a message names it: a text or a number as it is, on one line and short.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Text(text) => quoted(text),
            Value::Whole(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Time(time) => time.clone(),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }

    /// The node below this one at a key such as `role[0].subscribe.allow[1]`, elements counted from 0. What follows a
    /// blank is ignored.
    pub fn find(&self, key: &str) -> Option<&Self> {
        let (node, is_all) = self.walk(key);
        node.filter(|_| is_all)
    }

    /// Where that node is; of one that is missing, where the table or list is that should have it. `None`: nowhere.
    pub(crate) fn place_of(&self, key: &str) -> Option<Place> {
        self.walk(key).0.and_then(|node| node.place)
    }

    /// As far down as there are nodes, and whether that is the whole key.
    fn walk(&self, key: &str) -> (Option<&Self>, bool) {
        let key = key.split(' ').next().unwrap_or_default();
        let (mut reached, mut within) = (None, self);
        for segment in key.split('.') {
            let mut parts = segment.split('[');
            let name = parts.next().unwrap_or_default();
            let Some(found) = within.table().and_then(|table| table.get(name)) else {
                return (reached, false);
            };
            (reached, within) = (Some(found), found);
            for number in parts {
                let number = number.strip_suffix(']').and_then(|number| number.parse::<usize>().ok());
                let element = within.list().zip(number).and_then(|(list, number)| list.get(number));
                let Some(element) = element else { return (reached, false) };
                (reached, within) = (Some(element), element);
            }
        }
        (reached, true)
    }
}
