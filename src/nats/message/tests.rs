//! Headers, valid and malformed.

use super::*;

fn message(headers: &[u8]) -> Message {
    Message::with_headers("a.b", headers, b"payload")
}

/// Header blocks in which only the header `a` is well-formed; it is `1`.
pub(crate) const PARTLY_MALFORMED: [&[u8]; 6] = [
    b"NATS/1.0\r\nno colon here\r\na: 1\r\n\r\n",
    b"NATS/1.0\r\nbad name: x\r\na: 1\r\n\r\n",
    b"NATS/1.0 abc\r\na: 1\r\n\r\n",
    b"\xff\xfe\r\na: 1\r\n\r\n",
    b"NATS/1.0\r\nb: \xff\r\na: 1\r\n\r\n",
    b"NATS/1.0\r\n: x\r\na: 1",
];

#[test]
fn the_last_value_of_a_repeated_header_counts() {
    let message = message(b"NATS/1.0\r\nNats-Sequence: 999\r\nTidegate-Key:k\r\nNats-Sequence: 7 \r\n\r\n");
    assert_eq!(message.header("Nats-Sequence"), Ok(Some("7".into())));
    assert_eq!(message.header("Tidegate-Key"), Ok(Some("k".into())));
    assert_eq!(message.header("tidegate-key"), Ok(Some("k".into())), "whatever the case");
    assert_eq!((message.subject(), &message.payload()[..]), ("a.b", &b"payload"[..]));
}

#[test]
fn folded_header_values_are_joined() {
    let message = message(b"NATS/1.0\r\na: one\r\n two\r\n\tthree\r\nb: 1\r\n\r\n");
    assert_eq!(message.header("a"), Ok(Some("one two\tthree".into())));
    assert_eq!(message.header("b"), Ok(Some("1".into())));
}

#[test]
fn nat_09_malformed_headers_that_are_not_requested_do_no_harm() {
    for form in PARTLY_MALFORMED {
        let message = message(form);
        assert_eq!(message.header("a"), Ok(Some("1".into())), "{form:?}");
        assert_eq!(message.header("Tidegate-Key"), Ok(None), "{form:?}");
    }
}

#[test]
fn nat_09_malformed_requested_headers_are_errors() {
    let bad_value = message(b"NATS/1.0\r\na: \xff\r\n\r\n");
    assert_eq!(bad_value.header("a"), Err(Malformed));
    let repaired = message(b"NATS/1.0\r\na: \xff\r\na: 1\r\n\r\n");
    assert_eq!(repaired.header("a"), Ok(Some("1".into())), "the last one counts");
}

#[test]
fn a_message_without_headers_has_none() {
    for block in [&b""[..], b"NATS/1.0", b"NATS/1.0\r\n\r\n"] {
        assert_eq!(message(block).header("a"), Ok(None));
    }
}
