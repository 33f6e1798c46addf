//! `JsonList`: a JSON list that is written element by element.

use crate::json;

/// A JSON list as text, and where its first element is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonList {
    text: String,
    first_end: usize,
    count: usize,
}

impl Default for JsonList {
    fn default() -> Self {
        Self::with_capacity(2)
    }
}

impl JsonList {
    /// An empty list with room for a text of this many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes);
        text.push_str("[]");
        Self { text, first_end: 0, count: 0 }
    }

    /// Appends an element that is JSON.
    pub fn push(&mut self, json: &str) {
        self.text.pop();
        if self.count > 0 {
            self.text.push(',');
        }
        self.text.push_str(json);
        if self.count == 0 {
            self.first_end = self.text.len();
        }
        self.text.push(']');
        self.count += 1;
    }

    /// Appends a string.
    pub fn push_text(&mut self, text: &str) {
        self.push(&json::string(text));
    }

    /// The whole list.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first element.
    pub fn first(&self) -> Option<&str> {
        self.text.get(1..self.first_end).filter(|_| self.count > 0)
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list_after_each_element() {
        let mut list = JsonList::default();
        assert_eq!((list.as_str(), list.first(), list.count()), ("[]", None, 0));
        list.push(r#"{"a":[1]}"#);
        assert_eq!((list.as_str(), list.first()), (r#"[{"a":[1]}]"#, Some(r#"{"a":[1]}"#)));
        list.push_text("a\"]");
        assert_eq!((list.as_str(), list.count()), (r#"[{"a":[1]},"a\"]"]"#, 2));
        assert_eq!(list.first(), Some(r#"{"a":[1]}"#));
    }
}
