//! `MessageHeaders`: the headers of a NATS message that Tidegate reads or sends to clients, found in one pass.

use std::borrow::Cow;

use smallvec::SmallVec;
use tidegate_protocol::headers::PublicationHeaders;

use crate::nats::message::HeaderValue;
use crate::nats::message::Malformed;
use crate::nats::message::Message;

/// In the configuration, the name that means all headers.
const ALL: &str = "*";

/// What a lane needs of a message's headers.
#[derive(Debug, Default)]
pub(super) struct MessageHeaders<'m> {
    /// The last `Tidegate-Key`.
    pub(super) key: Option<Cow<'m, str>>,
    /// The last `Tidegate-Priority`, if it is readable.
    pub(super) priority: Option<Cow<'m, str>>,
    /// What clients get.
    pub(super) shown: PublicationHeaders,
}

impl<'m> MessageHeaders<'m> {
    /// Reads them from a message. Clients get the headers with these names (`*` means all), sorted by name; repeated
    /// headers stay in order. Names are compared without regard to case, and returned as they are in `names`, or with
    /// `*` as the producer wrote them. An unreadable key, or an unreadable header that clients should get, is an error.
    pub(super) fn read(message: &'m Message, names: &'m [String]) -> Result<Self, Malformed> {
        if !message.has_headers() {
            return Ok(Self::default());
        }
        let (mut key, mut priority) = (None, None);
        let mut found: SmallVec<[(&str, HeaderValue<'_>); 8]> = SmallVec::new();
        let all = names.iter().any(|name| name == ALL);
        for line in message.header_lines() {
            key = line.value_of("Tidegate-Key").or(key);
            priority = line.value_of("Tidegate-Priority").or(priority);
            let named = names.iter().find_map(|name| Some((name.as_str(), line.value_of(name)?)));
            if let Some(named) = named {
                found.push(named);
            } else if all {
                // A header without a valid name matters only if all headers are requested.
                found.push(line.parts().ok_or(Malformed)?);
            }
        }
        found.sort_by_key(|(name, _)| *name);
        let mut shown = PublicationHeaders::default();
        for (name, value) in found {
            shown.push(name, &value.read()?);
        }
        let priority = priority.and_then(|priority: HeaderValue<'_>| priority.read().ok());
        Ok(Self { key: key.map(HeaderValue::read).transpose()?, priority, shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::message::tests::PARTLY_MALFORMED;

    fn message(headers: &[u8]) -> Message {
        Message::with_headers("a.b", headers, b"payload")
    }

    fn shown(message: &Message, names: &[&str]) -> Result<Vec<(String, String)>, Malformed> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let shown = MessageHeaders::read(message, &names)?.shown;
        Ok(shown.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn headers_are_listed_by_name_whatever_the_case_asked_for() {
        let message = message(b"NATS/1.0\r\nb: 2\r\na: 1\r\nB: 3\r\nb:\r\n\r\n");
        assert_eq!(shown(&message, &["B"]), Ok(pairs(&[("B", "2"), ("B", "3"), ("B", "")])));
        assert_eq!(shown(&message, &["*", "b"]), Ok(pairs(&[("a", "1"), ("b", "2"), ("b", "3"), ("b", "")])));
        assert_eq!(shown(&message, &["*"]), Ok(pairs(&[("B", "3"), ("a", "1"), ("b", "2"), ("b", "")])));
        assert_eq!(shown(&message, &["c"]), Ok(Vec::new()));
    }

    #[test]
    fn the_last_key_and_priority_count_and_are_shown_if_they_are_requested() {
        let message = message(
            b"NATS/1.0\r\ntidegate-key: 1\r\nTidegate-Priority: low\r\nTidegate-Key:\r\n 2\r\na: x\r\n\ty\r\n\r\n",
        );
        let names = ["Tidegate-Key".to_owned(), "a".to_owned()];
        let read = MessageHeaders::read(&message, &names).unwrap();
        assert_eq!((read.key.as_deref(), read.priority.as_deref()), (Some("2"), Some("low")));
        let expected = [("Tidegate-Key", "1"), ("Tidegate-Key", "2"), ("a", "x\ty")];
        assert_eq!(read.shown.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nat_09_malformed_headers_that_are_not_requested_do_no_harm() {
        for form in PARTLY_MALFORMED {
            let message = message(form);
            assert_eq!(shown(&message, &["a"]), Ok(pairs(&[("a", "1")])), "{form:?}");
            assert_eq!(MessageHeaders::read(&message, &[]).unwrap().key, None, "{form:?}");
        }
    }

    #[test]
    fn nat_09_malformed_requested_headers_are_errors() {
        let bad_value = message(b"NATS/1.0\r\na: \xff\r\n\r\n");
        assert_eq!(shown(&bad_value, &["A"]), Err(Malformed));
        for form in [&b"NATS/1.0\r\nno colon\r\n\r\n"[..], b"NATS/1.0\r\nbad name: 1\r\n\r\n"] {
            assert_eq!(shown(&message(form), &["*"]), Err(Malformed), "{form:?}");
        }
        assert_eq!(shown(&message(b"NATS/1.0 abc\r\na: 1\r\n\r\n"), &["*"]), Ok(pairs(&[("a", "1")])));
        for form in
            [&b"NATS/1.0\r\nTidegate-Key: \xff\r\n\r\n"[..], b"NATS/1.0\r\nTidegate-Priority: \xff\r\n\r\n"]
        {
            let is_key = form.ends_with(b"Key: \xff\r\n\r\n");
            assert_eq!(MessageHeaders::read(&message(form), &[]).is_err(), is_key, "{form:?}");
        }
    }

    #[test]
    fn a_message_without_headers_has_none() {
        for block in [&b""[..], b"NATS/1.0", b"NATS/1.0\r\n\r\n"] {
            assert_eq!(shown(&message(block), &["*"]), Ok(Vec::new()));
        }
    }
}
