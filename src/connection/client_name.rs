//! `ClientName`: what a client says of itself in its handshake. It proves nothing; only operators see it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use tidegate_protocol::url;

/// The longest user agent and the longest label, in bytes. Longer ones are cut.
const MAX_USER_AGENT: usize = 128;
const MAX_LABEL: usize = 64;

/// The query parameter with the label.
const LABEL: &str = "label";

/// What a client says of itself. Empty texts mean that it says nothing. They have no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientName {
    /// The header `User-Agent`.
    pub user_agent: Box<str>,
    /// The query parameter `label`.
    pub label: Box<str>,
}

/// The names of the clients of a shard, each once.
#[derive(Debug, Default)]
pub struct ClientNames(RefCell<HashSet<Rc<ClientName>>>);

impl ClientName {
    /// The name in a handshake with this header `User-Agent` and this query.
    pub fn new(user_agent: Option<&[u8]>, query: Option<&str>) -> Self {
        let user_agent = String::from_utf8_lossy(user_agent.unwrap_or_default());
        let label = query.and_then(|query| url::query_value(query, LABEL)).unwrap_or_default();
        Self { user_agent: cleaned(&user_agent, MAX_USER_AGENT), label: cleaned(&label, MAX_LABEL) }
    }
}

/// The text without control characters, cut after this many bytes.
fn cleaned(text: &str, max: usize) -> Box<str> {
    // What is longer is not read.
    let text = &text[..text.floor_char_boundary(4 * max)];
    let printable: String = text.chars().filter(|character| !character.is_control()).collect();
    printable[..printable.floor_char_boundary(max)].trim().into()
}

impl ClientNames {
    /// The name, shared with all clients that have the same. `None` if the client says nothing.
    pub(super) fn share(&self, name: ClientName) -> Option<Rc<ClientName>> {
        if name == ClientName::default() {
            return None;
        }
        let mut names = self.0.borrow_mut();
        if let Some(known) = names.get(&name) {
            return Some(Rc::clone(known));
        }
        let name = Rc::new(name);
        names.insert(Rc::clone(&name));
        Some(name)
    }

    /// Forgets a name that no other client has.
    pub(super) fn release(&self, name: Rc<ClientName>) {
        // One of these is in the set.
        if Rc::strong_count(&name) <= 2 {
            self.0.borrow_mut().remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_printable() {
        let name =
            |user_agent: &str, query: Option<&str>| ClientName::new(Some(user_agent.as_bytes()), query);
        let of = |name: ClientName| (name.user_agent.to_string(), name.label.to_string());
        assert_eq!(of(ClientName::new(None, None)), (String::new(), String::new()));
        let found = of(name("curl/8\u{1b}[31m\t", Some("a=b&label=desk+7%0a%C3%A9&label=other")));
        assert_eq!(found, ("curl/8[31m".to_owned(), "desk 7é".to_owned()));
        assert_eq!(
            of(ClientName::new(Some(b"\xff"), Some("label=%ff"))),
            ("\u{fffd}".to_owned(), String::new())
        );
        for (length, kept) in [(64, 64), (65, 64)] {
            let label = format!("label={}", "x".repeat(length));
            assert_eq!(name("", Some(&label)).label.len(), kept);
        }
        let (agent, label) = ("é".repeat(65), format!("label=x{}", "é".repeat(32)));
        let found = name(&agent, Some(&label));
        assert_eq!((found.user_agent.len(), found.label.len()), (128, 63), "no half characters");
        assert_eq!(name(&"\u{1b}".repeat(9000), None), ClientName::default());
    }

    #[test]
    fn equal_names_are_kept_once_until_the_last_client_has_gone() {
        let names = ClientNames::default();
        let name = || ClientName { user_agent: "Firefox".into(), ..ClientName::default() };
        let [one, other] = [names.share(name()).unwrap(), names.share(name()).unwrap()];
        assert!(Rc::ptr_eq(&one, &other));
        names.release(one);
        assert_eq!(names.0.borrow().len(), 1);
        names.release(other);
        assert!(names.0.borrow().is_empty());
        assert_eq!(names.share(ClientName::default()), None);
    }
}
