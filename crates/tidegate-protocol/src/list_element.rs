//! An element of a list in a client's message, for the errors about its channels.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::error::ClientError;
use crate::error::shortened;

/// An element of a list in a client's message, which names one or more channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListElement {
    /// What clients call the list.
    list: Rc<str>,
    /// Its place in the list, from 1.
    pub(crate) number: usize,
    /// The element, as JSON. A long one is cut.
    item: Box<str>,
    /// Whether one of its channels is refused.
    is_refused: Cell<bool>,
}

impl ListElement {
    pub fn new(list: &Rc<str>, number: usize, item: &str) -> Self {
        let item = shortened(item.to_owned()).into();
        Self { list: Rc::clone(list), number, item, is_refused: Cell::new(false) }
    }

    /// Marks it as refused. Returns true the first time: only then is the client told.
    pub(crate) fn refuse(&self) -> bool {
        !self.is_refused.replace(true)
    }

    /// The error for the client, with its name.
    pub fn error(&self, error: &ClientError) -> ClientError {
        ClientError::new(error.code, format!("{self}: {}", error.message))
    }
}

impl fmt::Display for ListElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` has {} as element {}", self.list, self.item, self.number)
    }
}
