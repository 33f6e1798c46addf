//! Nodes: the values of a document, with their origins and places.

use crate::place::Place;
use crate::quote::quoted;

/// A value with its origin and place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    /// The variable or flag that it comes from; `None` for the file.
    pub origin: Option<String>,
    /// The place of its key in the file; for an element of a list, the place of the element.
    pub place: Option<Place>,
}

/// The value of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Whole(i64),
    /// Any other number.
    Float(f64),
    Boolean(bool),
    /// A date, a time, or both, as written.
    Time(String),
    List(Vec<Node>),
    Table(Table),
}

/// Keys and values, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table(pub Vec<(String, Node)>);

impl Table {
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

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
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The text of a variable or flag, which can be any kind of value. In a file, a text is only a text.
    fn untyped_text(&self) -> Option<&str> {
        self.text().filter(|_| self.origin.is_some()).map(str::trim)
    }

    /// The whole number, if it is one.
    pub fn whole(&self) -> Option<i128> {
        if let Value::Whole(number) = self.value {
            return Some(i128::from(number));
        }
        self.untyped_text()?.parse().ok()
    }

    /// The boolean, if it is one.
    pub fn boolean(&self) -> Option<bool> {
        if let Value::Boolean(truth) = self.value {
            return Some(truth);
        }
        match self.untyped_text()?.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        }
    }

    /// The elements, if it is a list.
    pub fn list(&self) -> Option<&[Self]> {
        if let Value::List(list) = &self.value { Some(list) } else { None }
    }

    /// The keys and values, if it is a table.
    pub fn table(&self) -> Option<&Table> {
        if let Value::Table(table) = &self.value { Some(table) } else { None }
    }

    /// The value as messages show it: on one line, and shortened.
    pub fn describe(&self) -> String {
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

    /// The node at a path such as `role[0].subscribe.allow[1]`; elements count from 0. Everything after a blank is
    /// ignored.
    pub fn find(&self, key: &str) -> Option<&Self> {
        let (node, is_complete) = self.walk(key);
        node.filter(|_| is_complete)
    }

    /// The place of the node at a path; for a missing node, of the table or list that should have it, if there is one.
    pub(crate) fn place_of(&self, key: &str) -> Option<Place> {
        self.walk(key).0.and_then(|node| node.place)
    }

    /// The last node on the path, and whether that is the end of the path.
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
