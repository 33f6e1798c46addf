//! Lists in a section: of texts, and of tables.

use crate::diagnostic::ValueError;
use crate::node::Node;
use crate::quote::quoted;
use crate::section::NOT_TEXT;
use crate::section::Section;

/// One text of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Element<'d> {
    /// Its name in the section, such as `allow[1]`; the name of the list if that is written as one text.
    pub name: String,
    pub text: &'d str,
    /// The node of the element, or of the one text that is the list.
    pub node: &'d Node,
}

/// Whether commas separate the elements of a list that is written as one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commas {
    /// They do; empty elements are skipped.
    Separate,
    /// They are part of the text.
    Text,
}

impl<'d> Section<'d> {
    /// A list of texts, which may be written as one text. Elements of other kinds are reported and skipped. `None` if
    /// the key is absent or something else.
    pub fn texts(&self, name: &'static str, commas: Commas) -> Option<Vec<Element<'d>>> {
        let node = self.get(name)?;
        if let Some(text) = node.text() {
            let of_list = |text| Element { name: name.to_owned(), text, node };
            return Some(match commas {
                Commas::Text => vec![of_list(text)],
                Commas::Separate => {
                    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(of_list).collect()
                }
            });
        }
        let Some(list) = node.list() else {
            let wrong = ValueError::new(
                "is not a text or a list of texts",
                "write it as \"one\" or [\"one\", \"two\"]",
            );
            self.refuse(name, node, wrong);
            return None;
        };
        let mut texts = Vec::new();
        for (at, node) in list.iter().enumerate() {
            let name = format!("{name}[{at}]");
            match node.text() {
                Some(text) => texts.push(Element { name, text, node }),
                None => self.refuse(&name, node, ValueError::new(NOT_TEXT.0, NOT_TEXT.1)),
            }
        }
        Some(texts)
    }

    /// Reports what is wrong with one text of a list.
    pub fn refuse_element(&self, element: &Element<'_>, wrong: ValueError) {
        self.refuse_part(&element.name, element.node, &quoted(element.text), wrong);
    }

    /// A list of tables. Elements of other kinds are reported and skipped. `None` if the key is absent or something
    /// else.
    pub fn tables(&self, name: &'static str) -> Option<Vec<Self>> {
        let node = self.get(name)?;
        let help = || format!("write each under a line [[{}]]", self.path_to(name));
        let Some(list) = node.list() else {
            self.refuse(name, node, ValueError::new("is not a list of tables", help()));
            return None;
        };
        let mut tables = Vec::new();
        for (at, node) in list.iter().enumerate() {
            let name = format!("{name}[{at}]");
            if node.table().is_some() {
                tables.push(Self { node: Some(node), ..self.absent(&name) });
            } else {
                self.refuse(&name, node, ValueError::new("is not a table", help()));
            }
        }
        Some(tables)
    }
}
